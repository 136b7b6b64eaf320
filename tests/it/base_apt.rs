//! `packages` steps on Debian: the image's apt chooses, bake fetches and verifies, apt installs
//! without network; the same from a lock.

use std::path::{Path, PathBuf};

use bake::archive::Request;
use bake::archive::apt::{self, Ask};
use bake::archive::{Archive, Options, Repository, Source};
use bake::archive::{Error, Line, Package};
use bake::digest::Digest;
use bake::sandbox::Overlay;

use crate::base_debian::nowhere;
use crate::base_lab::{Builder, assert_same, cache, net, pin, source};
use crate::base_mirror::{OURS, Reply, Server, deb};
use crate::tier;

const EPOCH: i64 = 1_700_000_000;

struct Base {
    builder: Builder,
    online: Source,
    suite: &'static str,
    lower: PathBuf,
    components: Vec<String>,
}

impl Base {
    fn new(suite: &'static str) -> Option<Self> {
        if !tier::root() || !net() {
            return None;
        }
        let builder = Builder::new()?;
        let online = source(cache(), Options::default());
        let pinned = pin(suite, &online).unwrap();
        let lower = builder.build(&pinned, Path::new("."), EPOCH, &online).unwrap().upper;
        Some(Self { builder, online, suite, lower, components: vec!["main".to_owned()] })
    }

    fn fresh(&self) -> Overlay {
        self.builder.lab.overlay(vec![self.lower.clone()])
    }

    fn ask<'a>(&'a self, requests: &'a [Request], files: &'a [PathBuf]) -> Ask<'a> {
        Ask {
            suite: self.suite,
            arch: "amd64",
            components: &self.components,
            mirror: None,
            repositories: &[],
            requests,
            files,
            recommends: false,
            without_initrd: false,
            epoch: EPOCH,
            foreign: &[],
            view: None,
            limit: std::time::Duration::from_secs(600),
        }
    }

    /// The same root for another job: each mount needs a work directory of its own.
    fn again(&self, root: &Overlay) -> Overlay {
        let work = tempfile::Builder::new()
            .prefix("w-")
            .tempdir_in(root.upper.parent().unwrap())
            .unwrap()
            .keep();
        Overlay { work, ..root.clone() }
    }

    fn resolve(&self, root: &Overlay, ask: &Ask<'_>) -> Result<Vec<Package>, Error> {
        apt::resolve(&self.again(root), ask, &self.builder.context(&self.online), &mut say)
    }

    fn install(
        &self,
        root: &Overlay,
        set: &[Package],
        ask: &Ask<'_>,
        source: &Source,
    ) -> Result<(), Error> {
        // Warnings are about the image: apt has none about the directories that bake gives it.
        let mut listen = |line: Line<'_>| {
            say(line);
            assert!(!line.text.starts_with(b"W: "), "{}", String::from_utf8_lossy(line.text));
        };
        apt::install(&self.again(root), set, ask, &self.builder.context(source), &mut listen)
    }

    fn sh(&self, root: &Overlay, script: &str) -> String {
        let mut job = self.builder.lab.job(vec![crate::sandbox_lab::sh(script)]);
        job.root = Some(Overlay {
            lower: vec![root.upper.clone(), self.lower.clone()],
            ..self.builder.lab.overlay(vec![])
        });
        self.builder.lab.run(job).ok().out.join("\n")
    }
}

fn say(line: Line<'_>) {
    eprintln!("{}", String::from_utf8_lossy(line.text));
}

fn requests(names: &[&str]) -> Vec<Request> {
    names.iter().map(|n| Request::parse(n).unwrap()).collect()
}

fn installs(suite: &'static str, names: &[&str], checks: &[(&str, &str)]) {
    let Some(base) = Base::new(suite) else { return };
    let wanted = requests(names);
    let ask = base.ask(&wanted, &[]);
    let first = base.fresh();
    let set = base.resolve(&first, &ask).unwrap();
    assert!(std::fs::read_dir(&first.upper).unwrap().next().is_none(), "choosing changes nothing");
    assert!(names.iter().all(|n| set.iter().any(|p| p.name == *n)), "{set:#?}");
    base.install(&first, &set, &ask, &base.online).unwrap();
    assert_eq!(
        base.sh(&first, "dpkg --audit; dpkg -l | grep -v '^ii' | tail -n +6; apt-get check -qq"),
        ""
    );
    for (script, expected) in checks {
        assert_eq!(base.sh(&first, script), *expected, "{script}");
    }
    assert!(!first.upper.join("usr/sbin/policy-rc.d").exists());
    let left = crate::sandbox_lab::listing(&first.upper);
    for bad in [
        "var/lib/apt/lists/bake",
        "var/cache/apt/archives/",
        "ssh_host_",
        "var/log/apt/",
        "var/log/dpkg.log",
        "ssl-cert-snakeoil",
        "dev/bake",
    ] {
        assert!(!left.iter().any(|path| path.contains(bad)), "{bad}");
    }

    let second = base.fresh();
    let offline = source(cache(), nowhere());
    base.install(&second, &set, &ask, &offline).unwrap();
    assert_same(&first.upper, &second.upper, EPOCH);
}

#[test]
fn root_net_nginx_on_bookworm() {
    installs(
        "bookworm",
        &["nginx-light"],
        &[
            ("nginx -v 2>&1 | cut -d/ -f1", "nginx version: nginx"),
            ("apt-mark showmanual | grep -c nginx-light", "1"),
            ("apt-mark showauto | grep -c libnginx", "1"),
        ],
    );
}

#[test]
fn root_net_ssh_on_trixie_brings_no_keys() {
    installs(
        "trixie",
        &["openssh-server"],
        &[("ls /etc/ssh/ssh_host_* 2>/dev/null | wc -l", "0"), ("stat -c %s /etc/machine-id", "0")],
    );
}

#[test]
fn root_net_a_package_of_our_own() {
    let Some(base) = Base::new("trixie") else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ours.deb");
    std::fs::write(&file, ours("1.0", "hello")).unwrap();
    let files = [file.clone()];
    let wanted = requests(&["bc"]);
    let ask = base.ask(&wanted, &files);
    let root = base.fresh();
    let set = base.resolve(&root, &ask).unwrap();
    assert!(set.iter().any(|p| p.name == "bc" && p.archive == Archive::Main), "{set:#?}");
    assert!(set.iter().any(|p| p.name == "ours" && p.archive == Archive::Context));
    base.install(&root, &set, &ask, &base.online).unwrap();
    assert_eq!(base.sh(&root, "cat /usr/share/ours; echo; echo 6*7 | bc"), "hello\n42");

    // The file changed, the lock did not.
    std::fs::write(&file, ours("1.0", "other")).unwrap();
    let error = base.install(&base.fresh(), &set, &ask, &base.online).unwrap_err();
    assert!(matches!(error, Error::NotPinned { .. }), "{error}");
}

#[test]
fn root_net_what_apt_refuses_is_in_the_error() {
    let Some(base) = Base::new("bookworm") else { return };
    for (names, expected) in [
        (&["no-such-package"][..], "E: Unable to locate package no-such-package"),
        (&["bash=0.1"], "E: Version '0.1' for 'bash' was not found"),
        (&["bash/trixie"], "E: Release 'trixie' for 'bash' was not found"),
        (
            &["mail-transport-agent"],
            "E: Package 'mail-transport-agent' has no installation candidate",
        ),
    ] {
        let wanted = requests(names);
        let root = base.fresh();
        let error = base.resolve(&root, &base.ask(&wanted, &[])).unwrap_err();
        let Error::Apt { what, output: got } = &error else { panic!("{error:?}") };
        assert_eq!(*what, names.join(" "));
        assert!(got.contains(expected), "{got}");
    }
    // What is there already needs no package; asking for it is no error.
    let wanted = requests(&["bash"]);
    let (root, ask) = (base.fresh(), base.ask(&wanted, &[]));
    let set = base.resolve(&root, &ask).unwrap();
    assert_eq!(set, []);
    base.install(&root, &set, &ask, &base.online).unwrap();
    // By suite, from the verified InRelease.
    let wanted = requests(&["bc/bookworm"]);
    let set = base.resolve(&base.fresh(), &base.ask(&wanted, &[])).unwrap();
    assert!(set.iter().any(|p| p.name == "bc"));
}

#[test]
fn root_net_repositories_of_others() {
    let Some(base) = Base::new("trixie") else { return };
    let bytes = deb("theirs", "Depends: bc\n");
    let (size, hex) = (bytes.len(), Digest::of(&bytes).hex());
    let row = format!(
        "Package: theirs\nVersion: 1.0\nArchitecture: all\nDepends: bc\nFilename: ./a+b/theirs_1.0_all.deb\nSize: {size}\nSHA256: {hex}\n\n"
    );
    let date = "Date: Thu, 01 Jan 2026 00:00:00 UTC\n";
    let list = |path: &str| {
        OURS.sign(&format!(
            "{date}Suite: odd_name\nSHA256:\n {} {} {path}\n",
            Digest::of(&row).hex(),
            row.len()
        ))
    };
    let (flat, deep) = (list("Packages"), list("x/binary-amd64/Packages"));
    let server = Server::start(move |path| match path {
        "/flat/InRelease" | "/InRelease" => Reply::Bytes(flat.clone()),
        "/dists/odd_name/InRelease" => Reply::Bytes(deep.clone()),
        "/flat/Packages" | "/Packages" | "/dists/odd_name/x/binary-amd64/Packages" => {
            Reply::Bytes(row.clone().into_bytes())
        }
        "/a+b/theirs_1.0_all.deb" => Reply::Bytes(bytes.clone()),
        _ => Reply::Status(404),
    });
    let wanted = requests(&["theirs"]);
    for (suite, components) in
        [("odd_name", vec!["x".to_owned()]), ("/", vec![]), ("./", vec![]), ("flat/", vec![])]
    {
        let own = Repository {
            url: server.url.clone() + "/",
            suite: suite.to_owned(),
            components,
            key: OURS.public(),
        };
        let repositories = [own.clone()];
        let ask = Ask { repositories: &repositories, ..base.ask(&wanted, &[]) };
        let root = base.fresh();
        let set = base.resolve(&root, &ask).unwrap_or_else(|e| panic!("{suite}: {e}"));
        let theirs = set.iter().find(|p| p.name == "theirs").unwrap();
        assert_eq!(
            (&theirs.archive, theirs.path.as_str()),
            (&Archive::Url(server.url.clone()), "a+b/theirs_1.0_all.deb"),
            "{suite}"
        );
        base.install(&root, &set, &ask, &base.online).unwrap();
        assert_eq!(base.sh(&root, "cat /x; echo; echo 1+1 | bc"), "x\n2");
        assert!(
            !crate::sandbox_lab::listing(&root.upper).iter().any(|path| path.contains("127.0.0.1"))
        );

        let key = include_bytes!("../../src/archive/keys/trixie-stable.asc").to_vec();
        let repositories = [Repository { key, ..own.clone() }];
        let ask = Ask { repositories: &repositories, ..base.ask(&wanted, &[]) };
        let error = base.resolve(&base.fresh(), &ask).unwrap_err();
        assert!(matches!(error, Error::Untrusted { .. }), "{error:?}");
    }
}

/// A package made here: `ar` of two tars.
fn ours(version: &str, text: &str) -> Vec<u8> {
    let tar = |files: &[(&str, &str)]| {
        let mut builder = tar::Builder::new(vec![]);
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let control = format!(
        "Package: ours\nVersion: {version}\nArchitecture: all\nMaintainer: us <us@example.org>\nDescription: ours\n"
    );
    let mut deb = b"!<arch>\n".to_vec();
    for (name, bytes) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", tar(&[("./control", &control)])),
        ("data.tar", tar(&[("./usr/share/ours", text)])),
    ] {
        deb.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, bytes.len())
                .into_bytes(),
        );
        deb.extend(&bytes);
        if bytes.len() % 2 == 1 {
            deb.push(b'\n');
        }
    }
    deb
}
