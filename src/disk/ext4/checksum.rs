//! CRC-32C (Castagnoli) as ext4 uses it: without the inversions before and after.

/// The polynomial, its lowest bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut value, mut bit) = (at as u32, 0);
        while bit < 8 {
            value = (value >> 1) ^ (POLYNOMIAL * (value & 1));
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
}

/// What a checksum begins with, unless it goes on from another.
pub(super) const START: u32 = !0;

/// Returns the checksum of `bytes` after those that gave `before`.
pub(super) fn crc32c(before: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(before, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, B.4, where the result is inverted.
    #[test]
    fn known_checksums() {
        for (bytes, sum) in
            [(&[0; 32][..], 0x8a91_36aa), (&[0xff; 32], 0x62a8_ab43), (b"123456789", 0xe306_9283)]
        {
            assert_eq!(!crc32c(START, bytes), sum, "{bytes:?}");
            let (one, two) = bytes.split_at(bytes.len() / 2);
            assert_eq!(!crc32c(crc32c(START, one), two), sum, "{bytes:?}");
        }
    }
}
