//! The tool layers of steps that run a configuration management tool: stages that bake adds, of
//! names that no stage of a recipe can have, since they have spaces in them.

use super::reader::Reader;
use crate::recipe::model::{Base, BaseKind, Debian, DebianVariant, Modes, Stage};
use crate::step::{Lowered, Op, ToolFrom};

/// The suite that tools are of where the base is no Debian of bake's.
const SUITE: &str = "trixie";

/// Says where steps have their tools from, and takes note of the stages that these are. `base`:
/// what the root of the steps stands on; `stages`: those that it may be, with what they stand on.
pub(super) fn layers(
    reader: &mut Reader<'_>,
    base: Option<&Base>,
    stages: &[(String, Base)],
    steps: &mut [Lowered],
) {
    for step in steps {
        for op in &mut step.ops {
            let Op::Configure(tool) = op else { continue };
            let ToolFrom::Layer(name) = &mut tool.from else { continue };
            let found = debian(base, stages);
            if !name.contains(' ') {
                let suite = found.map_or(SUITE, |debian| debian.suite.as_str());
                *name = format!("{name} of {suite}");
            }
            let Some((_, suite)) = name.split_once(" of ") else { continue };
            let packages = format!("the packages of {name}");
            let kind = BaseKind::Debian(Debian {
                suite: suite.to_owned(),
                variant: DebianVariant::Slim,
                mirror: found.and_then(|debian| debian.mirror.clone()),
                components: vec!["main".to_owned()],
            });
            let line = reader.including.line.unwrap_or(step.line);
            let stage = |name: &str, kind, steps| {
                let base = Base { line, kind, modes: Modes::default() };
                Stage { name: name.to_owned(), line, base, steps }
            };
            let one = stage(&packages, kind, tool.tool.packages_stage(line));
            let other = stage(name, BaseKind::Scratch, tool.tool.layer_stage(line, &packages));
            for stage in [one, other] {
                reader.named.insert(stage.name.clone());
                reader.images.entry(stage.name.clone()).or_insert(stage);
            }
        }
    }
}

/// Returns the Debian that a root is, by way of stages or not.
fn debian<'b>(base: Option<&'b Base>, stages: &'b [(String, Base)]) -> Option<&'b Debian> {
    let mut base = base?;
    // As many steps as there are stages: a cycle is reported elsewhere.
    for _ in 0..=stages.len() {
        match &base.kind {
            BaseKind::Debian(debian) => return Some(debian),
            BaseKind::Stage(name) => base = &stages.iter().find(|(one, _)| one == name)?.1,
            _ => return None,
        }
    }
    None
}
