//! The disk of an image, booted: by the tests that decide whether it is published, and for a person.
//!
//! ```text
//! qemu     QEMU and its firmware: of an image that bake bakes itself, or the host's
//! disk     the disk of an image, made aside
//! gate     the disk of an image, found or made, and the machine of its tests ──► room `machine`
//! person   a machine for a person
//! attend   its console on their terminal, whether it is up, its end
//! seed     the disk by which cloud-init in it learns what it is to be
//! ```
//! Whatever is booted is not written to: QEMU gets the disk to read, in the sandbox it cannot do
//! otherwise, and afterwards its bytes are compared.

mod attend;
mod disk;
mod gate;
mod person;
mod qemu;
mod seed;

pub use crate::machine::{CREDENTIAL_NAME, Credential};
pub use attend::Ending;
pub use disk::tested;
pub use gate::{Gate, Ready};
pub use person::{Boot, From, boot};
pub use qemu::Qemu;
pub use seed::{Seed, SeedError};
