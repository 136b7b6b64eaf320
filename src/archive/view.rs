//! What of a root decides which packages its apt chooses, besides the archive and the request:
//! apt's own configuration and preferences, the architectures of dpkg, and what is installed. One
//! digest names it, so that it is known whether a pinned choice still holds, whatever step has
//! changed any of it.
//!
//! The sources of the root are no part of it: apt is handed lists of bake's own, see `apt`.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::deb::name;
use crate::deb::stanza::field;
use crate::digest::{Digest, Hasher};

/// Bytes of a configuration file that count; apt's own have a few hundred.
const LONGEST: u64 = 16 << 20;
/// Files and directories of files that apt reads, apt.conf(5) and apt_preferences(5).
const FILES: &[&str] = &["etc/apt/apt.conf", "etc/apt/preferences"];
const DIRECTORIES: &[&str] = &["etc/apt/apt.conf.d", "etc/apt/preferences.d"];
/// Fields of dpkg's database that a dependency can ask for.
const FIELDS: &[&str] = &[
    "Package",
    "Status",
    "Architecture",
    "Multi-Arch",
    "Version",
    "Essential",
    "Provides",
    "Pre-Depends",
    "Depends",
    "Recommends",
    "Conflicts",
    "Breaks",
    "Replaces",
];

/// What a root's apt sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Names all of it.
    pub digest: Digest,
    /// Debian's names of the architectures that were added to dpkg's own.
    pub foreign: Vec<String>,
}

/// Returns what the apt of the root at `root` sees. To be called inside: symlinks are followed.
///
/// # Errors
///
/// Where a file that is there cannot be read.
pub fn read(root: &Path, native: &str) -> io::Result<View> {
    let mut hasher = Hasher::new();
    let mut add = |name: &str, bytes: &[u8]| {
        for part in [name.as_bytes(), bytes] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    };
    let mut files: Vec<PathBuf> = FILES.iter().map(PathBuf::from).collect();
    for directory in DIRECTORIES {
        match fs::read_dir(root.join(directory)) {
            Ok(entries) => {
                for entry in entries {
                    files.push(Path::new(directory).join(entry?.file_name()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    files.sort();
    for file in files {
        if let Some(bytes) = content(&root.join(&file), LONGEST)? {
            add(&file.to_string_lossy(), &bytes);
        }
    }
    let text = |path: &str| -> io::Result<String> {
        let bytes = content(&root.join(path), u64::MAX)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let foreign: Vec<String> = text("var/lib/dpkg/arch")?
        .lines()
        .map(str::trim)
        .filter(|arch| *arch != native && name::is_arch(arch))
        .map(str::to_owned)
        .collect();
    add("foreign", foreign.join(" ").as_bytes());
    let status = text("var/lib/dpkg/status")?;
    let mut packages: Vec<String> = status
        .split("\n\n")
        .filter(|stanza| !stanza.trim().is_empty())
        .map(|stanza| {
            let one =
                |name: &&str| format!("{name}: {}\n", field(stanza, name).unwrap_or_default());
            FIELDS.iter().map(one).collect()
        })
        .collect();
    packages.sort();
    add("status", packages.concat().as_bytes());
    Ok(View { digest: hasher.finish(), foreign })
}

/// Returns what is in a file; `None` where there is none, or something that is no file (which apt
/// reads neither).
fn content(path: &Path, cap: u64) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = vec![];
    fs::File::open(path)?.take(cap).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_apt_asks_counts() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path();
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("below the root")).expect("writable");
            fs::write(path, text).expect("writable");
        };
        let digest = || read(root, "amd64").expect("readable").digest;
        let a = "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: \
            all\nConffiles:\n /x 1\n";
        let b = "Package: b\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n";
        write("var/lib/dpkg/status", &format!("{a}\n{b}\n"));
        let first = digest();
        write("var/lib/dpkg/status", &format!("{b}\n{}\n", a.replace("/x 1", "/x 2")));
        write("etc/apt/sources.list.d/x.list", "deb http://x y z\n");
        write("etc/motd", "hello");
        assert_eq!(digest(), first);
        let mut seen = vec![first];
        let mut differs = |what: &str| {
            let now = digest();
            assert!(!seen.contains(&now), "{what}");
            seen.push(now);
        };
        write("var/lib/dpkg/status", &format!("{a}\n{}\n", b.replace("install ok", "hold ok")));
        differs("a package is held");
        write("etc/apt/preferences.d/pin", "Package: *\nPin: release a=x\nPin-Priority: 1\n");
        differs("a preference");
        write("etc/apt/apt.conf.d/99", "APT::Install-Recommends \"true\";\n");
        differs("a setting");
        write("var/lib/dpkg/arch", "amd64\ni386\n");
        differs("an architecture");
        assert_eq!(read(root, "amd64").expect("readable").foreign, ["i386"]);
    }
}
