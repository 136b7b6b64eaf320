//! What a source is as a base: an image, a Debian, or something that only whoever builds can name.

/// Suites that bake makes, by what names of images and installers have of them.
const SUITES: &[(&str, &[&str])] = &[
    ("bookworm", &["bookworm", "debian-12", "debian12", "debian/12", "debian_12", "debian 12"]),
    ("trixie", &["trixie", "debian-13", "debian13", "debian/13", "debian_13", "debian 13"]),
];

/// Sources whose image is one of a registry.
pub(super) const CONTAINERS: &[&str] = &["docker", "podman", "buildah"];

/// Returns the suite of Debian that texts name, where they name one and no other.
pub(super) fn suite(texts: &[&str]) -> Option<&'static str> {
    let mut found = SUITES.iter().filter(|(_, signs)| {
        texts.iter().any(|text| {
            let lower = text.to_ascii_lowercase();
            signs.iter().any(|sign| {
                lower.match_indices(sign).any(|(at, _)| {
                    // `debian-120` is another one.
                    !lower[at + sign.len()..].starts_with(|c: char| c.is_ascii_digit())
                })
            })
        })
    });
    let (suite, _) = found.next()?;
    found.next().is_none().then_some(suite)
}

/// What disks a source makes: the format of an output.
pub(super) fn disk(kind: &str, format: Option<&str>) -> Option<&'static str> {
    let family = kind.split('-').next().unwrap_or(kind);
    match family {
        "qemu" => Some(if format == Some("raw") { "disk" } else { "qcow2" }),
        "virtualbox" | "vmware" | "vsphere" => Some("vmdk"),
        "hyperv" => Some("vhdx"),
        "azure" => Some("vhd"),
        "googlecompute" | "amazon" | "proxmox" | "openstack" => Some("disk"),
        _ => None,
    }
}

/// Returns a size as recipes have it: Packer's are MiB where they have no unit.
pub(super) fn size(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u32 = text[..end].parse().ok().filter(|number| *number > 0)?;
    let unit = match text[end..].trim().to_ascii_uppercase().as_str() {
        "" | "M" | "MB" | "MIB" => "MiB",
        "G" | "GB" | "GIB" => "GiB",
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

/// Returns a name for the image, of a repository.
pub(super) fn image_name(repository: &str) -> Option<String> {
    let last = repository.rsplit('/').next()?;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let good = last.chars().all(fits)
        && last.starts_with(|c: char| c.is_ascii_alphanumeric())
        && last.ends_with(|c: char| c.is_ascii_alphanumeric());
    good.then(|| last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_seen_in_names() {
        for (text, expected) in [
            ("https://cdimage.example/debian-12.4.0-amd64-netinst.iso", Some("bookworm")),
            ("debian-13-arm64-*", Some("trixie")),
            ("images:debian/bookworm", Some("bookworm")),
            ("debian-11", None),
            ("debian-120", None),
            ("ubuntu-22.04", None),
            ("bookworm or trixie", None),
        ] {
            assert_eq!(suite(&[text]), expected, "{text}");
        }
    }

    #[test]
    fn disks_and_sizes() {
        assert_eq!(disk("qemu", Some("raw")), Some("disk"));
        assert_eq!(disk("vmware-iso", None), Some("vmdk"));
        assert_eq!(disk("null", None), None);
        for (text, expected) in
            [("40G", Some("40GiB")), ("40960", Some("40960MiB")), ("0", None), ("1T", None)]
        {
            assert_eq!(size(text).as_deref(), expected, "{text}");
        }
        assert_eq!(image_name("registry.example:5000/team/web").as_deref(), Some("web"));
        assert_eq!(image_name("Web"), None);
    }
}
