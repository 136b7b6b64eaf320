//! Debian bases from the real mirror: chosen, unpacked, configured, the same each time; and what
//! was locked builds without network.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bake::archive::{self, Options};
use bake::base::{Error, Pinned};
use bake::recipe::DebianVariant;

use crate::base_lab::{Builder, assert_same, cache, debian, net, pin, source};
use crate::tier;

/// A source that cannot reach anything, and works on one thread.
pub(crate) fn nowhere() -> Options {
    let mut options = Options {
        mirror: Some("http://127.0.0.1:9/debian".to_owned()),
        threads: 1,
        ..Options::default()
    };
    options.limits.tries = 1;
    options
}

fn bootstrap(suite: &str) {
    if !tier::root() || !net() {
        return;
    }
    let Some(builder) = Builder::new() else { return };
    let online = source(cache(), Options::default());
    let pinned = pin(suite, &online).unwrap();
    let Pinned::Debian(set) = &pinned else { panic!("not Debian") };
    assert!((60..110).contains(&set.packages.len()), "{}", set.packages.len());
    assert!(
        !set.packages
            .iter()
            .any(|p| p.name.starts_with("perl") && p.name != "perl-base" || p.name == "usrmerge")
    );
    let epoch = pinned.date().unwrap();

    let first = builder.build(&pinned, Path::new("."), epoch, &online).unwrap();
    let root = &first.upper;
    let audit = "dpkg --audit; dpkg -l | grep -v '^ii' | tail -n +6; dpkg -V; apt-get check -qq; ls /var/lib/dpkg/bake.ci /var/lib/dpkg/tmp.ci 2>/dev/null; true";
    assert_eq!(builder.sh(&first, audit), "");
    assert_eq!(
        builder.sh(&first, "dpkg --get-selections | wc -l").trim(),
        set.packages.len().to_string()
    );
    for gone in [
        "var/log/dpkg.log",
        "etc/passwd-",
        "var/cache/ldconfig/aux-cache",
        "var/lib/dpkg/status-old",
        "etc/hostname",
        "etc/resolv.conf",
    ] {
        assert!(!root.join(gone).exists(), "{gone}");
    }
    let sources =
        std::fs::read_to_string(root.join("etc/apt/sources.list.d/debian.sources")).unwrap();
    assert!(
        sources.contains("URIs: http://deb.debian.org/debian\n")
            && sources.contains(&format!("Suites: {suite}-security"))
    );
    let shadow = root.join("etc/shadow").metadata().unwrap();
    assert_eq!((shadow.uid(), shadow.gid(), shadow.mode() & 0o7777), (0, 42, 0o640));
    assert_eq!(root.join("tmp").metadata().unwrap().mode() & 0o7777, 0o1777);
    assert!(
        root.join("usr/bin/ischroot").metadata().unwrap().len() > 30,
        "the real one is in the image"
    );

    // What was written to a lock, read back, built again without any network.
    let text = toml::to_string(&pinned).unwrap();
    let locked: Pinned = toml::from_str(&text).unwrap();
    assert_eq!(locked, pinned);
    assert_eq!(locked.key(epoch), pinned.key(epoch));
    let offline = source(cache(), nowhere());
    let again = bake::base::pin(
        &debian(suite, DebianVariant::Minbase),
        "amd64",
        Path::new("."),
        Some(&locked),
        &offline,
    )
    .unwrap();
    let second = builder.build(&again, Path::new("."), epoch, &offline).unwrap();
    assert_same(root, &second.upper, epoch);
}

#[test]
fn root_net_trixie_is_whole_and_the_same_from_its_lock() {
    bootstrap("trixie");
}

#[test]
fn root_net_bookworm_is_whole_and_the_same_from_its_lock() {
    bootstrap("bookworm");
}

#[test]
fn root_net_slim_leaves_out_documentation_now_and_later() {
    if !tier::root() || !net() {
        return;
    }
    let Some(builder) = Builder::new() else { return };
    let online = source(cache(), Options::default());
    let pinned = bake::base::pin(
        &debian("trixie", DebianVariant::Slim),
        "amd64",
        Path::new("."),
        None,
        &online,
    )
    .unwrap();
    let root = builder.build(&pinned, Path::new("."), 0, &online).unwrap();
    let left = crate::sandbox_lab::listing(&root.upper);
    assert!(left.iter().any(|p| p == "usr/share/doc/bash/copyright"));
    assert!(!left.iter().any(|p| p.starts_with("usr/share/doc/")
        && p.ends_with("changelog.Debian.gz")
        && !root.upper.join(p).is_symlink()));
    assert!(
        !left
            .iter()
            .any(|p| p.starts_with("usr/share/man/man1/") || p.starts_with("usr/share/locale/de"))
    );
    assert_eq!(
        builder
            .sh(&root, "cat /etc/dpkg/dpkg.cfg.d/bake-slim | grep -c path-exclude; dpkg --audit"),
        "7"
    );
}

#[test]
fn root_a_download_that_fails_ends_the_unpacking_and_is_the_reason() {
    if !tier::root() {
        return;
    }
    let Some(builder) = Builder::new() else { return };
    let package = |name: &str, archive| bake::archive::Package {
        name: name.to_owned(),
        version: "1.0".to_owned(),
        arch: "all".to_owned(),
        sha256: bake::digest::Digest::of(crate::base_mirror::deb(name, "")),
        size: crate::base_mirror::deb(name, "").len() as u64,
        path: format!("pool/{name}.deb"),
        archive,
    };
    let server = crate::base_mirror::Server::start(|path| match path {
        "/debian/pool/good.deb" => {
            crate::base_mirror::Reply::Bytes(crate::base_mirror::deb("good", ""))
        }
        _ => crate::base_mirror::Reply::Status(404),
    });
    let dir = tempfile::tempdir().unwrap();
    let source = source(
        dir.path(),
        Options { mirror: Some(format!("{}/debian", server.url)), ..Options::default() },
    );
    let pin = |packages| bake::base::PinnedDebian {
        suite: "trixie".to_owned(),
        arch: bake::image::Platform::host().architecture,
        slim: false,
        components: vec!["main".to_owned()],
        mirror: None,
        date: 0,
        packages,
    };
    let main = bake::archive::Archive::Main;
    let missing =
        Pinned::Debian(pin(vec![package("gone", main.clone()), package("good", main.clone())]));
    let error = builder.build(&missing, Path::new("."), 0, &source).unwrap_err();
    assert!(
        matches!(&error, Error::Archive(archive::Error::Gone { name, .. }) if name == "gone"),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("bake lock --update"));
    // A package that is not the one the lock names is found out by its own control file.
    let mut other = package("good", main);
    other.version = "2.0".to_owned();
    let error =
        builder.build(&Pinned::Debian(pin(vec![other])), Path::new("."), 0, &source).unwrap_err();
    assert!(
        error.to_string().contains("package good: its Version is \"1.0\", not \"2.0\""),
        "{error}"
    );
}
