//! A value that no format shows.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

/// Fewest bytes of a value, white space at its ends not counted: shorter ones are found anywhere by
/// chance.
pub const MIN: usize = 6;
/// Most bytes of a value.
pub const MAX: usize = 10 << 20;

/// The bytes of one secret. They are shared and never copied, no format shows them, and they are
/// overwritten when the last owner is dropped.
#[derive(Clone)]
pub struct Value(Arc<Zeroizing<Vec<u8>>>);

/// Why a value cannot be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Nothing, or white space alone.
    #[error("its value is empty")]
    Empty,
    /// Fewer than [`MIN`] bytes.
    #[error(
        "its value has {0} of at least {MIN} bytes: so few are found everywhere by chance, and \
         neither the output could be masked nor the layers be searched"
    )]
    Short(usize),
    /// More than [`MAX`] bytes.
    #[error("its value has more than {} MiB", MAX >> 20)]
    Long,
}

impl Value {
    /// Takes over the bytes of a secret.
    ///
    /// # Errors
    /// [`Unusable`] where it could not be kept secret.
    pub fn new(bytes: Vec<u8>) -> Result<Self, Unusable> {
        let value = Self(Arc::new(Zeroizing::new(bytes)));
        match value.core().len() {
            0 => Err(Unusable::Empty),
            few if few < MIN => Err(Unusable::Short(few)),
            _ if value.bytes().len() > MAX => Err(Unusable::Long),
            _ => Ok(value),
        }
    }

    /// Returns the bytes as a step reads them from its file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes as a variable has them: without one line end behind them, which files have
    /// and variables do not.
    pub fn line(&self) -> &[u8] {
        let bytes = self.bytes();
        let cut = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        cut.strip_suffix(b"\r").filter(|_| cut.len() < bytes.len()).unwrap_or(cut)
    }

    /// Returns the bytes that are searched for: without white space around them.
    pub fn core(&self) -> &[u8] {
        self.bytes().trim_ascii()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a person gave that nothing may keep: secrets, by name, and an SSH agent.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    values: Arc<BTreeMap<String, Value>>,
    agent: Option<PathBuf>,
}

impl Secrets {
    /// Returns the value of the secret `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Returns names and values in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Adds the socket of an SSH agent.
    #[must_use]
    pub fn with_agent(self, socket: Option<PathBuf>) -> Self {
        Self { agent: socket, ..self }
    }

    /// Returns the socket of the SSH agent, where one was given.
    pub fn agent(&self) -> Option<&Path> {
        self.agent.as_deref()
    }
}

impl FromIterator<(String, Value)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(all: I) -> Self {
        Self { values: Arc::new(all.into_iter().collect()), agent: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_searched_for_is_no_secret() {
        let check = |bytes: &[u8], expected| {
            assert_eq!(Value::new(bytes.to_vec()).err(), expected, "{bytes:?}");
        };
        check(b"", Some(Unusable::Empty));
        check(b" \r\n", Some(Unusable::Empty));
        check(b"x", Some(Unusable::Short(1)));
        check(b"12345\n", Some(Unusable::Short(5)));
        check(b"123456", None);
        check(&vec![b'x'; MAX], None);
        check(&vec![b'x'; MAX + 1], Some(Unusable::Long));
    }

    #[test]
    fn no_format_shows_a_value() {
        let value = Value::new(b"hunter-two\n".to_vec()).expect("a value");
        let all: Secrets = [("token".to_owned(), value.clone())].into_iter().collect();
        assert_eq!(format!("{value:?} {all:#?}").find("hunter"), None);
        assert!(format!("{all:?}").contains("token"));
        assert_eq!((value.bytes(), value.line()), (&b"hunter-two\n"[..], &b"hunter-two"[..]));
        let lines = Value::new(b"hunter\r\n\r\n".to_vec()).expect("a value");
        assert_eq!((lines.line(), lines.core()), (&b"hunter\r\n"[..], &b"hunter"[..]));
    }
}
