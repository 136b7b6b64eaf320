//! Which recipes a run builds, in the order in which they need each other: what a recipe stands on
//! comes before it, whether it was asked for or not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{Error, Failed};
use super::request::{NoCache, Request};
use crate::image::Platform;
use crate::recipe::{Base, BaseKind, Inputs, Recipe, Variant};

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
    let mut asked = vec![];
    for request in requests {
        asked.extend(request.each_variant()?);
    }
    for request in &asked {
        visit(&mut found, request, &asked, &mut vec![])?;
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
    id: Id,
    request: Request,
    wanted: bool,
    bases: Bases,
}

/// What distinguishes the builds of a run: where the recipe really is, and which of its builds it
/// is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Id {
    path: PathBuf,
    build: String,
    platform: Platform,
}

impl Id {
    fn of(request: &Request) -> Self {
        let (path, platform) = (real(&request.recipe), request.platform());
        Self { path, build: request.build(), platform }
    }
}

/// Adds a recipe that was read and what it stands on; returns its place. `way`: the recipes that
/// stand on it.
fn visit(
    found: &mut Vec<Found>,
    request: &Request,
    asked: &[Request],
    way: &mut Vec<Id>,
) -> Result<usize, Failed> {
    let id = Id::of(request);
    if let Some(at) = way.iter().position(|one| *one == id) {
        let cycle = way[at..].iter().chain([&id]).map(|one| one.path.clone()).collect();
        return Err(request.failed(Error::RecipeCycle { cycle }));
    }
    if let Some(at) = found.iter().position(|one| one.id == id) {
        return Ok(at);
    }
    let mut bases = Bases::new();
    if let Some(looked) = &request.checked {
        let of_stages = looked.recipe.stages.iter().map(|stage| &stage.base);
        for base in of_stages.chain([&looked.recipe.base]) {
            let BaseKind::Recipe(file) = &base.kind else { continue };
            let below = request.recipe.parent().unwrap_or(Path::new("")).join(file);
            way.push(id.clone());
            let known = || found.iter().map(|one| &one.request).chain(asked);
            let next = match known()
                .find(|one| is_meant(one, &below, &looked.recipe, &request.platform()))
            {
                Some(known) => known.clone(),
                None => one_below(request, &below, &looked.recipe, base)?,
            };
            bases.insert(file.clone(), visit(found, &next, asked, way)?);
            way.pop();
        }
    }
    let wanted = asked.iter().any(|one| Id::of(one) == id);
    found.push(Found { id, request: request.clone(), wanted, bases });
    Ok(found.len() - 1)
}

/// Whether a request, which was read, is the build of the recipe `below` that `recipe` stands on.
fn is_meant(request: &Request, below: &Path, recipe: &Recipe, platform: &Platform) -> bool {
    real(&request.recipe) == real(below)
        && request.platform() == *platform
        && (request.inputs.variant.is_empty() || request.inputs.variant.is_among(&recipe.vars))
}

/// Reads the recipe `below`, and returns the build of it that `request` stands on: of several
/// variants the one whose variables have the values that they have in `recipe`.
fn one_below(
    request: &Request,
    below: &Path,
    recipe: &Recipe,
    base: &Base,
) -> Result<Request, Failed> {
    let all = unasked(request, below).each_variant()?;
    let agrees = |one: &&Request| one.inputs.variant.agrees(&recipe.vars);
    let mut fits: Vec<&Request> = all.iter().filter(agrees).collect();
    if let (Some(one), true) = (fits.pop(), fits.is_empty()) {
        return Ok(one.clone());
    }
    let there = all.iter().map(Request::build).collect::<Vec<_>>().join(" · ");
    let why = vec![
        format!("it makes several images: {there}"),
        "a variable that is called as that of its matrix has to say which one".to_owned(),
    ];
    let (base, line) = (below.display().to_string(), base.line);
    let recipe = request.recipe.clone();
    Err(request.failed(Error::BaseImage { base, recipe, line, why }))
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
        variants: vec![],
        variant: Variant::default(),
        // What stands on it wants it for the same platform.
        platforms: vec![request.platform()],
        platform: None,
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
