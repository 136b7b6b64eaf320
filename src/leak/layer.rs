//! The tar of a layer, searched.

use std::io::{self, Read};

use super::needle::Needles;
use super::search::{Found, Leak, contents, leaks};
use crate::layer::{Error, Kind, Limits, TarReader};

/// Most places that are reported.
const MOST: usize = 10;

/// Searches the tar of a layer: names, link targets, attributes, and contents. Reads it to its end,
/// and reports the first places.
///
/// # Errors
/// Where it cannot be read.
pub fn layer(tar: impl Read, needles: &Needles) -> Result<Vec<Leak>, Error> {
    let mut out = vec![];
    let limits = Limits { entries: u64::MAX, bytes: u64::MAX };
    let mut reader = TarReader::new(tar, &limits);
    let mut buffer = vec![0; 256 << 10];
    while let Some(entry) = reader.next()? {
        let mut found = Found::new();
        let mut search = |bytes: &[u8]| {
            found.extend(needles.find(bytes).map(|(secret, form)| (secret, (form, false))));
        };
        search(&entry.path);
        if let Kind::Link(to) | Kind::Symlink(to) = &entry.kind {
            search(to);
        }
        for (name, value) in &entry.meta.xattrs {
            search(name);
            search(value);
        }
        if entry.size > 0 {
            let more = contents(&mut reader, needles, &mut buffer);
            found.extend(more.map_err(|source| Error::Read { source })?);
        }
        if !found.is_empty() && out.len() < MOST {
            out.extend(leaks(needles, &shown(&entry.path, needles), &found));
        }
    }
    Ok(out)
}

/// Returns a path as it is reported: without its name, where that is the secret.
fn shown(path: &[u8], needles: &Needles) -> String {
    let text = String::from_utf8_lossy(path);
    let hides = |part: &str| needles.find(part.as_bytes()).next().is_some();
    match hides(&text) {
        false => format!("/{text}"),
        true => {
            let clean = text.split('/').take_while(|part| !hides(part)).collect::<Vec<_>>();
            // It may stand across a slash.
            let clean = clean.iter().map(|part| format!("/{part}")).collect::<String>();
            if hides(&clean) { "/***".to_owned() } else { format!("{clean}/***") }
        }
    }
}

/// Reads what is left of a tar after an error, so that its writer can go on.
pub(super) fn drain(mut tar: impl Read) {
    // The error before is the one that counts.
    let _ = io::copy(&mut tar, &mut io::sink());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Builder, Metadata};
    use crate::secret::{Secrets, Value};

    #[test]
    fn every_place_of_a_tar_is_searched() {
        let token = b"canary-0123456789".to_vec();
        let secrets: Secrets = [("token".to_owned(), Value::new(token.clone()).expect("a value"))]
            .into_iter()
            .collect();
        let needles = Needles::new(&secrets).expect("needles");
        let meta = || Metadata { mode: 0o644, ..Metadata::default() };
        let mut dressed = meta();
        dressed.xattrs.insert(b"user.x".to_vec(), token.clone());
        let mut tar = Builder::new(vec![], 0);
        tar.dir(b"a-canary-0123456789", &meta()).expect("memory");
        tar.file(b"b", &meta(), 3, &mut &b"abc"[..]).expect("memory");
        tar.file(b"c", &dressed, 1, &mut &b"x"[..]).expect("memory");
        tar.file(b"d", &meta(), token.len() as u64, &mut &token[..]).expect("memory");
        tar.symlink(b"e", &meta(), b"/x/canary-0123456789").expect("memory");
        let (tar, _) = tar.finish().expect("memory");
        let found = layer(&*tar, &needles).expect("a tar");
        let places: Vec<&str> = found.iter().map(|one| one.place.as_str()).collect();
        assert_eq!(places, ["/***", "/c", "/d", "/e"]);
        assert!(found.iter().all(|one| one.secret == "token" && one.form == "as it is"));
    }
}
