//! What a string may be: names, durations, modes, owners, paths. One check a kind of text; each
//! says what is wrong and what to write.

mod account;
mod amount;
mod duration;
mod name;
mod path;
mod system;
mod text;

use self::account::{account, owner, passwd_field, password_hash, run_as, ssh_key};
use self::name::{
    image_name, image_reference, image_version, oci_source, platform, push_target, registry,
    stage_name,
};
use self::path::{
    context, glob, ignore, inside, inside_file, inside_glob, member, mount_point, recipe_file,
};
use self::system::{
    cache_name, env_name, file_name, host_name, package, reachable, secret_name, signal,
    signing_key, unit,
};
use self::text::{filled, line, word};
use super::address::{address, probe_url, url};
use super::mistake::Mistake;

pub(crate) use account::mode;
pub use amount::Amount;
pub(crate) use amount::amount;
pub(crate) use duration::duration;
pub(crate) use name::is_oci_path;
pub(crate) use system::sha256;

/// The kinds of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Anything without NUL bytes.
    Any,
    /// Anything at all: content of files.
    Bytes,
    /// An argument of a program: anything without NUL bytes.
    Argument,
    /// Not empty.
    Filled,
    /// One line, not empty.
    Line,
    /// Visible ASCII without white space, not empty.
    Word,
    /// An OCI repository name.
    ImageName,
    /// An OCI tag.
    ImageVersion,
    /// A platform that bake builds for.
    Platform,
    /// A directory of the host: relative to the recipe, or absolute.
    Directory,
    /// A path below the context.
    Context,
    /// The same, or a glob.
    ContextGlob,
    /// An absolute path or glob in a stage.
    StageGlob,
    /// What a `copy` takes: one line, and either of the two above.
    Source,
    /// What a `copy` leaves out, in gitignore notation: not empty.
    Exclude,
    /// A place for a mount: an absolute path in the image that bake does not fill itself.
    MountPoint,
    /// A name of a stage.
    StageName,
    /// A version, a content or a channel of an image.
    ImageReference,
    /// An image that another tool keeps.
    OciSource,
    /// An image in a registry, to be pushed there.
    PushTarget,
    /// Another recipe's file, relative to this one's directory.
    RecipeFile,
    /// An absolute path in the image; a trailing slash is fine.
    Inside,
    /// The same, but of something that is not a directory.
    InsideFile,
    /// An absolute path or glob in the image, and not all of it.
    InsideGlob,
    /// A pattern of gitignore over absolute paths in the image, and not all of it.
    Ignore,
    /// A target of a symlink.
    LinkTarget,
    /// An absolute path that fits into `/etc/passwd`.
    PasswdPath,
    /// A text that fits into `/etc/passwd`.
    PasswdField,
    /// A crypt(5) hash.
    PasswordHash,
    /// A user's or group's name.
    Account,
    /// `name:group` or `uid:gid`.
    Owner,
    /// `name`, `name:group` or ids.
    RunAs,
    /// A public key as a line of `authorized_keys` has it.
    SshKey,
    /// A name of a machine.
    HostName,
    /// Octal digits.
    Mode,
    /// `90s`, `1h30m`.
    Duration,
    /// `2GiB`, `80%`, `none`.
    Amount,
    /// http or https.
    Url,
    /// An http URL that a test asks.
    ProbeUrl,
    /// `host:port`.
    Address,
    /// A file below the context, or an https URL.
    SigningKey,
    /// A package in the manager's notation, or `./file`.
    Package,
    /// A base name of a file.
    FileName,
    /// A systemd unit.
    Unit,
    /// `SIGTERM`.
    Signal,
    /// A name of an environment variable.
    EnvName,
    /// A name of a secret.
    SecretName,
    /// A name of a directory that is kept.
    CacheName,
    /// A name of an OCI label.
    Label,
    /// A glob over recipes of a workspace.
    Member,
    /// A registry, perhaps with what names there begin with.
    Registry,
    /// An entry of the list of hosts that a step may reach.
    Reachable,
}

impl Check {
    /// Returns what is wrong with a text, if anything.
    pub(crate) fn test(self, text: &str) -> Result<(), Mistake> {
        if self != Check::Bytes && text.contains('\0') {
            return Err(Mistake::new("a NUL byte where the kernel takes none")
                .help("NUL bytes are allowed in the content of a file only"));
        }
        match self {
            Check::Any | Check::Bytes | Check::Argument => Ok(()),
            Check::Filled | Check::Exclude => filled(text),
            Check::Line | Check::Source => line(text),
            Check::Word => word(text),
            Check::ImageName => image_name(text),
            Check::ImageVersion => image_version(text),
            Check::Platform => platform(text),
            Check::Directory => filled(text),
            Check::Context => context(text),
            Check::ContextGlob => context(text).and_then(|()| glob(text)),
            Check::StageGlob => inside(text).and_then(|()| glob(text)),
            Check::MountPoint => mount_point(text),
            Check::StageName => stage_name(text),
            Check::ImageReference => image_reference(text),
            Check::OciSource => oci_source(text),
            Check::PushTarget => push_target(text),
            Check::RecipeFile => recipe_file(text),
            Check::Inside => inside(text),
            Check::InsideFile => inside_file(text),
            Check::InsideGlob => inside_glob(text),
            Check::Ignore => ignore(text),
            Check::LinkTarget => line(text),
            Check::PasswdPath => inside(text).and_then(|()| passwd_field(text)),
            Check::PasswdField => passwd_field(text),
            Check::PasswordHash => password_hash(text),
            Check::Account => account(text),
            Check::Owner => owner(text),
            Check::RunAs => run_as(text),
            Check::SshKey => ssh_key(text),
            Check::HostName => host_name(text),
            Check::Mode => mode(text).map(|_| ()),
            Check::Duration => duration(text).map(|_| ()),
            Check::Amount => amount(text).map(|_| ()),
            Check::Url => url(text, &["http://", "https://"]),
            Check::ProbeUrl => probe_url(text),
            Check::Address => address(text),
            Check::SigningKey => signing_key(text),
            Check::Package => package(text),
            Check::FileName => file_name(text),
            Check::Unit => unit(text),
            Check::Signal => signal(text),
            Check::EnvName => env_name(text),
            Check::SecretName => secret_name(text),
            Check::CacheName => cache_name(text),
            Check::Label => line(text),
            Check::Member => member(text),
            Check::Registry => registry(text),
            Check::Reachable => reachable(text),
        }
    }

    /// Returns a pattern for the schema where the text has a fixed form; substitution may make any
    /// text fit.
    pub(crate) fn pattern(self) -> Option<&'static str> {
        match self {
            Check::Mode => Some(r"^[0-7]{3,4}$|\{\{"),
            Check::Duration => Some(r"^([0-9]+(ms|s|m|h|d))+$|\{\{"),
            Check::Amount => Some(r"^[0-9]+([KMGT]iB|%)$|^none$|\{\{"),
            Check::Owner => Some(r"^[^:]+:[^:]+$|^[A-Za-z_][^:]*$|\{\{"),
            Check::Inside
            | Check::InsideFile
            | Check::InsideGlob
            | Check::StageGlob
            | Check::MountPoint
            | Check::PasswdPath => Some(r"^/|\{\{"),
            Check::Context | Check::ContextGlob => Some(r"^[^/]"),
            Check::Url => Some(r"^https?://|\{\{"),
            Check::ProbeUrl => Some(r"^http://|\{\{"),
            Check::Address => Some(r"^.+:[0-9]+$|\{\{"),
            Check::ImageVersion => Some(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$|\{\{"),
            Check::Platform => Some(r"^linux/|\{\{"),
            Check::ImageName => Some(r"^[a-z0-9]+([._/-]+[a-z0-9]+)*$|\{\{"),
            Check::SecretName => Some(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$|\{\{"),
            Check::CacheName => Some(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$|\{\{"),
            Check::Signal => Some(r"^(SIG[A-Z0-9]+([+-][0-9]+)?|[0-9]+)$|\{\{"),
            Check::Filled
            | Check::Exclude
            | Check::Ignore
            | Check::OciSource
            | Check::PushTarget
            | Check::Member
            | Check::Registry
            | Check::Reachable
            | Check::Line
            | Check::Source
            | Check::Word
            | Check::Package
            | Check::Unit
            | Check::Account
            | Check::SshKey
            | Check::HostName => Some("."),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(kind: Check, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(kind.test(text), Ok(()), "{kind:?} {text:?}");
        }
        for text in bad {
            assert!(kind.test(text).is_err(), "{kind:?} took {text:?}");
        }
    }

    #[test]
    fn names() {
        check(
            Check::ImageName,
            &["web", "a/b/c", "a.b", "a_b", "a__b", "a---b", "0"],
            &[
                "", "Web", "a b", "-a", "a-", "a..b", "a___b", "a//b", "/a", "a/", "a:1", "ä",
                "a._b",
            ],
        );
        check(
            Check::Registry,
            &["registry.example", "registry.example/team/", "localhost:5000", "[::1]:5000/a/b"],
            &["", "team", "https://a.b/c", "a.b/c:1", "a.b/c@sha256:0", "A.b/C", "u@a.b", "a.b//c"],
        );
        check(
            Check::ImageVersion,
            &["1", "2.0.0", "v1_x-y", "_", &"a".repeat(128)],
            &["", ".1", "-1", "1/2", "1 2", "1+2", "ä", &"a".repeat(129)],
        );
        check(
            Check::Account,
            &["app", "_apt", "www-data", "a.b", "smb$"],
            &["", "0a", "-a", "a:b", "a b", "ä", &"a".repeat(33)],
        );
        check(
            Check::Unit,
            &["nginx", "getty@tty1.service", "a-b_c.timer"],
            &["", "-x", "a b", "../x", "a/b"],
        );
        check(
            Check::CacheName,
            &["pip", "Cargo_1.89", "a.b-c", "0", &"a".repeat(128)],
            &["", ".", "..", "../pip", "-a", "a/b", "a b", "ä", &"a".repeat(129)],
        );
        check(
            Check::SecretName,
            &["token", "NPM_TOKEN", "a.b-c", "0", &"a".repeat(64)],
            &["", ".", "..", "-a", "a/b", "a b", "a=b", "ä", &"a".repeat(65)],
        );
        check(Check::EnvName, &["A", "_", "http_proxy"], &["", "1A", "A-B", "A=B", "A B"]);
        check(
            Check::Signal,
            &["SIGTERM", "SIGRTMIN+3", "9"],
            &["", "TERM", "SIGFOO", "0", "65", "SIGRTMIN++1", "sigterm"],
        );
    }

    #[test]
    fn paths() {
        check(
            Check::Context,
            &["a", "./a", ".", "a/../b", "a/", "..a", "a..b"],
            &["", "/a", "..", "../a", "a/../../b", "~/a", "a\nb"],
        );
        check(
            Check::Inside,
            &["/", "/a", "/a/", "/..a"],
            &["", "a", "./a", "/a/../b", "/..", "/a\0"],
        );
        check(Check::InsideFile, &["/a"], &["/", "/a/"]);
        check(
            Check::InsideGlob,
            &["/a/*", "/usr/share/doc/*"],
            &["/", "/*", "//", "/**", "/./*", "/a/[x"],
        );
        check(Check::ContextGlob, &["a/*.c", "{a,b}"], &["a/[", "../*"]);
        check(
            Check::Member,
            &["*.toml", "images/*/recipe.toml", "./a", "**/x.toml", "a..b", "{a,b}/"],
            &["", "/a", "..", "../*", "a/../b", "~/a", "a/[", "a\nb"],
        );
        check(
            Check::Package,
            &["nginx", "nginx=1.2", "x/suite", "./a/x.deb", "g++", "libc6:i386"],
            &["", "a b", "-y", "../x.deb", "/x.deb", "x.deb"],
        );
        check(
            Check::SigningKey,
            &["keys/a.asc", "https://a/b"],
            &["http://a/b", "ftp://a/b", "/etc/key", "https://"],
        );
        check(
            Check::Url,
            &["http://a", "https://a/b?c"],
            &["", "a", "ftp://a", "http://", "http:///x", "http://a b", "http://u:p@a/"],
        );
    }

    #[test]
    fn what_tests_ask() {
        check(
            Check::ProbeUrl,
            &[
                "http://127.0.0.1/",
                "http://localhost:80",
                "http://[::1]:8080/a?b",
                "http://blue.example/x",
                "http://a?b:c",
            ],
            &[
                "",
                "127.0.0.1",
                "https://127.0.0.1/",
                "http://",
                "http://a:b/",
                "http://a:/",
                "http://a:0/",
                "http://::1/",
                "http://u@a/",
                "http://a b/",
            ],
        );
        check(
            Check::Address,
            &["127.0.0.1:5432", "localhost:1", "[::1]:65535"],
            &["", "5432", "localhost", ":80", "a:0", "a:65536", "::1:80", "a b:80", "a:+80"],
        );
    }

    #[test]
    fn owners_modes_durations() {
        check(
            Check::Owner,
            &["a:b", "0:0", "app:0", "1000:www-data", "a"],
            &["", "0", ":", "a:", ":b", "a:b:c", "a b:c", "4294967295:0"],
        );
        check(Check::RunAs, &["a", "0", "a:b", "1:1"], &["", ":", "a:", "a b"]);
        check(
            Check::Mode,
            &["644", "0644", "1777", "4755"],
            &["", "64", "00644", "0o644", "u+x", "rwxr-xr-x", "888", "-644", "+644"],
        );
        check(
            Check::Duration,
            &["90s", "5m", "1h30m", "500ms", "2d"],
            &[
                "",
                "90",
                "s",
                "5 m",
                "1.5h",
                "30m1h",
                "1s1s",
                "0s",
                "-1s",
                "99999999999999999999s",
                "400d",
                "5min",
            ],
        );
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(mode("0640").unwrap(), 0o640);
        assert!(sha256(&"a".repeat(64)).is_ok());
        assert!(sha256(&"A".repeat(64)).is_ok());
        assert!(sha256(&"g".repeat(64)).is_err());
        assert!(sha256("ab").is_err());
    }

    #[test]
    fn machines() {
        check(
            Check::HostName,
            &["web", "web-1", "a.b.example", "1", &"a".repeat(64)],
            &["", "-a", "a-", "a..b", "a_b", "team/web", "a b", "ä", ".a", &"a".repeat(65)],
        );
        let key = "AAAAC3NzaC1lZDI1NTE5AAAAIFBVQkxJQyBLRVkgT0YgQSBURVNULCAzMiBCWVRFUyEh";
        let [good, options] = ["", "restrict,command=\"/bin/x y\" "]
            .map(|before| format!("{before}ssh-ed25519 {key} me@desk"));
        check(
            Check::SshKey,
            &[&good, &options, &format!("ssh-ed25519 {key}")],
            &[
                "",
                "ssh-ed25519",
                key,
                "ssh-ed25519 AAAA me",
                &format!("ssh-rsa {key}"),
                &format!("ssh-ed25519 {}", &key[..21]),
                &format!("{good}\n{good}"),
                "# ssh-ed25519",
                "https://example.com/me.keys",
            ],
        );
        let mistake =
            Check::SshKey.test("-----BEGIN OPENSSH PRIVATE KEY----- hunter2").unwrap_err();
        assert!(!format!("{mistake:?}").contains("hunter2"));
    }

    #[test]
    fn a_password_is_never_repeated() {
        let mistake = Check::PasswordHash.test("hunter2").unwrap_err();
        assert!(!format!("{mistake:?}").contains("hunter2"));
        check(
            Check::PasswordHash,
            &["$6$salt$hash", "$y$j9T$a$b", "!", "*"],
            &["", "x", "$6$a:b$c", "$1"],
        );
    }
}
