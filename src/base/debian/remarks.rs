//! What a person should know about a finished image: keys that are missing since nobody makes them
//! by itself, keys that everybody with the image has, and data that differs from build to build.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::changed::{Tree, find};
use super::secrets::{SNAKEOIL, configured};
use crate::archive::Remark;

/// A package that initialises data when it is installed.
struct Data {
    name: &'static str,
    /// Patterns of a directory, and of a file in it that is there once there is data.
    place: &'static str,
    mark: &'static str,
    hint: &'static str,
}

const DATA: &[Data] = &[
    Data {
        name: "PostgreSQL",
        place: "var/lib/postgresql/*/*",
        mark: "PG_VERSION",
        hint: "write `create_main_cluster = false` to /etc/postgresql-common/createcluster.conf \
            before the package is installed, and run `pg_createcluster` when a machine starts",
    },
    Data {
        name: "MariaDB or MySQL",
        place: "var/lib/mysql",
        mark: "ibdata1",
        hint: "a digest that differs is to be expected; keep the data of a running machine on a \
            volume",
    },
    Data {
        name: "OpenLDAP",
        place: "var/lib/ldap",
        mark: "data.mdb",
        hint: "run `echo 'slapd slapd/no_configuration boolean true' | debconf-set-selections` \
            before the package is installed, and configure it when a machine starts",
    },
];

/// Looks at the image whose root is `root`.
pub(in crate::base) fn of(root: &Path) -> io::Result<Vec<Remark>> {
    let mut found = vec![];
    found.extend(host_keys(root)?);
    found.extend(control_key(root));
    found.extend(control_secret(root));
    found.extend(certificate(root)?);
    for data in DATA {
        for directory in places(root, data.place)? {
            if root.join(&directory).join(data.mark).exists() {
                found.push(Remark {
                    message: format!(
                        "/{} holds data of {} with ids and times in it, so every build has another \
                            digest",
                        directory.display(),
                        data.name
                    ),
                    hint: data.hint.to_owned(),
                    broken: false,
                });
            }
        }
    }
    Ok(found)
}

/// The directories that fit a pattern in which `*` stands for a whole name, relative to the root.
fn places(root: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.split('/') {
        let mut next = vec![];
        for directory in found {
            if part != "*" {
                next.push(directory.join(part));
                continue;
            }
            let entries = match fs::read_dir(root.join(&directory)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                next.push(directory.join(entry?.file_name()));
            }
        }
        next.sort();
        found = next;
    }
    Ok(found)
}

fn host_keys(root: &Path) -> io::Result<Option<Remark>> {
    let whole = Tree { root, changes: None };
    if !root.join("usr/sbin/sshd").exists() || !find(&whole, "etc/ssh/ssh_host_*_key")?.is_empty() {
        return Ok(None);
    }
    // A service that makes them when a machine starts, if that has systemd.
    let systemd = ["usr/lib/systemd/systemd", "lib/systemd/systemd"];
    if !systemd.iter().any(|program| root.join(program).exists()) {
        return Ok(Some(no_host_keys()));
    }
    for place in ["usr/lib/systemd/system/*.service", "etc/systemd/system/*.service"] {
        for unit in find(&whole, place)? {
            if fs::read_to_string(&unit).is_ok_and(|text| text.contains("ssh-keygen -A")) {
                return Ok(None);
            }
        }
    }
    Ok(Some(no_host_keys()))
}

fn no_host_keys() -> Remark {
    Remark {
        message: "the image has no host keys of SSH, and sshd does not start without".to_owned(),
        hint:
            "run `ssh-keygen -A` when a container starts, before sshd: in the entry point, or as \
            `ExecStartPre` of a drop-in for ssh.service"
                .to_owned(),
        broken: false,
    }
}

fn control_key(root: &Path) -> Option<Remark> {
    let there = |name: &str| root.join(name).exists();
    (there("usr/sbin/named") && there("usr/sbin/rndc-confgen") && !there("etc/bind/rndc.key")).then(
        || Remark {
            message: "the image has no key for rndc; named runs without, rndc does not".to_owned(),
            hint: "run `rndc-confgen -a` when a machine starts".to_owned(),
            broken: false,
        },
    )
}

/// The unit of varnish names it, so it stays.
fn control_secret(root: &Path) -> Option<Remark> {
    root.join("etc/varnish/secret").exists().then(|| Remark {
        message: "/etc/varnish/secret is in the image: everybody with the image has it, and every \
            build has another digest"
            .to_owned(),
        hint: "write one of your own when a machine starts, before varnishd".to_owned(),
        broken: false,
    })
}

fn certificate(root: &Path) -> io::Result<Option<Remark>> {
    // Where nothing can make it, it was never this image's.
    if !root.join("usr/sbin/make-ssl-cert").exists() {
        return Ok(None);
    }
    let Some(by) = configured(root)? else { return Ok(None) };
    let by = Path::new("/").join(by.strip_prefix(root).unwrap_or(&by));
    let by = by.display();
    let missing = SNAKEOIL.iter().any(|name| fs::symlink_metadata(root.join(name)).is_err());
    Ok(Some(if missing {
        Remark {
            message: format!(
                "{by} names the certificate ssl-cert-snakeoil, which is not in the \
                image"
            ),
            hint:
                "name a certificate of your own; or make this one behind the step that names it: \
                `run = \"make-ssl-cert generate-default-snakeoil\"`"
                    .to_owned(),
            broken: true,
        }
    } else {
        Remark {
            message: format!(
                "the private key of ssl-cert-snakeoil is in the image, as {by} names it: everybody \
                    with the image has it, and every build has another digest"
            ),
            hint:
                "name a certificate of your own; or run `make-ssl-cert generate-default-snakeoil \
                --force-overwrite` when a machine starts"
                    .to_owned(),
            broken: false,
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remarks(files: &[(&str, &str)]) -> Vec<(bool, String)> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("writable");
            fs::write(path, text).expect("writable");
        }
        let found = of(dir.path()).expect("readable");
        found.into_iter().map(|one| (one.broken, one.message)).collect()
    }

    /// D1
    #[test]
    fn a_missing_certificate_that_is_named_is_an_error_and_a_shared_one_a_warning() {
        let make = ("usr/sbin/make-ssl-cert", "");
        let conf = ("etc/x.conf", "key = /etc/ssl/private/ssl-cert-snakeoil.key");
        let [key, pem] = [SNAKEOIL[0], SNAKEOIL[1]].map(|name| (name, "x"));
        let found = remarks(&[make, conf]);
        assert!(found.len() == 1 && found[0].0 && found[0].1.contains("/etc/x.conf"), "{found:?}");
        let found = remarks(&[make, conf, key, pem]);
        assert!(found.len() == 1 && !found[0].0, "{found:?}");
        assert_eq!(remarks(&[make, key, pem]), [], "nothing names it");
        assert_eq!(remarks(&[conf]), [], "not ours");
    }

    /// E17, E8
    #[test]
    fn what_nobody_makes_again_and_what_differs_is_named() {
        let sshd = ("usr/sbin/sshd", "");
        assert!(remarks(&[sshd])[0].1.contains("no host keys"));
        assert_eq!(remarks(&[sshd, ("etc/ssh/ssh_host_rsa_key", "")]), []);
        let unit = ("usr/lib/systemd/system/keys.service", "[Service]\nExecStart=ssh-keygen -A\n");
        assert!(remarks(&[sshd, unit])[0].1.contains("no host keys"), "nobody starts that service");
        assert_eq!(remarks(&[sshd, unit, ("usr/lib/systemd/systemd", "")]), []);
        let found = remarks(&[("var/lib/postgresql/15/main/PG_VERSION", "15")]);
        assert!(found[0].1.starts_with("/var/lib/postgresql/15/main holds data"), "{found:?}");
        assert!(remarks(&[("var/lib/mysql/ibdata1", "")])[0].1.contains("MariaDB"));
        assert_eq!(remarks(&[("var/lib/mysql/other", "")]), []);
        assert!(remarks(&[("etc/varnish/secret", "x")])[0].1.contains("everybody"));
    }
}
