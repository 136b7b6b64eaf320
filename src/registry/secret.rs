//! What is shown to nobody.

use std::fmt;

use serde::Deserialize;

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the text, to be sent.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// Name and password.
    Password {
        /// Name.
        user: String,
        /// Password, or a token in its place.
        password: Secret,
    },
    /// What a token service takes for a token ("identity token", an OAuth 2 refresh token).
    Identity(Secret),
    /// A token as it is sent to the registry.
    Token(Secret),
}
