//! Unpacks a set of packages into an empty root and writes dpkg's database, as if dpkg had unpacked
//! them all. Runs inside the user namespace, while the packages are still being downloaded: a pipe
//! says which have arrived.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use super::filter::{self, Filter};
use super::tree::{Directory, Held, Root};
use crate::archive::{Package, PackageSet, UnpackedPackages, closure};
use crate::deb::file as deb;
use crate::deb::index::Catalog;
use crate::deb::stanza::field;

/// Where control directories wait for their preinst, below the root.
pub(in crate::base) const WAITING: &str = "var/lib/dpkg/bake.ci";

struct One {
    control: deb::Control,
    held: Held,
}

/// Unpacks `args` as the packages arrive: `pipe` has the place of each in the set. Reports how many
/// are unpacked. Runs inside.
pub(in crate::base) fn unpack(
    args: PackageSet,
    pipe: File,
    progress: &mut dyn FnMut(u64),
) -> io::Result<UnpackedPackages> {
    let root = Arc::new(Root::open(&args.root)?);
    root.merge_usr()?;
    let args = Arc::new(args);
    let pipe = Arc::new(Mutex::new(pipe));
    let failed = Arc::new(AtomicBool::new(false));
    let (done, ended) = mpsc::channel();
    // Not joined: after a failure the others may wait for packages that never come; they end with
    // this process.
    for _ in 0..args.threads.max(1) {
        let (root, args, pipe, failed, done) = (
            Arc::clone(&root),
            Arc::clone(&args),
            Arc::clone(&pipe),
            Arc::clone(&failed),
            done.clone(),
        );
        std::thread::Builder::new().name("unpack".to_owned()).spawn(move || {
            let filter = if args.slim { Filter::slim() } else { Filter::none() };
            while let Some(index) = next(&pipe) {
                let Some(package) = args.set.get(index) else { return };
                let result = unpack_one(&root, &args, package, &filter, &failed);
                let result = result.map_err(|e| {
                    io::Error::new(e.kind(), format!("package {}: {e}", package.name))
                });
                if done.send((index, result)).is_err() {
                    return;
                }
            }
        })?;
    }
    drop(done);
    let mut all: Vec<Option<One>> = args.set.iter().map(|_| None).collect();
    let mut count = 0_u64;
    for (index, result) in ended {
        match result {
            Ok(one) => all[index] = Some(one),
            Err(error) => {
                failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        count += 1;
        progress(count);
    }
    let Some(all) = all.into_iter().collect::<Option<Vec<One>>>() else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "not all packages arrived"));
    };
    finish(&root, &args, all)
}

/// The next package that has arrived; nothing when no more will come.
fn next(pipe: &Mutex<File>) -> Option<usize> {
    let mut bytes = [0; 4];
    pipe.lock().ok()?.read_exact(&mut bytes).ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

fn unpack_one(
    root: &Root,
    args: &PackageSet,
    package: &Package,
    filter: &Filter,
    failed: &AtomicBool,
) -> io::Result<One> {
    let file = File::open(args.packages.join(package.sha256.hex()))?;
    deb::read(io::BufReader::with_capacity(1 << 17, file), |control, archive| {
        let stanza = control.stanza();
        for (name, wanted) in [
            ("Package", &package.name),
            ("Version", &package.version),
            ("Architecture", &package.arch),
        ] {
            let got = field(&stanza, name).unwrap_or_default();
            if got != wanted {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("its {name} is {got:?}, not {wanted:?}"),
                ));
            }
        }
        let conffiles: HashSet<String> = conffiles(control).map(str::to_owned).collect();
        let held = root.unpack(archive, &conffiles, filter, &|| failed.load(Ordering::Relaxed))?;
        Ok(One { control: control.clone(), held })
    })
}

/// Paths in `conffiles`; a line with a flag (`remove-on-upgrade /path`) names a file that the
/// package does not have.
fn conffiles(control: &deb::Control) -> impl Iterator<Item = &str> {
    let text = control
        .members
        .get("conffiles")
        .and_then(|m| std::str::from_utf8(&m.bytes).ok())
        .unwrap_or_default();
    text.lines().map(str::trim).filter(|line| line.starts_with('/'))
}

fn finish(root: &Root, args: &PackageSet, all: Vec<One>) -> io::Result<UnpackedPackages> {
    let epoch = args.epoch;
    let mut status = String::new();
    let mut triggers = Triggers::default();
    let mut preinsts = vec![];
    let mut stanzas = vec![];
    root.write("var/lib/dpkg/info/format", b"1\n", 0o644, epoch)?;
    for (package, one) in args.set.iter().zip(&all) {
        let stanza = one.control.stanza();
        let same = field(&stanza, "Multi-Arch") == Some("same");
        let base =
            if same { format!("{}:{}", package.name, package.arch) } else { package.name.clone() };
        root.write(&format!("var/lib/dpkg/info/{base}.list"), &one.held.list, 0o644, epoch)?;
        for (name, member) in one.control.members.iter().filter(|(name, _)| *name != "control") {
            root.write(
                &format!("var/lib/dpkg/info/{base}.{name}"),
                &member.bytes,
                member.mode,
                member.mtime,
            )?;
        }
        triggers.read(&one.control.text("triggers"), &base);
        if one.control.members.contains_key("preinst") {
            let directory = format!("{}_{}", package.name, package.arch);
            for (name, member) in &one.control.members {
                root.write(
                    &format!("{WAITING}/{directory}/{name}"),
                    &member.bytes,
                    member.mode,
                    member.mtime,
                )?;
            }
            preinsts.push(directory);
        }
        status.push_str(&status_of(&stanza, one));
        stanzas.push(stanza);
    }
    // base-passwd makes /etc/passwd, which the other scripts look names up in.
    preinsts.sort_by_key(|p| !p.starts_with("base-passwd_"));
    root.write("var/lib/dpkg/status", status.as_bytes(), 0o644, epoch)?;
    triggers.write(root, epoch)?;
    root.make_directory(b"var/lib/dpkg/updates")?;
    root.write("var/lib/apt/extended_states", automatic(args, &stanzas)?.as_bytes(), 0o644, epoch)?;
    root.write("etc/apt/sources.list.d/debian.sources", args.sources.as_bytes(), 0o644, epoch)?;
    if args.slim {
        root.write("etc/dpkg/dpkg.cfg.d/bake-slim", filter::SLIM.as_bytes(), 0o644, epoch)?;
        // update-alternatives of later packages fails where the directory of a manual page is
        // missing.
        for section in 1..=8 {
            root.make_directory(format!("usr/share/man/man{section}").as_bytes())?;
        }
    }
    settle(root, args, &all)?;
    Ok(UnpackedPackages {
        preinsts,
        entries: all.iter().map(|o| o.held.entries).sum(),
        bytes: all.iter().map(|o| o.held.bytes).sum(),
    })
}

/// base-files knows best how a directory should be; then packages by name; then our own 0755.
fn settle(root: &Root, args: &PackageSet, all: &[One]) -> io::Result<()> {
    let own =
        |path: &str| Directory { path: path.as_bytes().to_vec(), mode: 0o755, uid: 0, gid: 0 };
    let mut ours: BTreeSet<String> =
        ["", "usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"].map(str::to_owned).into();
    ours.extend(["info", "triggers", "updates"].map(|d| format!("var/lib/dpkg/{d}")));
    ours.extend(
        ["var/lib/apt", "var/lib/dpkg", "etc/apt", "etc/apt/sources.list.d"].map(str::to_owned),
    );
    if args.slim {
        ours.extend(["etc/dpkg", "etc/dpkg/dpkg.cfg.d", "usr/share/man"].map(str::to_owned));
        ours.extend((1..=8).map(|n| format!("usr/share/man/man{n}")));
    }
    let ours: Vec<Directory> = ours.iter().map(|p| own(p)).collect();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|&i| args.set[i].name != "base-files");
    let mut directories = order.iter().flat_map(|&i| &all[i].held.directories).chain(&ours);
    root.settle(&mut directories, args.epoch)
}

/// dpkg's status stanza. With the hash of each conffile as extracted: `newconffile` would stay
/// there for good, and confuse `dpkg -V` and every upgrade.
fn status_of(stanza: &str, one: &One) -> String {
    let (first, rest) = stanza.split_once('\n').unwrap_or((stanza, ""));
    let mut text = format!("{first}\nStatus: install ok unpacked\n{rest}");
    let lines: Vec<String> = conffiles(&one.control)
        .filter_map(|path| one.held.conffiles.get(path).map(|md5| format!(" {path} {md5}\n")))
        .collect();
    if !lines.is_empty() {
        text.push_str("Conffiles:\n");
        text.extend(lines);
    }
    text.push('\n');
    text
}

/// apt's marks for what nobody asked for: not essential or needed by it, not required.
fn automatic(args: &PackageSet, stanzas: &[String]) -> io::Result<String> {
    let mut catalog = Catalog::default();
    catalog.add_text(stanzas.join("\n"))?;
    let essential = closure::close(&catalog, closure::Want::Essential, &args.arch, &[])
        .map_err(io::Error::other)?;
    let mut text = String::new();
    for (package, stanza) in args.set.iter().zip(stanzas) {
        let manual = essential.contains_key(&package.name)
            || field(stanza, "Priority") == Some("required")
            || package.name == "apt";
        if !manual {
            text.push_str(&format!(
                "Package: {}\nArchitecture: {}\nAuto-Installed: 1\n\n",
                package.name, args.arch
            ));
        }
    }
    Ok(text)
}

/// deb-triggers(5): who is interested in what.
#[derive(Default)]
struct Triggers {
    paths: Vec<String>,
    named: std::collections::BTreeMap<String, Vec<String>>,
}

impl Triggers {
    fn read(&mut self, text: &str, package: &str) {
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let (Some(verb), Some(what)) = (words.next(), words.next()) else { continue };
            let who = match verb {
                "interest" | "interest-await" => package.to_owned(),
                "interest-noawait" => format!("{package}/noawait"),
                _ => continue,
            };
            if what.starts_with('/') {
                self.paths.push(format!("{what} {who}\n"));
            } else if what.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+.".contains(&b))
                && !what.starts_with('.')
            {
                self.named.entry(what.to_owned()).or_default().push(format!("{who}\n"));
            }
        }
    }

    fn write(&self, root: &Root, epoch: i64) -> io::Result<()> {
        root.make_directory(b"var/lib/dpkg/triggers")?;
        if !self.paths.is_empty() {
            root.write("var/lib/dpkg/triggers/File", self.paths.concat().as_bytes(), 0o644, epoch)?;
        }
        for (name, who) in &self.named {
            root.write(
                &format!("var/lib/dpkg/triggers/{name}"),
                who.concat().as_bytes(),
                0o644,
                epoch,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_are_recorded_as_dpkg_does() {
        let mut triggers = Triggers::default();
        triggers.read(
            "# comment\ninterest-noawait /usr/share/x\ninterest ldconfig\nactivate-noawait \
                y\ninterest-await /etc/z\ninterest ../up\n",
            "p:amd64",
        );
        assert_eq!(triggers.paths, ["/usr/share/x p:amd64/noawait\n", "/etc/z p:amd64\n"]);
        assert_eq!(
            triggers.named.into_iter().collect::<Vec<_>>(),
            [("ldconfig".to_owned(), vec!["p:amd64\n".to_owned()])]
        );
    }

    #[test]
    fn the_status_stanza_has_the_conffiles() {
        let member =
            |text: &str| deb::Member { bytes: text.as_bytes().to_vec(), mode: 0o644, mtime: 0 };
        let members = [
            ("control", "Package: x\nVersion: 1\n"),
            ("conffiles", "/etc/x\nremove-on-upgrade /etc/old\n"),
        ];
        let control =
            deb::Control { members: members.map(|(n, t)| (n.to_owned(), member(t))).into() };
        let held =
            Held { conffiles: [("/etc/x".to_owned(), "abc".to_owned())].into(), ..Held::default() };
        let status = status_of(&control.stanza(), &One { control: control.clone(), held });
        assert_eq!(
            status,
            "Package: x\nStatus: install ok unpacked\nVersion: 1\nConffiles:\n /etc/x abc\n\n"
        );
    }
}
