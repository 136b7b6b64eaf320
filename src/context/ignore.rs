//! What is left out of a copy: the patterns of `.bakeignore`, else those of `.dockerignore`, and
//! what never goes along unless a pattern says so.
//!
//! `.bakeignore` has the notation of gitignore(5): the last pattern that fits decides, and what
//! lies in a directory that is left out is left out with it. `.dockerignore` has Docker's: patterns
//! are relative to the context, and `!` also takes back what lies in a directory that is left out.

use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::error::{BAKE_IGNORE, Error};

/// Name of Docker's, which is read where bake's own is missing.
pub const DOCKER_IGNORE: &str = ".dockerignore";

/// Characters that begin the part of a pattern that is no plain path.
const WILD: [char; 5] = ['*', '?', '[', '{', '\\'];
/// The history of a checkout: different in every clone of the same content.
const GIT: &str = ".git";

/// What is left out of every copy.
#[derive(Debug, Clone)]
pub(super) struct Ignored {
    rules: Gitignore,
    /// Whether the history of a checkout is left out unless a pattern takes it along.
    history: bool,
    /// Paths that are left out unless a pattern takes them along, each with what it is.
    unless_named: Vec<(PathBuf, String)>,
    /// Patterns that cannot do what they say.
    pub(super) doubts: Vec<Doubt>,
}

/// A pattern that cannot do what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The file that it stands in, below the context.
    pub file: &'static str,
    /// Its line, from 1.
    pub line: u32,
    /// The text of the file.
    pub text: String,
    /// What is wrong, as a fragment.
    pub message: String,
    /// What helps.
    pub help: String,
}

/// A pattern with the place it stands at: `.bakeignore:3`.
type Line = (String, String);

impl Ignored {
    /// Leaves out what no pattern takes along.
    pub(super) fn new(unless_named: &[(PathBuf, String)]) -> Self {
        let unless_named = unless_named.to_vec();
        Self { rules: Gitignore::empty(), history: true, unless_named, doubts: vec![] }
    }

    /// Leaves out nothing: in the root of a stage, what is there was put there.
    pub(super) fn nothing() -> Self {
        Self { history: false, ..Self::new(&[]) }
    }

    /// Leaves out what the patterns of `file` with the content `text` say, too.
    ///
    /// # Errors
    ///
    /// [`Error::Pattern`] where one is none.
    pub(super) fn read(&mut self, file: &'static str, text: &str) -> Result<(), Error> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines: Vec<Line> = vec![];
        for (at, line) in (1..).zip(text.lines()) {
            let place = format!("{file}:{at}");
            let found = match file {
                DOCKER_IGNORE => docker(line),
                _ => Some(line.to_owned()),
            };
            let Some(pattern) = found else { continue };
            // What lies in a directory that is left out is not looked at.
            if let Some(above) = pattern.strip_prefix('!').and_then(|taken| hidden(taken, &lines)) {
                let dir = above.display().to_string();
                if file == DOCKER_IGNORE {
                    // As Docker: the directory, and of what is in it only this.
                    lines.push((place.clone(), format!("!/{dir}/")));
                    lines.push((place.clone(), format!("/{dir}/*")));
                    let mut below = above.clone();
                    while let Some(deeper) = hidden(&pattern[1..], &lines).filter(|d| *d != below) {
                        let dir = deeper.display().to_string();
                        lines.push((place.clone(), format!("!/{dir}/")));
                        lines.push((place.clone(), format!("/{dir}/*")));
                        below = deeper;
                    }
                } else {
                    self.doubts.push(Doubt {
                        file,
                        line: at,
                        text: text.to_owned(),
                        message: format!(
                            "\"{line}\" takes nothing: \"{dir}\" is left out with all \
                            that is in it"
                        ),
                        help: format!(
                            "take the directory back first: `!/{dir}/`, then leave out \
                            what is in it, `/{dir}/*`"
                        ),
                    });
                }
            }
            lines.push((place, pattern));
        }
        self.rules = patterns(lines.iter().map(|(place, line)| (place.clone(), line.as_str())))?;
        Ok(())
    }

    /// Whether nothing in the directory `dir` has to be looked at by name, but for `.git`.
    pub(super) fn is_plain(&self, dir: &Path) -> bool {
        self.rules.is_empty()
            && !self.unless_named.iter().any(|(path, _)| path.parent() == Some(dir))
    }

    /// Says what leaves `path` out, if anything does; directories above it have been asked about.
    pub(super) fn leaves_out(&self, path: &Path, is_dir: bool) -> Option<String> {
        match self.rules.matched(path, is_dir) {
            Match::Ignore(glob) => return Some(shown(glob)),
            Match::Whitelist(_) => return None,
            Match::None => {}
        }
        if self.history && is_git(path.file_name()?.as_encoded_bytes()) {
            return Some(format!(
                "bake itself: it is a checkout's history (`!{GIT}` in {BAKE_IGNORE} takes it along)"
            ));
        }
        let (path, what) = self.unless_named.iter().find(|(own, _)| own == path)?;
        let path = path.display();
        Some(format!("bake itself: {what} (`!/{path}` in {BAKE_IGNORE} takes it along)"))
    }
}

/// Whether a name is that of a checkout's history.
pub(super) fn is_git(name: &[u8]) -> bool {
    name == GIT.as_bytes()
}

/// Says which pattern of `exclude` leaves `path` out, if any does.
pub(super) fn excluded(exclude: &Gitignore, path: &Path, is_dir: bool) -> Option<String> {
    match exclude.matched(path, is_dir) {
        Match::Ignore(glob) => Some(shown(glob)),
        _ => None,
    }
}

fn shown(glob: &ignore::gitignore::Glob) -> String {
    let place = glob.from().map(|path| path.display().to_string()).unwrap_or_default();
    format!("{place}, pattern \"{}\"", glob.original())
}

/// Returns the first directory above what `pattern` takes back that the `lines` before it leave
/// out. Only directories that the pattern names without wildcards are known.
fn hidden(pattern: &str, lines: &[Line]) -> Option<PathBuf> {
    let rules = patterns(lines.iter().map(|(place, line)| (place.clone(), line.as_str()))).ok()?;
    let pattern = pattern.trim_end().trim_matches('/');
    let mut above = PathBuf::new();
    let parts: Vec<&str> = pattern.split('/').collect();
    for part in &parts[..parts.len().saturating_sub(1)] {
        if part.contains(WILD) {
            return None;
        }
        above.push(part);
        if rules.matched(&above, true).is_ignore() {
            return Some(above);
        }
    }
    None
}

/// Returns a line of `.dockerignore` in the notation of gitignore; `None` for a comment or nothing.
fn docker(line: &str) -> Option<String> {
    let line = if line.starts_with('#') { "" } else { line.trim() };
    let (not, pattern) = match line.strip_prefix('!') {
        Some(rest) => ("!", rest.trim()),
        None => ("", line),
    };
    let parts: Vec<&str> =
        pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    // What is not inside the context is never taken.
    if parts.is_empty() || parts.contains(&"..") {
        return None;
    }
    // Braces are plain characters to Docker.
    let path = parts.join("/").replace('{', "\\{").replace('}', "\\}");
    Some(format!("{not}/{path}"))
}

/// Returns a matcher of gitignore patterns, each with the place it stands at.
///
/// # Errors
///
/// [`Error::Pattern`] where one is none.
pub(super) fn patterns<'a>(
    lines: impl Iterator<Item = (String, &'a str)>,
) -> Result<Gitignore, Error> {
    let mut builder = GitignoreBuilder::new("");
    let mut places = vec![];
    for (place, line) in lines {
        // The builder keeps where a pattern came from, for the message that names it.
        builder.add_line(Some(PathBuf::from(&place)), line).map_err(|e| Error::Pattern {
            place: place.clone(),
            pattern: line.to_owned(),
            why: e.to_string(),
        })?;
        places.push(place);
    }
    builder.build().map_err(|e| Error::Pattern {
        place: places.concat(),
        pattern: String::new(),
        why: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &'static str, text: &str) -> Ignored {
        let own = [(PathBuf::from("web.toml"), "it is the recipe".to_owned())];
        let mut ignored = Ignored::new(&own);
        ignored.read(file, text).expect("patterns");
        ignored
    }

    /// Whether a file is taken, asked from the top down as a walk does.
    fn takes(ignored: &Ignored, path: &str) -> bool {
        let path = Path::new(path);
        let mut above: Vec<&Path> = path.ancestors().filter(|p| *p != Path::new("")).collect();
        above.reverse();
        above.iter().all(|one| ignored.leaves_out(one, *one != path).is_none())
    }

    /// D3
    #[test]
    fn a_byte_order_mark_is_no_part_of_a_pattern() {
        for file in [BAKE_IGNORE, DOCKER_IGNORE] {
            assert!(!takes(&read(file, "\u{feff}secret\r\nother\r\n"), "secret"));
        }
    }

    /// E14: the root of a stage is no checkout.
    #[test]
    fn of_a_stage_everything_is_taken() {
        assert!(takes(&Ignored::nothing(), "src/.git/HEAD"));
    }

    /// E14
    #[test]
    fn a_history_and_the_recipe_go_along_only_where_a_pattern_says_so() {
        let none = read(BAKE_IGNORE, "");
        for path in [".git/HEAD", "sub/.git", "web.toml"] {
            assert!(!takes(&none, path), "{path}");
        }
        assert!(takes(&none, "sub/web.toml") && takes(&none, ".gitignore"));
        let some = read(BAKE_IGNORE, "!.git\n!/web.toml\n");
        assert!(takes(&some, ".git/HEAD") && takes(&some, "web.toml"));
    }

    /// D3
    #[test]
    fn a_pattern_that_takes_nothing_back_is_doubted() {
        let doubts = |text| -> Vec<u32> {
            let lines: Vec<u32> =
                read(BAKE_IGNORE, text).doubts.iter().map(|one| one.line).collect();
            lines
        };
        assert_eq!(doubts("build/\n!build/keep\n"), [2]);
        assert_eq!(doubts("*\n!src/app/main\n"), [2]);
        assert_eq!(doubts("/*\n!/src/\n/src/*\n!/src/app\n"), [0; 0]);
        assert_eq!(doubts("*.log\n!keep.log\n!logs/keep.log\n"), [0; 0]);
    }

    /// D3: Docker's rules, where they differ from git's.
    #[test]
    fn a_dockerignore_means_what_it_means_to_docker() {
        let docker = read(
            DOCKER_IGNORE,
            "# comment\n *.tmp \n/dist/\nnode_modules\n**/cache\nvendor\n!vendor/a/keep\na{b}\n",
        );
        for (path, taken) in [
            ("x.tmp", false),
            ("sub/x.tmp", true),
            ("dist/x", false),
            ("node_modules/x", false),
            ("sub/node_modules/x", true),
            ("sub/deep/cache/x", false),
            ("vendor/other", false),
            ("vendor/a/keep", true),
            ("vendor/a/other", false),
            ("a{b}", false),
            ("ab", true),
        ] {
            assert_eq!(takes(&docker, path), taken, "{path}");
        }
        let all_but = read(DOCKER_IGNORE, "*\n!src/app\n");
        assert!(takes(&all_but, "src/app/x") && !takes(&all_but, "src/y") && !takes(&all_but, "z"));
        assert_eq!(all_but.doubts, []);
    }
}
