//! The keys of `[[output]]`.

use crate::schema::{Check, Effect, Section, Shape, may, must};

/// What `[[output]]` is, for the schema.
pub(crate) const OUTPUT_DOC: &str = "A form of the image outside of the store, made after the \
    tests and put in place together with the publish: all outputs and the version, or none.";

/// The forms that an output can have; the room `output` makes them.
pub(crate) const FORMATS: &[&str] = &[
    "oci",
    "oci-archive",
    "docker-archive",
    "tar",
    "dir",
    "manifest",
    "squashfs",
    "erofs",
    "ext4",
    "disk",
    "qcow2",
    "vmdk",
    "vhd",
    "vhdx",
    "kernel",
    "partitions",
];

/// One output.
pub(crate) const OUTPUT: Section = Section {
    title: "`[[output]]`",
    name: "output",
    doc: OUTPUT_DOC,
    keys: &[
        must(
            "format",
            Shape::Choice(FORMATS),
            "What is made: `oci`, a directory that is an OCI image layout; `oci-archive`, the same \
                in a tar; `docker-archive`, what `docker load` takes; `tar` and `dir`, the root \
                file system as a tar and as a directory; `manifest`, its names with digests, modes \
                and owners, as mtree(5); `squashfs`, `erofs`, `ext4`, the root file system as one \
                of these, made by programs that bake brings along; `disk`, a disk that a \
                machine with UEFI firmware boots from, and the same as `qcow2`, `vmdk`, `vhd`, \
                `vhdx`; `kernel`, a directory with the parts of such a machine, for hypervisors \
                that start a kernel by themselves; `partitions`, a directory from which machines \
                with a `slot` update themselves by systemd-sysupdate, to which each version is \
                added.",
        ),
        must(
            "path",
            Shape::Text(Check::Filled),
            "Where it goes, relative to the recipe's directory. The directory that it is in must \
                be there. A file is replaced, a directory only where bake has written it. Example: \
                `out/{{ name }}-{{ version }}-{{ arch }}.tar`.",
        ),
        may(
            "owners",
            Shape::Choice(&["kept", "dropped"]),
            "For `dir`. `kept` (default): owners as in the image, which takes root; `dropped`: \
                everything belongs to whoever builds, and setuid bits and capabilities are left \
                out.",
        ),
        may(
            "size",
            Shape::Text(Check::Word),
            "For `ext4` and disks. How large the file system or disk is; default: what \
                its files need, for `ext4` a twentieth more. Example: `2GiB`.",
        ),
        may(
            "label",
            Shape::Text(Check::Word),
            "For `ext4` and `erofs`. What the file system is called: at most 16 bytes, for `erofs` \
                15. Example: `root`.",
        ),
        may(
            "compression",
            Shape::Choice(&["none", "lz4", "lz4hc", "zstd", "gzip", "xz"]),
            "For `squashfs`: `zstd` (default), `gzip`, `xz`, `lz4` or `none`. For `erofs`: `lz4` \
                (default), `lz4hc`, `zstd` or `none`.",
        ),
        may(
            "root",
            Shape::Choice(&["erofs", "ext4"]),
            "For disks. `erofs` (default): the root is read-only, and each block of it is checked \
                as it is read (dm-verity); what is written to `/etc`, `/var` and `/tmp` lies in \
                memory. `ext4`: it is written to.",
        ),
        may(
            "cmdline",
            Shape::Text(Check::Line),
            "For disks. Added to the kernel's command line. Example: `console=ttyS0`.",
        ),
        may(
            "esp",
            Shape::Text(Check::Word),
            "For disks but `kernel`. How large the boot partition is; default: what the kernel \
                needs. Example: `512MiB`.",
        ),
        may(
            "firmware",
            Shape::Text(Check::Word),
            "For disks but `kernel`. What starts the machine: `uefi`, which is all that there is; \
                `bios` is refused, and says what to do instead.",
        ),
        may(
            "slot",
            Shape::Text(Check::Word),
            "For disks but `kernel`. Makes room for the next version: two partitions of this size \
                for roots, one of them empty, and systemd-boot (of the image), which starts the \
                newest version. Example: `1GiB`.",
        ),
        may(
            "keep",
            Shape::Integer(1, 1000),
            "For `partitions`. How many versions stay in the directory, the newest; default: all.",
        ),
        may(
            "data",
            Shape::Map(Check::Filled),
            "For disks. Disks for data, which are no part of the image: where each is mounted, and \
                the serial number by which the machine finds it. A blank one gets an ext4 when it \
                is first seen, no other is ever formatted. Example: `data.\"/var/lib/app\" = \
                \"app-data\"`.",
        ),
        may(
            "when",
            Shape::Text(Check::Any),
            "A condition over the variables that comes out true or false; an output that is off is \
                not made.",
        ),
    ],
    later: &["partition"],
    effect: Effect::Nothing,
};

/// One output that is a push.
pub(crate) const PUSH: Section = Section {
    title: "`[[output]]` with `push`",
    name: "push",
    doc: "The image in a registry, pushed once it is published, as `bake push` does. Where that \
        fails the image stays published.",
    keys: &[
        must(
            "push",
            Shape::Text(Check::PushTarget),
            "Where it goes: `host[:port]/name[:tag]`; without a tag it gets the version. A tag of \
                other content is refused, unless `bake build --move-tag`. Example: \
                `registry.example/{{ name }}`.",
        ),
        may(
            "when",
            Shape::Text(Check::Any),
            "A condition over the variables that comes out true or false; what is off is not \
                pushed.",
        ),
    ],
    later: &[],
    effect: Effect::Nothing,
};
