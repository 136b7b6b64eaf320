//! Taking what a step wants of stages and of the context: as a tar, whose bytes depend on what is
//! in it alone.

use std::fs::File;
use std::io::{self, BufWriter, Seek};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::build::{Build, held};
use super::error::{StepFailure, Trouble};
use crate::context::TarSummary;
use crate::digest::{Digest, HashReader};
use crate::inputs::Wanted;
use crate::job::{Action, Call, Ended, Error, Job, Reply, fresh_work, make_dir, reply, unexpected};
use crate::plan::artifact::Artifact;
use crate::sandbox::Overlay;
use crate::step::Op;
use crate::store::{StepCache, UnpackedLayer};

/// Room of the cache in which it stands what was taken from which layers.
const ROOM: &str = "taken";

/// What was taken: everything about it but the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken {
    /// Names the content: the digest of the tar.
    pub(crate) digest: Digest,
    /// Entries of the tar.
    pub(crate) entries: u64,
    /// It is one file, which becomes the destination itself.
    pub(crate) single: bool,
}

/// Returns what names the content that was taken where `record` names what it was taken from, if
/// the cache remembers.
pub(crate) fn known(cache: &StepCache, record: &Digest) -> Option<Digest> {
    let bytes = cache.record(ROOM, record)?;
    serde_json::from_slice::<Taken>(&bytes).ok().map(|taken| taken.digest)
}

impl Build<'_> {
    /// Names what step `index` gets of stages, all of which are done. Where the cache knows it,
    /// nothing is unpacked for that.
    pub(crate) fn name_wanted(&self, index: usize) -> Result<(), Trouble> {
        let wanted = self.root.facts.wanted(index);
        let mut named = vec![];
        for one in wanted.iter().flatten() {
            let Some(stage) = &one.stage else { continue };
            let artifact = self.stage(stage)?;
            let chain = artifact.chain();
            let known = || known(&self.cache, &one.record(&chain, self.root.epoch));
            let digest = match one.by_layers(&chain).or_else(known) {
                Some(digest) => digest,
                None => self.take(one, &artifact)?.1.digest,
            };
            named.push((one.name.clone(), digest));
        }
        held(&self.named).insert(index, named);
        Ok(())
    }

    /// Returns the directory that shows all of a stage of one layer, and what holds it there.
    /// `at`: a directory of its own for when it has to be unpacked.
    pub(super) fn whole(
        &self,
        stage: &str,
        at: &Path,
    ) -> Result<(PathBuf, Option<UnpackedLayer>), Trouble> {
        let artifact = self.stage(stage)?;
        let [layer] = artifact.layers.as_slice() else {
            let why = format!("it has {} layers, not one", artifact.layers.len());
            return Err(Error::Failed { what: format!("show {stage}"), why }.into());
        };
        self.staging.adopt(&layer.path, &layer.blob.digest).map_err(Error::from)?;
        Ok(self.unpacked(&layer.blob, layer.compression, layer.foreign, at)?)
    }

    /// Returns the tar of something that step `index` wants, at its start.
    pub(super) fn tar(&self, index: usize, wanted: &Wanted) -> Result<(File, Taken), Trouble> {
        let Some(stage) = &wanted.stage else {
            return self.tar_of_context(wanted);
        };
        let artifact = self.stage(stage)?;
        let (file, taken) = self.take(wanted, &artifact)?;
        let expected = self.named(index).unwrap_or_default();
        if expected.iter().any(|(name, digest)| *name == wanted.name && *digest != taken.digest) {
            let why = "it gave other bytes than before".to_owned();
            return Err(Error::Failed { what: format!("take {}", wanted.name), why }.into());
        }
        Ok((file, taken))
    }

    fn tar_of_context(&self, wanted: &Wanted) -> Result<(File, Taken), Trouble> {
        let file = self.aside()?;
        let out = BufWriter::with_capacity(256 << 10, file);
        let single = wanted.single.as_bytes();
        let written = self.root.context.write_tar(&wanted.op, single, self.root.epoch, out);
        let (out, summary) = written.map_err(|error| Trouble::prepared(&error))?;
        let file = out.into_inner().map_err(|error| failed(&wanted.name, error.into_error()))?;
        Ok(finished(&wanted.name, file, summary)?)
    }

    /// Takes `wanted` from what a stage gave.
    fn take(&self, wanted: &Wanted, artifact: &Artifact) -> Result<(File, Taken), Trouble> {
        let file = self.aside()?;
        let keep = file.try_clone().map_err(|error| failed(&wanted.name, error))?;
        let at = tempfile::Builder::new()
            .prefix("take-")
            .tempdir_in(self.staging.dir())
            .map_err(|error| failed(&wanted.name, error))?
            .keep();
        let (mut lower, mut trees) = (vec![], vec![]);
        for (number, layer) in artifact.layers.iter().enumerate() {
            self.staging.adopt(&layer.path, &layer.blob.digest).map_err(Error::from)?;
            let own = at.join(format!("layer-{number}"));
            let (directory, tree) =
                self.unpacked(&layer.blob, layer.compression, layer.foreign, &own)?;
            lower.insert(0, directory);
            trees.extend(tree);
        }
        let upper = make_dir(&at.join("u"))?;
        let root = Overlay { lower, upper, work: fresh_work(&at)? };
        let (op, single, epoch) = (wanted.op.clone(), wanted.single.clone(), self.root.epoch);
        let call = Call::Take { op, single, epoch, to: file.into() };
        let job = Job { root: Some(root), ..Job::bare(Action::call(call)) };
        let what = format!("take {}", wanted.name);
        let summary = match self.session()?.run(job, self.job.cancel, &mut |_| {})? {
            Ended::Failed { how, seen, .. } => {
                return Err(Trouble::Step(StepFailure::Ran(how, seen)));
            }
            ended => match reply(ended, &what)? {
                Reply::Taken(summary) => summary,
                other => return Err(unexpected(&what, &other).into()),
            },
        };
        let (file, taken) = finished(&wanted.name, keep, summary)?;
        let record = wanted.record(&artifact.chain(), self.root.epoch);
        let bytes = serde_json::to_vec(&taken).expect("plain data always has a JSON form");
        // Without it the next build takes the files again to know what they are.
        let _ = self.cache.write_record(ROOM, &record, &bytes);
        Ok((file, taken))
    }

    fn aside(&self) -> Result<File, Error> {
        tempfile::tempfile_in(self.staging.dir()).map_err(|source| Error::File {
            verb: "make a file in",
            path: self.staging.dir().to_owned(),
            source,
        })
    }
}

fn finished(name: &str, file: File, summary: TarSummary) -> Result<(File, Taken), Error> {
    let mut file = file;
    let mut hash = || -> io::Result<Digest> {
        file.rewind()?;
        let mut reader = HashReader::new(&file);
        io::copy(&mut reader, &mut io::sink())?;
        let digest = reader.finish().1;
        file.rewind()?;
        Ok(digest)
    };
    let digest = hash().map_err(|error| failed(name, error))?;
    let TarSummary { entries, single } = summary;
    Ok((file, Taken { digest, entries, single }))
}

fn failed(name: &str, error: io::Error) -> Error {
    Error::Failed { what: format!("take {name}"), why: error.to_string() }
}

/// Returns the operation that places what was taken for the copy `op`: where one file becomes the
/// destination itself, it goes into the directory above, by its name.
pub(super) fn placing(op: &Op, taken: &Taken) -> Op {
    let mut op = op.clone();
    if let Op::Copy { to, .. } = &mut op
        && taken.single
    {
        let above = PathBuf::from(&*to).parent().map(Path::to_owned).unwrap_or_default();
        *to = format!("{}/", above.display().to_string().trim_end_matches('/'));
    }
    op
}
