//! What apt finds while it chooses or installs: lists, packages and settings of bake's own, mounted
//! over nothing that the image has.
//!
//! ```text
//! /dev/bake/apt/      read-only: apt.conf, sources.list, lists/, archives/ (with apt's file names)
//! /dev/bake/state/    apt's caches and logs, and archives/ with a link to each package: apt locks and chmods what is in there; thrown away
//! ```

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use super::call::{Action, Call, Job};
use super::error::Error;
use super::job::{JobContext, policy_files};
use super::lists::Lists;
use super::package::{Archive, Package};
use crate::deb::file as deb;
use crate::deb::stanza::field;
use crate::digest::HashReader;
use crate::sandbox::{Allowance, Mount, Network, Overlay, Owners, Run, ShownSecrets};

const CONF: &str = r#"Dir::State::lists "/dev/bake/apt/lists";
Dir::Etc::sourcelist "/dev/bake/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Cache "/dev/bake/state/cache";
Dir::Cache::archives "/dev/bake/state/archives";
Dir::Log "/dev/bake/state/log";
Dir::Log::Planner "";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
APT::Sandbox::User "root";
APT::Get::Assume-Yes "true";
Dpkg::Use-Pty "false";
DPkg::Options:: "--force-unsafe-io";
DPkg::Options:: "--force-confold";
DPkg::Options:: "--log=/dev/bake/state/log/dpkg.log";
"#;

/// A package file and its control stanza.
pub(super) struct Local {
    pub(super) package: Package,
    pub(super) file: PathBuf,
    pub(super) stanza: String,
}

pub(super) fn read_control(file: &Path) -> Result<deb::Control, Error> {
    let reader = fs::File::open(file).map_err(Error::file("read", file))?;
    deb::control(io::BufReader::new(reader)).map_err(Error::file("read the package", file))
}

/// Reads package files of the context.
pub(super) fn local(files: &[PathBuf]) -> Result<Vec<Local>, Error> {
    let mut found: Vec<Local> = vec![];
    for file in files {
        let mut reader = HashReader::new(fs::File::open(file).map_err(Error::file("read", file))?);
        io::copy(&mut reader, &mut io::sink()).map_err(Error::file("read", file))?;
        let (_, sha256, size) = reader.finish();
        let stanza = read_control(file)?.stanza();
        let get = |name: &str| field(&stanza, name).unwrap_or_default().to_owned();
        let mut package = Package {
            name: get("Package"),
            version: get("Version"),
            arch: get("Architecture"),
            sha256,
            size,
            path: String::new(),
            archive: Archive::Context,
        };
        package.check()?;
        package.path = package.file_name();
        found.push(Local { package, file: file.clone(), stanza });
    }
    Ok(found)
}

/// The lists as apt sees them.
pub(super) struct Listed {
    /// Lines of sources.list.
    pub(super) lines: Vec<String>,
    /// First path segment below `http://bake.invalid/` …
    pub(super) places: Vec<String>,
    /// … and the archive that it stands for.
    pub(super) archives: Vec<Archive>,
}

/// The directories that a job sees at `/dev/bake`; gone when dropped.
pub(super) struct AptDirectory<'a> {
    dir: tempfile::TempDir,
    session: &'a dyn Run<Call>,
}

impl Drop for AptDirectory<'_> {
    fn drop(&mut self) {
        // Scripts may have left files of users whom only the namespace can remove. What stays after
        // a failure is below the build's scratch directory, which goes as a whole.
        let _ = self.session.remove_tree(self.dir.path());
    }
}

impl<'a> AptDirectory<'a> {
    pub(super) fn new(context: &JobContext<'a>) -> Result<Self, Error> {
        let dir = tempfile::Builder::new()
            .prefix("apt-")
            .tempdir_in(context.scratch)
            .map_err(Error::file("write", context.scratch))?;
        let directory = Self { dir, session: context.session };
        open(directory.dir.path())?;
        for name in [
            "apt",
            "apt/lists",
            "apt/lists/partial",
            "apt/archives",
            "state",
            "state/archives",
            "state/archives/partial",
            "state/cache",
            "state/log",
        ] {
            let path = directory.dir.path().join(name);
            fs::create_dir(&path).map_err(Error::file("make", &path))?;
            open(&path)?;
        }
        directory.write("apt/apt.conf", CONF.as_bytes())?;
        Ok(directory)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).map_err(Error::file("write", &path))
    }

    pub(super) fn lay_sources(&self, lines: &[String], context: bool) -> Result<(), Error> {
        let mut text = String::new();
        // First: among equal versions apt takes the one from the source named first.
        if context {
            text.push_str("deb [trusted=yes] http://bake.invalid/context bake main\n");
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.write("apt/sources.list", text.as_bytes())
    }

    /// Puts the verified lists where apt looks for them, under an invented host: no mirror's name
    /// gets into an image.
    pub(super) fn lay_lists(
        &self,
        sources: &[Arc<Lists>],
        archs: &[&str],
    ) -> Result<Listed, Error> {
        let mut listed = Listed { lines: vec![], places: vec![], archives: vec![] };
        for pocket in sources.iter().flat_map(|s| &s.pockets) {
            let place = match &pocket.archive {
                Archive::Main => "debian".to_owned(),
                Archive::Security => "debian-security".to_owned(),
                other => match listed.archives.iter().position(|a| a == other) {
                    Some(known) => listed.places[known].clone(),
                    None => format!("repository{}", listed.places.len()),
                },
            };
            if !listed.places.contains(&place) {
                listed.places.push(place.clone());
                listed.archives.push(pocket.archive.clone());
            }
            let flat = pocket.suite.ends_with('/');
            let base = match (flat, pocket.suite.as_str()) {
                (false, suite) => format!("bake.invalid/{place}/dists/{suite}"),
                (true, "/") => format!("bake.invalid/{place}"),
                (true, path) => format!("bake.invalid/{place}/{}", path.trim_end_matches('/')),
            };
            for (name, bytes) in &pocket.documents {
                self.write(&format!("apt/lists/{}", list_name(&format!("{base}/{name}"))), bytes)?;
            }
            let mut components: Vec<&str> = vec![];
            for index in &pocket.indexes {
                let name = if flat {
                    format!("{base}/Packages")
                } else {
                    format!("{base}/{}/binary-{}/Packages", index.component, index.arch)
                };
                self.link(&index.plain, &format!("apt/lists/{}", list_name(&name)))?;
                if !components.contains(&index.component.as_str()) {
                    components.push(&index.component);
                }
            }
            listed.lines.push(
                format!(
                    "deb [arch={}] http://bake.invalid/{place} {} {}",
                    archs.join(","),
                    pocket.suite,
                    components.join(" ")
                )
                .trim_end()
                .to_owned(),
            );
        }
        Ok(listed)
    }

    /// Writes indexes of these packages, one for each of `archs` (the first is dpkg's own), from
    /// their own control stanzas.
    pub(super) fn lay_index(
        &self,
        place: &str,
        set: &[Local],
        archs: &[&str],
    ) -> Result<(), Error> {
        for arch in archs {
            let belongs = |local: &&Local| {
                let of = local.package.arch.as_str();
                of == *arch || (*arch == archs[0] && (of == "all" || !archs.contains(&of)))
            };
            let mut text = String::new();
            for Local { package, stanza, .. } in set.iter().filter(belongs) {
                text.push_str(&format!(
                    "{stanza}Filename: {}\nSize: {}\nSHA256: {}\n\n",
                    package.file_name(),
                    package.size,
                    package.sha256.hex()
                ));
            }
            let path = format!("bake.invalid/{place}/dists/bake/main/binary-{arch}/Packages");
            self.write(&format!("apt/lists/{}", list_name(&path)), text.as_bytes())?;
        }
        Ok(())
    }

    pub(super) fn lay_archive(&self, file: &Path, package: &Package) -> Result<(), Error> {
        let name = format!("apt/archives/{}", package.file_name());
        let link = self.dir.path().join("state/archives").join(package.file_name());
        symlink(Path::new("/dev/bake").join(&name), &link).map_err(Error::file("make", &link))?;
        if package.archive == Archive::Context {
            // A person's file: it may be on another file system, and its owner is not root inside.
            let path = self.dir.path().join(name);
            fs::copy(file, &path).map_err(Error::file("copy", file))?;
            return open(&path);
        }
        self.link(file, &name)
    }

    /// By hard link: what is mounted is read-only, so nothing inside can reach the cache through
    /// it.
    fn link(&self, file: &Path, name: &str) -> Result<(), Error> {
        let path = self.dir.path().join(name);
        if fs::hard_link(file, &path).is_ok() {
            return Ok(());
        }
        fs::copy(file, &path).map(|_| ()).map_err(Error::file("copy", file))
    }

    pub(super) fn job(&self, root: &Overlay, actions: Vec<Action>) -> Job {
        let mount = |name: &str, read_only| Mount {
            from: self.dir.path().join(name),
            at: Path::new("/dev/bake").join(name),
            read_only,
            owners: Owners::Image,
        };
        Job {
            root: Some(root.clone()),
            allowance: Allowance::default(),
            mounts: vec![mount("apt", true), mount("state", false)],
            files: policy_files(),
            secrets: ShownSecrets::default(),
            hostname: "bake".to_owned(),
            network: Network::None,
            actions,
        }
    }
}

/// Whatever the umask, and tempfile's 0700: apt inside must be able to read it.
fn open(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(Error::file("open up", path))
}

/// apt's name of a list file: slashes become underscores, real underscores (and other odd signs)
/// are percent-encoded.
fn list_name(path: &str) -> String {
    let mut name = String::new();
    for c in path.chars() {
        match c {
            '/' => name.push('_'),
            c if "\\|{}[]<>\"^~_=!@#$%^&*".contains(c) => {
                name.push_str(&format!("%{:02x}", u32::from(c)))
            }
            c => name.push(c),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_names_are_apts() {
        assert_eq!(
            list_name("bake.invalid/debian/dists/trixie/InRelease"),
            "bake.invalid_debian_dists_trixie_InRelease"
        );
        assert_eq!(list_name("h/a_b~c"), "h_a%5fb%7ec");
    }
}
