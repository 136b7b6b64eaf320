//! This machine, looked at when the first thing has to run on it: a build with nothing to do never
//! asks.

use std::path::Path;
use std::sync::OnceLock;

use crate::sandbox;

/// This machine; see [`sandbox::Host`].
#[derive(Debug, Default)]
pub struct Host(OnceLock<sandbox::Host>);

impl Host {
    /// Looks at it now; the sandbox starts `program` as its supervisor instead of this one.
    ///
    /// # Errors
    /// As [`sandbox::probe`].
    pub fn of(program: &Path) -> Result<Self, sandbox::Error> {
        let found = sandbox::probe(Some(program))?;
        Ok(Self(OnceLock::from(found)))
    }

    /// Looks at it, once.
    ///
    /// # Errors
    /// As [`sandbox::probe`].
    pub fn get(&self) -> Result<&sandbox::Host, sandbox::Error> {
        if let Some(found) = self.0.get() {
            return Ok(found);
        }
        let found = sandbox::probe(None)?;
        Ok(self.0.get_or_init(|| found))
    }
}
