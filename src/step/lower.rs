//! Lowers each kind of step to its few [`Op`]s, with all defaults filled in.

use super::{Content, Lowered, Mount, Op, ServiceState};
use crate::recipe::{Command, MountSource, RunOptions, Step, StepKind};

/// Who owns what nobody says an owner of.
const ROOT: &str = "0:0";

/// Longest label, in characters.
const MAX_LABEL: usize = 60;

/// Lowers a step. Pure: what files hold and which versions packages have is found out by others.
pub(super) fn lower(step: &Step) -> Lowered {
    let (network, timeout, retries) = match &step.kind {
        StepKind::Run { options, .. } | StepKind::Script { options, .. } => {
            (options.network, options.timeout, options.retries)
        }
        StepKind::Packages { timeout, retries, .. } => (false, *timeout, *retries),
        _ => (false, None, 0),
    };
    let about = about(&step.kind);
    let label = step.name.as_ref().map_or_else(|| about.clone(), |name| short(name));
    Lowered { label, about, line: step.line, ops: ops(&step.kind), network, timeout, retries }
}

fn ops(kind: &StepKind) -> Vec<Op> {
    let root = |owner: &Option<String>| owner.clone().unwrap_or_else(|| ROOT.to_owned());
    match kind {
        StepKind::Run { command, options } => vec![Op::Exec {
            argv: match command {
                Command::Argv(argv) => argv.clone(),
                Command::Shell(text) => options.shell.iter().chain([text]).cloned().collect(),
            },
            env: options.env.clone(),
            user: user(options),
            cwd: workdir(options),
            mounts: mounts(options),
        }],
        StepKind::Script { files, args, options } => files
            .iter()
            .map(|file| Op::Script {
                file: file.clone(),
                shell: options.shell.clone(),
                args: args.clone(),
                env: options.env.clone(),
                user: user(options),
                cwd: workdir(options),
                mounts: mounts(options),
            })
            .collect(),
        StepKind::Copy { from, stage, to, owner, mode, exclude } => {
            vec![Op::Copy {
                from: from.clone(),
                stage: stage.clone(),
                to: to.clone(),
                owner: root(owner),
                mode: *mode,
                exclude: exclude.clone(),
            }]
        }
        StepKind::Download { url, sha256, to, owner, mode, unpack, strip } => vec![Op::Download {
            url: url.clone(),
            sha256: sha256.clone(),
            to: to.clone(),
            owner: root(owner),
            mode: *mode,
            unpack: *unpack,
            strip: *strip,
        }],
        StepKind::Template { file, to, owner, mode } => vec![Op::Write {
            path: to.clone(),
            content: Content::Template(file.clone()),
            append: false,
            owner: Some(root(owner)),
            mode: Some(mode.unwrap_or(0o644)),
        }],
        // What is appended to keeps its owner and mode unless the step says otherwise.
        StepKind::File { path, text, append, owner, mode } => vec![Op::Write {
            path: path.clone(),
            content: Content::Text(text.clone()),
            append: *append,
            owner: if *append { owner.clone() } else { Some(root(owner)) },
            mode: if *append { *mode } else { Some(mode.unwrap_or(0o644)) },
        }],
        StepKind::Mkdir { paths, owner, mode } => {
            vec![Op::Mkdir {
                paths: paths.clone(),
                owner: root(owner),
                mode: mode.unwrap_or(0o755),
            }]
        }
        StepKind::Symlink { path, target } => {
            vec![Op::Symlink { path: path.clone(), target: target.clone() }]
        }
        StepKind::Remove { paths } => vec![Op::Remove { paths: paths.clone() }],
        StepKind::Packages { names, files, recommends, .. } => {
            vec![Op::Packages {
                names: names.clone(),
                files: files.clone(),
                recommends: *recommends,
            }]
        }
        StepKind::Repository { name, url, suite, components, key } => vec![Op::Repository {
            name: name.clone(),
            url: url.clone(),
            suite: suite.clone(),
            components: components.clone(),
            key: key.clone(),
        }],
        StepKind::User {
            name,
            uid,
            gid,
            home,
            shell,
            groups,
            system,
            comment,
            password,
            ssh_keys,
        } => vec![Op::User {
            name: name.clone(),
            uid: *uid,
            gid: *gid,
            home: home.clone(),
            shell: shell.clone(),
            groups: groups.clone(),
            system: *system,
            comment: comment.clone(),
            password: password.clone(),
            ssh_keys: ssh_keys.clone(),
        }],
        StepKind::Group { name, gid, system } => {
            vec![Op::Group { name: name.clone(), gid: *gid, system: *system }]
        }
        StepKind::Service { units, enabled, masked } => {
            let state = match (enabled, masked) {
                (_, true) => ServiceState::Masked,
                (true, false) => ServiceState::Enabled,
                (false, false) => ServiceState::Disabled,
            };
            vec![Op::Service { units: units.clone(), state }]
        }
    }
}

fn user(options: &RunOptions) -> String {
    options.run_as.clone().unwrap_or_else(|| "root".to_owned())
}

fn workdir(options: &RunOptions) -> String {
    options.workdir.clone().unwrap_or_else(|| "/".to_owned())
}

fn mounts(options: &RunOptions) -> Vec<Mount> {
    let mount = |(at, source): (&String, &MountSource)| {
        let (stage, path) = match source {
            MountSource::Context(path) => (None, path.clone()),
            MountSource::Stage { stage, path } => (Some(stage.clone()), path.into()),
        };
        Mount { at: at.clone(), stage, path }
    };
    options.mounts.iter().map(mount).collect()
}

/// A step's kind and what it is about, on one line.
fn about(kind: &StepKind) -> String {
    let paths = |files: &[std::path::PathBuf]| {
        files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    let (kind, about) = match kind {
        StepKind::Run { command: Command::Shell(text), .. } => ("run", first_line(text)),
        StepKind::Run { command: Command::Argv(argv), .. } => ("run", argv.join(" ")),
        StepKind::Script { files, .. } => ("script", paths(files)),
        StepKind::Copy { from, .. } => ("copy", from.join(" ")),
        StepKind::Download { url, .. } => ("download", url.clone()),
        StepKind::Template { to, .. } => ("template", to.clone()),
        StepKind::File { path, .. } => ("file", path.clone()),
        StepKind::Mkdir { paths, .. } => ("mkdir", paths.join(" ")),
        StepKind::Symlink { path, .. } => ("symlink", path.clone()),
        StepKind::Remove { paths } => ("remove", paths.join(" ")),
        StepKind::Packages { names, files, .. } => {
            ("packages", format!("{} {}", names.join(" "), paths(files)))
        }
        StepKind::Repository { name, .. } => ("repository", name.clone()),
        StepKind::User { name, .. } => ("user", name.clone()),
        StepKind::Group { name, .. } => ("group", name.clone()),
        StepKind::Service { units, .. } => ("service", units.join(" ")),
    };
    short(&format!("{kind} {about}"))
}

/// Returns the first line that does something, with `…` where more follow.
pub(super) fn first_line(text: &str) -> String {
    let mut lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next().unwrap_or_default().trim_end_matches('\\').trim_end();
    if lines.next().is_some() { format!("{first} …") } else { first.to_owned() }
}

/// Returns a text on one line, without control characters, cut where it is too long.
pub(super) fn short(text: &str) -> String {
    let line = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    if line.chars().count() <= MAX_LABEL {
        return line;
    }
    let cut: String = line.chars().take(MAX_LABEL - 1).collect();
    let cut = cut.trim_end_matches(['…', ' ']);
    format!("{cut}…")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    fn step(kind: StepKind) -> Step {
        Step { name: None, line: 7, kind }
    }

    fn run(command: Command) -> StepKind {
        let shell = ["/bin/sh", "-eu", "-c"].map(str::to_owned).to_vec();
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        StepKind::Run {
            command,
            options: RunOptions {
                shell,
                env,
                network: true,
                retries: 2,
                timeout: Some(Duration::from_secs(9)),
                ..RunOptions::default()
            },
        }
    }

    #[test]
    fn a_string_goes_to_the_shell_and_a_list_does_not() {
        let lowered = lower(&step(run(Command::Shell("nginx -t".into()))));
        assert_eq!(
            (lowered.label.as_str(), lowered.line, lowered.network, lowered.retries),
            ("run nginx -t", 7, true, 2)
        );
        assert_eq!(lowered.timeout, Some(Duration::from_secs(9)));
        let [Op::Exec { argv, env, user, cwd, .. }] = lowered.ops.as_slice() else {
            panic!("{:?}", lowered.ops)
        };
        assert_eq!(argv, &["/bin/sh", "-eu", "-c", "nginx -t"]);
        assert_eq!((env["A"].as_str(), user.as_str(), cwd.as_str()), ("1", "root", "/"));
        let lowered = lower(&step(run(Command::Argv(vec!["a".into(), "b c".into()]))));
        assert!(matches!(&lowered.ops[..], [Op::Exec { argv, .. }] if argv == &["a", "b c"]));
    }

    #[test]
    fn defaults_are_filled_in_but_append_leaves_alone() {
        let file = |append| {
            step(StepKind::File {
                path: "/a".into(),
                text: "x".into(),
                append,
                owner: None,
                mode: None,
            })
        };
        let write = |append, owner: Option<&str>, mode| {
            vec![Op::Write {
                path: "/a".into(),
                content: Content::Text("x".into()),
                append,
                owner: owner.map(Into::into),
                mode,
            }]
        };
        assert_eq!(lower(&file(false)).ops, write(false, Some("0:0"), Some(0o644)));
        assert_eq!(lower(&file(true)).ops, write(true, None, None));
        let mkdir =
            lower(&step(StepKind::Mkdir { paths: vec!["/d".into()], owner: None, mode: None }));
        assert_eq!(
            mkdir.ops,
            vec![Op::Mkdir { paths: vec!["/d".into()], owner: "0:0".into(), mode: 0o755 }]
        );
    }

    #[test]
    fn services_have_one_state() {
        let state = |enabled, masked| match lower(&step(StepKind::Service {
            units: vec![],
            enabled,
            masked,
        }))
        .ops
        .remove(0)
        {
            Op::Service { state, .. } => state,
            other => panic!("{other:?}"),
        };
        assert_eq!(state(true, false), ServiceState::Enabled);
        assert_eq!(state(false, false), ServiceState::Disabled);
        assert_eq!(state(false, true), ServiceState::Masked);
    }

    #[test]
    fn labels_are_one_short_line() {
        let label = |text: &str| lower(&step(run(Command::Shell(text.into())))).label;
        assert_eq!(label("\n# comment\n  npm ci \\\n  && x\n"), "run npm ci …");
        assert_eq!(label("a\u{1b}[2Jb\tc"), "run a [2Jb c");
        assert_eq!(label(&"ä".repeat(500)).chars().count(), MAX_LABEL);
        let named = Step { name: Some("the site".into()), ..step(run(Command::Shell("x".into()))) };
        let lowered = lower(&named);
        assert_eq!((lowered.label.as_str(), lowered.about.as_str()), ("the site", "run x"));
        let packages = StepKind::Packages {
            names: vec!["nginx-light".into()],
            files: vec![],
            recommends: false,
            timeout: Some(Duration::from_secs(5)),
            retries: 3,
        };
        let lowered = lower(&step(packages));
        assert_eq!(lowered.label, "packages nginx-light");
        assert_eq!((lowered.timeout, lowered.retries), (Some(Duration::from_secs(5)), 3));
    }
}
