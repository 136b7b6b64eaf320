//! Programs that make file systems: those of an image that bake bakes itself, or the host's.
//!
//! ```text
//! output ── tar ──► pipe ──► mkfs.erofs … in the sandbox: no network, nothing of the host's
//!                              └─► /dev/bake/tools/image ──► read, hashed, copied to its place
//! ```
//! The image is a version of the store like any other (`bake-toolbox:1`), of a recipe that is in
//! this program; who bakes it on first need is the engine. Here is what is done with it.

mod host;
mod image;

pub use host::HostTools;
pub use image::{Toolbox, environment};

/// An image with programs, of a recipe of bake's own.
#[derive(Debug)]
pub struct Suite {
    /// `name:version`.
    pub image: &'static str,
    /// The recipe.
    pub recipe: &'static str,
    /// What its programs do, after "that".
    pub what: &'static str,
    /// Of its directory in the cache.
    pub name: &'static str,
}

/// Programs that make file systems.
pub const FILE_SYSTEMS: Suite = Suite {
    image: "bake-toolbox:1",
    recipe: include_str!("toolbox.toml"),
    what: "make file systems",
    name: "toolbox",
};

/// Programs that boot machines. No byte of an image or an output comes of them: no lock file pins
/// them.
pub const MACHINES: Suite = Suite {
    image: "bake-machine-toolbox:1",
    recipe: include_str!("machine.toml"),
    what: "boot machines",
    name: "machine-toolbox",
};

/// Most bytes that are kept of what a program prints.
const MOST_TEXT: usize = 16 << 10;

/// Returns the last lines of what a program printed.
fn tail(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(MOST_TEXT)..]).into_owned();
    let lines: Vec<String> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    lines[lines.len().saturating_sub(10)..].to_vec()
}
