//! Texts without a form of their own.

use crate::schema::mistake::{Mistake, quote};

pub(super) fn filled(text: &str) -> Result<(), Mistake> {
    if text.is_empty() {
        Err(Mistake::new("an empty string where a value is needed"))
    } else {
        Ok(())
    }
}

pub(super) fn line(text: &str) -> Result<(), Mistake> {
    filled(text)?;
    if text.chars().any(char::is_control) {
        return Err(Mistake::new(format!("{} holds a control character", quote(text)))
            .label("one line of text is needed"));
    }
    Ok(())
}

pub(super) fn word(text: &str) -> Result<(), Mistake> {
    line(text)?;
    if text.contains(char::is_whitespace) {
        return Err(
            Mistake::new(format!("{} holds white space", quote(text))).label("one word is needed")
        );
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(Mistake::new(format!("{} is not a plain word", quote(text)))
            .label(format!("{c:?} is not allowed")));
    }
    Ok(())
}
