//! The calls that turn an upper directory into a layer and a layer into a lower directory, in the
//! real sandbox.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bake::job::Call;
use bake::job::{Action, Ended, Job};
use bake::layer::{Compression, compress};
use bake::sandbox::Failure;

use crate::sandbox_lab::{Lab, Ran, sh};

fn call(lab: &Lab, call: Call) -> Ran {
    lab.run(Job::bare(Action::call(call)))
}

/// `dir`, below the lab's scratch, as it is called inside.
fn inside(lab: &Lab, dir: &Path) -> String {
    Path::new("/scratch").join(dir.strip_prefix(lab.scratch()).unwrap()).display().to_string()
}

fn pack(lab: &Lab, dir: &Path) -> Vec<u8> {
    let path = lab.dir.path().join("packed.tar");
    let to = File::create(&path).unwrap().into();
    call(lab, Call::Pack { dir: inside(lab, dir).into(), epoch: 1000, below: None, to }).ok();
    std::fs::read(&path).unwrap()
}

fn unpack(lab: &Lab, blob: &[u8], how: Compression, into: &str) -> (Ran, std::path::PathBuf) {
    let path = lab.dir.path().join("blob");
    std::fs::write(&path, blob).unwrap();
    let into = lab.scratch().join(into);
    std::fs::create_dir(&into).unwrap();
    let blob = File::open(&path).unwrap().into();
    (call(lab, Call::Unpack { into: inside(lab, &into).into(), how, name: false, blob }), into)
}

/// Everything that an upper directory can say: owners, modes, attributes, links, whiteouts, opaque
/// directories.
const STEP: &str = "
    set -e
    mkdir /new && chown 1000:50 /new && chmod 2750 /new
    echo text > /new/file && chmod 4711 /new/file && touch -d @900 /new/file
    ln /new/file /new/second && ln -s ../nowhere /new/link && mkfifo /new/pipe
    rm /old/file && rm -r /older && mkdir /older && echo 1 > /older/one
";

#[test]
fn userns_a_layer_becomes_the_directory_that_it_was_made_of() {
    let Some(lab) = Lab::new() else { return };
    let below = lab.layer("below");
    for directory in ["old", "older"] {
        std::fs::create_dir(below.join(directory)).unwrap();
        std::fs::write(below.join(directory).join("file"), "old").unwrap();
    }
    let mut job = lab.job(vec![sh(STEP)]);
    job.root.as_mut().unwrap().lower.insert(0, below);
    let ran = lab.run(job).ok();
    let tar = pack(&lab, &ran.upper);
    assert!(tar.windows(4).any(|w| w == b".wh."), "the step hides something");
    for (n, how) in
        [Compression::Gzip, Compression::Zstd, Compression::None].into_iter().enumerate()
    {
        let mut blob = vec![];
        compress(&mut &tar[..], &mut blob, how, 2).unwrap();
        let (ran, into) = unpack(&lab, &blob, how, &format!("unpacked-{n}"));
        ran.ok();
        assert!(pack(&lab, &into) == tar, "{how:?}");
    }
}

#[test]
fn userns_a_layer_that_is_not_what_it_should_be_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let ran = lab.run(lab.job(vec![sh("echo text > /file")])).ok();
    let tar = pack(&lab, &ran.upper);
    let mut gz = vec![];
    compress(&mut &tar[..], &mut gz, Compression::Gzip, 1).unwrap();
    let mut text = vec![];
    "not a layer at all".as_bytes().read_to_end(&mut text).unwrap();
    for (n, (blob, how)) in [
        (&gz[..gz.len() / 2], Compression::Gzip),
        (&gz, Compression::Zstd),
        (&gz, Compression::None),
        (&text, Compression::None),
    ]
    .into_iter()
    .enumerate()
    {
        let (ran, _) = unpack(&lab, blob, how, &format!("broken-{n}"));
        assert!(matches!(ran.ended, Ended::Failed { how: Failure::Call(_), .. }), "{n}: {ran:#?}");
    }
}
