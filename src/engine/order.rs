//! Which recipes a run builds, in the order in which they need each other: what a recipe stands on
//! comes before it, whether it was asked for or not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{Error, Failed};
use super::request::{NoCache, Request};
use crate::inputs;
use crate::recipe::{BaseKind, Inputs};

/// A recipe of a run.
pub struct Ordered {
    /// With what was read of it.
    pub request: Request,
    /// It was asked for; else it is only what others stand on.
    pub wanted: bool,
    /// The recipes that it and its stages stand on.
    pub bases: Bases,
}

/// Recipes that another stands on, as that writes them: their places in the order.
pub type Bases = BTreeMap<PathBuf, usize>;

/// Returns the recipes of `requests` and those that they stand on: first those that stand on
/// nothing, in the order asked for, then the others behind what they stand on.
///
/// # Errors
/// [`Error::Recipe`] where one cannot be read, [`Error::RecipeCycle`].
pub fn order(requests: &[Request]) -> Result<Vec<Ordered>, Failed> {
    let mut found: Vec<Found> = vec![];
    for request in requests {
        let path = real(&request.recipe);
        let mut way = vec![];
        visit(&mut found, request.clone(), path, requests, &mut way)?;
    }
    // Whoever stands on another is behind all that do not: these are prepared side by side.
    let (free, bound): (Vec<usize>, Vec<usize>) =
        (0..found.len()).partition(|at| found[*at].bases.is_empty());
    let place = |at: usize| free.iter().chain(&bound).position(|other| *other == at);
    let moved = |(path, at): (&PathBuf, &usize)| place(*at).map(|at| (path.clone(), at));
    let bases: Vec<Bases> =
        found.iter().map(|one| one.bases.iter().filter_map(moved).collect()).collect();
    let mut slots: Vec<Option<(Found, Bases)>> = found.into_iter().zip(bases).map(Some).collect();
    let order: Vec<usize> = free.into_iter().chain(bound).collect();
    let take = |at: usize| slots[at].take();
    let taken = order.into_iter().filter_map(take);
    let ordered = |(found, bases): (Found, Bases)| Ordered {
        request: found.request,
        wanted: found.wanted,
        bases,
    };
    Ok(taken.map(ordered).collect())
}

/// A recipe that was found, behind what it stands on.
struct Found {
    path: PathBuf,
    request: Request,
    wanted: bool,
    bases: Bases,
}

/// Adds a recipe and what it stands on; returns its place. `way`: the recipes that stand on it.
fn visit(
    found: &mut Vec<Found>,
    request: Request,
    path: PathBuf,
    requests: &[Request],
    way: &mut Vec<PathBuf>,
) -> Result<usize, Failed> {
    let fail = |error| Failed { recipe: request.recipe.clone(), error };
    if let Some(at) = way.iter().position(|one| *one == path) {
        let mut cycle: Vec<PathBuf> = way[at..].to_vec();
        cycle.push(path);
        return Err(fail(Error::RecipeCycle { cycle }));
    }
    if let Some(at) = found.iter().position(|one| one.path == path) {
        return Ok(at);
    }
    let looked = match &request.checked {
        Some(looked) => looked.clone(),
        None => inputs::look_over(&request.recipe, &request.inputs)
            .map_err(|error| fail(error.into()))?,
    };
    let mut bases = Bases::new();
    let of_stages = looked.recipe.stages.iter().map(|stage| &stage.base);
    for base in of_stages.chain([&looked.recipe.base]) {
        let BaseKind::Recipe(file) = &base.kind else { continue };
        let below = request.recipe.parent().unwrap_or(Path::new("")).join(file);
        way.push(path.clone());
        let asked = requests.iter().find(|one| real(&one.recipe) == real(&below)).cloned();
        let next = asked.unwrap_or_else(|| unasked(&request, &below));
        let at = real(&next.recipe);
        bases.insert(file.clone(), visit(found, next, at, requests, way)?);
        way.pop();
    }
    let wanted = requests.iter().any(|one| real(&one.recipe) == path);
    let request = Request { checked: Some(looked), ..request };
    found.push(Found { path, request, wanted, bases });
    Ok(found.len() - 1)
}

/// Returns the request for a recipe that nobody asked for but `request`, which stands on it: what
/// was given for variables, version and single steps is not meant for it.
fn unasked(request: &Request, recipe: &Path) -> Request {
    let inputs = Inputs {
        file: recipe.to_owned(),
        version: None,
        vars: vec![],
        vars_files: vec![],
        outputs: vec![],
        ..request.inputs.clone()
    };
    let no_cache = match &request.no_cache {
        NoCache::Steps(_) => NoCache::No,
        all => all.clone(),
    };
    Request { recipe: recipe.to_owned(), inputs, checked: None, no_cache, ..request.clone() }
}

/// Returns where a recipe really is: through a symlink it is the same recipe.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
