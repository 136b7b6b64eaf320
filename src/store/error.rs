//! What cannot be done with the store, as far as callers distinguish it.

use std::io;
use std::path::PathBuf;

use super::gc::Garbage;
use super::revocation::Revocation;
use crate::digest::Digest;
use crate::files;
use crate::image::{BadReference, Flawed, Platform, Reference, Unreadable};

/// Why the store did not do what was asked. After any of these the store is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A directory with other things in it was named as the store.
    #[error("{} is not a store: it is no OCI image layout and not empty (it has \
        {found:?})", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// A file was named as the store.
    #[error("{} is a file; a store is a directory", path.display())]
    NotADirectory {
        /// The file.
        path: PathBuf,
    },
    /// Another user could replace what is in the directory that was named as the store, or to work
    /// in.
    #[error("cannot use {}: it belongs to user {owner} (mode {mode:04o}), who could replace what \
        is in it", path.display())]
    OfAnother {
        /// The directory.
        path: PathBuf,
        /// User id.
        owner: u32,
        /// Permission bits.
        mode: u32,
    },
    /// A newer bake has written the store.
    #[error("{} says {found}, which this bake cannot read; bake {} or newer \
        can", path.display(), needs.as_deref().unwrap_or("of a later version"))]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
        /// The oldest bake that can read it, where the store says so.
        needs: Option<String>,
    },
    /// A file of the store is not what it must be, so nothing that depends on it can be trusted.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A blob is not the content it is named for.
    #[error("{} is corrupt: expected {expected}, found {found}", path.display())]
    Corrupt {
        /// The blob's file.
        path: PathBuf,
        /// What it should be: a digest, a size, a kind of file.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Images cannot stand under one version.
    #[error("cannot make the index {reference}: {why}")]
    NoIndex {
        /// The version.
        reference: Box<Reference>,
        /// What is in the way.
        why: String,
    },
    /// An image is not for the platform that is asked for.
    #[error("missing an image for {wanted} in {digest}: it has {}", have.join(", "))]
    NoPlatform {
        /// The image, or the index of images.
        digest: Digest,
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        have: Vec<String>,
    },
    /// A blob is not there.
    #[error("blob {digest} is missing")]
    MissingBlob {
        /// Its name.
        digest: Digest,
    },
    /// A blob that must be read whole is too long for that.
    #[error(
        "blob {digest} has {size} bytes, more than the {limit} that a manifest or config may have"
    )]
    TooBig {
        /// Its name.
        digest: Digest,
        /// Its bytes.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A manifest or index cannot be read.
    #[error("blob {digest} cannot be understood")]
    Content {
        /// Its name.
        digest: Digest,
        /// Why not.
        source: Unreadable,
    },
    /// A manifest, index or config is not what a strict reader accepts.
    #[error(transparent)]
    Flawed(#[from] Flawed),
    /// No such image.
    #[error("no image {reference} in the store")]
    NotFound {
        /// What was asked for.
        reference: Box<Reference>,
        /// What is there and looks like it, best first; empty when nothing does.
        near: Vec<String>,
    },
    /// The version exists with other content: a version is one content, for ever.
    #[error("{reference} exists already with other content: it is {have}, and would become {want}")]
    VersionTaken {
        /// The version.
        reference: Box<Reference>,
        /// The manifest that it names.
        have: Digest,
        /// The manifest that it was to name.
        want: Digest,
    },
    /// A reference without a version where one is needed.
    #[error("{reference} names no version")]
    NoVersion {
        /// The reference.
        reference: Box<Reference>,
    },
    /// A channel that points nowhere.
    #[error("no channel {reference} in the store")]
    NoChannel {
        /// What was asked for.
        reference: Box<Reference>,
        /// Channels of that image, or of that name, best first.
        near: Vec<String>,
    },
    /// A channel points at a version that was removed in spite of it.
    #[error("{reference} points at version {version}, which was removed")]
    ChannelGone {
        /// The channel.
        reference: Box<Reference>,
        /// The version.
        version: String,
    },
    /// A reference without a channel where one is needed.
    #[error("{reference} names no channel")]
    NotAChannel {
        /// The reference.
        reference: Box<Reference>,
    },
    /// A name that no channel may have.
    #[error("there can be no such channel")]
    BadChannel {
        /// Why not.
        source: BadReference,
    },
    /// There is no version to step back to.
    #[error("{reference} has no earlier version to go back to")]
    NoEarlier {
        /// The channel.
        reference: Box<Reference>,
        /// Versions that it has pointed at, and why they will not do: `web:1.0.0: it is revoked`.
        passed: Vec<String>,
    },
    /// A version whose tests were left out cannot be promoted.
    #[error("{reference} is untested")]
    Untested {
        /// The version.
        reference: Box<Reference>,
    },
    /// A version that must not be used.
    #[error("{reference} is revoked: {}", revocation.why)]
    Revoked {
        /// The version.
        reference: Box<Reference>,
        /// By whom, and why.
        revocation: Box<Revocation>,
    },
    /// A version that is not revoked cannot be restored.
    #[error("{reference} is not revoked")]
    NotRevoked {
        /// The version.
        reference: Box<Reference>,
    },
    /// A version that channels point at is not removed.
    #[error("{reference} is in use: {} at it", if let [one] = channels.as_slice() { format!("{one} \
        points") } else { format!("{} point", channels.join(" and ")) })]
    InChannel {
        /// The version.
        reference: Box<Reference>,
        /// The channels.
        channels: Vec<String>,
    },
    /// What was to be published does not hold together.
    #[error("{reference} is incomplete: {digest} {why}")]
    Incomplete {
        /// The version.
        reference: Box<Reference>,
        /// The blob.
        digest: Digest,
        /// What is wrong with it.
        why: String,
    },
    /// A collection could not remove everything.
    #[error("not everything could be removed")]
    Collect {
        /// What went.
        removed: Box<Garbage>,
        /// The first thing that did not.
        source: Box<Error>,
    },
    /// Another process holds the lock.
    #[error("another bake holds {} (waited {waited} s)", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// Seconds waited.
        waited: u64,
    },
    /// No right to write.
    #[error("{} cannot be written", path.display())]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No room.
    #[error("no room left for {}", path.display())]
    Full {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// No right to read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something else went wrong on the disk.
    #[error(transparent)]
    Disk {
        /// What.
        source: files::Error,
    },
    /// A write to a store that was opened to read only.
    #[error("{} is open to read only", path.display())]
    OpenToRead {
        /// The store.
        path: PathBuf,
    },
    /// A name that is to become a file name is not one.
    #[error("{name:?} is not a file name")]
    Name {
        /// The name.
        name: String,
    },
}

impl Error {
    /// Whether the store itself is out of reach (busy, unreadable, unwritable, damaged, of a newer
    /// format), as opposed to: it works, and what was asked for cannot be. The command line's exit
    /// code 11.
    pub fn is_store_unusable(&self) -> bool {
        !matches!(
            self,
            Self::NotFound { .. }
                | Self::VersionTaken { .. }
                | Self::NoVersion { .. }
                | Self::Incomplete { .. }
                | Self::Name { .. }
                | Self::NoChannel { .. }
                | Self::ChannelGone { .. }
                | Self::NotAChannel { .. }
                | Self::BadChannel { .. }
                | Self::NoEarlier { .. }
                | Self::Untested { .. }
                | Self::Revoked { .. }
                | Self::NotRevoked { .. }
                | Self::InChannel { .. }
                | Self::NoIndex { .. }
                | Self::NoPlatform { .. }
        )
    }

    /// Whether a file was simply not there.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Disk { source } if source.is_missing())
    }
}

/// What was being done when the disk failed: decides between "cannot be read" and "cannot be
/// written".
#[derive(Clone, Copy)]
pub(super) enum While {
    Reading,
    Writing,
}

impl While {
    /// Makes the room's error out of a failed disk effect.
    pub(super) fn failed(self, error: files::Error) -> Error {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match (self, error) {
            (Self::Writing, files::Error::System { path, source, .. })
                if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem) =>
            {
                Error::Unwritable { path, source }
            }
            (Self::Reading, files::Error::System { path, source, .. })
                if source.kind() == PermissionDenied =>
            {
                Error::Unreadable { path, source }
            }
            (_, files::Error::System { path, source, .. })
                if matches!(source.kind(), StorageFull | QuotaExceeded) =>
            {
                Error::Full { path, source }
            }
            (_, source) => Error::Disk { source },
        }
    }
}

/// Makes the room's error out of a failed write.
pub(super) fn writing(error: files::Error) -> Error {
    While::Writing.failed(error)
}

/// Makes the room's error out of a failed read.
pub(super) fn reading(error: files::Error) -> Error {
    While::Reading.failed(error)
}
