//! What tests of other platforms share: the smallest programs of two processors, and what this host
//! can run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bake::sandbox::Emulation;

/// Bytes of the headers in front of the code.
const HEADERS: usize = 120;
/// Where programs are in memory.
const ADDRESS: u64 = 0x40_0000;

/// Whether programs for `arch` run here; notes a skip if not.
pub(crate) fn runs(arch: &str) -> bool {
    match bake::sandbox::emulation(arch) {
        Emulation::No { why, hint } => {
            !crate::tier::skip(&format!("programs for {arch} cannot run here: {why} ({hint})"))
        }
        _ => true,
    }
}

/// Puts a static program of `arch` at `at` that writes `text` and a line feed to the file `/made`
/// and to its output.
pub(crate) fn program(at: &Path, arch: &str, text: &str) {
    let text = format!("{text}\n");
    let bytes = match arch {
        "arm64" => elf(183, &arm64(&text)),
        "amd64" => elf(62, &amd64(&text)),
        other => panic!("no program for {other}"),
    };
    fs::create_dir_all(at.parent().expect("in a directory")).expect("our own directory");
    fs::write(at, bytes).expect("our own file");
    fs::set_permissions(at, fs::Permissions::from_mode(0o755)).expect("our own file");
}

/// The open(2) call's arguments: write, create, cut; 0644; and what is behind the code.
const FLAGS: u32 = 0o1101;
const MODE: u32 = 0o644;
const FILE: &[u8] = b"/made\0";

fn arm64(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("short");
    let movz = |register: u32, value: u32| 0xd280_0000 | (value << 5) | register;
    const CALL: u32 = 0xd400_0001;
    // Instructions, then the name of the file, then the text.
    let count = 18;
    let code = |place: u32| {
        // adr: the distance from the instruction itself, in two parts.
        let adr = move |at: u32, register: u32, offset: u32| {
            let far = (count - at) * 4 + offset;
            0x1000_0000 | ((far & 3) << 29) | ((far >> 2) << 5) | register
        };
        let name = u32::try_from(FILE.len()).expect("short");
        [
            0x9280_0c60, // movn x0, #99: AT_FDCWD
            adr(1, 1, 0),
            movz(2, FLAGS),
            movz(3, MODE),
            movz(8, 56),
            CALL,
            adr(6, 1, name),
            movz(2, length),
            movz(8, 64),
            CALL,
            movz(0, 1),
            adr(11, 1, name),
            movz(2, length),
            movz(8, 64),
            CALL,
            movz(0, 0),
            movz(8, 93),
            CALL,
        ][place as usize]
    };
    let mut out: Vec<u8> = (0..count).flat_map(|place| code(place).to_le_bytes()).collect();
    out.extend(FILE);
    out.extend(text.as_bytes());
    out
}

fn amd64(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("short");
    const CALL: &[u8] = &[0x0f, 0x05];
    let mut out: Vec<u8> = vec![];
    // Places of distances to the end of the code, and what is added.
    let mut far = vec![];
    let number = |out: &mut Vec<u8>, code: &[u8], value: u32| {
        out.extend(code);
        out.extend(value.to_le_bytes());
    };
    let address = |out: &mut Vec<u8>, far: &mut Vec<(usize, usize)>, offset: usize| {
        out.extend([0x48, 0x8d, 0x35]); // lea rsi, [rip + …]
        far.push((out.len(), offset));
        out.extend([0; 4]);
    };
    number(&mut out, &[0xb8], 257); // openat
    number(&mut out, &[0xbf], 0xffff_ff9c); // AT_FDCWD
    address(&mut out, &mut far, 0);
    number(&mut out, &[0xba], FLAGS);
    number(&mut out, &[0x41, 0xba], MODE);
    out.extend(CALL);
    out.extend([0x89, 0xc7]); // mov edi, eax
    for to_output in [false, true] {
        if to_output {
            number(&mut out, &[0xbf], 1);
        }
        number(&mut out, &[0xb8], 1); // write
        address(&mut out, &mut far, FILE.len());
        number(&mut out, &[0xba], length);
        out.extend(CALL);
    }
    number(&mut out, &[0xbf], 0);
    number(&mut out, &[0xb8], 60); // exit
    out.extend(CALL);
    let end = out.len();
    for (at, offset) in far {
        let distance = u32::try_from(end - (at + 4) + offset).expect("short");
        out[at..at + 4].copy_from_slice(&distance.to_le_bytes());
    }
    out.extend(FILE);
    out.extend(text.as_bytes());
    out
}

/// A program of 64 bits of one segment.
fn elf(machine: u16, code: &[u8]) -> Vec<u8> {
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let size = (HEADERS + code.len()) as u64;
    out.extend(2u16.to_le_bytes());
    out.extend(machine.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend((ADDRESS + HEADERS as u64).to_le_bytes());
    out.extend(64u64.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out.extend(0u32.to_le_bytes());
    for value in [64u16, 56, 1, 64, 0, 0] {
        out.extend(value.to_le_bytes());
    }
    // The segment: to be loaded, readable and executable.
    out.extend(1u32.to_le_bytes());
    out.extend(5u32.to_le_bytes());
    for value in [0, ADDRESS, ADDRESS, size, size, 0x1_0000] {
        out.extend(u64::to_le_bytes(value));
    }
    assert_eq!(out.len(), HEADERS);
    out.extend(code);
    out
}
