//! The identity of an image, inside it: `IMAGE_ID` and `IMAGE_VERSION` in os-release(5), and
//! `/usr/lib/bake/image.json`.

use std::path::Path;

use super::error::Error;
use super::root::Root;
use super::spot::Attr;
use crate::image::{IDENTITY_FILE, Identity};

/// Programs read the first that exists, `/etc` before `/usr/lib` (os-release(5)); often it is a
/// symlink to the second, but an image may have two files.
const OS_RELEASE: [&str; 2] = ["/usr/lib/os-release", "/etc/os-release"];
const MAX_OS_RELEASE: u64 = 1 << 20;

/// Writes the identity into `root`; an image without os-release gets none.
pub(super) fn write(root: &Root, identity: &Identity) -> Result<(), Error> {
    let attr = Attr { ids: root.own(), mode: 0o644 };
    let mut text = serde_json::to_string_pretty(identity)
        .map_err(|e| Error::Call(format!("identity: {e}")))?;
    text.push('\n');
    root.put_file(&root.make_spot(Path::new(IDENTITY_FILE))?, attr, &mut text.as_bytes())?;
    // Where the one is a symlink to the other, the second look finds nothing to do.
    for path in OS_RELEASE.map(Path::new) {
        let Some(bytes) = root.read(path, MAX_OS_RELEASE)? else { continue };
        let text = os_release(&String::from_utf8_lossy(&bytes), &identity.name, &identity.version);
        if text.as_bytes() != bytes {
            root.rewrite(path, text.as_bytes(), attr)?;
        }
    }
    Ok(())
}

/// Returns os-release with the two fields set: dropped where they are, added at the end.
fn os_release(text: &str, name: &str, version: &str) -> String {
    let mut out = String::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with("IMAGE_ID=") && !line.starts_with("IMAGE_VERSION="))
    {
        out += line;
        out.push('\n');
    }
    // os-release(5) allows lower-case letters, digits, `.`, `_` and `-` in IMAGE_ID; a name may
    // have a `/`.
    let id = name.replace('/', "-");
    out + &format!("IMAGE_ID={id}\nIMAGE_VERSION={version}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_gets_each_field_once() {
        let once = os_release("ID=debian\nVERSION_ID=\"12\"\n", "team/web", "2.0.0");
        assert_eq!(once, "ID=debian\nVERSION_ID=\"12\"\nIMAGE_ID=team-web\nIMAGE_VERSION=2.0.0\n");
        assert_eq!(os_release(&once, "team/web", "2.0.0"), once);
    }
}
