//! A registry of our own on loopback, which keeps to the distribution specification until it is
//! asked to lie, to break off or to have no time.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bake::digest::Digest;
use bake::image::{
    Config, Descriptor, ImageConfig, Index, MEDIA_INDEX, MEDIA_LAYER, Manifest, Platform,
    RemoteName,
};
use bake::registry::{Limits, Options, Repository};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// A pause before each so many bytes of the body.
    pub(crate) drip: Option<(usize, Duration)>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: vec![], body: vec![], drip: None }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.retain(|(key, _)| *key != name);
        self.headers.push((name, value.to_string()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// What a registry has.
#[derive(Default)]
pub(crate) struct Content {
    /// By repository and digest.
    pub(crate) blobs: BTreeMap<(String, String), Vec<u8>>,
    /// By repository and tag or digest: media type and bytes.
    pub(crate) manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    uploads: BTreeMap<String, Vec<u8>>,
}

type Before = Box<dyn FnMut(&Seen) -> Option<Reply> + Send>;
type After = Box<dyn FnMut(&Seen, Reply) -> Reply + Send>;

/// How it behaves.
#[derive(Default)]
pub(crate) struct Manners {
    /// Answers in place of the registry.
    pub(crate) before: Option<Before>,
    /// Changes what the registry answers.
    pub(crate) after: Option<After>,
    /// A connection is cut after so many bytes in.
    pub(crate) cut_in: Option<usize>,
    /// A connection is cut after so many bytes out.
    pub(crate) cut_out: Option<usize>,
    /// `PATCH` is not known.
    pub(crate) no_patch: bool,
    /// There is no list of referrers.
    pub(crate) no_referrers: bool,
    /// Blobs are taken and not kept.
    pub(crate) forgets_blobs: bool,
    /// Manifests are taken and not kept.
    pub(crate) forgets_manifests: bool,
    /// What was sent of a chunk is lost when its connection is.
    pub(crate) whole_chunks: bool,
}

#[derive(Default)]
struct State {
    content: Mutex<Content>,
    manners: Mutex<Manners>,
    seen: Mutex<Vec<Seen>>,
    over: AtomicBool,
    next: AtomicUsize,
}

/// A registry that runs until it is dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Fake {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), state) = (stream, Arc::clone(&shared)) else { continue };
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { address, state }
    }

    /// One that behaves.
    pub(crate) fn with(manners: Manners) -> Self {
        let fake = Self::start();
        *fake.manners() = manners;
        fake
    }

    pub(crate) fn content(&self) -> MutexGuard<'_, Content> {
        self.state.content.lock().expect("not poisoned")
    }

    pub(crate) fn manners(&self) -> MutexGuard<'_, Manners> {
        self.state.manners.lock().expect("not poisoned")
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("not poisoned").clone()
    }

    pub(crate) fn forget_seen(&self) {
        self.state.seen.lock().expect("not poisoned").clear();
    }

    /// How often it was asked so.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        let fits = |one: &&Seen| one.method == method && one.target.contains(part);
        self.seen().iter().filter(fits).count()
    }

    pub(crate) fn name(&self, image: &str) -> RemoteName {
        format!("{}/{image}", self.address).parse().expect("a name")
    }

    pub(crate) fn repository(&self, image: &str) -> Repository {
        Repository::new(&self.name(image), &quick())
    }

    pub(crate) fn blob(&self, repository: &str, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        let key = (repository.to_owned(), digest.to_string());
        self.content().blobs.insert(key, bytes.to_vec());
        Descriptor::new(MEDIA_LAYER, digest, bytes.len() as u64)
    }

    pub(crate) fn manifest(
        &self,
        repository: &str,
        tag: &str,
        media: &str,
        bytes: &[u8],
    ) -> Digest {
        let digest = Digest::of(bytes);
        let mut content = self.content();
        for reference in [tag.to_owned(), digest.to_string()] {
            let key = (repository.to_owned(), reference);
            content.manifests.insert(key, (media.to_owned(), bytes.to_vec()));
        }
        digest
    }

    /// The index that a tag names; others may write it at any time.
    pub(crate) fn list(&self, repository: &str, tag: &str) -> List {
        let key = (repository.to_owned(), tag.to_owned());
        List { state: Arc::clone(&self.state), key }
    }

    /// Tags and what they name.
    pub(crate) fn tags(&self, repository: &str) -> BTreeMap<String, Digest> {
        let content = self.content();
        let own = content
            .manifests
            .iter()
            .filter(|((name, reference), _)| name == repository && !reference.contains(':'));
        own.map(|((_, tag), (_, bytes))| (tag.clone(), Digest::of(bytes))).collect()
    }
}

/// An index that a tag names, as somebody else writes it.
pub(crate) struct List {
    state: Arc<State>,
    key: (String, String),
}

impl List {
    pub(crate) fn set(&self, manifests: &[Descriptor]) {
        let index = Index { manifests: manifests.to_vec(), ..Index::default() };
        let mut content = self.state.content.lock().expect("not poisoned");
        content.manifests.insert(self.key.clone(), (MEDIA_INDEX.to_owned(), index.to_json()));
    }

    pub(crate) fn get(&self) -> Vec<Digest> {
        let content = self.state.content.lock().expect("not poisoned");
        let (_, bytes) = content.manifests.get(&self.key).expect("somebody wrote it");
        let index = Index::parse(bytes).expect("an index");
        index.manifests.iter().map(|one| one.digest).collect()
    }
}

/// Options that have no patience.
pub(crate) fn quick() -> Options {
    let limits = Limits {
        stall: Duration::from_millis(400),
        pause: Duration::from_millis(5),
        tries: 4,
        ..Limits::default()
    };
    Options { limits, ..Options::default() }
}

/// Bytes that do not repeat.
pub(crate) fn bytes(n: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..n).map(|_| next()).collect()
}

/// The bytes of a manifest over `layers`, with a config of `what`.
pub(crate) fn manifest(fake: &Fake, repository: &str, layers: &[Descriptor]) -> Vec<u8> {
    let mut config = ImageConfig::new(0, &Platform::linux("amd64"));
    config.config = Config::default();
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.digest).collect();
    let mut descriptor = fake.blob(repository, &config.to_json());
    descriptor.media_type = bake::image::MEDIA_CONFIG.to_owned();
    Manifest::new(descriptor, layers.to_vec()).to_json()
}

/// Counts what comes in, and hangs up where that is too much.
struct Metered<'a> {
    stream: &'a TcpStream,
    left: Option<usize>,
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = self.left.unwrap_or(buffer.len()).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let n = self.stream.read(&mut buffer[..most])?;
        self.left = self.left.map(|left| left - n);
        Ok(n)
    }
}

fn serve(stream: &TcpStream, state: &State) {
    let _ = stream.set_nodelay(true);
    let (cut_in, mut cut_out) = {
        let manners = state.manners.lock().expect("not poisoned");
        (manners.cut_in, manners.cut_out)
    };
    let mut reader = BufReader::new(Metered { stream, left: cut_in });
    while let Some(seen) = read(&mut reader, state) {
        if state.over.load(Ordering::SeqCst) {
            break;
        }
        if seen.method == "CONNECT" {
            // As a proxy it is whatever host is asked for.
            let mut out = stream;
            let _ = out.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            continue;
        }
        state.seen.lock().expect("not poisoned").push(seen.clone());
        let reply = answer(&seen, state);
        if !write(stream, &seen, &reply, &mut cut_out) {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// Reads a request. A body that breaks off is kept where the registry keeps parts of chunks.
fn read(reader: &mut impl BufRead, state: &State) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length: usize = headers.get("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    let mut body = vec![];
    let whole = reader.take(length as u64).read_to_end(&mut body).is_ok() && body.len() == length;
    let seen = Seen { method, target, headers, body };
    if !whole {
        let keeps = !state.manners.lock().expect("not poisoned").whole_chunks;
        if seen.method == "PATCH" && keeps {
            answer(&seen, state);
        }
        return None;
    }
    Some(seen)
}

/// Writes an answer. False where the connection is to be closed.
fn write(mut stream: &TcpStream, seen: &Seen, reply: &Reply, cut_out: &mut Option<usize>) -> bool {
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    let named = reply.headers.iter().any(|(name, _)| *name == "content-length");
    if !named {
        head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut all = head.into_bytes();
    if seen.method != "HEAD" && reply.drip.is_none() {
        all.extend(&reply.body);
    }
    let most = cut_out.unwrap_or(all.len()).min(all.len());
    if stream.write_all(&all[..most]).is_err() || most < all.len() {
        return false;
    }
    *cut_out = cut_out.map(|left| left - most);
    if let Some((bytes, pause)) = reply.drip {
        for part in reply.body.chunks(bytes) {
            std::thread::sleep(pause);
            if stream.write_all(part).is_err() {
                return false;
            }
        }
    }
    true
}

fn answer(seen: &Seen, state: &State) -> Reply {
    let before = state.manners.lock().expect("not poisoned").before.as_mut().and_then(|f| f(seen));
    if let Some(reply) = before {
        return reply;
    }
    let reply = registry(seen, state);
    match state.manners.lock().expect("not poisoned").after.as_mut() {
        Some(after) => after(seen, reply),
        None => reply,
    }
}

fn registry(seen: &Seen, state: &State) -> Reply {
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let query: BTreeMap<&str, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key, value.replace("%3A", ":").replace("%2F", "/")))
        .collect();
    let Some(path) = path.strip_prefix("/v2/") else { return Reply::new(404) };
    if path.is_empty() {
        return Reply::new(200);
    }
    let words: Vec<&str> = path.split('/').collect();
    let at = |word: &str| words.iter().rposition(|one| *one == word).filter(|at| *at > 0);
    if let Some(at) = at("uploads").filter(|at| words[at - 1] == "blobs") {
        return upload(seen, state, &words[..at - 1].join("/"), words.get(at + 1), &query);
    }
    if let Some(at) = at("blobs") {
        return blob(seen, state, (words[..at].join("/"), words[at + 1..].join("/")));
    }
    if let Some(at) = at("manifests") {
        return document(seen, state, (words[..at].join("/"), words[at + 1..].join("/")));
    }
    match at("referrers") {
        Some(at) => referrers(state, &words[..at].join("/"), words[at + 1]),
        None => Reply::new(404),
    }
}

fn blob(seen: &Seen, state: &State, key: (String, String)) -> Reply {
    let content = state.content.lock().expect("not poisoned");
    let Some(bytes) = content.blobs.get(&key) else { return Reply::new(404) };
    let start = seen
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse::<usize>().ok());
    match start {
        Some(start) if start < bytes.len() => Reply::new(206)
            .with("content-range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()))
            .body(&bytes[start..]),
        Some(_) => Reply::new(416),
        None if seen.method == "HEAD" => Reply::new(200).with("content-length", bytes.len()),
        None => Reply::new(200).body(bytes.as_slice()),
    }
}

fn document(seen: &Seen, state: &State, key: (String, String)) -> Reply {
    let mut content = state.content.lock().expect("not poisoned");
    if seen.method == "PUT" {
        let digest = Digest::of(&seen.body).to_string();
        if key.1.contains(':') && key.1 != digest {
            return Reply::new(400);
        }
        let media = seen.header("content-type").unwrap_or_default().to_owned();
        let manners = state.manners.lock().expect("not poisoned");
        if !manners.forgets_manifests {
            let value = (media, seen.body.clone());
            content.manifests.insert((key.0.clone(), digest.clone()), value.clone());
            content.manifests.insert(key, value);
        }
        let mut reply = Reply::new(201).with("docker-content-digest", digest);
        let subject = serde_json::from_slice::<serde_json::Value>(&seen.body).expect("JSON");
        if let Some(subject) = subject["subject"]["digest"].as_str()
            && !manners.no_referrers
        {
            reply = reply.with("oci-subject", subject);
        }
        return reply;
    }
    let Some((media, bytes)) = content.manifests.get(&key) else { return Reply::new(404) };
    let reply = Reply::new(200)
        .with("content-type", media)
        .with("docker-content-digest", Digest::of(bytes));
    match seen.method.as_str() {
        "HEAD" => reply.with("content-length", bytes.len()),
        _ => reply.body(bytes.as_slice()),
    }
}

fn referrers(state: &State, repository: &str, subject: &str) -> Reply {
    if state.manners.lock().expect("not poisoned").no_referrers {
        return Reply::new(404);
    }
    let content = state.content.lock().expect("not poisoned");
    let own = content
        .manifests
        .iter()
        .filter(|((name, reference), _)| name == repository && reference.contains(':'));
    let found: Vec<serde_json::Value> = own
        .filter_map(|((_, digest), (media, bytes))| {
            let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
            (value["subject"]["digest"] == subject).then(|| {
                serde_json::json!({ "mediaType": media, "digest": digest, "size": bytes.len(),
                    "artifactType": value["artifactType"] })
            })
        })
        .collect();
    let index = serde_json::json!({ "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": found });
    Reply::new(200)
        .with("content-type", "application/vnd.oci.image.index.v1+json")
        .body(index.to_string())
}

fn upload(
    seen: &Seen,
    state: &State,
    repository: &str,
    id: Option<&&str>,
    query: &BTreeMap<&str, String>,
) -> Reply {
    let mut content = state.content.lock().expect("not poisoned");
    let manners = state.manners.lock().expect("not poisoned");
    let id = id.filter(|id| !id.is_empty()).map(|id| (*id).to_owned());
    let Some(id) = id else {
        if let (Some(mount), Some(from)) = (query.get("mount"), query.get("from"))
            && let Some(bytes) = content.blobs.get(&(from.clone(), mount.clone())).cloned()
        {
            content.blobs.insert((repository.to_owned(), mount.clone()), bytes);
            return Reply::new(201);
        }
        let id = format!("u{}", state.next.fetch_add(1, Ordering::SeqCst));
        content.uploads.insert(id.clone(), vec![]);
        return Reply::new(202).with("location", format!("/v2/{repository}/blobs/uploads/{id}"));
    };
    let Some(so_far) = content.uploads.get_mut(&id) else { return Reply::new(404) };
    let location = format!("/v2/{repository}/blobs/uploads/{id}?_state={}", so_far.len());
    let range = |length: usize| format!("0-{}", length.saturating_sub(1));
    match seen.method.as_str() {
        "GET" => Reply::new(204).with("location", location).with("range", range(so_far.len())),
        "PATCH" if manners.no_patch => Reply::new(405),
        "PATCH" => {
            let start = seen.header("content-range").and_then(|text| text.split('-').next());
            if start.is_some_and(|start| start != so_far.len().to_string()) {
                return Reply::new(416)
                    .with("location", location)
                    .with("range", range(so_far.len()));
            }
            so_far.extend(&seen.body);
            Reply::new(202).with("location", location).with("range", range(so_far.len()))
        }
        "PUT" => {
            let mut bytes = so_far.clone();
            bytes.extend(&seen.body);
            let digest = Digest::of(&bytes).to_string();
            if query.get("digest") != Some(&digest) {
                return Reply::new(400);
            }
            content.uploads.remove(&id);
            if !manners.forgets_blobs {
                content.blobs.insert((repository.to_owned(), digest), bytes);
            }
            Reply::new(201)
        }
        _ => Reply::new(405),
    }
}
