//! What a test asks of a machine.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::step::Probe;

/// Something that a test asks of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// A look of bake's own.
    Look(Probe),
    /// A program that succeeds.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
        /// Its environment.
        env: BTreeMap<String, String>,
        /// Its working directory.
        cwd: String,
        /// `user` or `user:group` inside.
        user: String,
        /// A file that is brought along: its path in the machine, and its bytes.
        file: Option<(String, Vec<u8>)>,
    },
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is asked, with a few words for each.
    pub asked: Vec<(String, Asked)>,
    /// How long each may take to hold.
    pub within: Duration,
}
