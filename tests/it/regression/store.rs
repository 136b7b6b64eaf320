//! What was once reported wrong, as tests of what must hold: store.

use std::fs;
use std::path::Path;

use bake::layer::{Error, Form, Limits, Wrong, pack, unpack};

use crate::layer_lab::{Raw, tar};
use crate::tier;

/// A5: overlayfs obeys its own attributes on a lower directory. None of them comes from a tar.
#[test]
fn no_tar_has_an_attribute_of_the_overlay_file_system() {
    for name in ["opaque", "whiteout", "redirect", "metacopy", "origin", "overlay.opaque"] {
        let key = format!("SCHILY.xattr.user.overlay.{name}");
        let bytes = tar(&[Raw::pax(b'x', &[(&key, b"y")]), Raw::file("opt", b"").mode(0o6755)]);
        for form in [Form::Tree, Form::Overlay] {
            let dir = tempfile::tempdir().expect("a directory");
            let error = unpack(&mut &bytes[..], dir.path(), form, &Limits::default());
            let Err(Error::Entry { why: Wrong::Reserved(found), .. }) = error else {
                panic!("{key}: {error:?}")
            };
            assert!(found.contains(&format!("user.overlay.{name}")), "{found}");
        }
    }
}

/// A5: nor from a step, whose own `user.overlay.x` overlayfs keeps as `user.overlay.overlay.x`.
#[test]
fn no_step_gives_an_attribute_of_the_overlay_file_system_to_a_layer() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("d")).expect("mkdir");
    let set = |name: &str| xattr::set(dir.path().join("d"), name, b"y");
    if set("user.overlay.overlay.opaque").is_err() {
        tier::skip("the directory of temporary files has no attributes");
        return;
    }
    let packed = |dir: &Path| pack(dir, 0, &mut std::io::sink()).map(drop);
    let error = packed(dir.path()).expect_err("a step has set it").to_string();
    assert!(error.contains("user.overlay.opaque belongs to the overlay file system"), "{error}");
    // What overlayfs notes for itself is no attribute of the image.
    xattr::remove(dir.path().join("d"), "user.overlay.overlay.opaque").expect("xattr");
    set("user.overlay.origin").expect("xattr");
    packed(dir.path()).expect("overlayfs's own note");
}
