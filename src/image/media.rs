//! Media types and the names of annotations.

/// An OCI image manifest.
pub const MEDIA_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image index.
pub const MEDIA_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image config.
pub const MEDIA_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// An OCI layer: a plain tar.
pub const MEDIA_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// An OCI layer: a tar in gzip.
pub const MEDIA_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// An OCI layer: a tar in zstd.
pub const MEDIA_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// The two bytes `{}`, as the config of what is no image.
pub const MEDIA_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Docker's image manifest, schema 2 (read, never written into a store).
pub const MEDIA_DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's manifest list (read only).
pub const MEDIA_DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's image config (read only).
pub const MEDIA_DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's layer in gzip (read only).
pub const MEDIA_DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker's plain layer (read only).
pub const MEDIA_DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Annotation of an `index.json` entry: what the entry is called, here `name:version`.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation and label: when the image was made, RFC 3339.
pub const ANNOTATION_CREATED: &str = "org.opencontainers.image.created";
/// Annotation and label: the image's name for people.
pub const ANNOTATION_TITLE: &str = "org.opencontainers.image.title";
/// Annotation and label: the image's version.
pub const ANNOTATION_VERSION: &str = "org.opencontainers.image.version";
/// Annotation and label: what the image is.
pub const ANNOTATION_DESCRIPTION: &str = "org.opencontainers.image.description";

/// Annotation of a manifest: what `bake drift` leaves out, a JSON list of patterns in gitignore
/// notation.
pub const ANNOTATION_DRIFT_IGNORE: &str = "bake.drift-ignore";

/// What kind of thing a media type names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An image manifest.
    Manifest,
    /// An index of manifests.
    Index,
    /// An image config.
    Config,
    /// A layer.
    Layer,
    /// Something else: an attestation, a chart, a file.
    Other,
}

/// Returns the kind of thing that `media_type` names; OCI and Docker alike.
pub fn kind(media_type: &str) -> Kind {
    match media_type {
        MEDIA_MANIFEST | MEDIA_DOCKER_MANIFEST => Kind::Manifest,
        MEDIA_INDEX | MEDIA_DOCKER_INDEX => Kind::Index,
        MEDIA_CONFIG | MEDIA_DOCKER_CONFIG => Kind::Config,
        MEDIA_LAYER
        | MEDIA_LAYER_GZIP
        | MEDIA_LAYER_ZSTD
        | MEDIA_DOCKER_LAYER
        | MEDIA_DOCKER_LAYER_GZIP => Kind::Layer,
        _ => Kind::Other,
    }
}
