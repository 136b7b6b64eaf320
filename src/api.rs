//! bake for programs: a recipe, a store, a build, an image. What the command line can do beyond
//! that is in the rooms, which promise nothing from one version to the next.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::digest::Digest;
use crate::engine::{self, LockMode, Request};
use crate::event::{Event, Sink, silent};
use crate::image::{BadReference, Reference};
use crate::job::{Call, Host, JobContext};
use crate::recipe::{Inputs, Workspaces};
use crate::sandbox::{self, Cancel};
use crate::store;

/// Why something could not be done. The message of the recipe's mistakes, of a failed step or of
/// the store is its own; causes are its `source`s.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recipe cannot be used, or its build failed: nothing was published.
    #[error(transparent)]
    Build(#[from] Box<engine::error::Error>),
    /// The store cannot be used, or does not have what was asked for.
    #[error(transparent)]
    Store(#[from] Box<store::Error>),
    /// This host cannot run the sandbox.
    #[error(transparent)]
    Host(#[from] sandbox::Error),
    /// Not the name of an image.
    #[error(transparent)]
    Name(#[from] BadReference),
    /// The recipe makes several images, and one is wanted: [`Recipe::variant`] says which.
    #[error("the recipe makes several images: {}", .0.join(", "))]
    Several(Vec<String>),
}

impl From<engine::error::Error> for Error {
    fn from(error: engine::error::Error) -> Self {
        Self::Build(Box::new(error))
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(Box::new(error))
    }
}

/// A recipe in a file, with what its variables are set to.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("web.toml");
/// std::fs::write(&path, r#"
/// image = { name = "web", version = "1.0.0" }
/// base = { scratch = true }
/// vars = { greeting = "hello" }
///
/// [[step]]
/// file = "/greeting"
/// content = "{{ greeting }}"
/// "#)?;
/// let recipe = bake::Recipe::open(&path).var("greeting", "moin");
/// let summary = recipe.check()?;
/// assert_eq!((summary.image.as_str(), summary.steps), ("web:1.0.0", 1));
/// assert!(recipe.version("not a version").check().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Recipe {
    path: PathBuf,
    inputs: Inputs,
}

/// What a recipe says it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// `name:version`.
    pub image: String,
    /// Steps that a build would have, those left out by their `when` not counted.
    pub steps: usize,
}

impl Recipe {
    /// Names the recipe at `path`. Nothing is read yet: a build reads it when it begins, and with
    /// it variables and defaults of the `bake.toml` above it.
    #[must_use]
    pub fn open(path: impl AsRef<Path>) -> Self {
        let inputs = Inputs::default();
        Self { path: path.as_ref().to_owned(), inputs }
    }

    /// Sets a variable, as `--var` does.
    #[must_use]
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.inputs.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes, of a recipe with a `[matrix]`, only the variants with this value, as `--variant`
    /// does.
    #[must_use]
    pub fn variant(mut self, name: &str, value: &str) -> Self {
        self.inputs.variants.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes this version instead of the recipe's, as `--set-version` does.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.inputs.version = Some(version.to_owned());
        self
    }

    /// Returns what the recipe is read with. The file of its workspace is read anew each time.
    fn now(&self) -> Inputs {
        Inputs { workspaces: Some(Workspaces::default()), ..self.inputs.clone() }
    }

    /// Reads the recipe and all that it names of its context, and runs nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Build`] with every mistake at once, or where the file cannot be read.
    pub fn check(&self) -> Result<Summary, Error> {
        let recipe =
            crate::inputs::check(&self.path, &self.now()).map_err(engine::error::Error::from)?;
        let image = format!("{}:{}", recipe.image.name, recipe.image.version);
        Ok(Summary { image, steps: recipe.steps.len() })
    }
}

/// A directory with published images: an OCI image layout. Several processes may use it at once.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let store = bake::Store::open(dir.path().join("store"))?;
/// assert_eq!(store.images()?, []);
/// assert!(store.image("web:1.0.0").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Store(store::Store);

impl Store {
    /// Opens the store `dir`, and makes it where nothing is.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where it cannot be written, or something else is there.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self(store::Store::open(dir.as_ref())?))
    }

    /// Returns all published images: by name, then in the order of publication.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where its index cannot be read.
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        Ok(self.0.versions()?.into_iter().map(Image::of).collect())
    }

    /// Finds an image: `name:version`, `name@channel`, `name@sha256:…`, or `name` for the newest.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] where that is no name, [`Error::Store`] where there is no such image.
    pub fn image(&self, name: &str) -> Result<Image, Error> {
        Ok(Image::of(self.0.resolve(&name.parse::<Reference>()?)?))
    }
}

/// A published image: a name and a version that stand for one content, for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Image {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// sha256 of its manifest.
    pub digest: Digest,
}

impl Image {
    fn of(version: store::Version) -> Self {
        Self {
            name: version.reference.name,
            version: version.reference.version.unwrap_or_default(),
            digest: version.manifest.digest,
        }
    }
}

/// A build: runs the steps of a recipe in a sandbox and publishes the image, or nothing.
///
/// The sandbox starts a program of bake's own. A program that builds has to be that program, and
/// calls [`supervise`] first thing in `main`, or names an installed `bake` with [`Build::program`].
///
/// ```no_run
/// use bake::{Build, Image, Recipe, Store};
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     if let Some(code) = bake::supervise() {
///         return code;
///     }
///     match build() {
///         Ok(image) => {
///             println!("{}:{} {}", image.name, image.version, image.digest);
///             ExitCode::SUCCESS
///         }
///         Err(error) => {
///             eprintln!("error: {error}");
///             ExitCode::FAILURE
///         }
///     }
/// }
///
/// fn build() -> Result<Image, bake::Error> {
///     Build::new(&Store::open("/srv/images")?).locked().run(&Recipe::open("web.toml"))
/// }
/// ```
pub struct Build<'a> {
    store: &'a Store,
    lock: LockMode,
    program: Option<PathBuf>,
    sink: Sink,
}

impl<'a> Build<'a> {
    /// Prepares a build that publishes in `store`.
    #[must_use]
    pub fn new(store: &'a Store) -> Self {
        Self { store, lock: LockMode::Obey, program: None, sink: silent() }
    }

    /// Fails rather than change the lock file, as `--locked` does.
    #[must_use]
    pub fn locked(mut self) -> Self {
        self.lock = LockMode::Locked;
        self
    }

    /// Names the `bake` that the sandbox starts; else it is this program.
    #[must_use]
    pub fn program(mut self, path: impl AsRef<Path>) -> Self {
        self.program = Some(path.as_ref().to_owned());
        self
    }

    /// Reports what happens, from several threads.
    #[must_use]
    pub fn on_event(mut self, report: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.sink = std::sync::Arc::new(report);
        self
    }

    /// Runs the recipe's steps, or takes them from the cache, runs its tests and publishes the
    /// image. Does nothing where it was published from the same inputs before.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] where the sandbox cannot run, [`Error::Several`] where the recipe has a
    /// matrix and more than one of its variants is meant, else [`Error::Build`]. Nothing was
    /// published.
    pub fn run(&self, recipe: &Recipe) -> Result<Image, Error> {
        let requests = self.requests(recipe)?;
        match &requests[..] {
            [_] => Ok(self.bake(&requests)?.remove(0)),
            several => {
                let variants = several.iter().map(|one| one.inputs.variant.to_string());
                Err(Error::Several(variants.collect()))
            }
        }
    }

    /// As [`run`](Self::run), for all variants of the recipe that are meant: all of them are
    /// published, or none.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] where the sandbox cannot run, else [`Error::Build`]. Nothing was published.
    pub fn run_all(&self, recipe: &Recipe) -> Result<Vec<Image>, Error> {
        self.bake(&self.requests(recipe)?)
    }

    /// Reads the recipe: a request for each of its variants that are meant.
    fn requests(&self, recipe: &Recipe) -> Result<Vec<Request>, Error> {
        let request = Request {
            recipe: recipe.path.clone(),
            inputs: recipe.now(),
            lock: self.lock,
            ..Request::default()
        };
        Ok(request.each_variant().map_err(|failed| *failed.error)?)
    }

    fn bake(&self, requests: &[Request]) -> Result<Vec<Image>, Error> {
        let host = match &self.program {
            Some(program) => Host::of(program)?,
            None => Host::default(),
        };
        let cancel = Cancel::new()?;
        let job =
            JobContext { store: &self.store.0, host: &host, cancel: &cancel, sink: &self.sink };
        let baked = engine::bake(&job, requests, 1).map_err(|failed| *failed.error)?;
        let image = |baked: engine::Baked| Image {
            name: baked.name,
            version: baked.version,
            digest: baked.digest,
        };
        Ok(baked.into_iter().map(image).collect())
    }
}

/// Becomes the sandbox's supervisor where the sandbox started this process as such; returns its
/// exit code then, and `None` in any other process. Must come before the first thread: a user
/// namespace needs a process with one.
#[must_use]
pub fn supervise() -> Option<ExitCode> {
    sandbox::helper_main::<Call>()
}
