//! `download`: fetches a file, checks it, and places it.

use super::kind::{Findings, Kind, NAME, WHEN, Work};
use super::op::Op;
use super::place::{MODE, OWNER, owner, warn_of_lost_paths};
use super::program::Options;
use crate::schema::{Check, Effect, Fields, Mistake, Section, Shape, may, must, sha256};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `download` step",
        name: "download",
        doc: "Fetches a file, checks it, and places it.",
        keys: &[
            NAME,
            WHEN,
            must("download", Shape::Text(Check::Url), "The http or https URL."),
            may(
                "sha256",
                Shape::Sha256,
                "The file's sha256 (64 hex digits), or a table of them by architecture. Without it \
                    the lock file remembers the first build's.",
            ),
            must(
                "to",
                Shape::Text(Check::Inside),
                "Where it goes: an absolute path; a trailing `/` means: into that directory.",
            ),
            may(
                "credentials",
                Shape::Text(Check::SecretName),
                "The secret that the server is shown, given with `--secret NAME=…`: \
                    `user:password`, or else a token. It is shown to that server only, over https.",
            ),
            OWNER,
            MODE,
            may("unpack", Shape::Boolean, "Unpack the archive into `to`. Default: `false`."),
            may(
                "strip",
                Shape::Integer(0, 100),
                "With `unpack`: leading path components dropped. Default: 0.",
            ),
        ],
        later: &[],
        effect: Effect::Step,
    },
    cross_check,
    lower,
    #[cfg(test)]
    cases: &[
        ("download", "download = 'https://h/f'\nto = '/a'", "download = 'https://h/g'\nto = '/a'"),
        (
            "sha256",
            "download = 'https://h/f'\nto = '/a'\nsha256 = \
                '1111111111111111111111111111111111111111111111111111111111111111'",
            "download = 'https://h/f'\nto = '/a'\nsha256 = \
                '2222222222222222222222222222222222222222222222222222222222222222'",
        ),
        ("to", "download = 'https://h/f'\nto = '/a'", "download = 'https://h/f'\nto = '/b'"),
        (
            "credentials",
            "download = 'https://h/f'\nto = '/a'\ncredentials = 'a'",
            "download = 'https://h/f'\nto = '/a'\ncredentials = 'b'",
        ),
        (
            "owner",
            "download = 'https://h/f'\nto = '/a'\nowner = '1:1'",
            "download = 'https://h/f'\nto = '/a'\nowner = '2:2'",
        ),
        (
            "mode",
            "download = 'https://h/f'\nto = '/a'\nmode = '0600'",
            "download = 'https://h/f'\nto = '/a'\nmode = '0640'",
        ),
        (
            "unpack",
            "download = 'https://h/f.tar'\nto = '/a/'\nunpack = true",
            "download = 'https://h/f.tar'\nto = '/a/'\nunpack = false",
        ),
        (
            "strip",
            "download = 'https://h/f.tar'\nto = '/a/'\nunpack = true\nstrip = 1",
            "download = 'https://h/f.tar'\nto = '/a/'\nunpack = true\nstrip = 2",
        ),
    ],
};

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    warn_of_lost_paths(fields.entries("to"), false, findings);
    if let (Some(strip), None | Some(false)) = (fields.get("strip"), fields.boolean("unpack")) {
        let mistake = Mistake::new("`strip` without `unpack`")
            .label("nothing is unpacked")
            .help("add `unpack = true`");
        findings.add(strip.key.clone(), mistake);
    }
    let plain = fields.text("download").filter(|url| url.starts_with("http://"));
    if let (Some(field), Some(url)) = (fields.get("credentials"), plain) {
        let host = url["http://".len()..].split(['/', '?', '#']).next().unwrap_or_default();
        let name = host.strip_prefix('[').and_then(|rest| rest.split(']').next());
        let name = name.unwrap_or_else(|| host.split(':').next().unwrap_or_default());
        if !["localhost", "127.0.0.1", "::1"].contains(&name) {
            let mistake = Mistake::new("credentials over http")
                .label("whoever is on the way reads them")
                .help("write https://");
            findings.add(field.key.clone(), mistake);
        }
    }
    findings.sha256_of_this_architecture(fields, "step");
}

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let url = fields.text("download")?;
    let op = Op::Download {
        url: url.clone(),
        sha256: fields.text("sha256").and_then(|text| sha256(&text).ok()),
        to: fields.text("to")?,
        owner: owner(fields),
        mode: fields.mode("mode"),
        unpack: fields.boolean("unpack").unwrap_or(false),
        strip: fields.integer("strip").unwrap_or(0),
        credentials: fields.text("credentials"),
    };
    Some(Work::of(url, op))
}
