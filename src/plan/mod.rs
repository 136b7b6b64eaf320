//! The plan: a recipe with its steps lowered and numbered, what names it ([`key`]), what is pinned
//! for it ([`lock`]), and what its image says of itself ([`config`]). Pure.

pub mod artifact;
pub mod config;
pub mod explained;
pub mod graph;
pub mod key;
pub mod listing;
pub mod lock;
pub mod why;

use crate::recipe::{Base, BaseKind, DebianVariant, Recipe, Stage};
use crate::step::{Lowered, Op};

/// What a build will do, in order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `name:version`.
    pub image: String,
    /// What the base is called, for people and for the history of the image.
    pub base: String,
    /// Line of `[base]`.
    pub base_line: u32,
    /// The steps; node `i` is step `i + 1`.
    pub nodes: Vec<Lowered>,
}

/// Draws the plan of the image of a recipe.
pub fn draw(recipe: &Recipe) -> Plan {
    of(recipe, &recipe.base, &recipe.steps)
}

/// Draws the plan of a stage of a recipe.
pub fn of_stage(recipe: &Recipe, stage: &Stage) -> Plan {
    of(recipe, &stage.base, &stage.steps)
}

fn of(recipe: &Recipe, base: &Base, steps: &[Lowered]) -> Plan {
    let name = match &base.kind {
        BaseKind::Scratch => "scratch".to_owned(),
        BaseKind::Path(path) => format!("path {}", path.display()),
        BaseKind::Image(image) => format!("image {image}"),
        BaseKind::Oci(oci) => format!("oci {oci}"),
        BaseKind::Recipe(path) => format!("recipe {}", path.display()),
        BaseKind::Stage(name) => format!("stage {name}"),
        BaseKind::Debian(debian) => match debian.variant {
            DebianVariant::Minbase => format!("debian {}", debian.suite),
            DebianVariant::Slim => format!("debian {} slim", debian.suite),
        },
    };
    Plan {
        image: format!("{}:{}", recipe.image.name, recipe.image.version),
        base: name,
        base_line: base.line,
        nodes: steps.to_vec(),
    }
}

impl Plan {
    /// Returns the number of steps whose outcome the lock file pins (packages and downloads),
    /// counted from the first step: steps after the last of them need not run to renew the lock.
    pub fn steps_to_lock(&self) -> usize {
        let pins = |node: &Lowered| {
            node.ops.iter().any(|op| {
                matches!(op, Op::Packages { .. } | Op::Download { .. } | Op::Repository { .. })
            })
        };
        self.nodes.iter().rposition(pins).map_or(0, |at| at + 1)
    }
}
