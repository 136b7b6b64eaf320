//! Steps by the numbers and names that people give them: `--no-cache=STEP`, `shell --at`.

use super::error::{Error, Failed};
use super::request::{NoCache, Request};
use super::roots::Roots;

/// Whether the person wants this node run although it is cached.
pub(crate) fn no_cache(what: &NoCache, stage: Option<&str>, index: usize, label: &str) -> bool {
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

/// Makes sure that one of the recipes has each step that is to be run although it is cached.
pub(crate) fn known_steps<'a>(
    recipes: impl Iterator<Item = (&'a Request, &'a Roots)> + Clone,
) -> Result<(), Failed> {
    let is_there = |name: &String| {
        recipes.clone().filter(|(request, _)| named(request).contains(name)).any(|(_, roots)| {
            steps(roots).any(|(stage, index, label)| names_step(name, stage, index, label))
        })
    };
    for (request, roots) in recipes.clone() {
        let Some(name) = named(request).iter().find(|name| !is_there(name)) else { continue };
        let shown = |(stage, _, label): (Option<&str>, usize, &str)| match stage {
            Some(stage) => format!("{stage}/{label}"),
            None => label.to_owned(),
        };
        let (name, steps) = (name.clone(), steps(roots).map(shown).collect());
        let recipe = request.recipe.clone();
        return Err(request.failed(Error::NoStep { name, steps, recipe }));
    }
    Ok(())
}

/// Returns the steps that are named to be run.
fn named(request: &Request) -> &[String] {
    match &request.no_cache {
        NoCache::Steps(names) => names,
        _ => &[],
    }
}

/// Returns all steps of a recipe: stage, number and label of each.
fn steps(roots: &Roots) -> impl Iterator<Item = (Option<&str>, usize, &str)> {
    roots.0.iter().flat_map(|root| {
        let labels = root.plan.nodes.iter().map(|node| node.label.as_str());
        let all = std::iter::once(root.plan.base.as_str()).chain(labels);
        all.enumerate().map(|(index, label)| (root.stage.as_deref(), index, label))
    })
}
