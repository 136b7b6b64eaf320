//! The instructions of a Dockerfile: what each takes, as it is written.

use super::fault::Fault;
use super::source::{Heredoc, Line, Source};
use crate::schema::near;

/// An instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instruction {
    /// Its line, from 1.
    pub(super) line: u32,
    pub(super) comments: Vec<String>,
    /// `--name=value` in front of what it takes.
    pub(super) flags: Vec<Flag>,
    pub(super) kind: Kind,
    pub(super) heredocs: Vec<Heredoc>,
}

/// `--name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flag {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

/// A command: for the shell, or as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    Shell(String),
    Exec(Vec<String>),
}

/// What an instruction is. Texts are as they are written, with quotes and variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    From {
        image: String,
        name: Option<String>,
    },
    Arg(Vec<(String, Option<String>)>),
    Env(Vec<(String, String)>),
    Label(Vec<(String, String)>),
    Run(Run),
    Cmd(Form),
    Entrypoint(Form),
    Copy(Vec<String>),
    Add(Vec<String>),
    Workdir(String),
    User(String),
    Shell(Vec<String>),
    Expose(Vec<String>),
    Volume(Vec<String>),
    StopSignal(String),
    /// `None`: no check at all.
    Healthcheck(Option<Form>),
    /// What happens when somebody starts from the image.
    OnBuild(Box<Instruction>),
    Maintainer(String),
}

/// What a `RUN` runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) form: Form,
    /// The lines of the shell form, without what says that they go on.
    pub(super) pieces: Vec<String>,
    /// Its here-documents as a shell reads them.
    pub(super) tail: String,
}

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads every instruction.
///
/// # Errors
/// All that is wrong, in the order of the lines.
pub(super) fn read(source: &Source) -> Result<Vec<Instruction>, Vec<Fault>> {
    let (mut good, mut faults) = (vec![], vec![]);
    for line in &source.lines {
        match one(line, source.escape) {
            Ok(instruction) => good.push(instruction),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(good) } else { Err(faults) }
}

fn one(line: &Line, escape: char) -> Result<Instruction, Fault> {
    let text = line.text();
    let text = text.trim();
    let keyword = text.split_whitespace().next().unwrap_or_default();
    let rest = text[keyword.len()..].trim_start();
    let upper = keyword.to_ascii_uppercase();
    if !KEYWORDS.contains(&upper.as_str()) {
        let fault = Fault::new(line.number, format!("unknown instruction `{keyword}`"));
        let lower = KEYWORDS.map(str::to_ascii_lowercase);
        return Err(match near(keyword, lower.iter().map(String::as_str)) {
            Some(meant) => fault.help(format!("did you mean `{}`?", meant.to_ascii_uppercase())),
            None => fault.help(format!("there are {}", KEYWORDS.join(", "))),
        });
    }
    let takes_flags = ["ADD", "COPY", "FROM", "HEALTHCHECK", "RUN"].contains(&upper.as_str());
    let (flags, rest) = if takes_flags { flags(rest, escape) } else { (vec![], rest) };
    let fault = |message: String| Fault::new(line.number, message);
    if rest.is_empty() && !(upper == "CMD" || upper == "ENTRYPOINT") {
        return Err(fault(format!("`{upper}` without anything behind it")));
    }
    let kind = match upper.as_str() {
        "FROM" => from(rest).map_err(fault)?,
        "ARG" => Kind::Arg(args(rest, escape).map_err(fault)?),
        "ENV" => Kind::Env(pairs(rest, escape, &upper).map_err(fault)?),
        "LABEL" => Kind::Label(pairs(rest, escape, &upper).map_err(fault)?),
        "RUN" => Kind::Run(run(line, rest)),
        "CMD" => Kind::Cmd(form(rest)),
        "ENTRYPOINT" => Kind::Entrypoint(form(rest)),
        "COPY" | "ADD" => {
            let words = words(rest);
            if words.len() < 2 {
                return Err(fault(format!("`{upper}` takes what is copied, and where it goes")));
            }
            if upper == "ADD" { Kind::Add(words) } else { Kind::Copy(words) }
        }
        "WORKDIR" => Kind::Workdir(rest.to_owned()),
        "USER" => Kind::User(rest.to_owned()),
        "SHELL" => match json(rest) {
            Some(words) if !words.is_empty() => Kind::Shell(words),
            _ => {
                let message = "`SHELL` takes a list: `SHELL [\"/bin/sh\", \"-c\"]`".to_owned();
                return Err(fault(message));
            }
        },
        "EXPOSE" => Kind::Expose(rest.split_whitespace().map(str::to_owned).collect()),
        "VOLUME" => Kind::Volume(words(rest)),
        "STOPSIGNAL" => Kind::StopSignal(rest.to_owned()),
        "HEALTHCHECK" => Kind::Healthcheck(healthcheck(rest).map_err(fault)?),
        "MAINTAINER" => Kind::Maintainer(rest.to_owned()),
        _ => Kind::OnBuild(Box::new(on_build(line, rest, escape)?)),
    };
    Ok(Instruction {
        line: line.number,
        comments: line.comments.clone(),
        flags,
        kind,
        heredocs: line.heredocs.clone(),
    })
}

/// Takes off `--name=value`s; values may have quotes with white space in them.
fn flags(mut rest: &str, escape: char) -> (Vec<Flag>, &str) {
    let mut found = vec![];
    while let Some(after) = rest.strip_prefix("--") {
        let (mut end, mut quote, mut skip) = (after.len(), None, false);
        for (at, c) in after.char_indices() {
            match c {
                _ if skip => skip = false,
                c if c == escape => skip = true,
                c if Some(c) == quote => quote = None,
                '"' | '\'' if quote.is_none() => quote = Some(c),
                c if c.is_whitespace() && quote.is_none() => {
                    end = at;
                    break;
                }
                _ => {}
            }
        }
        let word: String = after[..end].chars().filter(|c| !['"', '\''].contains(c)).collect();
        rest = after[end..].trim_start();
        if word.is_empty() {
            break;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        found.push(Flag { name, value });
    }
    (found, rest)
}

/// Returns the strings of a JSON list; `None` where it is none.
fn json(text: &str) -> Option<Vec<String>> {
    if !text.starts_with('[') {
        return None;
    }
    serde_json::from_str(text).ok()
}

fn form(text: &str) -> Form {
    match json(text) {
        Some(words) => Form::Exec(words),
        None if text.is_empty() => Form::Exec(vec![]),
        None => Form::Shell(text.to_owned()),
    }
}

/// A JSON list, or words with white space between.
fn words(text: &str) -> Vec<String> {
    json(text).unwrap_or_else(|| text.split_whitespace().map(str::to_owned).collect())
}

fn from(rest: &str) -> Result<Kind, String> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    match words.as_slice() {
        [image] => Ok(Kind::From { image: (*image).to_owned(), name: None }),
        [image, r#as, name] if r#as.eq_ignore_ascii_case("as") => {
            let lower = name.to_ascii_lowercase();
            let fits = lower.starts_with(|c: char| c.is_ascii_lowercase())
                && lower.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
            match fits {
                true => Ok(Kind::From { image: (*image).to_owned(), name: Some(lower) }),
                false => Err(format!("`{name}` is not a name of a stage")),
            }
        }
        _ => Err("`FROM` takes an image, and perhaps `AS name`".to_owned()),
    }
}

fn run(line: &Line, rest: &str) -> Run {
    let form = form(rest);
    // The pieces without keyword and flags: the first ones lose what `rest` lacks.
    let text = line.text();
    let mut skip = text.trim_end().len() - rest.len();
    let mut pieces = vec![];
    for piece in &line.pieces {
        let cut = skip.min(piece.len());
        skip -= cut;
        if skip == 0 {
            pieces.push(piece[cut..].to_owned());
        }
    }
    Run { form, pieces, tail: line.tail.clone() }
}

fn healthcheck(rest: &str) -> Result<Option<Form>, String> {
    let keyword = rest.split_whitespace().next().unwrap_or_default();
    let command = rest[keyword.len()..].trim_start();
    match keyword.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() => Ok(None),
        "CMD" if !command.is_empty() => Ok(Some(form(command))),
        "CMD" => Err("`HEALTHCHECK CMD` without a command".to_owned()),
        _ => Err(format!("`HEALTHCHECK {keyword}`: it takes `CMD` or `NONE`")),
    }
}

fn on_build(line: &Line, rest: &str, escape: char) -> Result<Instruction, Fault> {
    let inner = Line { pieces: vec![rest.to_owned()], comments: vec![], ..line.clone() };
    let inner = one(&inner, escape)?;
    match inner.kind {
        Kind::OnBuild(_) | Kind::From { .. } | Kind::Maintainer(_) => {
            Err(Fault::new(line.number, "`ONBUILD` cannot have `ONBUILD`, `FROM` or `MAINTAINER`"))
        }
        _ => Ok(inner),
    }
}

/// Splits at white space outside of quotes; quotes and escapes stay.
fn quoted_words(text: &str, escape: char) -> Vec<String> {
    let (mut words, mut word, mut quote) = (vec![], String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
            continue;
        }
        word.push(c);
        match quote {
            _ if c == escape && quote != Some('\'') => word.extend(chars.next()),
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ => {}
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// `a=b c=d`, or the older `a b c` for `a="b c"`.
fn pairs(rest: &str, escape: char, keyword: &str) -> Result<Vec<(String, String)>, String> {
    let words = quoted_words(rest, escape);
    let first = words.first().map(String::as_str).unwrap_or_default();
    if !first.contains('=') {
        let name = rest.split_whitespace().next().unwrap_or_default();
        let value = rest[name.len()..].trim();
        return match value {
            "" => Err(format!("`{keyword} {name}` without a value")),
            value => Ok(vec![(name.to_owned(), value.to_owned())]),
        };
    }
    let pair = |word: &String| match word.split_once('=') {
        Some(("", _)) => Err(format!("`{word}`: the name is missing")),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!("`{word}`: expected `name=value`")),
    };
    words.iter().map(pair).collect()
}

fn args(rest: &str, escape: char) -> Result<Vec<(String, Option<String>)>, String> {
    let one = |word: String| {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if fits { Ok((name, value)) } else { Err(format!("`{name}` is not a name")) }
    };
    quoted_words(rest, escape).into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::source;

    fn kinds(text: &str) -> Vec<Kind> {
        let read = read(&source::read(text).unwrap()).unwrap();
        read.into_iter().map(|one| one.kind).collect()
    }

    fn fault(text: &str) -> String {
        read(&source::read(text).unwrap()).unwrap_err()[0].message.clone()
    }

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn every_instruction_is_read() {
        let from = |image: &str, name: Option<&str>| Kind::From {
            image: image.to_owned(),
            name: name.map(str::to_owned),
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        for (text, kind) in [
            ("FROM a:1", from("a:1", None)),
            ("from --platform=$P a As Build", from("a", Some("build"))),
            (
                "ARG A=\"b c\" D",
                Kind::Arg(vec![("A".into(), Some("\"b c\"".into())), ("D".into(), None)]),
            ),
            (
                "ENV A=b C=\"d e\" F=g\\ h",
                Kind::Env(vec![pair("A", "b"), pair("C", "\"d e\""), pair("F", "g\\ h")]),
            ),
            ("ENV A b c", Kind::Env(vec![pair("A", "b c")])),
            ("LABEL a.b=\"c=d\"", Kind::Label(vec![pair("a.b", "\"c=d\"")])),
            ("CMD [\"a\", \"b\"]", Kind::Cmd(Form::Exec(owned(&["a", "b"])))),
            ("CMD ['a']", Kind::Cmd(Form::Shell("['a']".into()))),
            ("CMD", Kind::Cmd(Form::Exec(vec![]))),
            ("ENTRYPOINT a b", Kind::Entrypoint(Form::Shell("a b".into()))),
            ("COPY --link a b /c/", Kind::Copy(owned(&["a", "b", "/c/"]))),
            ("ADD [\"a b\", \"/c\"]", Kind::Add(owned(&["a b", "/c"]))),
            ("WORKDIR /a b", Kind::Workdir("/a b".into())),
            ("USER a:b", Kind::User("a:b".into())),
            ("SHELL [\"x\"]", Kind::Shell(owned(&["x"]))),
            ("EXPOSE 80 53/udp", Kind::Expose(owned(&["80", "53/udp"]))),
            ("VOLUME /a /b", Kind::Volume(owned(&["/a", "/b"]))),
            ("STOPSIGNAL SIGINT", Kind::StopSignal("SIGINT".into())),
            ("HEALTHCHECK none", Kind::Healthcheck(None)),
            ("HEALTHCHECK --retries=3 CMD a b", Kind::Healthcheck(Some(Form::Shell("a b".into())))),
            ("MAINTAINER a <b>", Kind::Maintainer("a <b>".into())),
        ] {
            assert_eq!(kinds(text), [kind], "{text}");
        }
        let Kind::OnBuild(inner) = &kinds("ONBUILD COPY . /a")[0] else { panic!() };
        assert_eq!(inner.kind, Kind::Copy(owned(&[".", "/a"])));
    }

    #[test]
    fn flags_and_the_lines_of_a_run() {
        let text = "RUN --mount=type=cache,target=/c \\\n --network=none a \\\n  && b\n";
        let read = read(&source::read(text).unwrap()).unwrap();
        let flags: Vec<_> =
            read[0].flags.iter().map(|flag| (flag.name.as_str(), flag.value.as_deref())).collect();
        assert_eq!(flags, [("mount", Some("type=cache,target=/c")), ("network", Some("none"))]);
        let Kind::Run(run) = &read[0].kind else { panic!() };
        assert_eq!(run.form, Form::Shell("a   && b".into()));
        assert_eq!(run.pieces, ["a ", "  && b"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(fault("RNU x"), "unknown instruction `RNU`");
        assert_eq!(fault("COPY a"), "`COPY` takes what is copied, and where it goes");
        assert_eq!(fault("FROM a b"), "`FROM` takes an image, and perhaps `AS name`");
        assert_eq!(fault("FROM a AS 1"), "`1` is not a name of a stage");
        assert_eq!(fault("ENV A"), "`ENV A` without a value");
        assert_eq!(fault("ENV A=b C"), "`C`: expected `name=value`");
        assert_eq!(fault("RUN"), "`RUN` without anything behind it");
        assert_eq!(fault("SHELL bash"), "`SHELL` takes a list: `SHELL [\"/bin/sh\", \"-c\"]`");
        assert_eq!(fault("HEALTHCHECK x"), "`HEALTHCHECK x`: it takes `CMD` or `NONE`");
        assert_eq!(
            fault("ONBUILD FROM a"),
            "`ONBUILD` cannot have `ONBUILD`, `FROM` or `MAINTAINER`"
        );
    }
}
