//! The last node of an image: the files that say which image it is.

use std::path::{Path, PathBuf};

use super::build::Build;
use super::error::Trouble;
use crate::apply;
use crate::archive;
use crate::event::Event;
use crate::job::{self, Action, Call, Job, Reply, fresh_work, make_dir};
use crate::plan::config;
use crate::sandbox::Overlay;

impl Build<'_> {
    /// Writes the identity files over the last step; returns the upper directory that they are in.
    ///
    /// # Errors
    /// [`Trouble::Broken`] where the image cannot work as it is configured.
    pub(crate) fn identity(&self, lower: &[PathBuf], at: &Path) -> Result<PathBuf, Trouble> {
        let upper = make_dir(&at.join("u"))?;
        let root = self.root;
        let identity = config::identity_of(&root.recipe, &root.plan, root.epoch);
        let call = apply::Call::Identity { identity, epoch: root.epoch };
        let overlay =
            Overlay { lower: lower.to_vec(), upper: upper.clone(), work: fresh_work(at)? };
        let remarks = || Action::call(Call::Archive(archive::Call::Remarks));
        let job = Job {
            root: Some(overlay),
            actions: vec![Action::call(Call::Apply(call)), remarks()],
            ..Job::bare(remarks())
        };
        let what = "write the identity of the image";
        let ended = self.session()?.run(job, self.job.cancel, &mut |_| {})?;
        for reply in job::replies(ended, what)? {
            if let Reply::Archive(archive::Reply::Remarks(remarks)) = reply {
                remarks.into_iter().try_for_each(|remark| self.remark(remark))?;
            }
        }
        Ok(upper)
    }

    /// Passes on what there is to say of the finished image; an image that cannot work ends the
    /// build.
    fn remark(&self, remark: archive::Remark) -> Result<(), Trouble> {
        let archive::Remark { message, hint, broken } = remark;
        if broken {
            return Err(Trouble::Broken { why: message, hint });
        }
        (self.job.sink)(Event::Warning { message, hint: Some(hint) });
        Ok(())
    }
}
