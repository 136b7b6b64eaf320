//! Names of packages, of architectures, and of package files (Debian Policy 5.6.1, 5.6.8).

/// Returns whether `name` is one that a package may have.
pub fn is_package(name: &str) -> bool {
    name.len() <= 200
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+.-".contains(&b))
}

/// Returns whether `name` looks like Debian's name of an architecture, or is `all`.
pub fn is_arch(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Returns Debian's name of an OCI architecture.
pub fn arch_of_oci(oci: &str) -> Option<&'static str> {
    Some(match oci {
        "amd64" => "amd64",
        "arm64" => "arm64",
        "arm" => "armhf",
        "arm/v5" | "arm/v6" => "armel",
        "386" => "i386",
        "ppc64le" => "ppc64el",
        "riscv64" => "riscv64",
        "s390x" => "s390x",
        _ => return None,
    })
}

/// Returns apt's name for a package file: colons and underscores of the parts are percent-encoded.
pub fn file(name: &str, version: &str, arch: &str) -> String {
    let quote = |text: &str, also: &str| {
        let mut out = String::new();
        for c in text.chars() {
            if c == '_' || c == ':' || c == '%' || also.contains(c) {
                out.push_str(&format!("%{:02x}", u32::from(c)));
            } else {
                out.push(c);
            }
        }
        out
    };
    format!("{}_{}_{}.deb", quote(name, ""), quote(version, ""), quote(arch, "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_apts() {
        assert_eq!(file("libstdc++6", "1:2.3~4+b1", "amd64"), "libstdc++6_1%3a2.3~4+b1_amd64.deb");
    }
}
