//! The outputs of a build: the forms of its image outside of the store.
//!
//! ```text
//! plan ────► [[output]] and --output: which format goes where
//! check ───► before anything runs: is there a place for each, and one for each alone
//! Ready ───► after the tests: what is not there already is made aside
//! store ───► puts it in place together with the publish (store/placement.rs)
//! note ────► what lies where, so that the next build leaves it alone
//! ```
//! What a format is stands in the room `output`.

mod check;
mod error;
mod note;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use self::note::{Look, Note, Notes};
use crate::digest::{Digest, HashReader};
use crate::event::Event;
use crate::files::parent;
use crate::job::{self, JobContext};
use crate::output::{self, DATA_FS, Format, Options, Remark, Source, Tools};
use crate::recipe::{Diagnostic, DiskOutput, Recipe};
use crate::store::{Placement, Staging, Store, Version};

pub use self::check::check;
pub use self::error::Error;

/// Raised when the same image and options give other bytes.
const FORMAT: u32 = 4;

/// An output that a build is to make.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What is made.
    pub format: Format,
    /// Where it goes, as the person wrote it.
    pub shown: PathBuf,
    /// The same, absolute, through no symlink but one at its end.
    pub path: PathBuf,
    options: Options,
    /// Where that is written.
    place: Diagnostic,
}

/// Plans the outputs of the recipe that was read from `file`.
#[must_use]
pub fn plan(recipe: &Recipe, file: &Path) -> Vec<Planned> {
    let one = |output: &crate::recipe::Output| {
        let shown = match output.given {
            true => output.path.clone(),
            false => parent(file).join(&output.path),
        };
        let shown = shown.strip_prefix(".").map_or(shown.clone(), Path::to_owned);
        let dir = std::path::absolute(parent(&shown)).unwrap_or_else(|_| parent(&shown).to_owned());
        let dir = dir.canonicalize().unwrap_or(dir);
        Some(Planned {
            format: Format::find(&output.format)?,
            path: dir.join(shown.file_name()?),
            shown,
            options: Options {
                force: true,
                drop_owners: output.drop_owners,
                size: output.size,
                label: output.label.clone(),
                compression: output.compression.clone(),
                keep: output.keep,
                disk: output.disk.clone(),
            },
            place: output.place.clone(),
        })
    };
    recipe.outputs.iter().filter_map(one).collect()
}

impl Planned {
    /// Returns the line that it is written in; of the command line, the first.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.place.line
    }
}

/// What is at the place of an output of a published image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// What would be made.
    There,
    /// Nothing, and nothing is known that was there.
    Missing,
    /// Nothing: what was made has been removed.
    Gone,
    /// Something else.
    Other,
}

/// Looks what is at the place of an output of a published image, if made with these programs.
/// Changes nothing.
///
/// # Errors
/// Where the cache cannot be read.
pub fn state(
    store: &Store,
    output: &Planned,
    version: &Version,
    tools: Option<Digest>,
) -> Result<State, Error> {
    let tools = tools.filter(|_| output.format.program().is_some());
    let (key, notes) = (key(output, version, tools), Notes::open(store)?);
    let note = notes.of(&output.path);
    Ok(match Look::of(&output.path, key, output.format.is_dir()) {
        Some(there) if found(output, &notes, &note, &there).is_some() => State::There,
        None if std::fs::symlink_metadata(&output.path).is_ok() => State::Other,
        None if note.marks.is_empty() => State::Missing,
        None => State::Gone,
        Some(_) => State::Other,
    })
}

/// Returns digest and bytes of what is at the place of an output, where that is what would be made.
fn found(
    output: &Planned,
    notes: &Notes,
    note: &Note,
    there: &Look,
) -> Option<(Option<Digest>, u64)> {
    if let Some(mark) = note.same(there) {
        return Some((mark.digest, mark.bytes));
    }
    let (digest, bytes) = notes.known(&there.key)?;
    let same = there.size == bytes && hash(&output.path) == Some(digest);
    same.then_some((Some(digest), bytes))
}

/// The image that outputs are made of.
pub struct Image<'a> {
    /// What it is published as, or will be, with the images for other platforms.
    pub whole: &'a Version,
    /// The same without these.
    pub version: &'a Version,
    /// Where its blobs are that the store has not yet.
    pub stagings: &'a [&'a Staging],
}

/// What came of an output.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// What it is.
    pub format: Format,
    /// Where it is, as the person wrote it.
    pub path: PathBuf,
    /// Bytes of the file; of a directory, of what was put into it.
    pub bytes: u64,
    /// sha256 of the file; a directory has none.
    pub digest: Option<Digest>,
    /// It was made; else it was there already.
    pub made: bool,
    /// Where its bytes are now: aside, or in its place.
    pub at: PathBuf,
}

impl Planned {
    /// What it is made like.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }
}

/// Outputs that are whole and aside; dropped = gone, but for those that were put in their places.
#[derive(Default)]
pub struct Ready {
    /// What the store is to put in place.
    pub placements: Vec<Placement>,
    made: Vec<output::Made>,
}

impl Ready {
    /// Makes those outputs of an image that are not there already.
    ///
    /// # Errors
    /// [`Error::Make`] for the first that cannot be made.
    pub fn add(
        &mut self,
        job: &JobContext<'_>,
        outputs: &[Planned],
        image: &Image<'_>,
        tools: Option<&dyn Tools>,
    ) -> Result<Vec<Delivered>, Error> {
        // Machines first: what an image lacks for them is found before anything else is made.
        let mut order: Vec<usize> = (0..outputs.len()).collect();
        order.sort_by_key(|at| !outputs[*at].format.is_machine());
        let mut delivered = vec![];
        for at in order {
            if job.cancel.fired() {
                return Err(Error::Job(job::Error::Interrupted));
            }
            delivered.push((at, self.one(job, &outputs[at], image, tools)?));
        }
        delivered.sort_by_key(|(at, _)| *at);
        Ok(delivered.into_iter().map(|(_, one)| one).collect())
    }

    fn one(
        &mut self,
        job: &JobContext<'_>,
        output: &Planned,
        image: &Image<'_>,
        tools: Option<&dyn Tools>,
    ) -> Result<Delivered, Error> {
        let tools = tools.filter(|_| output.format.program().is_some());
        let of_tools = tools.map(Tools::digest);
        let version = if output.format.holds_all() { image.whole } else { image.version };
        let (key, notes) = (key(output, version, of_tools), Notes::open(job.store)?);
        let delivered = |bytes, digest, made: Option<&Path>| Delivered {
            format: output.format,
            path: output.shown.clone(),
            bytes,
            digest,
            made: made.is_some(),
            at: made.unwrap_or(&output.path).to_owned(),
        };
        let mut note = notes.of(&output.path);
        let there = Look::of(&output.path, key, output.format.is_dir());
        if let Some(there) = &there
            && let Some((digest, bytes)) = found(output, &notes, &note, there)
        {
            if note.same(there).is_none() {
                note.marks = vec![Look { digest, bytes, ..there.clone() }];
                notes.write(&output.path, &note)?;
            }
            return Ok(delivered(bytes, digest, None));
        }
        let made = make(job.store, output, version, image.stagings, tools)?;
        let output::Exported { bytes, digest, ref remarks } = *made.exported();
        for one in remarks {
            let (message, hint) = one.message(output.format);
            let message = match one {
                Remark::Lost(_) => format!("{}: {message}", output.shown.display()),
                Remark::Doubt(_) => format!("{}: {message}", output.place.at()),
            };
            (job.sink)(Event::Warning { message, hint });
        }
        // Before the publish, so that what it puts in place is known whenever it ends; and what is
        // there now stays known for as long as it is there.
        note.marks.retain(|mark| there.as_ref().is_some_and(|there| mark.inode == there.inode));
        let mark = Look::of(made.path(), key, output.format.is_dir());
        note.marks.extend(mark.map(|mark| Look { digest, bytes, ..mark }));
        notes.write(&output.path, &note)?;
        if let Some(digest) = digest {
            notes.know(&key, digest, bytes)?;
        }
        self.placements.push(Placement::new(made.path(), &output.path)?);
        let delivered = delivered(bytes, digest, Some(made.path()));
        self.made.push(made);
        Ok(delivered)
    }
}

fn make(
    store: &Store,
    output: &Planned,
    version: &Version,
    stagings: &[&Staging],
    tools: Option<&dyn Tools>,
) -> Result<output::Made, Error> {
    let blob = |digest: &Digest| {
        for staging in stagings {
            match File::open(staging.path(digest)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                found => return found,
            }
        }
        store.blob(digest).map_err(io::Error::other)
    };
    let Version { reference, manifest, .. } = version;
    let source = Source { reference, manifest, blob: &blob };
    let made = output::make(&source, output.format, &output.path, &output.options, tools);
    made.map_err(|source| Error::Make {
        path: output.shown.clone(),
        recipe: output.place.file.clone(),
        line: output.place.line,
        source,
    })
}

/// Names what an output is made of.
fn key(output: &Planned, version: &Version, tools: Option<Digest>) -> Digest {
    let Options { drop_owners, size, label, compression, keep, disk, force: _ } = &output.options;
    let (format, owners) = (output.format.name(), !drop_owners);
    let (image, name) = (version.manifest.digest, &version.reference);
    let DiskOutput { writable, command_line, esp, slot, data } = disk;
    let mut disk = format!("writable {writable}\ncmdline {command_line:?}\nesp {esp:?}\n");
    // What most outputs do not have is left out, so that their names stay.
    for (what, value) in [("slot", *slot), ("keep", keep.map(|keep| keep as u64))] {
        if let Some(value) = value {
            disk.push_str(&format!("{what} {value}\n"));
        }
    }
    for (mount, serial) in data {
        disk.push_str(&format!("data {mount:?} {serial:?} {DATA_FS:?}\n"));
    }
    Digest::of(format!(
        "output {FORMAT}\n{format}\nowners {owners}\nimage {image}\nname {name}\nsize {size:?}\n\
            label {label:?}\ncompression {compression:?}\ntools {tools:?}\n{disk}"
    ))
}

fn hash(path: &Path) -> Option<Digest> {
    let mut reader = HashReader::new(File::open(path).ok()?);
    io::copy(&mut reader, &mut io::sink()).ok()?;
    Some(reader.finish().1)
}
