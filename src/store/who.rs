//! Who does what is remembered.

use serde::{Deserialize, Serialize};

/// Who does something that is remembered. As the caller says: the store cannot prove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Login name, or the number where there is none.
    pub user: String,
    /// Who became that user by `sudo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo: Option<String>,
    /// Name of the machine.
    pub host: String,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.sudo {
            Some(person) => write!(f, "{person} ({}) on {}", self.user, self.host),
            None => write!(f, "{} on {}", self.user, self.host),
        }
    }
}
