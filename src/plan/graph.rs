//! What recipes build, drawn as a graph: bases, steps, stages, images and tests, each with what it
//! is made from. Pure.
//!
//! ```text
//! build/base ─► build/1 ─► stage build ─┐ copies /out/tool
//!                             base ─► 1 ─► 2 ─► image ─► test 1
//! ```

use std::path::Path;
use std::sync::Arc;

use super::Plan;
use crate::recipe::{BaseKind, Recipe};
use crate::step::{Content, Lowered, Mount, Op};

/// Something that is built, or looked at before a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Names it within a run: the image, and its place unless it is the image itself.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// The stage that it is of; none: the image.
    pub stage: Option<String>,
    /// Of a step or a test: which, from 1; else 0.
    pub index: usize,
    /// What people call it.
    pub label: String,
    /// Line of the recipe, or of `part`, from 1; 0: none.
    pub line: u32,
    /// The included file that the line is of.
    pub part: Option<Arc<Path>>,
    /// What it is made from, in order.
    pub inputs: Vec<Input>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What a stage or an image begins with.
    Base,
    /// One step.
    Step,
    /// A further root, which others take from.
    Stage,
    /// What is published.
    Image,
    /// What decides whether it is.
    Test,
}

/// Something that a node is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What it comes from.
    pub from: Source,
    /// What of it; empty: all.
    pub what: String,
}

/// What an input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Another node, by its id.
    Node(String),
    /// The context.
    Context,
    /// An address.
    Url,
    /// The image's package manager.
    Packages,
    /// An archive of packages, or an image that is not built in the run.
    Outside,
}

impl Kind {
    /// Returns a word for it that never changes, for scripts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Step => "step",
            Self::Stage => "stage",
            Self::Image => "image",
            Self::Test => "test",
        }
    }
}

impl Source {
    /// Returns a word for it that never changes, for scripts.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Context => "context",
            Self::Url => "url",
            Self::Packages => "packages",
            Self::Outside => "outside",
        }
    }
}

impl Node {
    /// Returns its place within its image: `build/2`.
    #[must_use]
    pub fn place(&self) -> String {
        let own = match self.kind {
            Kind::Base => "base".to_owned(),
            Kind::Step => self.index.to_string(),
            Kind::Stage | Kind::Image => self.kind.name().to_owned(),
            Kind::Test => format!("test {}", self.index),
        };
        match (&self.stage, self.kind) {
            (Some(stage), Kind::Stage) => format!("{own} {stage}"),
            (Some(stage), _) => format!("{stage}/{own}"),
            (None, _) => own,
        }
    }
}

/// Draws what `recipe` builds, each node behind what it is made from. `below` says which image,
/// as `name:version`, the recipe of a path makes that is a base.
#[must_use]
pub fn draw(recipe: &Recipe, below: &dyn Fn(&Path) -> Option<String>) -> Vec<Node> {
    let mut drawing = Drawing { image: super::draw(recipe).image, below, nodes: vec![] };
    for stage in &recipe.stages {
        let plan = super::of_stage(recipe, stage);
        drawing.root(Some(&stage.name), &stage.base.kind, &plan, stage.line);
    }
    drawing.root(None, &recipe.base.kind, &super::draw(recipe), 0);
    for (at, test) in recipe.tests.iter().enumerate() {
        let image = drawing.image.clone();
        let inputs = vec![Input { from: Source::Node(image), what: String::new() }];
        drawing.add(Kind::Test, None, at + 1, &test.label, test.line, inputs);
    }
    drawing.nodes
}

struct Drawing<'a> {
    image: String,
    below: &'a dyn Fn(&Path) -> Option<String>,
    nodes: Vec<Node>,
}

impl Drawing<'_> {
    /// Adds a base with its steps, and what they are together.
    fn root(&mut self, stage: Option<&str>, base: &BaseKind, plan: &Plan, line: u32) {
        let start = self.start(base).into_iter().collect();
        self.add(Kind::Base, stage, 0, &plan.base, plan.base_line, start);
        for (at, node) in plan.nodes.iter().enumerate() {
            let mut inputs = vec![self.last()];
            inputs.extend(self.inputs(node));
            self.add(Kind::Step, stage, at + 1, &node.label, node.line, inputs);
            self.nodes.last_mut().expect("added").part = node.part_file();
        }
        let (kind, label) = match stage {
            Some(stage) => (Kind::Stage, stage.to_owned()),
            None => (Kind::Image, self.image.clone()),
        };
        let inputs = vec![self.last()];
        self.add(kind, stage, 0, &label, line, inputs);
    }

    fn add(
        &mut self,
        kind: Kind,
        stage: Option<&str>,
        index: usize,
        label: &str,
        line: u32,
        inputs: Vec<Input>,
    ) {
        let (stage, label) = (stage.map(str::to_owned), label.to_owned());
        let (id, part) = (self.image.clone(), None);
        let mut node = Node { id, kind, stage, index, label, line, part, inputs };
        if kind != Kind::Image {
            node.id = format!("{} {}", self.image, node.place());
        }
        self.nodes.push(node);
    }

    /// The node that was added last.
    fn last(&self) -> Input {
        let id = self.nodes.last().map(|node| node.id.clone()).unwrap_or_default();
        Input { from: Source::Node(id), what: String::new() }
    }

    fn start(&self, base: &BaseKind) -> Option<Input> {
        Some(match base {
            BaseKind::Scratch => return None,
            BaseKind::Path(path) => context(path.to_string_lossy()),
            BaseKind::Stage(stage) => self.stage(stage, ""),
            BaseKind::Image(image) => outside(image.to_string()),
            BaseKind::Oci(oci) => outside(format!("oci {oci}")),
            BaseKind::Debian(debian) => outside(format!("debian {}", debian.suite)),
            BaseKind::Recipe(path) => match (self.below)(path) {
                Some(image) => Input { from: Source::Node(image), what: String::new() },
                None => outside(path.display().to_string()),
            },
        })
    }

    fn stage(&self, stage: &str, what: &str) -> Input {
        let id = format!("{} stage {stage}", self.image);
        Input { from: Source::Node(id), what: what.to_owned() }
    }

    /// Returns what a step takes besides the root that it runs in.
    fn inputs(&self, node: &Lowered) -> Vec<Input> {
        let mut out = vec![];
        for op in &node.ops {
            match op {
                Op::Copy { from, stage: Some(stage), .. } => {
                    out.extend(from.iter().map(|path| self.stage(stage, path)));
                }
                Op::Copy { from, .. } => out.extend(from.iter().map(context)),
                Op::Exec { mounts, .. } => out.extend(mounts.iter().map(|one| self.mount(one))),
                Op::Configure(tool) => {
                    out.extend(tool.mounts.iter().map(|one| self.mount(one)));
                    out.extend(tool.layer().map(|stage| self.stage(stage, "/")));
                }
                Op::Script { file, mounts, .. } => {
                    out.push(context(file.to_string_lossy()));
                    out.extend(mounts.iter().map(|one| self.mount(one)));
                }
                Op::Write { content: Content::Template(file), .. } => {
                    out.push(context(file.to_string_lossy()));
                }
                Op::Download { url, .. } => out.push(address(url)),
                Op::Packages { names, files, .. } => {
                    out.extend(files.iter().map(|file| context(file.to_string_lossy())));
                    let what = names.join(" ");
                    out.extend(
                        (!what.is_empty()).then_some(Input { from: Source::Packages, what }),
                    );
                }
                Op::Repository { key, .. } if key.contains("://") => out.push(address(key)),
                Op::Repository { key, .. } => out.push(context(key)),
                _ => {}
            }
        }
        out
    }

    fn mount(&self, mount: &Mount) -> Input {
        let what = format!("{} at {}", mount.path.display(), mount.at);
        match &mount.stage {
            Some(stage) => self.stage(stage, &what),
            None => context(what),
        }
    }
}

fn context(what: impl AsRef<str>) -> Input {
    Input { from: Source::Context, what: what.as_ref().to_owned() }
}

fn address(what: &str) -> Input {
    Input { from: Source::Url, what: what.to_owned() }
}

fn outside(what: String) -> Input {
    Input { from: Source::Outside, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{self, Inputs};

    #[test]
    fn every_node_is_behind_what_it_is_made_from() {
        let text = r#"
[image]
name = "web"
version = "1"
[base]
scratch = true
[[step]]
copy = "/out/tool"
from = "build"
to = "/bin/"
[[step]]
copy = ["site/", "a"]
to = "/srv/"
[[test]]
file = "/bin/tool"
[stage.build.base]
path = "root.tar"
[[stage.build.step]]
run = "make"
mount."/src" = "src"
"#;
        let recipe = recipe::read(text, &Inputs::default()).expect("a recipe");
        let nodes = draw(&recipe, &|_| None);
        let shown: Vec<String> = nodes
            .iter()
            .map(|node| {
                let of = |input: &Input| match &input.from {
                    Source::Node(id) => format!("{id} {}", input.what),
                    other => format!("{}: {}", other.name(), input.what),
                };
                let inputs: Vec<String> = node.inputs.iter().map(of).collect();
                format!("{} <- {}", node.id, inputs.join(", "))
            })
            .collect();
        let expected = [
            "web:1 build/base <- context: root.tar",
            "web:1 build/1 <- web:1 build/base , context: src at /src",
            "web:1 stage build <- web:1 build/1 ",
            "web:1 base <- ",
            "web:1 1 <- web:1 base , web:1 stage build /out/tool",
            "web:1 2 <- web:1 1 , context: site/, context: a",
            "web:1 <- web:1 2 ",
            "web:1 test 1 <- web:1 ",
        ];
        assert_eq!(shown, expected);
    }
}
