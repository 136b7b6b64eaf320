//! The histogram as an SVG file: no script, no font, nothing fetched; colours follow the reader's
//! light or dark scheme.

use std::fmt::Write as _;

use super::model::Fleet;

const WIDTH: u64 = 760;
const LEFT: u64 = 200;
const BAR: u64 = 440;
const ROW: u64 = 26;

/// Draws it.
pub(super) fn draw(fleet: &Fleet) -> String {
    let rows = fleet.groups.len() as u64;
    let top = 64;
    let height = top + rows.max(1) * ROW + 44;
    let mut out = String::new();
    let title = format!("{} machines", fleet.machines);
    let _ = write!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="{title}">
<title>{title}</title>
<style>
svg {{ color-scheme: light dark; --paper: #ffffff; --ink: #1f2328; --dim: #656d76; --rule: #d0d7de; --exact: #2da44e; --drifted: #d4a72c; --unknown: #cf222e; --unchecked: #8c959f; }}
@media (prefers-color-scheme: dark) {{ svg {{ --paper: #0d1117; --ink: #e6edf3; --dim: #8d96a0; --rule: #30363d; --exact: #3fb950; --drifted: #d29922; --unknown: #f85149; --unchecked: #6e7681; }} }}
text {{ font: 13px system-ui, sans-serif; fill: var(--ink); }}
.dim {{ fill: var(--dim); }} .big {{ font-size: 18px; font-weight: 600; }} .end {{ text-anchor: end; }}
.exact {{ fill: var(--exact); }} .drifted {{ fill: var(--drifted); }} .unknown {{ fill: var(--unknown); }} .unchecked {{ fill: var(--unchecked); }}
</style>
<rect width="100%" height="100%" fill="var(--paper)"/>
<text class="big" x="20" y="30">{title}</text>
"#
    );
    if let (Some(from), Some(to)) = (&fleet.from, &fleet.to) {
        let span = if from == to {
            format!("report of {from}")
        } else {
            format!("reports from {from} to {to}")
        };
        let _ = writeln!(out, r#"<text class="dim" x="20" y="49">{}</text>"#, xml(&span));
    }
    let most = fleet.groups.iter().map(|group| group.tally.all()).max().unwrap_or(1).max(1);
    let _ = writeln!(
        out,
        r#"<line x1="{LEFT}" y1="{top}" x2="{LEFT}" y2="{}" stroke="var(--rule)"/>"#,
        top + rows.max(1) * ROW
    );
    for (n, group) in fleet.groups.iter().enumerate() {
        let y = top + n as u64 * ROW;
        let label = match (&group.name, &group.version) {
            (Some(name), Some(version)) => format!("{name}:{version}"),
            _ => "no image".to_owned(),
        };
        let words: Vec<String> = group
            .tally
            .parts()
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        let _ = writeln!(out, "<g><title>{}: {}</title>", xml(&label), words.join(", "));
        let _ = writeln!(
            out,
            r#"<text class="end" x="{}" y="{}">{}</text>"#,
            LEFT - 8,
            y + 17,
            xml(&short(&label))
        );
        let mut x = LEFT;
        for (word, count) in group.tally.parts().into_iter().filter(|(_, count)| *count > 0) {
            // One machine of ten thousand can still be seen.
            let width = (count * BAR / most).max(2);
            let class = word.split(' ').next().unwrap_or(word);
            let _ = writeln!(
                out,
                r#"<rect class="{class}" x="{x}" y="{}" width="{width}" height="{}"/>"#,
                y + 4,
                ROW - 8
            );
            x += width;
        }
        let _ = writeln!(
            out,
            r#"<text class="dim" x="{}" y="{}">{}</text></g>"#,
            x + 8,
            y + 17,
            group.tally.all()
        );
    }
    let mut x = LEFT;
    for (word, count) in fleet.verdicts.parts().into_iter().filter(|(_, count)| *count > 0) {
        let class = word.split(' ').next().unwrap_or(word);
        let _ = writeln!(
            out,
            r#"<rect class="{class}" x="{x}" y="{}" width="12" height="12"/>"#,
            height - 26
        );
        let _ = writeln!(out, r#"<text x="{}" y="{}">{word} {count}</text>"#, x + 18, height - 15);
        x += 136;
    }
    out.push_str("</svg>\n");
    out
}

/// The end of a long label matters more than its beginning: the version stands there.
fn short(label: &str) -> String {
    const MOST: usize = 26;
    let letters: Vec<char> = label.chars().collect();
    if letters.len() <= MOST {
        label.to_owned()
    } else {
        format!("…{}", letters[letters.len() - MOST + 1..].iter().collect::<String>())
    }
}

/// Text in XML: marks escaped, and what XML has no way to write replaced.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control()
                || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{200e}' | '\u{200f}'
                    | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                out.push('\u{fffd}');
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::model::Group;
    use super::super::model::Tally;
    use super::*;

    #[test]
    fn a_hostile_name_stays_text() {
        let tally = Tally { exact: 9_999, drifted: 1, unknown: 0, unchecked: 0 };
        let name = Some("<script>alert('x')</script>&\u{1b}\"\u{202e}".to_owned());
        let groups = vec![
            Group { name, version: Some("1".to_owned()), tally, places: Default::default() },
            Group {
                name: None,
                version: None,
                tally: Tally::default(),
                places: Default::default(),
            },
        ];
        let text = draw(&Fleet { machines: 10_000, verdicts: tally, groups, ..Fleet::default() });
        assert!(
            !text.contains("<script") && !text.contains('\u{1b}') && !text.contains('\u{202e}'),
            "{text}"
        );
        assert!(text.contains(r#"<rect class="drifted" x="639" y="68" width="2""#), "{text}");
        assert_eq!(text.matches("<g>").count(), 2);
        assert!(short(&"n".repeat(80)).chars().count() <= 26);
    }
}
