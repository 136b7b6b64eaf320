//! This machine, looked at when the first thing has to run on it: a build with nothing to do never
//! asks.

use std::path::Path;
use std::sync::OnceLock;

use super::limit::allowance;
use crate::sandbox::{self, Allowance};
use crate::step::Limits;

/// This machine; see [`sandbox::Host`].
#[derive(Debug, Default)]
pub struct Host {
    found: OnceLock<sandbox::Host>,
    /// What jobs may use, whatever they ask for.
    allowance: Allowance,
}

impl Host {
    /// Looks at it now; the sandbox starts `program` as its supervisor instead of this one.
    ///
    /// # Errors
    /// As [`sandbox::probe`].
    pub fn of(program: &Path) -> Result<Self, sandbox::Error> {
        let found = sandbox::probe(Some(program))?;
        Ok(Self { found: OnceLock::from(found), ..Self::default() })
    }

    /// A machine on which jobs have these limits, whatever they ask for.
    #[must_use]
    pub fn limited(limits: Limits) -> Self {
        Self { allowance: allowance(limits), ..Self::default() }
    }

    /// Looks at it, once.
    ///
    /// # Errors
    /// As [`sandbox::probe`].
    pub fn get(&self) -> Result<&sandbox::Host, sandbox::Error> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let mut found = sandbox::probe(None)?;
        found.allowance = self.allowance;
        Ok(self.found.get_or_init(|| found))
    }
}
