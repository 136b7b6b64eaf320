//! Steps by the numbers and names that people give them: `--no-cache=STEP`, `shell --at`.

use super::error::Error;
use super::request::{NoCache, Request};
use super::roots::Roots;

/// Whether the person wants this node run although it is cached.
pub(super) fn no_cache(what: &NoCache, stage: Option<&str>, index: usize, label: &str) -> bool {
    match what {
        NoCache::No => false,
        NoCache::All => true,
        NoCache::Steps(names) => names.iter().any(|name| names_step(name, stage, index, label)),
    }
}

/// Whether `name` (a number, `base`, or what the step is called; of a stage with its name in front,
/// `build/2`) means this step.
pub(super) fn names_step(name: &str, stage: Option<&str>, index: usize, label: &str) -> bool {
    let name = match stage {
        None => name,
        Some(stage) => match name.split_once('/') {
            Some((of, name)) if of == stage => name,
            _ => return false,
        },
    };
    name == label || name.parse() == Ok(index) || (index == 0 && name == "base")
}

/// Makes sure that there is every step that is to be run although it is cached.
pub(super) fn known_steps(request: &Request, roots: &Roots) -> Result<(), Error> {
    let NoCache::Steps(names) = &request.no_cache else { return Ok(()) };
    let steps = || {
        roots.0.iter().flat_map(|root| {
            let base = std::iter::once(root.plan.base.clone());
            let labels = base.chain(root.plan.nodes.iter().map(|node| node.label.clone()));
            labels.enumerate().map(|(index, label)| (root.stage.as_deref(), index, label))
        })
    };
    let known = |name: &&String| {
        !steps().any(|(stage, index, label)| names_step(name, stage, index, &label))
    };
    let Some(name) = names.iter().find(known) else { return Ok(()) };
    let shown = |(stage, _, label): (Option<&str>, usize, String)| match stage {
        Some(stage) => format!("{stage}/{label}"),
        None => label,
    };
    Err(Error::NoStep {
        name: name.clone(),
        steps: steps().map(shown).collect(),
        recipe: request.recipe.clone(),
    })
}
