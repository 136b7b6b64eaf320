//! What is wrong with a Dockerfile or a template, and what a recipe has no equal for.

/// A mistake in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Its line, from 1.
    pub(super) line: u32,
    /// A lowercase fragment.
    pub(super) message: String,
    /// What to do.
    pub(super) help: Option<String>,
}

impl Fault {
    pub(super) fn new(line: u32, message: impl Into<String>) -> Self {
        Self { line, message: message.into(), help: None }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// Something that the recipe does not say as the file does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Line of the Dockerfile or template, from 1.
    pub line: u32,
    /// What it is about, for scripts: `onbuild`, `secret`, `base`, ….
    pub topic: &'static str,
    /// What is so, and what was done instead or what to do.
    pub message: String,
    /// The image is the same all the same: nothing has to be done.
    pub harmless: bool,
}
