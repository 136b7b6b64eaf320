//! What names a build: one table of rows, hashed in order. Two builds with the same key give the same image.
//!
//! | row | in it |
//! |---|---|
//! | format | [`FORMAT`]: raised when bake itself would turn the same inputs into other bytes |
//! | platform | os and architecture |
//! | epoch | seconds since 1970 for all times in the image |
//! | image | name, version, description, labels, compression, `[drift] ignore` |
//! | base | digest of the pinned base |
//! | step *n* | its canonical [`Op`]s, the digests of the context files they read, the network flag |
//! | packages *n* | sha256 of every package that the lock pins for step *n* |
//! | config | how the finished image runs |
//!
//! Not in it: paths of the host, times, the user, step names, comments, `timeout`, `retries`.

use serde::Serialize;

use crate::digest::{Digest, Hasher};
use crate::step::Op;

/// Raised when bake itself would turn the same inputs into other bytes.
pub const FORMAT: u32 = 1;

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which, for example `step 3`.
    pub name: String,
    /// What it holds.
    pub value: Digest,
}

/// The table being filled.
#[derive(Debug, Clone, Default)]
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

    /// Adds a row whose value is the canonical JSON of `value`.
    pub fn add(&mut self, name: impl Into<String>, value: &impl Serialize) {
        let json = serde_json::to_vec(value).expect("plain data with string keys always has a JSON form");
        self.rows.push(Row { name: name.into(), value: Digest::of(json) });
    }

    /// Adds a step's row.
    pub fn add_step(&mut self, index: usize, ops: &[Op], contents: &[Digest], network: bool) {
        self.add(format!("step {index}"), &(ops, contents, network));
    }

    /// Returns the rows in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Returns the key: every row's name and value, each name closed by a zero byte.
    pub fn key(&self) -> Digest {
        let mut hasher = Hasher::new();
        for row in &self.rows {
            hasher.update(row.name.as_bytes());
            hasher.update(&[0]);
            hasher.update(row.value.as_bytes());
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_step_counts() {
        let mkdir = |path: &str| Op::Mkdir { paths: vec![path.to_owned()], owner: "0:0".to_owned(), mode: 0o755 };
        let key = |ops: &[Op], contents: &[Digest], network| {
            let mut table = Table::new();
            table.add_step(1, ops, contents, network);
            table.key()
        };
        let base = key(&[mkdir("/a")], &[], false);
        assert_eq!(base, key(&[mkdir("/a")], &[], false));
        assert_ne!(base, key(&[mkdir("/b")], &[], false));
        assert_ne!(base, key(&[mkdir("/a"), mkdir("/a")], &[], false));
        assert_ne!(base, key(&[mkdir("/a")], &[Digest::of("x")], false));
        assert_ne!(base, key(&[mkdir("/a")], &[], true));
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
