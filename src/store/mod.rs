//! The store: an OCI image layout, published to by one rename. The user's view of it is
//! `docs/store.md`.
//!
//! ```text
//! STORE/
//!   oci-layout index.json   the truth: one descriptor a version, org.opencontainers.image.ref.name = "web:2.0.0"
//!   blobs/sha256/           manifests, configs, layers
//!   bake.json               format and features (format.rs)
//!   lock                    flock of the writers of the above
//!   reserve                 room for removing on a full disk (reserve.rs)
//!   publish.json            only while one of them works, or when one has died (publish.rs)
//!   channels/NAME/CHANNEL   history of what web@production points at (channel.rs)
//!   revoked                 history of what must not be used (revoke.rs)
//!   cache/                  rebuildable
//!   scratch/ID/             a build in flight (staging.rs)
//!   logs/BUILD/             every line of every step
//! ```
//! Readers take no lock: `index.json` is replaced by a rename, and a blob never changes under its
//! name.
//!
//! Not here: what a layer or a config means (`layer`, `image`), and what to build (`engine`).

mod cache;
mod channel;
mod disk;
mod error;
mod find;
mod format;
mod gc;
mod images;
mod index;
mod kept;
mod layout;
mod merge;
mod mount;
mod open;
mod placement;
mod publish;
mod reach;
mod record;
mod remove;
mod reserve;
mod revocation;
mod revoke;
mod sealed;
mod staging;
mod stray;
mod tested;
mod unpacked;
mod version;
mod who;

pub use cache::{Entry, Found, Layer, StepCache};
pub use channel::{Channel, ChannelEvent, ChannelFile, Promoted, Promotion, Target};
pub use error::Error;
pub use gc::{Amount, Garbage, Kind, Rules};
pub use images::CachedImage;
pub use index::{
    NoDescriptor, PUBLISHED_ANNOTATION, STEP_KEYS_ANNOTATION, read_step_keys, step_keys,
};
pub use kept::{InUse, KEPT_LIMIT, Kept, KeptName, Use};
pub use layout::{SMALL, Store};
pub use placement::Placement;
pub use reserve::Released;
pub use revocation::{Revocation, Verdict};
pub use revoke::{Descendant, Relation, Revoked};
pub use staging::{NewBlob, Staging};
pub use stray::Stray;
pub use tested::{MEDIA_TESTS, TESTED_ANNOTATION, TESTS_ANNOTATION, UNTESTED};
pub use unpacked::UnpackedLayer;
pub use version::{Published, Version};
pub use who::Who;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod crash_output;
