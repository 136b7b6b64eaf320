//! The kernel inside of what a boot loader starts: some hypervisors (Firecracker) start a plain ELF
//! file only.
//!
//! Source: "The Linux/x86 Boot Protocol" (kernel Documentation/arch/x86/boot.rst), protocol 2.08.

use std::io::{self, Read};

/// More than any kernel has.
const MOST: u64 = 1 << 30;

/// Takes the kernel, an ELF file, out of a bzImage; none where it is no bzImage, or compressed in a
/// way that is not read here (gzip, LZ4, xz and zstd are).
#[must_use]
pub fn vmlinux(image: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?));
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = match image.get(0x1f1)? {
        // For reasons of age.
        0 => 4,
        sectors => usize::from(*sectors),
    };
    let start = (sectors + 1) * 512 + word(0x248)? as usize;
    let payload = image.get(start..start.checked_add(word(0x24c)? as usize)?)?;
    let kernel = decompressed(payload).ok().flatten()?;
    kernel.starts_with(b"\x7fELF").then_some(kernel)
}

/// Behind the compressed bytes stands their size, which is left alone.
fn decompressed(payload: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut out = vec![];
    let mut reader: Box<dyn Read + '_> = match payload {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::GzDecoder::new(payload)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(liblzma::read::XzDecoder::new(payload)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::new(payload)?.single_frame()),
        [0x02, 0x21, 0x4c, 0x18, blocks @ ..] => return lz4(blocks).map(Some),
        _ => return Ok(None),
    };
    reader.by_ref().take(MOST).read_to_end(&mut out)?;
    Ok(Some(out))
}

/// Decompresses the blocks of the legacy frame of LZ4 (lz4_Frame_format.md, "Legacy frame"), which
/// the kernel uses: each with its size in front, and of at most 8 MiB when it is decompressed.
fn lz4(mut blocks: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = vec![];
    let mut plain = vec![0; 8 << 20];
    // What is shorter than a size and a block is the size of the kernel.
    while let Some((size, rest)) = blocks.split_first_chunk().filter(|(_, rest)| !rest.is_empty()) {
        let size = u32::from_le_bytes(*size) as usize;
        let (block, rest) = rest.split_at_checked(size).ok_or(io::ErrorKind::UnexpectedEof)?;
        let bytes =
            lz4_flex::block::decompress_into(block, &mut plain).map_err(io::Error::other)?;
        out.extend(&plain[..bytes]);
        blocks = rest;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a bzImage around a payload, as the boot protocol describes it.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 4 * 512];
        image[0x1f1] = 3;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        let with_size = payload.len() as u32 + 4;
        image[0x24c..0x250].copy_from_slice(&with_size.to_le_bytes());
        image.extend([0xcc; 16]);
        image.extend(payload);
        image.extend(9_u32.to_le_bytes());
        image.extend(b"what comes behind");
        image
    }

    #[test]
    fn a_kernel_comes_out_as_it_went_in() {
        let kernel = [&b"\x7fELF"[..], &[7; 5000]].concat();
        let mut gzip = vec![];
        let level = flate2::Compression::fast();
        flate2::read::GzEncoder::new(&kernel[..], level).read_to_end(&mut gzip).expect("memory");
        let mut xz = vec![];
        liblzma::read::XzEncoder::new(&kernel[..], 1).read_to_end(&mut xz).expect("memory");
        let zstd = zstd::encode_all(&kernel[..], 1).expect("memory");
        let mut lz4 = b"\x02\x21\x4c\x18".to_vec();
        for half in kernel.chunks(3000) {
            let block = lz4_flex::block::compress(half);
            lz4.extend((block.len() as u32).to_le_bytes());
            lz4.extend(block);
        }
        for packed in [gzip, xz, zstd, lz4] {
            assert_eq!(vmlinux(&image(&packed)).as_ref(), Some(&kernel));
        }
    }

    #[test]
    fn what_is_no_kernel_gives_none() {
        let lies = zstd::encode_all(&b"not an ELF file"[..], 1).expect("memory");
        let good = image(&zstd::encode_all(&b"\x7fELF"[..], 1).expect("memory"));
        let mut far = good.clone();
        far[0x248..0x24c].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut long = good.clone();
        long[0x24c..0x250].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(vmlinux(&good), Some(b"\x7fELF".to_vec()));
        let cut = good[..good.len() - 30].to_vec();
        let lz4 = image(b"\x02\x21\x4c\x18\xff\xff\xff\x7f.");
        for bad in [vec![], vec![0; 4096], image(b"lzo?"), image(&lies), far, long, cut, lz4] {
            assert_eq!(vmlinux(&bad), None);
        }
    }
}
