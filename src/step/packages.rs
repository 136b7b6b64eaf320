//! `packages`: installs packages with the image's own package manager.

use std::path::PathBuf;

use super::kind::{Kind, NAME, WHEN, Work};
use super::label::paths;
use super::limit::LIMITS;
use super::op::Op;
use super::program::{Options, RETRIES, RunOptions, TIMEOUT};
use crate::schema::{Check, Effect, Fields, Section, Shape, may, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `packages` step",
        name: "packages",
        doc: "Installs packages with the image's own package manager.",
        keys: &[
            NAME,
            WHEN,
            must(
                "packages",
                Shape::OneOrMany(Check::Package),
                "In the manager's own notation (`nginx`, `nginx=1.22`, `nginx/suite`); `./x.deb` \
                    is a file below the context.",
            ),
            may("recommends", Shape::Boolean, "Recommended packages too. Default: `false`."),
            may(
                "network",
                Shape::Network,
                "What a package manager that fetches by itself may reach, as of a `run` step. \
                    Default: `true`. Debian's apt never does: bake fetches for it.",
            ),
            TIMEOUT,
            RETRIES,
            LIMITS,
        ],
        later: &[],
        effect: Effect::Step,
    },
    cross_check: |_, _| {},
    lower,
    #[cfg(test)]
    cases: &[
        (
            "limits",
            "packages = ['a']\nlimits.memory = '1GiB'",
            "packages = ['a']\nlimits.memory = '2GiB'",
        ),
        ("network", "packages = ['a']\nnetwork = true", "packages = ['a']\nnetwork = 'host'"),
        ("timeout", "packages = ['a']\ntimeout = '1s'", "packages = ['a']\ntimeout = '2s'"),
        ("retries", "packages = ['a']\nretries = 1", "packages = ['a']\nretries = 2"),
        ("packages", "packages = ['a']", "packages = ['b']"),
        (
            "recommends",
            "packages = ['a']\nrecommends = false",
            "packages = ['a']\nrecommends = true",
        ),
    ],
};

fn lower(fields: &Fields, defaults: &Options) -> Option<Work> {
    let (files, names): (Vec<String>, Vec<String>) =
        fields.given_list("packages")?.into_iter().partition(|name| name.starts_with("./"));
    let files: Vec<PathBuf> =
        files.iter().map(|file| PathBuf::from(file.trim_start_matches("./"))).collect();
    let about = format!("{} {}", names.join(" "), paths(&files));
    let recommends = fields.boolean("recommends").unwrap_or(false);
    let ops = vec![Op::Packages { names, files, recommends, without_initrd: false }];
    // Not that of `[defaults]`, which is for programs of the recipe.
    let network = fields.reach("network").unwrap_or_default();
    let run = RunOptions { network, ..Options::of(fields).over(defaults).limits() };
    Some(Work { about, ops, run: Some(run), rest: vec![] })
}
