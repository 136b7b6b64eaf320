//! Random recipes of all kinds of steps, each with an edit of one of its inputs.

use std::fmt;

use proptest::prelude::*;

use crate::edited::{Entry, Style, World};

/// Kinds of steps; the first of them need nothing in the root.
const KINDS: [&str; 15] = [
    "copy",
    "file",
    "mkdir",
    "symlink",
    "remove",
    "template",
    "download",
    "take",
    "group",
    "user",
    "repository",
    "service",
    "packages",
    "script",
    "run",
];
/// Kinds that need nothing in the root.
const BARE: usize = 10;

/// A step: its kind, and two numbers that vary it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    kind: usize,
    a: usize,
    b: usize,
}

/// What the image, or its stage, starts from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Base {
    Scratch,
    Directory,
    Tar,
    Recipe,
    /// The stage, where there is one.
    Stage,
    /// An image of the store, made by the recipe `base.toml` before.
    Image,
}

/// What is edited.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Edit {
    Content,
    Added,
    Removed,
    Executable,
    Symlink,
    Script,
    Template,
    Key,
    Variables,
    Recipe(Step),
    Base,
    Download,
    Archive,
    Ignored,
}

/// When it is edited.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    /// When everything is known and nothing has run.
    Start,
    /// While a step runs.
    Step,
    /// While a step runs, and back while a later one does.
    Back,
    /// Again and again, there and back.
    Always,
}

#[derive(Clone)]
pub(crate) struct Case {
    base: Base,
    stage: Option<(Base, Vec<Step>)>,
    steps: Vec<Step>,
    pub(crate) edit: Edit,
    pub(crate) style: Style,
    pub(crate) when: When,
    /// Where the steps are during which it is edited.
    pub(crate) hooks: (usize, usize),
}

impl fmt::Debug for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, edit, style, when, .. } = self;
        let text = self.recipe("http://server");
        write!(out, "on {base:?}, {edit:?} edited {style:?} at {when:?}:\n{text}")
    }
}

fn step() -> impl Strategy<Value = Step> {
    (0..KINDS.len() + 5, 0..20_usize, 0..3_usize).prop_map(|(kind, a, b)| Step {
        kind: kind.min(KINDS.len() - 1),
        a,
        b,
    })
}

fn base() -> impl Strategy<Value = Base> {
    prop_oneof![
        1 => Just(Base::Scratch),
        4 => Just(Base::Directory),
        3 => Just(Base::Tar),
        2 => Just(Base::Recipe),
        1 => Just(Base::Stage),
        1 => Just(Base::Image),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        Just(Edit::Content),
        Just(Edit::Added),
        Just(Edit::Removed),
        Just(Edit::Executable),
        Just(Edit::Symlink),
        Just(Edit::Script),
        Just(Edit::Template),
        Just(Edit::Key),
        Just(Edit::Variables),
        step().prop_map(Edit::Recipe),
        Just(Edit::Base),
        Just(Edit::Download),
        Just(Edit::Archive),
        Just(Edit::Ignored),
    ]
}

/// Any recipe with any edit.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    let steps = || prop::collection::vec(step(), 1..6);
    let style = prop_oneof![Just(Style::InPlace), Just(Style::Renamed)];
    let when =
        prop_oneof![Just(When::Start), Just(When::Step), Just(When::Back), Just(When::Always)];
    let stage = prop::option::of((base(), prop::collection::vec(step(), 0..3)));
    (base(), stage, steps(), edit(), style, when, (0..6_usize, 0..6_usize)).prop_map(
        |(base, stage, steps, edit, style, when, hooks)| Case {
            base,
            stage,
            steps,
            edit,
            style,
            when,
            hooks,
        },
    )
}

impl Base {
    fn without_stage(self) -> Self {
        if self == Self::Stage { Self::Directory } else { self }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Scratch => "scratch = true\n",
            Self::Directory => "path = \"root\"\n",
            Self::Tar => "path = \"root.tar\"\n",
            Self::Recipe => "recipe = \"base.toml\"\n",
            Self::Stage => "stage = \"build\"\n",
            Self::Image => "image = \"base:1\"\n",
        }
    }
}

impl Step {
    /// The step in a recipe, without its first line. Nothing that it makes depends on when or where it
    /// runs; whether it can be done on what is there is the recipe's luck.
    fn text(self, bare: bool, staged: bool, url: &str) -> String {
        let Self { kind, a, b } = self;
        let kind = KINDS[if bare { kind % BARE } else { kind }];
        let mode = ["", "mode = \"0640\"\n", "mode = \"4755\"\n", "owner = \"7:8\"\n"][a % 4];
        let to = ["/d0/x", "/d1/", "/srv/in/", "/x"][(a + b) % 4];
        let single = ["/d0/one", "/d1/one", "/one"][b];
        match kind {
            "copy" => {
                let from =
                    ["\"site/\"", "\"site/a\"", "[\"site/sub\", \"site/*.txt\"]", "\"s/x*\""];
                let more = ["", "exclude = [\"*.txt\", \"/sub/deep\"]\n"][b % 2];
                format!("copy = {}\nto = \"{to}\"\n{mode}{more}", from[(a / 4) % 4])
            }
            "file" => {
                let what = ["content", "append"][(a / 4) % 2];
                format!("file = \"{single}\"\n{what} = \"{{{{ word }}}} {b}\\n\"\n{mode}")
            }
            "mkdir" => format!("mkdir = [\"/d{b}\", \"/d{b}/e/f\"]\n{mode}"),
            "symlink" => format!("symlink = \"/s{b}\"\ntarget = \"{single}\"\n"),
            "remove" => format!("remove = [\"/d{b}\", \"/srv/*/a\"]\n"),
            "template" => format!("template = \"t.j2\"\nto = \"{single}\"\n{mode}"),
            "download" if a % 3 == 0 => {
                format!(
                    "download = \"{url}/t.tar\"\nto = \"/d{b}/\"\nunpack = true\nstrip = {}\n",
                    a % 2
                )
            }
            "download" => format!("download = \"{url}/f\"\nto = \"{single}\"\n{mode}"),
            "take" if staged => {
                let from = ["/out", "/out/made", "/out/m*"][a % 3];
                format!("copy = \"{from}\"\nfrom = \"build\"\nto = \"{to}\"\n{mode}")
            }
            "take" => format!("copy = \"site/a\"\nto = \"{to}\"\n"),
            "group" => {
                format!("group = \"g{b}\"\n{}", ["", "gid = 1234\n", "system = true\n"][a % 3])
            }
            "user" => {
                let more = [
                    "",
                    "uid = 1500\n",
                    "system = true\n",
                    "ssh_keys = [\"ssh-ed25519 AAAA {{ word }}\"]\nhome = \"/home/u\"\n",
                ];
                format!("user = \"u{b}\"\n{}", more[a % 4])
            }
            "repository" => format!(
                "repository = \"r{b}\"\nurl = \"https://example.org/{b}\"\nsuite = \"s\"\ncomponents = [\"c\"]\nkey = \"k.asc\"\n"
            ),
            "service" => {
                format!("service = \"x\"\n{}", ["", "enabled = false\n", "masked = true\n"][b])
            }
            "packages" => format!("packages = [\"p{b}\", \"{{{{ word }}}}\"]\n"),
            "script" => {
                format!("script = \"s/x{}.sh\"\nargs = [\"{b}\", \"{{{{ word }}}}\"]\n", a % 2)
            }
            _ => run(a, b, staged),
        }
    }
}

/// A `run` step: whatever a program may do to a root.
fn run(a: usize, b: usize, staged: bool) -> String {
    let command = [
        "echo {{ word }} B >> /logB",
        "test -d /dB || rm -f /dB; mkdir -p /dB/e; echo B > /dB/e/f",
        "rm -rf /dB",
        "test -f /t || touch /t; chmod 675B /t; chown 1000:1000 /t",
        "test -e /logB || echo x > /logB; ln -f /logB /hardB; ln -f /logB /hard",
        "ln -sfn nowhereB /s1",
        "true",
        "rm -rf /d1; echo {{ word }} > /d1",
        "rm -rf /d1; mkdir /d1; echo new > /d1/new",
        "chmod 75B /; chmod 70B /etc",
        "touch /etc/passwd /",
        "echo $SOURCE_DATE_EPOCH $PATH $HOME $WORD > /env",
        "mkdir -p /movedB; mv /dB /movedB/ || true",
        "rm -f /usr/lib/os-release; rm -rf /srv",
        "seq 1 B000 > /many; sleep 0",
        "id > /who; ls -l / > /dev/null; date > /tmp/now",
    ];
    match a {
        16 | 17 => String::from(
            "run = \"cat /src/a /src/sub/c > /gotB; echo no > /src/new\"\nmount.\"/src\" = \"site\"\n"
        ),
        18 | 19 if staged => "run = \"ls /built > /builtB; cat /built/made >> /builtB\"\n\
             mount.\"/built\" = { from = \"build\", path = \"/out\" }\n"
            .to_owned(),
        _ => format!(
            "run = \"{}\"\nenv.WORD = \"{{{{ word }}}}\"\n{}",
            command[a % command.len()],
            ["", "workdir = \"/etc\"\n", "shell = [\"/bin/sh\", \"-ec\"]\n"][a % 3]
        ),
    }
    .replace('B', &b.to_string())
}

impl Case {
    fn recipe(&self, url: &str) -> String {
        self.recipe_of(&self.steps, url)
    }

    fn recipe_of(&self, steps: &[Step], url: &str) -> String {
        let staged = self.stage.is_some();
        // A stage starts from nothing of its own kind, and without one there is none.
        let of_stage = self.stage.as_ref().map(|(base, _)| base.without_stage());
        let base = match self.base {
            Base::Stage if of_stage.is_none() => Base::Directory,
            base => base,
        };
        let bare =
            base == Base::Scratch || (base == Base::Stage && of_stage == Some(Base::Scratch));
        let mut all: Vec<String> = steps.iter().map(|step| step.text(bare, staged, url)).collect();
        for (name, at) in [("hook1", self.hooks.0), ("hook2", self.hooks.1)] {
            let hook = format!("download = \"{url}/{name}\"\nto = \"/{name}\"\n");
            all.insert(at.min(all.len()), hook);
        }
        let base = base.text();
        let mut out = format!(
            "[image]\nname = \"tiny\"\nversion = \"1\"\n[vars]\nword = \"none\"\n[base]\n{base}"
        );
        if let Some((base, steps)) = &self.stage {
            let base = base.without_stage();
            let first = match base {
                Base::Scratch => {
                    "copy = \"site/\"\nto = \"/out/\"\n[[stage.build.step]]\ncopy = \"site/a\"\nto = \"/out/made\"\n"
                }
                _ => {
                    "run = \"mkdir -p /out; cat /src/a > /out/made; echo {{ word }} > /out/more\"\nmount.\"/src\" = \"site\"\n"
                }
            };
            out += &format!("[stage.build.base]\n{}[[stage.build.step]]\n{first}", base.text());
            for step in steps {
                let text = step.text(base == Base::Scratch, false, url);
                out += &format!("[[stage.build.step]]\n{text}");
            }
        }
        all.iter().for_each(|step| out += &format!("[[step]]\n{step}"));
        out
    }

    /// The world before the edit.
    pub(crate) fn before(&self, url: &str) -> World {
        let mut world = World::default();
        for (name, text) in [
            ("site/a", "one\n"),
            ("site/b.txt", "text\n"),
            ("site/sub/c", "sea\n"),
            ("site/sub/deep/d", ""),
            ("s/x0.sh", "#!/bin/sh\necho $1 $2 one >> /script\n"),
            ("s/x1.sh", "#!/bin/sh -e\nmkdir -p /d$1; echo $2 > /d$1/by-script\n"),
            ("t.j2", "{{ name }} {{ word }} one\n"),
            ("k.asc", include_str!("../../src/archive/keys/bookworm-stable.asc")),
            ("vars.toml", "word = \"one\"\n"),
            ("root/etc/extra", "one\n"),
            ("base.toml", BASE),
        ] {
            world.file(name, text);
        }
        world.files.insert("site/link".to_owned(), Entry::Symlink("a".to_owned()));
        world.files.insert("site/void".to_owned(), Entry::Directory);
        world.file("tiny.toml", self.recipe(url));
        world.served.insert("/f".to_owned(), b"one\n".to_vec());
        world.served.insert("/t.tar".to_owned(), tar(b"one\n"));
        world
    }

    /// The world after it.
    pub(crate) fn after(&self, before: &World, url: &str) -> World {
        let mut world = before.clone();
        let other = |name: &str| before.text(name).replace("one", "two");
        match self.edit {
            Edit::Content => world.file("site/a", "two\n"),
            Edit::Added => world.file("site/sub/new.txt", "new\n"),
            Edit::Removed => drop(world.files.remove("site/b.txt")),
            Edit::Executable => {
                let bytes = before.text("site/a").into_bytes();
                world.files.insert("site/a".to_owned(), Entry::File { bytes, mode: 0o755 });
            }
            Edit::Symlink => {
                let link = Entry::Symlink("sub/c".to_owned());
                world.files.insert("site/link".to_owned(), link);
            }
            Edit::Script => world.file("s/x0.sh", other("s/x0.sh")),
            Edit::Template => world.file("t.j2", other("t.j2")),
            Edit::Key => {
                let key = include_str!("../../src/archive/keys/trixie-stable.asc");
                world.file("k.asc", key);
            }
            Edit::Variables => world.file("vars.toml", other("vars.toml")),
            Edit::Recipe(step) => {
                let mut steps = self.steps.clone();
                let at = step.b % steps.len();
                steps[at] = step;
                world.file("tiny.toml", self.recipe_of(&steps, url));
            }
            Edit::Base => {
                world.file("root/etc/extra", "two\n");
                if let Some(Entry::File { bytes, .. }) = world.files.get_mut("root.tar") {
                    *bytes = edited_tar(bytes);
                }
            }
            Edit::Download => drop(world.served.insert("/f".to_owned(), b"two\n".to_vec())),
            Edit::Archive => drop(world.served.insert("/t.tar".to_owned(), tar(b"two\n"))),
            Edit::Ignored => world.file(".bakeignore", "sub/\n*.txt\n"),
        }
        world
    }
}

/// A recipe that others stand on.
const BASE: &str = "[image]\nname = \"base\"\nversion = \"1\"\n[base]\npath = \"root\"\n\
    [[step]]\nrun = \"cat /etc/extra > /etc/more; rm -f /etc/extra\"\n[config]\nenv = { PATH = \"/bin:/opt\" }\n";

fn tar(text: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(vec![]);
    for (name, text) in [("top/one", text), ("top/e/two", b"2\n".as_slice())] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_000_000_000);
        tar.append_data(&mut header, name, text).expect("in memory");
    }
    tar.into_inner().expect("in memory")
}

/// The same tar, in which `/etc/extra` says something else, as long as before.
fn edited_tar(tar: &[u8]) -> Vec<u8> {
    let name = b"etc/extra";
    let mut bytes = tar.to_vec();
    let at = tar.windows(name.len()).position(|part| part == name).expect("it is in the tar");
    let content = (at / 512 + 1) * 512;
    assert_eq!(&bytes[content..content + 4], b"one\n");
    bytes[content..content + 4].copy_from_slice(b"two\n");
    bytes
}
