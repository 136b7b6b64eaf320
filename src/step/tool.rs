//! A configuration management tool that a step runs: what it is, and where it finds what.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::shown::{Mount, Secrets};

/// The tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tool {
    /// `ansible-playbook`.
    Ansible,
    /// `puppet apply`.
    Puppet,
    /// `chef-client`, or `cinc-client`.
    Chef,
}

/// Where a tool comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolFrom {
    /// A tool layer: what this stage gives, mounted for the step only. Until the base of the root
    /// is known it has the name of the tool alone.
    Layer(String),
    /// The image.
    Image,
    /// A directory of the image.
    Directory(String),
}

/// A configuration management tool run against the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configure {
    /// Which.
    pub tool: Tool,
    /// What it runs, below the context, where that is one file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Where it comes from.
    pub from: ToolFrom,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment besides bake's own and the base image's.
    pub env: BTreeMap<String, String>,
    /// Small files that it reads, by their path while it runs.
    pub files: BTreeMap<String, String>,
    /// Directories of the context that it reads.
    pub mounts: Vec<Mount>,
    /// Which secrets it sees.
    #[serde(default, skip_serializing_if = "Secrets::is_empty")]
    pub secrets: Secrets,
    /// It runs a second time, which must change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub twice: bool,
}

/// Where the directory is seen that the step names, and where the tool is started.
pub const CONFIGURATION: &str = "/dev/bake/configuration";
/// Where a tool layer is seen.
pub const TOOL_LAYER: &str = "/dev/bake/tool";
/// Where the files of the step are that bake writes.
pub const SETTINGS: &str = "/dev/bake/settings";
/// Where the tool's plugins report to.
pub const REPORT: &str = "/dev/bake/report";

impl Tool {
    /// Returns the kind of step that runs it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ansible => "ansible",
            Self::Puppet => "puppet",
            Self::Chef => "chef",
        }
    }

    /// Returns its program.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Ansible => "ansible-playbook",
            Self::Puppet => "puppet",
            Self::Chef => "chef-client",
        }
    }
}

impl Configure {
    /// Returns the stage that its tool layer is.
    #[must_use]
    pub fn layer(&self) -> Option<&str> {
        match &self.from {
            ToolFrom::Layer(stage) => Some(stage),
            _ => None,
        }
    }

    /// Returns how its program is started.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        let program = self.tool.program();
        let program = match &self.from {
            ToolFrom::Layer(_) => format!("{TOOL_LAYER}/usr/lib/bake/{program}"),
            ToolFrom::Image => program.to_owned(),
            ToolFrom::Directory(directory) => format!("{directory}/bin/{program}"),
        };
        std::iter::once(program).chain(self.args.iter().cloned()).collect()
    }

    /// Returns a text of the tool with the recipe's own paths in place of those that it sees.
    #[must_use]
    pub fn in_own_paths(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for mount in &self.mounts {
            let own = mount.path.to_string_lossy();
            let own = if own == "." { String::new() } else { format!("{own}/") };
            text = text.replace(&format!("{}/", mount.at), &own);
        }
        text
    }
}
