//! The account files of the root that this process sees.

use std::io::{self, Read};
use std::path::Path;

use crate::files::open_regular;
use crate::rootfs::accounts::{Accounts, GROUP, Ids, Login, MAX_FILE, PASSWD};

/// Looks up `user` (see [`Accounts`]) in the root that this process sees.
pub(super) fn look_up(user: &str) -> Result<Login, String> {
    if Accounts::is_root(user) {
        // Its groups do not change what it may do.
        return Ok(Login { ids: Ids { uid: 0, gid: 0 }, groups: vec![] });
    }
    let accounts = Accounts::new(&read(PASSWD)?, &read(GROUP)?);
    accounts.login(user).map_err(|error| error.to_string())
}

/// Returns the home directory of user `uid`.
pub(super) fn home(uid: u32) -> String {
    Accounts::new(&read(PASSWD).unwrap_or_default(), &[]).home(uid)
}

/// Reads an account file of a hostile image: a fifo or device there must not stop us.
fn read(path: &str) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = vec![];
        open_regular(Path::new(path))?.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(format!("{path} of the image cannot be read: {error}")),
    }
}
