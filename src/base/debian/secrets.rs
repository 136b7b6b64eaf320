//! Keys that the scripts of packages make by chance: every container with the image would share
//! them, and every build has others.
//!
//! - Host keys of SSH always go. Nothing but chance is in them, and `ssh-keygen -A` makes them
//!   again: under systemd a unit does that before sshd starts for the first time.
//! - So does the key by which `rndc` talks to bind; `rndc-confgen -a` makes it again, and `named`
//!   runs without.
//! - The cookie of Erlang goes if it is one that Erlang has made up: it makes another when it
//!   starts.
//! - The certificate `ssl-cert-snakeoil` goes, unless an active configuration names it: a server
//!   that is configured for it does not start without.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::changed::{Tree, find, named, remove};

/// Host keys of SSH, and the control key of bind.
const GONE: &[&str] =
    &["etc/ssh/ssh_host_*_key", "etc/ssh/ssh_host_*_key.pub", "etc/bind/rndc.key"];
/// The cookie of RabbitMQ's Erlang.
const COOKIE: &str = "var/lib/rabbitmq/.erlang.cookie";
/// The certificate that the package `ssl-cert` makes, and its key.
pub(super) const SNAKEOIL: &[&str] =
    &["etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ssl-cert-snakeoil.pem"];
/// What names either.
const NAME: &str = "ssl-cert-snakeoil";
/// Where systemd's units of packages are, on a merged `/usr` and without.
const UNITS: &[&str] = &["usr/lib/systemd/system", "lib/systemd/system"];
/// The unit that makes host keys of SSH where there are none.
const HOST_KEYS: &str = "bake-ssh-host-keys.service";
const HOST_KEYS_UNIT: &str = "[Unit]\n\
    Description=Host keys of SSH for this machine\n\
    Before=ssh.service sshd.service\n\
    ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key\n\
    \n\
    [Service]\n\
    Type=oneshot\n\
    ExecStart=/usr/bin/ssh-keygen -A\n";

/// Configuration files are small.
const MAX_CONFIGURATION: u64 = 1 << 20;

/// Removes the keys that a step made; returns how many files went.
pub(super) fn remove_made(tree: &Tree<'_>) -> io::Result<u64> {
    let mut removed = 0;
    for pattern in GONE {
        for path in find(tree, pattern)? {
            if path.starts_with(tree.root.join("etc/ssh")) {
                make_host_keys_at_start(tree.root)?;
            }
            remove(&path)?;
            removed += 1;
        }
    }
    for path in find(tree, COOKIE)? {
        if fs::read(&path).is_ok_and(|text| is_made_up(&text)) {
            remove(&path)?;
            removed += 1;
        }
    }
    let mut made = vec![];
    for name in SNAKEOIL {
        made.extend(find(tree, name)?);
    }
    if made.is_empty() || configured(tree.root)?.is_some() {
        return Ok(removed);
    }
    // c_rehash names certificates by hash.
    for path in find(&Tree { root: tree.root, changes: None }, "etc/ssl/certs/*")? {
        if fs::read_link(&path).is_ok_and(|target| target.ends_with("ssl-cert-snakeoil.pem")) {
            made.push(path);
        }
    }
    for path in made {
        remove(&path)?;
        removed += 1;
    }
    Ok(removed)
}

/// Has systemd make the host keys of SSH before sshd starts, where the image has its unit.
fn make_host_keys_at_start(root: &Path) -> io::Result<()> {
    for directory in UNITS.iter().map(|name| root.join(name)) {
        if !directory.join("ssh.service").is_file() {
            continue;
        }
        let unit = directory.join(HOST_KEYS);
        if fs::symlink_metadata(&unit).is_ok() {
            return Ok(());
        }
        fs::write(&unit, HOST_KEYS_UNIT).map_err(|error| named(&unit, &error))?;
        // Neither the umask nor a default ACL counts.
        fs::set_permissions(&unit, Permissions::from_mode(0o644))
            .map_err(|error| named(&unit, &error))?;
        let wants = directory.join("ssh.service.wants");
        if !wants.is_dir() {
            fs::create_dir(&wants).map_err(|error| named(&wants, &error))?;
            fs::set_permissions(&wants, Permissions::from_mode(0o755))
                .map_err(|error| named(&wants, &error))?;
        }
        let link = wants.join(HOST_KEYS);
        return symlink(Path::new("..").join(HOST_KEYS), &link).map_err(|e| named(&link, &e));
    }
    Ok(())
}

/// Whether nobody has chosen this cookie: twenty capitals, as Erlang's `auth` module makes them, or
/// 42 bytes in base64 and a line end, as the package's script does. Another one is a cluster's.
fn is_made_up(cookie: &[u8]) -> bool {
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    match cookie {
        [text @ .., b'\n'] => text.len() == 56 && text.iter().all(base64),
        text => text.len() == 20 && text.iter().all(u8::is_ascii_uppercase),
    }
}

/// Returns a configuration file that names the certificate, or a symlink to it. Sites and modules
/// that are available and not enabled do not count, nor do comments.
pub(super) fn configured(root: &Path) -> io::Result<Option<PathBuf>> {
    let etc = root.join("etc");
    let left_out = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        path == etc.join("ssl") || name.ends_with("-available") || name == "ssl-cert"
    };
    let mut names = vec![NAME.to_owned()];
    let mut files = vec![];
    for entry in walkdir::WalkDir::new(&etc)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| !left_out(entry.path()))
    {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let (path, kind) = (entry.path(), entry.file_type());
        let alias = kind.is_symlink()
            && fs::read_link(path).is_ok_and(|target| target.to_string_lossy().contains(NAME));
        if alias {
            let inside = path.strip_prefix(root).unwrap_or(path);
            names.push(format!("/{}", inside.display()));
        } else if kind.is_file() || kind.is_symlink() && enables(path) {
            files.push(entry.into_path());
        }
    }
    Ok(files.into_iter().find(|file| mentions(file, &names)))
}

/// Whether a symlink enables a site or module, as apache2 and nginx have it.
fn enables(link: &Path) -> bool {
    let directory = link.parent().and_then(Path::file_name);
    directory.is_some_and(|name| name.to_string_lossy().ends_with("-enabled"))
}

/// Whether a line of the file that is no comment gives one of these names to something: a name at
/// the beginning of a line is prose.
fn mentions(file: &Path, names: &[String]) -> bool {
    if fs::metadata(file).map_or(true, |meta| !meta.is_file() || meta.len() > MAX_CONFIGURATION) {
        return false;
    }
    let Ok(text) = fs::read(file) else { return false };
    String::from_utf8_lossy(&text).lines().any(|line| {
        let line = line.trim_start();
        let comment = ["#", ";", "//"].iter().any(|mark| line.starts_with(mark));
        let given = |name: &String| {
            let mark = |c: char| c.is_whitespace() || "=<:'\"".contains(c);
            let before = line.find(name).and_then(|at| line[..at].rsplit_once(mark));
            before.is_some_and(|(setting, _)| !setting.trim().is_empty())
        };
        !comment && names.iter().any(given)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let keys = SNAKEOIL.iter().map(|name| (*name, "key"));
        for (name, text) in files.iter().copied().chain(keys) {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("writable");
            fs::write(path, text).expect("writable");
        }
        symlink("ssl-cert-snakeoil.pem", dir.path().join("etc/ssl/certs/0a1b.0")).expect("ours");
        dir
    }

    fn stays(dir: &Path) -> bool {
        remove_made(&Tree { root: dir, changes: None }).expect("ours");
        let there: Vec<bool> = SNAKEOIL
            .iter()
            .chain(&["etc/ssl/certs/0a1b.0"])
            .map(|name| fs::symlink_metadata(dir.join(name)).is_ok())
            .collect();
        assert!(there.iter().all(|one| *one == there[0]), "all or none: {there:?}");
        there[0]
    }

    /// E17
    #[test]
    fn host_keys_are_made_anew_before_sshd_starts() {
        let unit = "usr/lib/systemd/system/ssh.service";
        let dir = tree(&[("etc/ssh/ssh_host_rsa_key", "x"), (unit, "")]);
        for _ in 0..2 {
            remove_made(&Tree { root: dir.path(), changes: None }).expect("ours");
        }
        assert!(!dir.path().join("etc/ssh/ssh_host_rsa_key").exists());
        let wanted = dir.path().join(format!("{unit}.wants/{HOST_KEYS}"));
        let text = fs::read_to_string(&wanted).expect("the unit, by its symlink");
        assert!(text.contains("ssh-keygen -A"), "{text}");
        // Neither without sshd's unit, nor where a step made no keys.
        for files in [&[("etc/ssh/ssh_host_rsa_key", "x")][..], &[(unit, "")][..]] {
            let dir = tree(files);
            remove_made(&Tree { root: dir.path(), changes: None }).expect("ours");
            assert!(!dir.path().join(format!("{unit}.wants")).exists());
        }
    }

    /// E8
    #[test]
    fn a_cookie_that_somebody_chose_is_not_made_up() {
        for cookie in
            ["ABCDEFGHIJKLMNOPQRST", "+C6N8zclYjKHo1iC5XgaEP3jadjGO8gIXqlMegcCLMrARnnIo86l01OL\n"]
        {
            assert!(is_made_up(cookie.as_bytes()), "{cookie}");
        }
        for cookie in ["", "monster", "secret-of-our-cluster\n", "ABCDEFGHIJKLMNOPQRST\n"] {
            assert!(!is_made_up(cookie.as_bytes()), "{cookie}");
        }
    }

    /// D1
    #[test]
    fn a_certificate_that_a_configuration_names_stays() {
        let line = "ssl_cert_file = '/etc/ssl/certs/ssl-cert-snakeoil.pem'";
        assert!(stays(tree(&[("etc/postgresql/15/main/postgresql.conf", line)]).path()));
        assert!(!stays(tree(&[("etc/x.conf", &format!("  # {line}"))]).path()), "a comment");
        let prose =
            "You may symlink this file to\n/etc/ssl/certs/ssl-cert-snakeoil.pem; in this case";
        assert!(!stays(tree(&[("etc/root.crt", prose)]).path()), "prose");
        let site = ("etc/apache2/sites-available/default-ssl.conf", line);
        let dir = tree(&[site]);
        fs::create_dir(dir.path().join("etc/apache2/sites-enabled")).expect("ours");
        assert!(!stays(dir.path()), "not enabled");
        let dir = tree(&[site]);
        fs::create_dir(dir.path().join("etc/apache2/sites-enabled")).expect("ours");
        symlink(
            "../sites-available/default-ssl.conf",
            dir.path().join("etc/apache2/sites-enabled/s"),
        )
        .expect("ours");
        assert!(stays(dir.path()), "enabled");
        for (line, named) in [("ssl_key = </etc/dovecot/key", true), ("ssl_key = </other", false)] {
            let dir = tree(&[("etc/dovecot/x.conf", line)]);
            symlink("/etc/ssl/private/ssl-cert-snakeoil.key", dir.path().join("etc/dovecot/key"))
                .expect("ours");
            assert_eq!(stays(dir.path()), named, "by another name");
        }
    }
}
