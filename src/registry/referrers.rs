//! What speaks about a manifest (distribution-spec, "Listing Referrers"): as the registry lists it,
//! or, where it lists nothing, as the index says to which a tag is given for that
//! (`sha256-<digest>`).

use std::collections::BTreeMap;

use ureq::http::Method;

use super::answer::Answer;
use super::auth::escape;
use super::backoff::wait;
use super::client::{Request, Trouble};
use super::error::Error;
use super::options::Options;
use super::repository::{MANIFEST, Repository, essence};
use super::transport::Payload;
use crate::digest::Digest;
use crate::image::{Descriptor, Index, Kind, MEDIA_INDEX};
use crate::web;

/// Pages of a registry's list that are read.
const PAGES: usize = 16;

impl Repository {
    /// Returns what speaks about `subject` and is of `artifact_type`, as it is listed: nothing of
    /// it has been looked at.
    ///
    /// # Errors
    /// Where the list is none, and whatever can go wrong on the way.
    pub fn referrers(
        &self,
        subject: &Digest,
        artifact_type: &str,
    ) -> Result<Vec<Descriptor>, Error> {
        let mut filtered = format!("referrers/{subject}?artifactType=");
        escape(artifact_type, &mut filtered);
        let mut found = match self.listed(subject, filtered)? {
            Some(found) => found,
            None => self.tagged(&tag_of(subject))?.manifests,
        };
        // Not every registry filters (and a tag does not).
        found.retain(|one| one.artifact_type.as_deref() == Some(artifact_type));
        Ok(found)
    }

    /// Reads the registry's own list; nothing where it has none.
    fn listed(&self, subject: &Digest, to: String) -> Result<Option<Vec<Descriptor>>, Error> {
        let (mut found, mut next) = (vec![], Some(to));
        for _ in 0..PAGES {
            let Some(to) = next.take() else { break };
            let Some((page, more)) = self.page(subject, &to)? else { return Ok(None) };
            found.extend(page.manifests);
            next = more;
        }
        Ok(Some(found))
    }

    fn page(&self, subject: &Digest, to: &str) -> Result<Option<(Index, Option<String>)>, Error> {
        let mut backoff = self.client.backoff();
        loop {
            let Some(answer) = self.list(subject, to)? else { return Ok(None) };
            let more = next_page(&answer);
            match self.body(answer, &self.listing(subject)) {
                Ok(bytes) => return Ok(Some((self.index(&subject.to_string(), &bytes)?, more))),
                Err(trouble) => self.client.again(&mut backoff, trouble)?,
            }
        }
    }

    /// Asks for a page of the registry's list; nothing where it keeps none.
    fn list(&self, subject: &Digest, to: &str) -> Result<Option<Answer>, Error> {
        let answer = self.client.send(&Request {
            method: Method::GET,
            to: to.into(),
            headers: vec![("accept", MEDIA_INDEX.to_owned())],
            payload: Payload::Nothing,
            scope: self.scope(),
            doing: self.listing(subject),
        });
        let answer = match answer {
            Err(Error::Status { status: 501, .. }) => return Ok(None),
            answer => answer?,
        };
        let media = answer.header("content-type").map(essence).unwrap_or_default();
        if answer.status == 200 && media == MEDIA_INDEX {
            return Ok(Some(answer));
        }
        answer.drain();
        Ok(None)
    }

    fn listing(&self, subject: &Digest) -> String {
        format!("list what speaks about {}", self.what(&subject.to_string()))
    }

    fn index(&self, wanted: &str, bytes: &[u8]) -> Result<Index, Error> {
        Index::parse(bytes).map_err(|error| Error::Lie {
            what: format!("the list of what speaks about {}", self.what(wanted)),
            why: error.source.to_string(),
        })
    }

    /// Reads the index that a tag names; an empty one where there is none.
    fn tagged(&self, tag: &str) -> Result<Index, Error> {
        match self.manifest(tag) {
            Ok(found) if found.kind == Kind::Index => self.index(tag, &found.bytes),
            Ok(_) => {
                let why = "a list of referrers is an index".to_owned();
                Err(Error::Lie { what: self.what(tag), why })
            }
            Err(Error::NotFound { .. }) => {
                Ok(Index { media_type: Some(MEDIA_INDEX.to_owned()), ..Index::default() })
            }
            Err(error) => Err(error),
        }
    }

    /// Sees to it that whoever asks what speaks about `subject` finds `referrers`. Whether anything
    /// had to be written for it.
    pub(super) fn list_referrers(
        &self,
        subject: &Digest,
        referrers: &[Descriptor],
    ) -> Result<bool, Error> {
        // A registry that keeps the list by itself needs no tag for it (distribution-spec,
        // "Pushing Manifests with Subject").
        if let Some(answer) = self.list(subject, &format!("referrers/{subject}"))? {
            answer.drain();
            return Ok(false);
        }
        self.add_to_tag(&tag_of(subject), referrers)
    }

    /// Adds to the index that a tag names. Two that do so at once may both have read what was there
    /// before, and the second to write does not know of the first: so it is read again after each
    /// write, at once and a moment later, and what is missing is added again. Nothing that was seen
    /// in it is lost.
    fn add_to_tag(&self, tag: &str, referrers: &[Descriptor]) -> Result<bool, Error> {
        let mut all: BTreeMap<Digest, Descriptor> =
            referrers.iter().map(|one| (one.digest, one.clone())).collect();
        let mut backoff = self.client.backoff();
        let (mut wrote, mut settled, mut waited) = (false, false, false);
        loop {
            let mut index = self.tagged(tag)?;
            let known: Vec<Digest> = index.manifests.iter().map(|one| one.digest).collect();
            index.manifests.iter().for_each(|one| {
                all.entry(one.digest).or_insert_with(|| one.clone());
            });
            let missing: Vec<_> =
                all.values().filter(|one| !known.contains(&one.digest)).cloned().collect();
            if missing.is_empty() {
                if !wrote || settled {
                    return Ok(wrote);
                }
                settled = true;
                let Options { limits, stop, .. } = self.client.options();
                if !wait(limits.pause, stop) {
                    return Err(Error::Cancelled);
                }
                continue;
            }
            if wrote && !waited {
                // Not at the same time as the other one again, and from what is there then.
                let why = "others keep writing it, and what was added to it is gone".to_owned();
                let error = Error::Lie { what: self.what(tag), why };
                self.client.again(&mut backoff, Trouble { error, passing: true, after: None })?;
                waited = true;
                continue;
            }
            index.manifests.extend(missing);
            self.send(tag, MEDIA_INDEX, &index.to_json())?;
            (wrote, settled, waited) = (true, false, false);
        }
    }

    /// Reads an answer to its end.
    fn body(&self, answer: Answer, doing: &str) -> Result<Vec<u8>, Trouble> {
        self.read_body(answer, doing, || Error::TooLarge {
            what: format!("the answer to \"{doing}\""),
            cap: MANIFEST,
        })
    }
}

/// Returns the tag of the index that lists what speaks about `subject` (distribution-spec,
/// "Referrers Tag Schema").
fn tag_of(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

/// Returns where the list goes on (RFC 8288).
fn next_page(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = rest.split(';').any(|one| matches!(one.trim(), "rel=next" | "rel=\"next\""));
    // What leads off the web ends the list.
    is_next.then(|| web::target(&answer.url, target).ok())?
}
