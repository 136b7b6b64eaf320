//! Tool layers: what is in them, as the steps of two stages that bake adds to a recipe. One installs
//! the packages of the tool and makes its programs find their own loader and libraries wherever
//! they are mounted; the other takes what is needed, as one layer.

use std::collections::BTreeMap;

use super::kind::Lowered;
use super::limit::Limits;
use super::op::{Content, Op};
use super::shown::Secrets;
use super::tool::{TOOL_LAYER, Tool};
use crate::reach::Reach;

/// What is taken of the stage with the packages.
const TAKEN: &str = "/usr";

/// What is left out of that: programs and data of other packages.
const LEFT_OUT: [&str; 19] = [
    "/usr/games",
    "/usr/include",
    "/usr/libexec",
    "/usr/sbin",
    "/usr/src",
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/share/locale",
    "/usr/share/info",
    "/usr/share/perl*",
    "/usr/share/bash-completion",
    "/usr/share/lintian",
    "/usr/share/keyrings",
    "/usr/share/common-licenses",
    "/usr/lib/*/perl*",
    "/usr/lib/*/gconv",
    "/usr/lib/apt",
    "/usr/lib/dpkg",
    "/usr/lib/systemd",
];

/// The directory of what bake adds.
const OWN: &str = "/usr/lib/bake";

/// Finds the loader and the libraries of this architecture, which the programs of the layer are
/// started with, and an interpreter for scripts that needs neither.
const PREPARE: &str = "\
set -eu
cd /usr/lib/bake
for loader in /lib64/ld-linux*.so.* /lib/ld-linux*.so.*; do
    if [ -e \"$loader\" ]; then ln -s \"/dev/bake/tool$(readlink -f \"$loader\")\" loader; break; fi
done
for libraries in /usr/lib/*-linux-gnu*; do ln -s \"/dev/bake/tool$libraries\" libraries; break; done
ln -s /dev/bake/tool/usr/bin/busybox sh
";

/// Starts Puppet: its Ruby looks for libraries at places that were fixed when it was built, so that
/// each is named; the gems of Debian's packages are among them.
const PUPPET: &str = "\
#!/dev/bake/tool/usr/lib/bake/sh
usr=/dev/bake/tool/usr
own=$usr/lib/bake
paths=
for path in \"$usr\"/share/rubygems-integration/*/gems/*/lib \\
    \"$usr\"/share/rubygems-integration/*/gems/*/lib/concurrent-ruby \\
    \"$usr\"/lib/ruby/gems/*/gems/*/lib \\
    \"$usr\"/lib/ruby/vendor_ruby/[0-9]* \"$own\"/libraries/ruby/vendor_ruby/[0-9]* \\
    \"$usr\"/lib/ruby/vendor_ruby \\
    \"$usr\"/lib/ruby/[0-9]* \"$own\"/libraries/ruby/[0-9]*; do
    if [ -d \"$path\" ]; then paths=\"$paths -I $path\"; fi
done
exec $own/loader --argv0 $own/ruby --library-path $own/libraries $usr/bin/ruby \\
    $paths $usr/bin/puppet \"$@\"
";

impl Tool {
    /// Returns its packages, all in Debian.
    fn packages(self) -> &'static [&'static str] {
        match self {
            // python3-apt: the module apt.
            Self::Ansible => &["ansible-core", "busybox-static", "python3-apt"],
            Self::Puppet => &["busybox-static", "puppet-agent"],
            // Debian has no client: `tool` says where one is.
            Self::Chef => &[],
        }
    }

    /// Returns scripts that start its programs, by name.
    fn starters(self) -> Vec<(&'static str, String)> {
        let python = format!("{TOOL_LAYER}/usr/bin/python3");
        match self {
            Self::Ansible => vec![
                ("python", starter(&format!("{TOOL_LAYER}{OWN}/python"), &python, "")),
                (
                    "ansible-playbook",
                    starter(
                        &format!("{TOOL_LAYER}{OWN}/python"),
                        &python,
                        &format!(" {TOOL_LAYER}/usr/bin/ansible-playbook"),
                    ),
                ),
            ],
            Self::Puppet => vec![("puppet", PUPPET.to_owned())],
            Self::Chef => vec![],
        }
    }

    /// Returns the steps of the stage with its packages; `line`: of the recipe.
    #[must_use]
    pub fn packages_stage(self, line: u32) -> Vec<Lowered> {
        let names: Vec<String> = self.packages().iter().map(|name| (*name).to_owned()).collect();
        let about = format!("packages {}", names.join(" "));
        let packages =
            Op::Packages { names, files: vec![], recommends: false, without_initrd: false };
        let mut ops = vec![Op::Mkdir {
            paths: vec![OWN.to_owned()],
            owner: "0:0".to_owned(),
            mode: 0o755,
            kept: false,
        }];
        ops.extend(self.starters().into_iter().map(|(name, text)| Op::Write {
            path: format!("{OWN}/{name}"),
            content: Content::Text(text),
            append: false,
            owner: Some("0:0".to_owned()),
            mode: Some(0o755),
        }));
        ops.push(Op::Exec {
            argv: ["/bin/sh", "-c", PREPARE].map(str::to_owned).into(),
            env: BTreeMap::new(),
            user: "root".to_owned(),
            cwd: "/".to_owned(),
            mounts: vec![],
            secrets: Secrets::default(),
            caches: vec![],
            ssh: false,
        });
        let prepare = format!("what starts {}", self.name());
        vec![step(line, about, vec![packages]), step(line, prepare, ops)]
    }

    /// Returns the steps of the stage that takes what is needed of `packages`, the other stage.
    #[must_use]
    pub fn layer_stage(self, line: u32, packages: &str) -> Vec<Lowered> {
        let take = Op::Copy {
            from: vec![TAKEN.to_owned()],
            stage: Some(packages.to_owned()),
            to: "/usr/".to_owned(),
            owner: "0:0".to_owned(),
            mode: None,
            exclude: LEFT_OUT.map(str::to_owned).into(),
        };
        vec![step(line, format!("the files of {}", self.name()), vec![take])]
    }
}

/// Returns a script that starts a program of the layer with the layer's own loader and libraries,
/// and hands nothing of that on to what the program starts.
fn starter(called: &str, program: &str, first: &str) -> String {
    let own = format!("{TOOL_LAYER}{OWN}");
    format!(
        "#!{own}/sh\nexec {own}/loader --argv0 {called} --library-path {own}/libraries \
        {program}{first} \"$@\"\n"
    )
}

fn step(line: u32, about: String, ops: Vec<Op>) -> Lowered {
    Lowered {
        label: about.clone(),
        about,
        line,
        part: None,
        ops,
        network: Reach::None,
        timeout: None,
        retries: 0,
        limits: Limits::default(),
        shell: None,
    }
}
