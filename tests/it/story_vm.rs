//! `examples/story-vm`: machines that are booted, replaced and compared, from beginning to end.

use std::fs;
use std::path::Path;

use crate::lab::Lab;
use crate::story::{counted, fleet};
use crate::{base_lab, tier};

#[test]
fn net_the_story_on_machines_holds() {
    if !tier::sandbox() || !base_lab::net() {
        return;
    }
    let lab = Lab::new();
    let counted = counted(&lab, "story-vm", "15");
    let (one, two) = (counted.count("answered by 1.0.0"), counted.count("answered by 2.0.0"));
    assert!(one > 100 && two > 50, "{}", counted.text);
    assert!(counted.count("claims that hold") >= 25, "{}", counted.text);
    let machines = (fleet(&lab, "out/reports", "1.0.0"), fleet(&lab, "out/reports", "2.0.0"));
    assert_eq!(machines, ((50, 1), (20, 0)));
    for picture in ["out/fleet-all.svg", "out/fleet-half.svg"] {
        assert!(lab.path(picture).is_file(), "{picture}");
    }
}

#[test]
fn the_database_of_the_story_is_that_of_the_template() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["make-cluster", "postgresql.service"] {
        let read = |dir: &str| fs::read_to_string(root.join(dir).join(name)).expect("our own file");
        assert_eq!(read("examples/story-vm/db"), read("templates/vm-database"), "{name}");
    }
}
