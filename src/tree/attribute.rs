//! Extended attributes for people, and in the one form that a layer keeps them in.

use crate::layer::{ACL, CAPABILITY, DEFAULT_ACL};

/// Names of capabilities by number (linux/capability.h, Linux 6.18).
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

fn number(value: &[u8], at: usize) -> Option<u32> {
    value.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Returns an attribute's value for people: capabilities as `cap_net_raw=ep`, printable text in
/// quotes, else `0x…`.
pub fn describe(name: &[u8], value: &[u8]) -> String {
    if name == CAPABILITY
        && let Some(text) = capabilities(value)
    {
        return text;
    }
    match std::str::from_utf8(value) {
        Ok(text)
            if !text.is_empty()
                && text.len() <= 200
                && text.chars().all(|c| c.is_ascii_graphic() || c == ' ') =>
        {
            format!("{text:?}")
        }
        _ => format!("0x{}", value.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

/// As getcap(8): the sets in one clause, which is how setcap writes nearly all files.
fn capabilities(value: &[u8]) -> Option<String> {
    let magic = number(value, 0)?;
    let set =
        |at: usize| Some(u64::from(number(value, at)?) | (u64::from(number(value, at + 8)?) << 32));
    let (permitted, inheritable) = (set(4)?, set(8)?);
    let mut groups: Vec<(String, Vec<String>)> = vec![];
    for bit in 0..64 {
        let has = |set: u64| set >> bit & 1 == 1;
        let mut flags = String::new();
        flags.push_str(if has(permitted | inheritable) && magic & 1 == 1 { "e" } else { "" });
        flags.push_str(if has(inheritable) { "i" } else { "" });
        flags.push_str(if has(permitted) { "p" } else { "" });
        if !has(permitted | inheritable) {
            continue;
        }
        let name =
            CAPABILITIES.get(bit).map_or_else(|| format!("{bit}"), |name| format!("cap_{name}"));
        match groups.iter_mut().find(|(known, _)| *known == flags) {
            Some((_, names)) => names.push(name),
            None => groups.push((flags, vec![name])),
        }
    }
    if groups.is_empty() {
        return Some("=".to_owned());
    }
    Some(
        groups
            .iter()
            .map(|(flags, names)| format!("{}={flags}", names.join(",")))
            .collect::<Vec<_>>()
            .join(" "),
    )
}

/// Brings an attribute of a living root whose ids are `shift` higher than the image's into the form
/// a layer keeps.
pub fn shrink(name: &[u8], value: Vec<u8>, shift: u32) -> Vec<u8> {
    // linux/capability.h: revision 3 is revision 2 with the root id of its user namespace behind
    // it.
    if name == CAPABILITY
        && value.len() == 24
        && number(&value, 0).map(|magic| magic >> 24) == Some(3)
        && number(&value, 20) == Some(shift)
    {
        let mut plain = value[..20].to_vec();
        plain[3] = 2;
        return plain;
    }
    let mut value = value;
    if name == ACL || name == DEFAULT_ACL {
        // linux/posix_acl_xattr.h: tags 2 and 8, named users and groups, have an id of their own.
        for entry in value.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
            if matches!(entry[0], 2 | 8) && entry[1] == 0 {
                let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]])
                    .wrapping_sub(shift);
                entry[4..].copy_from_slice(&id.to_le_bytes());
            }
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `security.capability` value with these bits permitted.
    fn capability(revision: u8, effective: bool, permitted: u64) -> Vec<u8> {
        let mut value = vec![u8::from(effective), 0, 0, revision];
        value.extend((permitted as u32).to_le_bytes());
        value.extend([0; 4]);
        value.extend(((permitted >> 32) as u32).to_le_bytes());
        value.extend([0; 4]);
        value
    }

    #[test]
    fn values_for_people() {
        let shown = |name: &str, value: &[u8]| describe(name.as_bytes(), value);
        assert_eq!(shown("security.capability", &capability(2, true, 1 << 13)), "cap_net_raw=ep");
        assert_eq!(
            shown("security.capability", &capability(2, false, 1 << 12 | 1 << 40)),
            "cap_net_admin,cap_checkpoint_restore=p"
        );
        assert_eq!(shown("security.capability", &capability(2, true, 0)), "=");
        assert_eq!(shown("security.capability", b"\x01"), "0x01");
        assert_eq!(shown("user.a", b"a b"), "\"a b\"");
        assert_eq!(shown("user.a", b"\x1b[2J"), "0x1b5b324a");
        assert_eq!(shown("user.a", b""), "0x");
    }

    #[test]
    fn ids_are_moved() {
        let mut foreign = capability(3, true, 1);
        foreign.extend(100_000u32.to_le_bytes());
        assert_eq!(shrink(CAPABILITY, foreign.clone(), 100_000), capability(2, true, 1));
        assert_eq!(shrink(CAPABILITY, foreign.clone(), 0), foreign);
        let acl = |id: u32| {
            let mut value = vec![2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0];
            value.extend(id.to_le_bytes());
            value
        };
        assert_eq!(shrink(ACL, acl(100_033), 100_000), acl(33));
        assert_eq!(shrink(b"user.a", acl(7), 7), acl(7));
    }
}
