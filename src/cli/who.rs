//! Who runs this: the login name, whoever became root by sudo, and the machine. For the histories
//! of the store.

use std::fs;

use crate::store::Who;

/// Returns who runs this process.
pub(super) fn who() -> Who {
    let uid = rustix::process::getuid();
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    // People of a directory service are not in the file.
    let user = login_name(&passwd, uid.as_raw())
        .or_else(|| variable("USER"))
        .unwrap_or_else(|| uid.as_raw().to_string());
    let sudo = variable("SUDO_USER").filter(|person| uid.is_root() && *person != user);
    Who { user, sudo, host: rustix::system::uname().nodename().to_string_lossy().into_owned() }
}

fn login_name(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let mut rows = passwd.lines().map(|line| line.split(':'));
    let mut row = rows.find(|row| row.clone().nth(2) == Some(&uid))?;
    row.next().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_accounts() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# \
            comment\n:x:7:7::/:\nann:x:1000:1000::/home/ann:/bin/sh\n";
        for (uid, name) in [(0, Some("root")), (1000, Some("ann")), (7, None), (100, None)] {
            assert_eq!(login_name(passwd, uid).as_deref(), name, "{uid}");
        }
    }
}
