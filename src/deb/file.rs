//! A Debian package file (deb(5)): an `ar` archive of `debian-binary`, `control.tar.*`,
//! `data.tar.*`, read front to back.

use std::collections::BTreeMap;
use std::io::{self, Read};

/// Memory a decoder may use; Debian's packages need at most 65 MiB.
const DECODER: u64 = 512 << 20;
/// Bytes of all control members together; the largest in Debian has about 2 MiB.
const CONTROL: u64 = 64 << 20;

/// A file of the control archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Seconds since 1970.
    pub mtime: i64,
}

/// The control archive.
#[derive(Debug, Clone, Default)]
pub struct Control {
    /// Name → file; `control` is always there.
    pub members: BTreeMap<String, Member>,
}

impl Control {
    /// The control stanza, with one line end at its end.
    pub fn stanza(&self) -> String {
        let text = self
            .members
            .get("control")
            .map(|m| String::from_utf8_lossy(&m.bytes).into_owned())
            .unwrap_or_default();
        format!("{}\n", text.trim())
    }

    /// A member's text.
    pub fn text(&self, name: &str) -> String {
        self.members
            .get(name)
            .map(|m| String::from_utf8_lossy(&m.bytes).into_owned())
            .unwrap_or_default()
    }
}

/// Decompresses xz within bounds.
pub fn xz<R: Read>(from: R) -> io::Result<liblzma::read::XzDecoder<R>> {
    let stream =
        liblzma::stream::Stream::new_stream_decoder(DECODER, liblzma::stream::CONCATENATED)?;
    Ok(liblzma::read::XzDecoder::new_stream(from, stream))
}

/// Reads a package: its control archive, then hands the open data archive to `data`. Whatever
/// `data` leaves unread is skipped.
pub fn read<R: Read, T>(
    from: R,
    data: impl FnOnce(&Control, &mut tar::Archive<&mut dyn Read>) -> io::Result<T>,
) -> io::Result<T> {
    let mut from = from;
    let mut magic = [0; 8];
    from.read_exact(&mut magic).map_err(|_| wrong("it is too short to be a Debian package"))?;
    if &magic != b"!<arch>\n" {
        return Err(wrong("it is not a Debian package"));
    }
    let mut format_seen = false;
    let mut control = None;
    let mut data = Some(data);
    loop {
        let Some((name, size)) = header(&mut from)? else {
            return Err(wrong("it has no data.tar"));
        };
        let mut member = from.by_ref().take(size);
        match name.as_str() {
            "debian-binary" if !format_seen => {
                let mut text = String::new();
                (&mut member).take(64).read_to_string(&mut text)?;
                if !text.starts_with("2.") {
                    return Err(wrong("its format is not 2.x"));
                }
                format_seen = true;
            }
            _ if !format_seen => return Err(wrong("debian-binary is not its first member")),
            // deb(5): members whose name starts with an underscore are to be skipped.
            skipped if skipped.starts_with('_') => {}
            packed if packed.starts_with("control.tar") && control.is_none() => {
                control = Some(read_control(&mut *decoder(packed, &mut member)?)?);
            }
            packed if packed.starts_with("data.tar") => {
                let control = control
                    .as_ref()
                    .ok_or_else(|| wrong("control.tar does not come before data.tar"))?;
                let mut plain = decoder(packed, &mut member)?;
                let take = data.take().expect("the loop ends here");
                let mut archive = tar::Archive::new(&mut *plain as &mut dyn Read);
                let done = take(control, &mut archive)?;
                return Ok(done);
            }
            other => return Err(wrong(&format!("unexpected member {other:?}"))),
        }
        io::copy(&mut member, &mut io::sink())?;
        if member.limit() > 0 {
            return Err(wrong("it is truncated"));
        }
        if size % 2 == 1 {
            let _ = from.read(&mut [0])?;
        }
    }
}

/// Reads only the control archive.
pub fn control<R: Read>(from: R) -> io::Result<Control> {
    read(from, |control, _| Ok(control.clone()))
}

fn header(from: &mut dyn Read) -> io::Result<Option<(String, u64)>> {
    let mut bytes = vec![];
    from.take(60).read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() < 60 || &bytes[58..] != b"`\n" {
        return Err(wrong("a member header is malformed"));
    }
    let text = |range: std::ops::Range<usize>| {
        std::str::from_utf8(&bytes[range]).map(|t| t.trim_end_matches(' ').to_owned())
    };
    let name = text(0..16).map_err(|_| wrong("a member name is malformed"))?;
    let size = text(48..58)
        .ok()
        .filter(|t| t.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|t| t.parse().ok());
    let size = size.ok_or_else(|| wrong("a member size is malformed"))?;
    Ok(Some((name.strip_suffix('/').unwrap_or(&name).to_owned(), size)))
}

fn decoder<'a>(name: &str, from: &'a mut dyn Read) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match name.rsplit_once(".tar").map(|(_, packing)| packing) {
        Some(".xz") => Box::new(xz(from)?),
        Some(".zst") => {
            let mut decoder = zstd::stream::read::Decoder::new(from)?;
            decoder.window_log_max(29)?;
            Box::new(decoder)
        }
        Some(".gz") => Box::new(flate2::read::MultiGzDecoder::new(from)),
        Some("") => Box::new(from),
        _ => return Err(wrong(&format!("cannot decompress {name:?}"))),
    })
}

fn read_control(from: &mut dyn Read) -> io::Result<Control> {
    let mut control = Control::default();
    let mut archive = tar::Archive::new(from.take(CONTROL));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_dir() {
            continue;
        }
        let path = entry.path_bytes().into_owned();
        let name =
            String::from_utf8(path).map_err(|_| wrong("a control file's name is not UTF-8"))?;
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        // These names become file names below /var/lib/dpkg/info.
        let plain = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+.".contains(&b))
            && !name.starts_with('.');
        if !plain || !entry.header().entry_type().is_file() {
            return Err(wrong(&format!(
                "control file {name:?} is not a plain file with a plain name"
            )));
        }
        let mode = entry.header().mode()? & 0o7777;
        let mtime = i64::try_from(entry.header().mtime()?).unwrap_or(0);
        let mut bytes = vec![];
        entry.read_to_end(&mut bytes)?;
        if control.members.insert(name.clone(), Member { bytes, mode, mtime }).is_some() {
            return Err(wrong(&format!("control file {name:?} is there twice")));
        }
    }
    if !control.members.contains_key("control") {
        return Err(wrong("it has no control file"));
    }
    Ok(control)
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One `ar` member.
    pub(crate) fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut out =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", bytes.len())
                .into_bytes();
        out.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            out.push(b'\n');
        }
        out
    }

    /// A tar of plain files.
    pub(crate) fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(vec![]);
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, text.as_bytes()).expect("memory");
        }
        builder.into_inner().expect("memory")
    }

    fn deb(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = b"!<arch>\n".to_vec();
        for (name, bytes) in parts {
            out.extend(member(name, bytes));
        }
        out
    }

    fn names(bytes: &[u8]) -> io::Result<(String, Vec<String>)> {
        read(bytes, |control, archive| {
            let mut names = vec![];
            for entry in archive.entries()? {
                names.push(String::from_utf8_lossy(&entry?.path_bytes()).into_owned());
            }
            Ok((control.stanza(), names))
        })
    }

    #[test]
    fn every_packing_is_read() {
        let control = tar_of(&[("./control", "Package: x\n\n"), ("./postinst", "#!/bin/sh\n")]);
        let data = tar_of(&[("./usr/bin/x", "x"), ("./etc/x", "")]);
        let xz = |bytes: &[u8]| {
            let mut out = vec![];
            liblzma::read::XzEncoder::new(bytes, 1).read_to_end(&mut out).expect("memory");
            out
        };
        let gz = |bytes: &[u8]| {
            let mut out = vec![];
            flate2::read::GzEncoder::new(bytes, flate2::Compression::fast())
                .read_to_end(&mut out)
                .expect("memory");
            out
        };
        let zst = |bytes: &[u8]| zstd::encode_all(bytes, 1).expect("memory");
        let want =
            ("Package: x\n".to_owned(), vec!["./usr/bin/x".to_owned(), "./etc/x".to_owned()]);
        for (ending, pack) in [
            (".xz", &xz as &dyn Fn(&[u8]) -> Vec<u8>),
            (".gz", &gz),
            (".zst", &zst),
            ("", &|b: &[u8]| b.to_vec()),
        ] {
            let parts = [
                ("debian-binary", b"2.0\n".to_vec()),
                ("_gpgorigin", b"odd".to_vec()),
                (&format!("control.tar{ending}"), pack(&control)),
                (&format!("data.tar{ending}/"), pack(&data)),
            ];
            let parts: Vec<(&str, &[u8])> = parts.iter().map(|(n, b)| (*n, &b[..])).collect();
            assert_eq!(names(&deb(&parts)).expect(ending), want);
        }
    }

    #[test]
    fn hostile_ones_are_refused() {
        let control = tar_of(&[("./control", "Package: x\n")]);
        let data = tar_of(&[("./x", "x")]);
        let good =
            deb(&[("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar", &data)]);
        let twice = tar_of(&[("./control", "a"), ("control", "b")]);
        let odd = tar_of(&[("./control", "a"), ("../../etc/passwd", "b")]);
        let none = tar_of(&[("./md5sums", "")]);
        let mut size = good.clone();
        size[8 + 48..8 + 58].copy_from_slice(b"9999999999");
        let mut minus = good.clone();
        minus[8 + 48..8 + 58].copy_from_slice(b"-4        ");
        for (what, bytes) in [
            ("empty", vec![]),
            ("not ar", b"PK\x03\x04 zip".to_vec()),
            ("no members", deb(&[])),
            ("only the first half", good[..good.len() / 2].to_vec()),
            ("cut in a header", good[..90].to_vec()),
            ("size too large", size),
            ("negative size", minus),
            (
                "data first",
                deb(&[("debian-binary", b"2.0\n"), ("data.tar", &data), ("control.tar", &control)]),
            ),
            ("no format", deb(&[("control.tar", &control), ("data.tar", &data)])),
            (
                "other format",
                deb(&[("debian-binary", b"3.0\n"), ("control.tar", &control), ("data.tar", &data)]),
            ),
            (
                "unknown packing",
                deb(&[
                    ("debian-binary", b"2.0\n"),
                    ("control.tar.lz4", &control),
                    ("data.tar", &data),
                ]),
            ),
            (
                "a member twice in control",
                deb(&[("debian-binary", b"2.0\n"), ("control.tar", &twice), ("data.tar", &data)]),
            ),
            (
                "a path in control",
                deb(&[("debian-binary", b"2.0\n"), ("control.tar", &odd), ("data.tar", &data)]),
            ),
            (
                "no control file",
                deb(&[("debian-binary", b"2.0\n"), ("control.tar", &none), ("data.tar", &data)]),
            ),
            (
                "not xz",
                deb(&[
                    ("debian-binary", b"2.0\n"),
                    ("control.tar.xz", &control),
                    ("data.tar", &data),
                ]),
            ),
        ] {
            assert!(names(&bytes).is_err(), "{what}");
        }
        assert!(names(&good).is_ok());
    }
}
