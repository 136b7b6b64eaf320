//! Layers merged in memory and layers unpacked one after the other: two ways to one tree, or to one
//! refusal.

use bake::layer::{Builder, Error, Form, Limits, Merged, NodeKind, TarReader, unpack};
use proptest::prelude::*;

use crate::layer_lab::{Raw, any_entry, fair_entry, listing, tar};

/// Merges, and lists the outcome as the other way lists its own.
fn merged(layers: &[Vec<u8>]) -> Result<Vec<String>, Error> {
    let mut tree = Merged::new();
    let mut contents: Vec<Vec<u8>> = vec![];
    for layer in layers {
        tree.apply(&mut TarReader::new(&layer[..], &Limits::default()), &mut |_, data| {
            let mut bytes = vec![];
            data.read_to_end(&mut bytes).expect("from memory");
            contents.push(bytes);
            Ok(contents.len() as u64 - 1)
        })?;
    }
    let mut flat = Builder::keeping_times(vec![]);
    for (path, node) in tree.iter() {
        let meta = tree.meta(node);
        match &node.kind {
            NodeKind::Dir => flat.dir(path, meta),
            NodeKind::File { size, contents: at } => flat.file(
                path,
                meta,
                *size,
                &mut &contents[usize::try_from(*at).expect("small")][..],
            ),
            NodeKind::Symlink(target) => flat.symlink(path, meta, target),
            NodeKind::Fifo => flat.fifo(path, meta),
        }
        .expect("sorted and clean");
    }
    let (bytes, _) = flat.finish().expect("memory");
    let dir = tempfile::tempdir().expect("a directory");
    // Directories that no tar mentioned are root's.
    let rules = bake::layer::Options {
        owners: bake::layer::Ownership::Dropped,
        ..bake::layer::Options::layer(Form::Tree)
    };
    bake::layer::unpack_with(&mut &bytes[..], dir.path(), &rules).expect("our own tar");
    let lines = listing(dir.path());
    bake::files::remove_tree(dir.path()).expect("remove");
    Ok(lines)
}

fn unpacked(layers: &[Vec<u8>]) -> Result<Vec<String>, Error> {
    let dir = tempfile::tempdir().expect("a directory");
    let rules = bake::layer::Options {
        owners: bake::layer::Ownership::Dropped,
        ..bake::layer::Options::layer(Form::Tree)
    };
    let outcome = layers.iter().try_for_each(|layer| {
        bake::layer::unpack_with(&mut &layer[..], dir.path(), &rules).map(|_| ())
    });
    let lines = outcome.map(|()| listing(dir.path()));
    bake::files::remove_tree(dir.path()).expect("remove");
    lines
}

#[test]
fn nodes_know_what_they_are() {
    let mut tree = Merged::new();
    let layer = tar(&[
        Raw::dir("d"),
        Raw::file("d/f", b"abc").mode(0o4755),
        Raw::link(b'1', "g", "d/f"),
        Raw::dir(".").mode(0o700),
    ]);
    tree.apply(&mut TarReader::new(&layer[..], &Limits::default()), &mut |entry, _| {
        Ok(entry.size * 10)
    })
    .expect("a layer");
    let node = |path: &str| tree.get(path.as_bytes()).expect(path);
    assert_eq!(node("d/f").kind, NodeKind::File { size: 3, contents: 30 });
    assert_eq!(node("g"), node("d/f"));
    assert_eq!(tree.meta(node("g")).mode, 0o4755);
    assert_eq!(tree.top().map(|top| top.mode), Some(0o700));
    assert!(tree.get(b"x").is_none());
    let _ = unpack(
        &mut &layer[..],
        tempfile::tempdir().expect("a directory").path(),
        Form::Tree,
        &Limits::default(),
    );
}

fn agree(layers: &[Vec<Raw>]) -> Result<(), TestCaseError> {
    // Modes without a say for the owner could not be listed by everyone.
    let layers: Vec<_> = layers
        .iter()
        .map(|entries| tar(&entries.iter().map(|raw| raw.clone().mode(0o755)).collect::<Vec<_>>()))
        .collect();
    match (merged(&layers), unpacked(&layers)) {
        (Ok(one), Ok(two)) => prop_assert_eq!(one, two),
        (Err(one), Err(two)) => prop_assert_eq!(one.to_string(), two.to_string()),
        (one, two) => prop_assert!(false, "{:?} but {:?}", one, two),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_ways_to_one_refusal(layers in prop::collection::vec(prop::collection::vec(any_entry(), 0..6), 1..4)) {
        agree(&layers)?;
    }

    #[test]
    fn two_ways_to_one_tree(layers in prop::collection::vec(prop::collection::vec(fair_entry(), 0..5), 1..5)) {
        agree(&layers)?;
    }
}
