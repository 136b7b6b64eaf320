//! What a registry answers (OCI distribution-spec 1.1).

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use super::request::Request;
use super::view::{Repository, Views};
use crate::digest::Digest;
use crate::files::open_regular;
use crate::image::{Descriptor, Index, MEDIA_INDEX, Reference};

/// Most names or tags of one answer.
const MOST: usize = 1000;

/// An answer to be sent.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
    /// Of the body that a HEAD leaves out.
    pub(super) size: Option<u64>,
}

/// What follows the head of an answer.
pub(super) enum Body {
    None,
    Bytes(Vec<u8>),
    /// The bytes of a file, from `from` to before `end`.
    File {
        file: File,
        from: u64,
        end: u64,
    },
}

/// An error as the specification has it ("Error Codes").
struct Refused {
    status: u16,
    code: &'static str,
    message: String,
}

impl Refused {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

/// Returns the answer to a request that could not be read.
pub(super) fn refused(status: u16) -> Answer {
    error(Refused::new(status, "UNSUPPORTED", "the request cannot be read"))
}

fn error(refused: Refused) -> Answer {
    let Refused { status, code, message } = refused;
    let body = json!({ "errors": [{ "code": code, "message": message }] });
    let mut answer = bytes("application/json", body.to_string().into_bytes());
    answer.status = status;
    if status == 405 {
        answer.headers.push(("Allow", "GET, HEAD".to_owned()));
    }
    answer
}

fn bytes(media_type: &str, bytes: Vec<u8>) -> Answer {
    let headers = vec![("Content-Type", media_type.to_owned())];
    Answer { status: 200, headers, body: Body::Bytes(bytes), size: None }
}

/// Answers a request.
pub(super) fn answer(views: &Views<'_>, request: &Request) -> Answer {
    let head = request.method == "HEAD";
    let answer = if head || request.method == "GET" {
        route(views, request)
    } else {
        Err(Refused::new(405, "UNSUPPORTED", "this registry is only read"))
    };
    let mut answer = answer.unwrap_or_else(error);
    if head {
        answer.size = Some(match &answer.body {
            Body::None => answer.size.unwrap_or(0),
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File { from, end, .. } => end - from,
        });
        answer.body = Body::None;
    }
    answer
}

fn route(views: &Views<'_>, request: &Request) -> Result<Answer, Refused> {
    let unknown = || Refused::new(404, "NOT_FOUND", "there is no such place");
    if let Some(name) = request.path.strip_prefix("/updates/") {
        return update(views.updates, name, request).ok_or_else(unknown);
    }
    let path = request.path.strip_prefix("/v2").ok_or_else(unknown)?;
    if matches!(path, "" | "/") {
        return Ok(bytes("application/json", b"{}".to_vec()));
    }
    let path = path.strip_prefix('/').ok_or_else(unknown)?;
    let view = views.now();
    if path == "_catalog" {
        let names = view.names.keys().map(String::as_str);
        let (page, next) = page(request, names);
        return Ok(listed(json!({ "repositories": page }), next, "/v2/_catalog", request));
    }
    // A name may hold slashes, so the kind is looked for from behind.
    let parts: Vec<&str> = path.split('/').collect();
    let [name @ .., kind, last] = &parts[..] else { return Err(unknown()) };
    let name = name.join("/");
    let repository = || {
        // A checked reference has a name as the specification wants them.
        if Reference::new(&name, "1").is_err() {
            let message = format!("{name} is no name of a repository");
            return Err(Refused::new(404, "NAME_INVALID", message));
        }
        let message = format!("no version of {name} is published");
        view.names.get(&name).ok_or_else(|| Refused::new(404, "NAME_UNKNOWN", message))
    };
    match (*kind, *last) {
        ("tags", "list") => {
            let (page, next) = page(request, repository()?.tags.keys().map(String::as_str));
            let list = json!({ "name": name, "tags": page });
            Ok(listed(list, next, &format!("/v2/{name}/tags/list"), request))
        }
        ("manifests", reference) => manifest(views, repository()?, reference, request),
        ("blobs", digest) => blob(views, repository()?, digest, request),
        ("referrers", digest) => referrers(repository()?, digest, request),
        _ => Err(unknown()),
    }
}

/// Reads a digest; `None`: one of another algorithm, of which nothing is held here.
fn digest(text: &str) -> Result<Option<Digest>, Refused> {
    if let Ok(digest) = text.parse() {
        return Ok(Some(digest));
    }
    // image-spec, "Digests": registered algorithms have forms of their own.
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let other = ["sha512:", "blake3:"].iter().zip([128, 64]);
    let mut other = other.filter_map(|(name, digits)| Some((text.strip_prefix(name)?, digits)));
    match other.next() {
        Some((rest, digits)) if hex(rest, digits) => Ok(None),
        _ => Err(Refused::new(400, "DIGEST_INVALID", format!("{text} is no digest"))),
    }
}

fn manifest(
    views: &Views<'_>,
    repository: &Repository,
    reference: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let unknown = || Refused::new(404, "MANIFEST_UNKNOWN", format!("there is no {reference}"));
    let found = match repository.tags.get(reference) {
        Some(found) => found,
        None if reference.contains(':') => {
            let digest = digest(reference)?.ok_or_else(unknown)?;
            repository.manifests.get(&digest).ok_or_else(unknown)?
        }
        None => return Err(unknown()),
    };
    let read = views.store.read_blob(&found.digest);
    let read = read.map_err(|error| Refused::new(500, "UNKNOWN", error.to_string()))?;
    let mut answer = bytes(&found.media_type, read);
    Ok(named(&mut answer, &found.digest, request).unwrap_or(answer))
}

/// Adds what names the content; where the client has it already, that is the answer.
fn named(answer: &mut Answer, digest: &Digest, request: &Request) -> Option<Answer> {
    let tag = format!("\"{digest}\"");
    let has = request.unless.as_ref().is_some_and(|tags| {
        tags.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag)
    });
    answer.headers.push(("Docker-Content-Digest", digest.to_string()));
    answer.headers.push(("ETag", tag));
    let headers = answer.headers.clone();
    has.then_some(Answer { status: 304, headers, body: Body::None, size: None })
}

fn blob(
    views: &Views<'_>,
    repository: &Repository,
    name: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let unknown = || Refused::new(404, "BLOB_UNKNOWN", format!("there is no {name}"));
    let digest = digest(name)?.ok_or_else(unknown)?;
    let size = *repository.blobs.get(&digest).ok_or_else(unknown)?;
    let descriptor = Descriptor::new("", digest, size);
    let file = views.store.blob_of(&descriptor).map_err(|_| unknown())?;
    let mut answer = of_bytes();
    if let Some(answer) = named(&mut answer, &digest, request) {
        return Ok(answer);
    }
    Ok(part(answer, file, size, &format!("\"{digest}\""), request))
}

/// Begins an answer that parts may be asked of.
fn of_bytes() -> Answer {
    let headers = vec![
        ("Content-Type", "application/octet-stream".to_owned()),
        ("Accept-Ranges", "bytes".to_owned()),
    ];
    Answer { status: 200, headers, body: Body::None, size: None }
}

/// Adds the bytes of a file, or the part of them that is asked for, to an answer.
fn part(mut answer: Answer, file: File, size: u64, tag: &str, request: &Request) -> Answer {
    let (from, end) = match request.part(size, tag) {
        Ok(None) => (0, size),
        Ok(Some((from, end))) => {
            answer.status = 206;
            answer.headers.push(("Content-Range", format!("bytes {from}-{}/{size}", end - 1)));
            (from, end)
        }
        Err(()) => {
            answer.status = 416;
            answer.headers.push(("Content-Range", format!("bytes */{size}")));
            return answer;
        }
    };
    answer.body = Body::File { file, from, end };
    answer
}

/// Answers with a file that lies in the directory of updates itself.
fn update(updates: Option<&Path>, name: &str, request: &Request) -> Option<Answer> {
    // What begins with a dot is made aside, or nobody's business.
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
    let path = updates.filter(|_| plain)?.join(name);
    let own = std::fs::symlink_metadata(&path).ok()?;
    let file = open_regular(&path).ok().filter(|_| own.is_file())?;
    let meta = file.metadata().ok()?;
    let tag = format!("\"{}-{}-{}\"", meta.ino(), meta.mtime(), meta.len());
    let mut answer = of_bytes();
    answer.headers.push(("ETag", tag.clone()));
    Some(part(answer, file, meta.len(), &tag, request))
}

fn referrers(repository: &Repository, subject: &str, request: &Request) -> Result<Answer, Refused> {
    let subject = digest(subject)?;
    let wanted = request.query("artifactType");
    let all = subject.and_then(|subject| repository.referrers.get(&subject)).into_iter().flatten();
    let fits = |one: &&Descriptor| wanted.is_none() || one.artifact_type == wanted;
    let index = Index { manifests: all.filter(fits).cloned().collect(), ..Index::default() };
    let mut answer = bytes(MEDIA_INDEX, index.to_json());
    if wanted.is_some() {
        answer.headers.push(("OCI-Filters-Applied", "artifactType".to_owned()));
    }
    Ok(answer)
}

/// Returns those names behind `last`, at most `n`, and whether there are more. Their order is
/// lexical, whatever the case (distribution-spec, "Listing Tags").
fn page<'a>(request: &Request, names: impl Iterator<Item = &'a str>) -> (Vec<&'a str>, bool) {
    let place = |name: &str| (name.to_ascii_lowercase(), name.to_owned());
    let last = request.query("last").map(|last| place(&last));
    let most = request.query("n").and_then(|n| n.parse().ok()).unwrap_or(MOST).min(MOST);
    let behind = |name: &&str| last.as_ref().is_none_or(|last| place(name) > *last);
    let mut page: Vec<&str> = names.filter(behind).collect();
    page.sort_by_cached_key(|name| place(name));
    let more = most > 0 && page.len() > most;
    page.truncate(most);
    (page, more)
}

fn listed(list: serde_json::Value, more: bool, at: &str, request: &Request) -> Answer {
    let last =
        ["tags", "repositories"].iter().find_map(|key| list[key].as_array()?.last()?.as_str());
    let next = last.filter(|_| more).map(|last| {
        let n = request.query("n").unwrap_or_else(|| MOST.to_string());
        format!("<{at}?n={n}&last={last}>; rel=\"next\"")
    });
    let mut answer = bytes("application/json", list.to_string().into_bytes());
    answer.headers.extend(next.map(|next| ("Link", next)));
    answer
}
