//! Columns for listings.

use crate::ui::text::clean;

/// Returns `rows` below `heads`, columns padded to their widest cell; cells are escaped. Columns in
/// `right` are right-aligned.
pub fn columns(heads: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let width = |at: usize| {
        let widest = rows
            .iter()
            .map(|row| row.get(at).map_or(0, |cell| cell.chars().count()))
            .max()
            .unwrap_or(0);
        widest.max(heads[at].chars().count())
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut out = String::new();
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    for row in std::iter::once(&heads).chain(&rows) {
        let mut line = String::new();
        for (at, width) in widths.iter().enumerate() {
            let cell = row.get(at).map_or("", String::as_str);
            let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
            let cell =
                if right.contains(&at) { format!("{gap}{cell}") } else { format!("{cell}{gap}") };
            line += &cell;
            line += "  ";
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_and_escapes() {
        let rows = vec![
            vec!["web".to_owned(), "12".to_owned()],
            vec!["a\u{1b}b".to_owned(), "3".to_owned()],
        ];
        assert_eq!(
            columns(&["NAME", "N"], &rows, &[1]),
            "NAME       N\nweb       12\na\\u{1b}b   3\n"
        );
    }
}
