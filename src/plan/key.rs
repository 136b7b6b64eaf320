//! What names a step's layer and a whole build: tables of rows, hashed in order. The same key gives
//! the same bytes.
//!
//! The table of a step (the base is step 0, the identity files are the last):
//!
//! | row | in it |
//! |---|---|
//! | `format` | [`FORMAT`]: raised when bake itself would turn the same inputs into other bytes |
//! | `platform` | os and architecture |
//! | `epoch` | seconds since 1970 for all times in the image |
//! | `compression` | of the layer's blob |
//! | `environment` | of a step on an image as base: that image's environment |
//! | `kind` | `base`, `step` or `identity` |
//! | `operations` | the step's canonical [`Op`]s: commands, environment, user, directories, owners, modes |
//! | `files` | for each operation that reads the context: a digest of the places, modes and bytes it takes; of templates: the rendered text |
//! | `network` | whether the step has network |
//! | `packages` | name, version and sha256 of each package that the lock file pins for it |
//! | `downloads` | address and sha256 of each download |
//! | `below` | `diff_id`s of the layers below: by content, so a step that yields the same layer again keeps everything above it |
//!
//! Not in it: paths of the host, times, the user, step names, line numbers, comments, `timeout`,
//! `retries`, the `[config]`.
//!
//! The table of a build has a row for each of `format`, `platform`, `epoch`, `compression`, `image`
//! (all that config and manifest of the image say besides its layers, history included), `identity`
//! (the key of that table), `base`, and one per step: the key of that step's table without its
//! `below` row, as the steps before decide that. What reaches the bytes of an image is in its key,
//! and what is not in the key does not reach the bytes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::digest::{Digest, Hasher};
use crate::reach::Reach;
use crate::step::Op;

/// Raised when bake itself would turn the same inputs into other bytes.
pub const FORMAT: u32 = 9;

/// Name of the row that holds the layers below.
pub const BELOW: &str = "below";

/// One row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which, for example `operations`.
    pub name: String,
    /// What it holds, canonical: fields in the order of their declaration, maps sorted.
    pub value: Value,
}

impl Row {
    /// Names the value.
    pub fn digest(&self) -> Digest {
        Digest::of(self.value.to_string())
    }
}

/// A table being filled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Starts with the format row.
    pub fn new() -> Self {
        let mut table = Self::default();
        table.add("format", &FORMAT);
        table
    }

    /// Adds a row.
    pub fn add(&mut self, name: impl Into<String>, value: &impl Serialize) {
        let value = serde_json::to_value(value)
            .expect("plain data with string keys always has a JSON form");
        self.rows.push(Row { name: name.into(), value });
    }

    /// Returns the rows in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Returns the key: every row's name and the digest of its value, each name closed by a zero
    /// byte.
    pub fn key(&self) -> Digest {
        let mut hasher = Hasher::new();
        for row in &self.rows {
            hasher.update(row.name.as_bytes());
            hasher.update(&[0]);
            hasher.update(row.digest().as_bytes());
        }
        hasher.finish()
    }

    /// Returns this table with the layers below as its last row: what names the layer itself.
    #[must_use]
    pub fn above(&self, layers: &[Digest]) -> Self {
        let mut table = self.clone();
        table.add(BELOW, &layers);
        table
    }
}

/// What decides every step of a build alike.
#[derive(Debug, Clone)]
pub struct Common {
    /// `linux/amd64`.
    pub platform: String,
    /// Seconds since 1970.
    pub epoch: i64,
    /// As the recipe writes it.
    pub compression: &'static str,
    /// What programs see of the environment of the image that is the base.
    pub environment: BTreeMap<String, String>,
}

impl Common {
    fn table(&self, kind: &str) -> Table {
        let mut table = Table::new();
        table.add("platform", &self.platform);
        table.add("epoch", &self.epoch);
        table.add("compression", &self.compression);
        table.add("kind", &kind);
        table
    }

    /// Returns the table of the base, given the digest that names its pin and `name version sha256`
    /// of its packages, if it has any.
    pub fn base(&self, pin: &Digest, packages: &[String]) -> Table {
        let mut table = self.table("base");
        table.add("base", pin);
        table.add("packages", &packages);
        table
    }

    /// Returns the table of a step, but for the layers below it.
    pub fn step(&self, step: &StepInputs<'_>) -> Table {
        let mut table = self.table("step");
        // Most bases have none.
        if !self.environment.is_empty() {
            table.add("environment", &self.environment);
        }
        table.add("operations", &step.ops);
        table.add("files", &step.files);
        table.add("network", &step.network);
        table.add("packages", &step.packages);
        table.add("downloads", &step.downloads);
        table
    }

    /// Returns the table of the files that say which image this is.
    pub fn identity(&self, identity: &impl Serialize) -> Table {
        let mut table = self.table("identity");
        table.add("identity", identity);
        table
    }
}

/// What decides one step, besides what decides all.
#[derive(Debug, Clone)]
pub struct StepInputs<'a> {
    /// What it does.
    pub ops: &'a [Op],
    /// For each operation that reads the context: what it is called and the digest of what it
    /// takes.
    pub files: Vec<(String, Digest)>,
    /// What of the network it reaches.
    pub network: &'a Reach,
    /// `name version sha256` of what the lock pins for it.
    pub packages: Vec<String>,
    /// Address and sha256.
    pub downloads: Vec<(String, String)>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn common() -> Common {
        Common {
            platform: "linux/amd64".to_owned(),
            epoch: 7,
            compression: "gzip",
            environment: BTreeMap::new(),
        }
    }

    #[test]
    fn every_part_of_a_step_counts() {
        let mkdir = |path: &str| Op::Mkdir {
            paths: vec![path.to_owned()],
            owner: "0:0".to_owned(),
            mode: 0o755,
            kept: false,
        };
        let (a, b) = ([mkdir("/a")], [mkdir("/b")]);
        let empty = || StepInputs {
            ops: &a,
            files: vec![],
            network: &Reach::None,
            packages: vec![],
            downloads: vec![],
        };
        let key = |inputs: StepInputs<'_>| common().step(&inputs).key();
        let base = key(empty());
        assert_eq!(base, key(empty()));
        let mut others = vec![
            key(StepInputs { ops: &b, ..empty() }),
            key(StepInputs { files: vec![("copy x".to_owned(), Digest::of("x"))], ..empty() }),
            key(StepInputs { network: &Reach::Internet, ..empty() }),
            key(StepInputs { network: &Reach::Host, ..empty() }),
            key(StepInputs { packages: vec!["nginx 1 ab".to_owned()], ..empty() }),
            key(StepInputs {
                downloads: vec![("https://x".to_owned(), "ab".to_owned())],
                ..empty()
            }),
            common().step(&empty()).above(&[]).key(),
            common().step(&empty()).above(&[Digest::of("layer")]).key(),
            common().base(&Digest::of("x"), &[]).key(),
        ];
        for other in [
            Common { platform: "linux/arm64".to_owned(), ..common() },
            Common { epoch: 8, ..common() },
            Common { compression: "zstd", ..common() },
        ] {
            others.push(other.step(&empty()).key());
        }
        for (at, other) in others.iter().enumerate() {
            assert_ne!(base, *other, "variation {at}");
            assert!(!others[..at].contains(other), "variation {at} looks like an earlier one");
        }
    }

    /// The key of a step with one operation of every kind, and the number that goes up when it
    /// changes: caches and published versions of another bake must not be taken for ours.
    const GOLDEN: (u32, &str) =
        (9, "e2099d849a1a1ad8bf8472339798cabdd18d701bd14d2fc5674efb496065018d");

    #[test]
    fn a_change_of_what_is_hashed_is_noticed() {
        let ops: Vec<Op> = serde_json::from_value(json!([
            { "op": "exec", "argv": ["a"], "env": { "A": "1" }, "user": "root", "cwd": "/" },
            { "op": "script", "file": "s", "shell": ["sh"], "args": ["a"], "env": {}, "user": "root", "cwd": "/" },
            { "op": "copy", "from": ["a"], "to": "/a", "owner": "0:0", "mode": 420, "exclude": ["x"] },
            { "op": "download", "url": "https://h/f", "sha256": "ab", "to": "/a", "owner": "0:0", "mode": null, "unpack": false, "strip": 0 },
            { "op": "write", "path": "/a", "content": { "text": "x" }, "append": false, "owner": "0:0", "mode": 420 },
            { "op": "write", "path": "/a", "content": { "template": "t" }, "append": true, "owner": null, "mode": null },
            { "op": "mkdir", "paths": ["/a"], "owner": "0:0", "mode": 493 },
            { "op": "symlink", "path": "/a", "target": "b" },
            { "op": "remove", "paths": ["/a"] },
            { "op": "group", "name": "g", "gid": 1, "system": false },
            { "op": "user", "name": "u", "uid": 1, "gid": 1, "home": "/h", "shell": "/s", "groups": ["g"], "system": true, "comment": "c", "password": "p", "ssh_keys": ["k"] },
            { "op": "service", "units": ["s"], "state": "enabled" },
            { "op": "packages", "names": ["p"], "files": ["f"], "recommends": false },
            { "op": "repository", "name": "r", "url": "https://h", "suite": "s", "components": ["c"], "key": "k" },
        ]))
        .expect("one of every kind");
        let inputs = StepInputs {
            ops: &ops,
            files: vec![("copy a".to_owned(), Digest::of("a"))],
            network: &Reach::Internet,
            packages: vec!["p 1 ab".to_owned()],
            downloads: vec![("https://h/f".to_owned(), "ab".to_owned())],
        };
        let step = common().step(&inputs).above(&[Digest::of("layer")]).key();
        let base = common().base(&Digest::of("pin"), &["p 1 ab".to_owned()]).key();
        let identity = common().identity(&json!({ "name": "n" })).key();
        let found = Digest::of(format!("{step} {base} {identity}")).hex();
        assert_eq!((FORMAT, found.as_str()), GOLDEN, "raise FORMAT, then change GOLDEN");
    }

    #[test]
    fn rows_do_not_run_together() {
        let mut one = Table::new();
        one.add("ab", &1);
        let mut two = Table::new();
        two.add("a", &1);
        assert_ne!(one.key(), two.key());
    }
}
