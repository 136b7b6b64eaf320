//! Layer blobs: the same bytes whatever the threads, digests of both sides, and reading what others
//! wrote.

use std::io::Read;
use std::process::Command;

use bake::digest::Digest;
use bake::layer::{Compression, Ratio, compress, decompress, decompress_foreign};
use proptest::prelude::*;

/// Bytes that look like files: runs, text, noise; always the same.
fn sample(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(size + 4096);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 3 {
            0 => bytes.extend_from_slice(&state.to_le_bytes()),
            1 => bytes.extend_from_slice(
                format!("/usr/share/doc/package-{}/copyright\n", state % 1000).as_bytes(),
            ),
            _ => bytes.extend(std::iter::repeat_n(b' ', (state % 200) as usize)),
        }
    }
    bytes.truncate(size);
    bytes
}

fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    decompress(Box::new(bytes)).expect("known").read_to_end(&mut out).expect("whole");
    out
}

#[test]
fn bytes_do_not_depend_on_threads() {
    for how in [Compression::Gzip, Compression::Zstd, Compression::None] {
        for size in [0, 1, 4 << 20, (4 << 20) + 1, 19_000_000] {
            let tar = sample(size);
            let mut expected = None;
            for threads in [0, 1, 2, 3, 8, 64] {
                let mut out = vec![];
                let blob =
                    compress(&mut &tar[..], &mut out, how, threads).expect("memory to memory");
                assert_eq!((blob.diff_id, blob.tar_size), (Digest::of(&tar), tar.len() as u64));
                assert_eq!((blob.digest, blob.size), (Digest::of(&out), out.len() as u64));
                let first = expected.get_or_insert_with(|| {
                    assert_eq!(inflate(&out), tar, "{how:?} {size}");
                    blob.clone()
                });
                assert_eq!(*first, blob, "{how:?} {size} {threads}");
            }
        }
    }
}

/// A reader that brings its bytes in odd pieces: where they are cut must not show.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.1 = self.1 * 7 % 10_007 + 1;
        let n = self.1.min(buf.len()).min(self.0.len());
        buf[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

#[test]
fn bytes_do_not_depend_on_how_they_arrive() {
    let tar = sample(9_000_000);
    for how in [Compression::Gzip, Compression::Zstd] {
        let whole = compress(&mut &tar[..], &mut vec![], how, 2).expect("memory to memory");
        let pieces =
            compress(&mut Dribble(&tar, 1), &mut vec![], how, 2).expect("memory to memory");
        assert_eq!(whole, pieces, "{how:?}");
    }
}

/// The codecs decide digests of images: a change of their bytes is a change of every image, and
/// must be meant.
#[test]
fn golden_digests_of_the_codecs() {
    let tar = sample(10_000_000);
    assert_eq!(
        Digest::of(&tar).hex(),
        "6bbebee866c024fb679c6960859606ffdf07cfb38aec95f0f400578251d0b789"
    );
    let blob =
        |how| compress(&mut &tar[..], &mut vec![], how, 2).expect("memory to memory").digest.hex();
    assert_eq!(
        blob(Compression::Gzip),
        "c2a875770ba1f96940c435a20b6ae473b1cf4848f428217d50df0d8ffe4501e7"
    );
    assert_eq!(
        blob(Compression::Zstd),
        "57b19dcfab2f4c16a811b08a18a38ee76c5a60950c3aa2d4735a5e6ca84adee5"
    );
}

#[test]
fn other_programs_read_them() {
    let tar = sample(3_000_000);
    let dir = tempfile::tempdir().expect("a directory");
    for (how, program) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")] {
        let path = dir.path().join("blob");
        let mut out = vec![];
        compress(&mut &tar[..], &mut out, how, 2).expect("memory to memory");
        std::fs::write(&path, &out).expect("write");
        match Command::new(program)
            .arg("-dc")
            .stdin(std::fs::File::open(&path).expect("open"))
            .output()
        {
            Ok(output) => assert!(output.status.success() && output.stdout == tar, "{program}"),
            Err(e) => assert!(crate::tier::skip(&format!("{program} cannot be run: {e}"))),
        }
    }
}

#[test]
fn what_others_wrote_is_read() {
    let text = sample(300_000);
    let mut gz = vec![];
    for part in text.chunks(70_000) {
        let mut member = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
        std::io::Write::write_all(&mut member, part).expect("memory");
        gz.extend(member.finish().expect("memory"));
    }
    assert_eq!(inflate(&gz), text);
    let mut frames = vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    for part in text.chunks(70_000) {
        frames.extend(zstd::encode_all(part, 19).expect("memory"));
    }
    assert_eq!(inflate(&frames), text);
    let mut xz = vec![];
    for part in text.chunks(200_000) {
        let mut stream = liblzma::write::XzEncoder::new(vec![], 6);
        std::io::Write::write_all(&mut stream, part).expect("memory");
        xz.extend(stream.finish().expect("memory"));
    }
    assert_eq!(inflate(&xz), text);
    let mut bz2 = vec![];
    for part in text.chunks(200_000) {
        let mut stream = bzip2::write::BzEncoder::new(vec![], bzip2::Compression::fast());
        std::io::Write::write_all(&mut stream, part).expect("memory");
        bz2.extend(stream.finish().expect("memory"));
    }
    assert_eq!(inflate(&bz2), text);
    let mut out = vec![];
    decompress(Box::new(Dribble(&gz, 1))).expect("known").read_to_end(&mut out).expect("whole");
    assert_eq!(out, text);
    for plain in [&b""[..], b"x", b"\x1f", &text] {
        assert_eq!(inflate(plain), plain);
    }
}

#[test]
fn unknown_kinds_are_named() {
    for (bytes, name) in
        [(&b"LZIP\x01"[..], "lzip"), (b"\x04\x22\x4d\x18", "lz4"), (b"PK\x03\x04", "zip")]
    {
        let Err(error) = decompress(Box::new(bytes)) else { panic!("{name} is not supported") };
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn damage_is_an_error() {
    let text = sample(400_000);
    for how in [Compression::Gzip, Compression::Zstd] {
        let mut blob = vec![];
        compress(&mut &text[..], &mut blob, how, 1).expect("memory to memory");
        let read = |bytes: &[u8]| {
            let mut out = vec![];
            decompress(Box::new(bytes))
                .and_then(|mut r| {
                    r.read_to_end(&mut out).map_err(|source| bake::layer::Error::Read { source })
                })
                .map(|_| out)
        };
        for cut in [7, 20, 1000, blob.len() / 2, blob.len() - 1] {
            assert!(read(&blob[..cut]).is_err(), "{how:?} cut at {cut}");
        }
        for at in [10, blob.len() / 2, blob.len() - 2] {
            let mut damaged = blob.clone();
            damaged[at] ^= 0x10;
            assert!(read(&damaged).map_or(true, |out| out == text), "{how:?} damaged at {at}");
        }
        blob.extend_from_slice(b"more");
        assert!(read(&blob).is_err(), "{how:?} with more behind");
    }
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0; 8 << 20];
    for how in [Compression::Gzip, Compression::Zstd] {
        let mut blob = vec![];
        compress(&mut &zeros[..], &mut blob, how, 2).expect("memory to memory");
        let read = |ratio| {
            let mut from = decompress_foreign(Box::new(&blob[..]), ratio).expect("known");
            std::io::copy(&mut from, &mut std::io::sink())
        };
        assert_eq!(read(Ratio::default()).expect("small"), zeros.len() as u64);
        let error = read(Ratio { free: 1 << 20, times: 200 }).expect_err("swells");
        assert!(error.to_string().contains("bomb"), "{error}");
    }
}

/// A reader and a writer that fail in the middle.
struct Broken(usize);

impl Read for Broken {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.0 == 0 {
            return Err(std::io::Error::other("broken"));
        }
        let n = buf.len().min(self.0);
        self.0 -= n;
        Ok(n)
    }
}

impl std::io::Write for Broken {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.read(&mut vec![0; buf.len()])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn failures_end_the_work_and_say_which_side() {
    let tar = sample(6_000_000);
    for how in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let error =
            compress(&mut Broken(3_000_000), &mut vec![], how, 2).expect_err("broken source");
        assert_eq!(error.to_string(), "cannot read the layer");
        let error = compress(&mut &tar[..], &mut Broken(10_000), how, 2).expect_err("broken place");
        assert_eq!(error.to_string(), "cannot write the layer");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_in_comes_out(bytes in prop::collection::vec(any::<u8>(), 0..5000), times in 1usize..400) {
        let tar = bytes.repeat(times);
        for how in [Compression::Gzip, Compression::Zstd] {
            let mut blob = vec![];
            compress(&mut &tar[..], &mut blob, how, 2).expect("memory to memory");
            prop_assert_eq!(&inflate(&blob), &tar);
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000), magic in 0usize..4) {
        let start: &[u8] = [&b""[..], b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0"][magic];
        let all = [start, &bytes].concat();
        if let Ok(mut from) = decompress(Box::new(&all[..])) {
            let _ = std::io::copy(&mut from, &mut std::io::sink());
        }
    }
}
