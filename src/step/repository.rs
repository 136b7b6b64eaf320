//! `repository`: adds a package source and its key.

use super::kind::{Findings, Kind, NAME, WHEN, Work};
use super::op::Op;
use super::program::Options;
use crate::schema::{Check, Effect, Fields, Mistake, Section, Shape, may, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `repository` step",
        name: "repository",
        doc: "Adds a package source and its key; both stay in the image.",
        keys: &[
            NAME,
            WHEN,
            must(
                "repository",
                Shape::Text(Check::FileName),
                "Name of the source's file. Example: `nginx`.",
            ),
            must("url", Shape::Text(Check::Url), "URL of the archive."),
            must("suite", Shape::Text(Check::Word), "Suite; ending in `/`, an exact path."),
            may(
                "components",
                Shape::List(Check::Word),
                "Components. Default: `[\"main\"]`, or none for an exact path.",
            ),
            must(
                "key",
                Shape::Text(Check::SigningKey),
                "The signing key: a file below the context, or an https URL.",
            ),
        ],
        later: &[],
        effect: Effect::Step,
    },
    cross_check,
    lower,
    #[cfg(test)]
    cases: &[
        (
            "repository",
            "repository = 'r'\nurl = 'https://h/'\nsuite = 's'\ncomponents = ['c']\nkey = 's'",
            "repository = 'q'\nurl = 'https://h/'\nsuite = 's'\ncomponents = ['c']\nkey = 's'",
        ),
        (
            "url",
            "repository = 'r'\nurl = 'https://h/'\nsuite = 's'\ncomponents = ['c']\nkey = 's'",
            "repository = 'r'\nurl = 'https://i/'\nsuite = 's'\ncomponents = ['c']\nkey = 's'",
        ),
        (
            "suite",
            "repository = 'r'\nurl = 'https://h/'\nsuite = 's'\ncomponents = ['c']\nkey = 's'",
            "repository = 'r'\nurl = 'https://h/'\nsuite = 't'\ncomponents = ['c']\nkey = 's'",
        ),
        (
            "components",
            "repository = 'r'\nurl = 'https://h/'\nsuite = 's'\ncomponents = ['c']\nkey = 's'",
            "repository = 'r'\nurl = 'https://h/'\nsuite = 's'\ncomponents = ['d']\nkey = 's'",
        ),
        (
            "key",
            "repository = 'r'\nurl = 'https://h/'\nsuite = 's'\ncomponents = ['c']\nkey = 's'",
            "repository = 'r'\nurl = 'https://h/'\nsuite = 's'\ncomponents = ['c']\nkey = 't'",
        ),
    ],
};

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    let exact = fields.text("suite").is_some_and(|suite| suite.ends_with('/'));
    match (exact, fields.get("components"), fields.given_list("components").as_deref()) {
        (true, Some(field), Some([_, ..])) => {
            let mistake =
                Mistake::new("an exact path has no components").label("`suite` ends in `/`");
            let help = "leave `components` out, or write the suite without `/`";
            findings.add(field.key.clone(), mistake.help(help));
        }
        (false, Some(field), Some([])) => findings.add(
            field.span.clone(),
            Mistake::new("no components").help("leave `components` out for `[\"main\"]`"),
        ),
        _ => {}
    }
}

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let name = fields.text("repository")?;
    let suite = fields.text("suite")?;
    let main = if suite.ends_with('/') { vec![] } else { vec!["main".to_owned()] };
    let op = Op::Repository {
        name: name.clone(),
        url: fields.text("url")?,
        components: fields.given_list("components").unwrap_or(main),
        suite,
        key: fields.text("key")?,
    };
    Some(Work::of(name, op))
}
