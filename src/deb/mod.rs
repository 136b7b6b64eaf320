//! Debian's formats, and nothing but formats: package files, control stanzas, `Packages` indexes,
//! names and version numbers. Where packages come from is `archive`'s affair.

pub mod file;
pub mod index;
pub mod name;
pub mod stanza;
pub mod version;
