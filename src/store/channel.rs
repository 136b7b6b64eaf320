//! Channels: names such as `web@production` that point at one version after another, and remember
//! all of it.
//!
//! ```text
//! channels/NAME/CHANNEL   one JSON object a line, oldest first (record.rs); a `/` in NAME is written `+`, which no name has
//! ```
//! Where a channel points is what its history says: a promote puts a version on top of the earlier
//! ones, a step back takes the top away, an end leaves it pointing nowhere. So stepping back twice
//! goes two versions back, not forth again.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{Error, reading, writing};
use super::who::Who;
use super::{Store, Version, disk, record};
use crate::digest::Digest;
use crate::files::system;
use crate::image::Reference;

/// What happened to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelEvent {
    /// It points at a version that somebody chose.
    Promote,
    /// It points at an earlier version again.
    Back,
    /// It points nowhere.
    End,
}

/// One line of a channel's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// What.
    pub what: ChannelEvent,
    /// Where the channel points from then on; `None` after an end, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Target>,
    /// By whom.
    pub by: Who,
}

/// Where a channel points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The version.
    pub version: String,
    /// Its manifest: a version that was removed and baked anew is another one.
    pub digest: Digest,
}

/// A channel that points somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// `name@channel`.
    pub reference: Reference,
    /// Where it points.
    pub to: Target,
    /// Since when, RFC 3339 in UTC.
    pub since: String,
    /// Who has done that.
    pub by: Who,
    /// Where a step back would lead, nearest first; versions that are gone or revoked since are
    /// among them.
    pub earlier: Vec<Target>,
}

impl Channel {
    /// Whether it points at this version.
    pub fn points_at(&self, version: &Version) -> bool {
        self.to.is(version) && self.reference.name == version.reference.name
    }
}

impl Target {
    fn is(&self, version: &Version) -> bool {
        version.manifest.digest == self.digest
            && version.reference.version.as_deref() == Some(&self.version)
    }

    /// Finds it in the index.
    fn find(&self, name: &str, versions: &[Version]) -> Option<Version> {
        versions.iter().find(|version| version.reference.name == name && self.is(version)).cloned()
    }
}

/// How a promote ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promoted {
    /// `name@channel`.
    pub channel: Reference,
    /// Where it points now; `None` after an end.
    pub version: Option<Version>,
    /// Where it pointed before.
    pub was: Option<Target>,
    /// It pointed there already: nothing was written.
    pub already: bool,
    /// Versions that a step back passed over, with the reason.
    pub passed: Vec<(Target, &'static str)>,
}

/// What the store has of one channel.
#[derive(Debug)]
pub struct ChannelFile {
    /// Its name.
    pub reference: Reference,
    /// The file of its history.
    pub path: PathBuf,
    /// Where it points; `None`: it has ended.
    pub channel: Result<Option<Channel>, Error>,
}

impl Store {
    /// Makes the channel `channel` of an image point at a version of it (`name:version`,
    /// `name@channel`, `name@sha256:…`). Refused: a version that is revoked or untested, and a lone
    /// name.
    pub fn promote(
        &self,
        reference: &Reference,
        channel: &str,
        by: &Who,
    ) -> Result<Promoted, Error> {
        self.to_write()?;
        let channel = Reference::of_channel(&reference.name, channel)
            .map_err(|source| Error::BadChannel { source })?;
        if !reference.is_exact() {
            return Err(Error::NoVersion { reference: Box::new(reference.clone()) });
        }
        let _lock = self.lock_repaired()?;
        let version = self.resolve(reference)?;
        if version.is_untested() {
            return Err(Error::Untested { reference: Box::new(version.reference) });
        }
        self.check_not_revoked(&version)?;
        let was = self.channel(&channel)?.map(|found| found.to);
        let already = was.as_ref().is_some_and(|was| was.is(&version));
        if !already {
            self.turn(&channel, ChannelEvent::Promote, Some(target(&version)), by)?;
        }
        Ok(Promoted { channel, version: Some(version), was, already, passed: vec![] })
    }

    /// Makes a channel (`name@channel`) point at the version before, passing over those that are
    /// gone or revoked since. After an end that is the version it pointed at last.
    pub fn promote_back(&self, reference: &Reference, by: &Who) -> Result<Promoted, Error> {
        self.to_write()?;
        let _lock = self.lock_repaired()?;
        let (was, earlier) = replay(&self.history_of(reference)?);
        if was.is_none() && earlier.is_empty() {
            return Err(self.no_channel(reference)?);
        }
        let versions = self.index()?.1.versions();
        let mut passed = vec![];
        for target in earlier {
            match target.find(&reference.name, &versions) {
                None => passed.push((target, "it was removed")),
                Some(version) if self.revoked(&version.manifest.digest)?.is_some() => {
                    passed.push((target, "it is revoked"))
                }
                Some(version) => {
                    self.turn(reference, ChannelEvent::Back, Some(target), by)?;
                    return Ok(Promoted {
                        channel: reference.clone(),
                        version: Some(version),
                        was,
                        already: false,
                        passed,
                    });
                }
            }
        }
        let passed = passed
            .into_iter()
            .map(|(target, why)| format!("{}:{}: {why}", reference.name, target.version))
            .collect();
        Err(Error::NoEarlier { reference: Box::new(reference.clone()), passed })
    }

    /// Makes a channel (`name@channel`) point nowhere. Its history stays.
    pub fn end_channel(&self, reference: &Reference, by: &Who) -> Result<Promoted, Error> {
        self.to_write()?;
        let _lock = self.lock_repaired()?;
        let Some(found) = self.channel(reference)? else { return Err(self.no_channel(reference)?) };
        self.turn(reference, ChannelEvent::End, None, by)?;
        Ok(Promoted {
            channel: reference.clone(),
            version: None,
            was: Some(found.to),
            already: false,
            passed: vec![],
        })
    }

    /// Returns all channels that point somewhere, sorted.
    pub fn channels(&self) -> Result<Vec<Channel>, Error> {
        let mut channels = vec![];
        for reference in self.channel_names()? {
            channels.extend(self.channel(&reference)?);
        }
        Ok(channels)
    }

    /// Returns every channel by itself, sorted; one that cannot be read does not hide the others.
    pub fn each_channel(&self) -> Result<Vec<ChannelFile>, Error> {
        let kept = |reference: Reference| {
            let (path, channel) = (self.channel_path(&reference)?, self.channel(&reference));
            Ok(ChannelFile { reference, path, channel })
        };
        self.channel_names()?.into_iter().map(kept).collect()
    }

    /// Returns the histories of all channels, those that have ended too, each oldest first.
    pub fn channel_histories(&self) -> Result<Vec<(Reference, Vec<Promotion>)>, Error> {
        let names = self.channel_names()?;
        names
            .into_iter()
            .map(|reference| self.history_of(&reference).map(|history| (reference, history)))
            .collect()
    }

    /// Finds where a reference with a channel points, among `versions`, which are all there are.
    pub(super) fn find_channel(
        &self,
        reference: &Reference,
        versions: &[Version],
    ) -> Result<Version, Error> {
        let Some(channel) = self.channel(reference)? else {
            return Err(self.no_channel(reference)?);
        };
        match channel.to.find(&reference.name, versions) {
            Some(version) => Ok(version),
            None => Err(Error::ChannelGone {
                reference: Box::new(reference.clone()),
                version: channel.to.version,
            }),
        }
    }

    /// Returns one channel, where it points somewhere.
    fn channel(&self, reference: &Reference) -> Result<Option<Channel>, Error> {
        let history = self.history_of(reference)?;
        let (now, earlier) = replay(&history);
        let (Some(to), Some(last)) = (now, history.last()) else { return Ok(None) };
        Ok(Some(Channel {
            reference: reference.clone(),
            to,
            since: last.at.clone(),
            by: last.by.clone(),
            earlier,
        }))
    }

    /// The caller holds the lock.
    fn turn(
        &self,
        channel: &Reference,
        what: ChannelEvent,
        to: Option<Target>,
        by: &Who,
    ) -> Result<(), Error> {
        let path = self.channel_path(channel)?;
        let all = self.channels_dir();
        if disk::make_dir(&all, disk::PUBLIC_DIR).map_err(writing)? {
            disk::sync_dir(self.dir()).map_err(writing)?;
        }
        if let Some(dir) = path.parent()
            && disk::make_dir(dir, disk::PUBLIC_DIR).map_err(writing)?
        {
            disk::sync_dir(&all).map_err(writing)?;
        }
        record::append(&path, &Promotion { at: record::now(), what, to, by: by.clone() })
    }

    fn history_of(&self, reference: &Reference) -> Result<Vec<Promotion>, Error> {
        let path = self.channel_path(reference)?;
        let history: Vec<Promotion> = record::read(&path)?;
        match history
            .iter()
            .position(|entry| (entry.what == ChannelEvent::End) != entry.to.is_none())
        {
            None => Ok(history),
            Some(n) => Err(Error::Damaged {
                path,
                why: format!("entry {} does not say where the channel points", n + 1),
            }),
        }
    }

    fn channel_path(&self, reference: &Reference) -> Result<PathBuf, Error> {
        let Some(channel) = &reference.channel else {
            return Err(Error::NotAChannel { reference: Box::new(reference.clone()) });
        };
        // Checked again, as both become file names: a reference can be put together by hand.
        Reference::of_channel(&reference.name, channel)
            .map_err(|source| Error::BadChannel { source })?;
        Ok(self.channels_dir().join(reference.name.replace('/', "+")).join(channel))
    }

    fn channels_dir(&self) -> PathBuf {
        self.dir().join("channels")
    }

    /// Returns the names of all channels, sorted; files of other names are none of ours.
    fn channel_names(&self) -> Result<Vec<Reference>, Error> {
        let mut found = vec![];
        for image in names(&self.channels_dir())? {
            for channel in names(&self.channels_dir().join(&image))? {
                found.extend(Reference::of_channel(&image.replace('+', "/"), &channel));
            }
        }
        found.sort();
        Ok(found)
    }

    fn no_channel(&self, reference: &Reference) -> Result<Error, Error> {
        let mut near: Vec<Reference> =
            self.channels()?.into_iter().map(|found| found.reference).collect();
        near.retain(|found| found.name == reference.name || found.channel == reference.channel);
        near.sort_by_key(|found| {
            (
                found.name != reference.name,
                strsim::osa_distance(&found.to_string(), &reference.to_string()),
            )
        });
        let near = near.into_iter().take(5).map(|found| found.to_string()).collect();
        Ok(Error::NoChannel { reference: Box::new(reference.clone()), near })
    }
}

/// Returns the channels that point at `version`, as text.
pub(super) fn pointing_at(channels: &[Channel], version: &Version) -> Vec<String> {
    channels
        .iter()
        .filter(|channel| channel.points_at(version))
        .map(|channel| channel.reference.to_string())
        .collect()
}

fn target(version: &Version) -> Target {
    Target {
        version: version.reference.version.clone().unwrap_or_default(),
        digest: version.manifest.digest,
    }
}

/// Returns where a history leads, and the versions before, nearest first.
fn replay(history: &[Promotion]) -> (Option<Target>, Vec<Target>) {
    let mut stack: Vec<Target> = vec![];
    let mut ended = false;
    for entry in history {
        match (entry.what, &entry.to) {
            (ChannelEvent::Promote, Some(to)) => {
                stack.push(to.clone());
            }
            (ChannelEvent::Back, Some(to)) => {
                // After an end the top is where it leads back to; otherwise the top is what it
                // leads away from.
                if !ended {
                    stack.pop();
                }
                while stack.last().is_some_and(|top| top != to) {
                    stack.pop();
                }
                if stack.is_empty() {
                    stack.push(to.clone());
                }
            }
            _ => {}
        }
        ended = entry.what == ChannelEvent::End;
    }
    let now = if ended { None } else { stack.pop() };
    stack.reverse();
    (now, stack)
}

/// Returns the names in a directory that are text; none where the directory is not there.
fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(vec![]);
        }
        Err(e) => return Err(reading(system("list", dir, e))),
    };
    let mut names = vec![];
    for entry in entries {
        names.extend(entry.map_err(|e| reading(system("list", dir, e)))?.file_name().into_string());
    }
    Ok(names)
}
