//! The failure report: what, where, why, the last lines of output, the full log, and what to do
//! next.

use std::path::PathBuf;

use crate::ui::text::{Style, clean, paint};

/// Why a run failed, ready to be shown to a person or a script.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// A stable word for scripts: `step`, `recipe`, `version-taken`, `host`, ….
    pub kind: &'static str,
    /// What failed, as a lowercase fragment.
    pub message: String,
    /// Why, from the outside in.
    pub causes: Vec<String>,
    /// The recipe, where one is at fault.
    pub recipe: Option<PathBuf>,
    /// Line of the recipe, or of `file`, from 1.
    pub line: Option<u32>,
    /// The included file that the line is of; none: the recipe.
    pub file: Option<PathBuf>,
    /// What the step is called.
    pub step: Option<String>,
    /// Last lines of its output.
    pub output: Vec<String>,
    /// The whole log.
    pub log: Option<PathBuf>,
    /// Things to try, each with a command where there is one.
    pub hints: Vec<String>,
    /// Process exit code.
    pub exit: u8,
}

impl Report {
    /// Returns the report as text.
    pub fn render(&self, color: bool) -> String {
        let mut out = format!(
            "{}: {}\n",
            paint("error", Style::Bad, color),
            paint(&clean(&self.message), Style::Bold, color)
        );
        let arrow = paint("  -->", Style::Blue, color);
        match (self.file.as_ref().or(self.recipe.as_ref()), self.line) {
            (Some(file), Some(line)) => {
                out += &format!("{arrow} {}:{line}\n", clean(&file.to_string_lossy()))
            }
            (Some(file), None) => out += &format!("{arrow} {}\n", clean(&file.to_string_lossy())),
            _ => {}
        }
        for cause in &self.causes {
            for (n, line) in cause.lines().enumerate() {
                let lead = if n == 0 { "  because: " } else { "           " };
                out += &format!("{lead}{}\n", clean(line));
            }
        }
        if !self.output.is_empty() {
            out += &format!("{}\n", paint("  last lines of output:", Style::Dim, color));
            for line in &self.output {
                out += &format!("{} {}\n", paint("    |", Style::Blue, color), clean(line));
            }
        }
        if let Some(log) = &self.log {
            out += &format!("  full log: {}\n", clean(&log.to_string_lossy()));
        }
        for hint in &self.hints {
            out += &format!("{} {}\n", paint("  hint:", Style::Good, color), clean(hint));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_where_why_and_what_next() {
        let report = Report {
            kind: "step",
            message: "step 3 of 5 failed: run make".to_owned(),
            causes: vec!["exit status 2".to_owned()],
            recipe: Some("web.toml".into()),
            line: Some(12),
            file: None,
            step: Some("run make".to_owned()),
            output: vec!["make: \u{1b}[31m*** no rule".to_owned()],
            log: Some("/s/logs/x/03.log".into()),
            hints: vec!["nothing was published".to_owned()],
            exit: 1,
        };
        let expected = "error: step 3 of 5 failed: run make\n  --> web.toml:12\n  because: exit \
            status 2\n  last lines of output:\n    | make: *** no rule\n  full log: \
            /s/logs/x/03.log\n  hint: nothing was published\n";
        assert_eq!(report.render(false), expected);
    }
}
