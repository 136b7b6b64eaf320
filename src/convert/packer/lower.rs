//! A template as a recipe: one source, its provisioners in their order, its post-processors.

use std::collections::BTreeSet;

use super::base::CONTAINERS;
use super::eval::Scope;
use super::node::{Block, Kind, Node};
use super::template::{Candidate, Template, applies, is_true, overridden, shown};
use super::value::Why;
use crate::convert::arguments::Arguments;
use crate::convert::config::describe;
use crate::convert::document::{Document, Root, Value};
use crate::convert::fault::{Fault, Remark};
use crate::convert::lowered::Wanted;
use crate::convert::stage::{Shared, Stage};
use crate::convert::start::is_windows;
use crate::convert::state::{Origin, State};
use crate::convert::text::{Text, is_used};
use crate::convert::write::toml;

/// What came out.
pub(super) struct Lowered {
    pub(super) document: Document,
    pub(super) remarks: Vec<Remark>,
    /// What `docker-tag` calls the image.
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
}

/// A template being converted.
pub(super) struct Lower<'a, 'b> {
    pub(super) stage: Stage<'a, 'b>,
    pub(super) scope: Scope,
    pub(super) candidate: Candidate,
    /// Commands are those of a user who becomes root by `sudo`.
    pub(super) sudo: bool,
    pub(super) user: String,
    /// It is a container.
    pub(super) container: bool,
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    /// What the image was tagged as.
    pub(super) tagged: Vec<Text>,
    pub(super) tables: Vec<(&'static str, Vec<(&'static str, Value)>)>,
}

/// Converts a template.
///
/// # Errors
/// What no recipe can say: machines with Windows, a target that is not there.
pub(super) fn lower(
    template: Template,
    mut remarks: Vec<Remark>,
    wanted: &Wanted<'_>,
) -> Result<Lowered, Vec<Fault>> {
    let Template { mut scope, candidates, builds, comments } = template;
    let chosen = choose(&candidates, wanted.target).map_err(|fault| vec![fault])?;
    let mut candidate = candidates[chosen].clone();
    for (_, one) in candidates.iter().enumerate().filter(|(at, _)| *at != chosen) {
        let same = one.kind == candidate.kind && one.name == candidate.name;
        let message = match same {
            true => format!("another build of `{}.{}` is left out", one.kind, one.name),
            false => format!(
                "`{0}.{1}` is left out: a recipe is one image; --target {0}.{1} converts it",
                one.kind, one.name
            ),
        };
        remarks.push(Remark { line: one.block.line, topic: "source", message, harmless: false });
    }
    let build = candidate.build.map(|at| builds[at].clone()).unwrap_or_default();
    windows(&candidate, &build)?;
    scope.source = (candidate.name.clone(), candidate.kind.clone());
    let container = CONTAINERS.contains(&candidate.kind.as_str());
    let user = candidate.block.get("ssh_username").and_then(|node| scope.text(node).ok());
    let user = user.map(|text| text.value()).filter(|name| !name.is_empty());
    let user = user.unwrap_or_else(|| "root".to_owned());
    let mut shared = Shared {
        file: wanted.file,
        kind: "packer",
        escape: '\\',
        around: wanted.around,
        stages: vec![],
        arguments: Arguments::default(),
        archives: vec![],
        empty: false,
    };
    let stage = Stage {
        shared: &mut shared,
        index: 0,
        state: State::new(Origin::Made, false),
        needs: BTreeSet::new(),
        remarks,
        pending: vec![],
        scratch: false,
        archive: None,
        directory: None,
    };
    let sudo = !container && user != "root";
    let source_comments = std::mem::take(&mut candidate.block.comments);
    let mut lower = Lower {
        stage,
        scope,
        candidate,
        sudo,
        user,
        container,
        name: None,
        version: None,
        tagged: vec![],
        tables: vec![],
    };
    let base = lower.base(wanted);
    lower.flush();
    let mut above = source_comments;
    above.append(&mut lower.stage.pending);
    lower.provisioners(&build);
    lower.finish();
    lower.post_processors(&build);
    lower.extras(&build);
    lower.flush();
    let Lower { stage, mut scope, name, version, tables, .. } = lower;
    let Stage { mut state, remarks, pending, .. } = stage;
    state.config.comments.extend(pending);
    let about = format!("Made from {} by `bake new --from`.", wanted.file);
    let mut head = vec![about];
    head.extend(comments);
    let mut document = Document { comments: head, tables, ..Document::default() };
    if let Some(platform) = platform(&mut scope, &candidates[chosen].block) {
        document.image.push(("platforms", Value::List(vec![platform])));
    }
    describe(&mut document, &state);
    let steps = std::mem::take(&mut state.steps);
    document.roots.push(Root { comments: above, base, steps, ..Root::default() });
    // The version stands in a text that is written later.
    let text = toml(&document) + version.as_deref().unwrap_or_default();
    let all = scope.arguments.variables.into_iter().chain(shared.arguments.variables);
    for one in all {
        let twice = document.variables.iter().any(|other| other.name == one.name);
        if is_used(&text, &one.name) && !twice {
            document.variables.push(one);
        }
    }
    document.share_options();
    let mut remarks = remarks;
    remarks.sort_by_key(|remark| remark.line);
    remarks.dedup();
    Ok(Lowered { document, remarks, name, version })
}

fn platform(scope: &mut Scope, block: &Block) -> Option<String> {
    let text = scope.text(block.get("platform")?).ok()?;
    Some(text.value()).filter(|value| text.is_plain() && value.starts_with("linux/"))
}

/// Returns which candidate becomes the recipe: the one that is asked for, else the first container,
/// else the first one.
fn choose(candidates: &[Candidate], target: Option<&str>) -> Result<usize, Fault> {
    let first =
        |kinds: &[&str]| candidates.iter().position(|one| kinds.contains(&one.kind.as_str()));
    let Some(target) = target else {
        let found = first(CONTAINERS).or_else(|| first(&["lxd", "lxc", "incus", "null"]));
        return Ok(found.unwrap_or(0));
    };
    candidates.iter().position(|one| one.is(target)).ok_or_else(|| {
        let all: Vec<String> =
            candidates.iter().map(|one| format!("{}.{}", one.kind, one.name)).collect();
        let fault = Fault::new(1, format!("there is no source `{target}`"));
        fault.help(format!("the sources are {}", all.join(", ")))
    })
}

/// Refuses what is Windows.
fn windows(candidate: &Candidate, build: &Block) -> Result<(), Vec<Fault>> {
    let mut faults = vec![];
    let wrong = |line, what: String| {
        let fault = Fault::new(line, format!("{what}: that is Windows"));
        fault.help("recipes build images of Linux")
    };
    let plain = |name: &str| candidate.block.get(name).and_then(Node::as_plain);
    if plain("communicator").as_deref() == Some("winrm") {
        faults.push(wrong(candidate.block.line, "the communicator is `winrm`".to_owned()));
    }
    let image = plain("image").filter(|image| is_windows(image));
    if image.is_some() || is_true(candidate.block.get("windows_container")) {
        faults.push(wrong(candidate.block.line, "the container is one of Windows".to_owned()));
    }
    for block in build.all("provisioner").filter(|block| applies(block, candidate)) {
        let kind = block.label(0);
        if kind == "powershell" || kind.starts_with("windows-") {
            faults.push(wrong(block.line, format!("the provisioner `{kind}`")));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

impl Lower<'_, '_> {
    /// Has what expressions were reported for stand at this place.
    pub(super) fn flush(&mut self) {
        for Remark { line, topic, message, harmless } in std::mem::take(&mut self.scope.remarks) {
            match harmless {
                true => self.stage.note(line, topic, message),
                false => self.stage.remark(line, topic, message),
            }
        }
    }

    /// Makes text for a shell, and returns the secrets in it.
    pub(super) fn in_shell<T>(
        &mut self,
        make: impl FnOnce(&mut Scope) -> Result<T, Why>,
    ) -> Result<(T, Vec<String>), Why> {
        self.scope.in_shell = true;
        self.scope.used.clear();
        let made = make(&mut self.scope);
        self.scope.in_shell = false;
        let used = std::mem::take(&mut self.scope.used);
        self.flush();
        Ok((made?, used.into_iter().collect()))
    }

    fn provisioners(&mut self, build: &Block) {
        if let Some(node) = self.candidate.block.get("exec_user").cloned()
            && self.container
        {
            self.stage.state.user =
                self.scope.text(&node).ok().filter(|user| !user.value().is_empty());
        }
        let candidate = self.candidate.clone();
        for block in build.all("provisioner").filter(|block| applies(block, &candidate)) {
            let block = overridden(block, &candidate);
            let kind = block.label(0).to_owned();
            self.stage.pending.extend(block.comments.iter().cloned());
            let done = match kind.as_str() {
                "shell" => self.shell(&block),
                "file" => self.file(&block),
                "ansible" | "ansible-local" => self.ansible(&block),
                "puppet-masterless" => self.puppet(&block),
                "chef-solo" => self.chef(&block),
                "breakpoint" => {
                    let message = "`breakpoint` is left out: `bake shell --at STEP` stops anywhere";
                    self.stage.note(block.line, "breakpoint", message);
                    Ok(())
                }
                "sleep" => Ok(()),
                "shell-local" => Err(Why::Left(
                    "it runs on the machine that builds, which no step of a recipe does".to_owned(),
                )),
                _ => Err(Why::Left("a recipe has no step for it".to_owned())),
            };
            self.flush();
            if let Err(Why::Left(why) | Why::Open(_, why)) = done {
                let message = format!("the provisioner `{kind}` is left out: {why}");
                self.stage.remark(block.line, "provisioner", message);
                self.stage.pending.extend(shown(&block));
            }
        }
        self.stage.state.user = None;
    }

    /// What else a build says.
    fn extras(&mut self, build: &Block) {
        for block in &build.blocks {
            let message = match block.kind.as_str() {
                "provisioner" | "post-processor" | "post-processors" | "source" => continue,
                "hcp_packer_registry" => {
                    "`hcp_packer_registry` is left out: images are in the store, and in registries"
                        .to_owned()
                }
                "dynamic" => "`dynamic` blocks are left out: write what they make".to_owned(),
                kind => format!("`{kind}` is left out: a recipe has no equal for it"),
            };
            self.stage.remark(block.line, "build", message);
        }
        for entry in &build.entries {
            if !["sources", "name", "description"].contains(&entry.name.as_str())
                && entry.value.kind != Kind::Null
            {
                let message = format!("`{}` is left out: a recipe has no key for it", entry.name);
                self.stage.remark(entry.line, "build", message);
            }
        }
    }
}
