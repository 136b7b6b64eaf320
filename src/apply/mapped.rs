//! Which ids the user namespace of this process has (user_namespaces(7), "User and group ID
//! mappings").

use std::fs;

use crate::rootfs::accounts::Ids;

/// Whether a file can have this owner. Where that cannot be read, setting it will show.
pub(super) fn is_mapped(ids: Ids) -> bool {
    let has = |path, id| fs::read_to_string(path).map_or(true, |map| holds(&map, id));
    has("/proc/self/uid_map", ids.uid) && has("/proc/self/gid_map", ids.gid)
}

fn holds(map: &str, id: u32) -> bool {
    map.lines().any(|row| {
        let mut numbers = row.split_ascii_whitespace().map(|n| n.parse::<u64>().unwrap_or(0));
        let (first, _, count) =
            (numbers.next().unwrap_or(0), numbers.next(), numbers.next().unwrap_or(0));
        (first..first + count).contains(&id.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_looked_up_in_every_row() {
        let map = "         0 1879048192      65536\n     70000 2147553648         10\n";
        for (id, expected) in
            [(0, true), (65_535, true), (65_536, false), (70_009, true), (70_010, false)]
        {
            assert_eq!(holds(map, id), expected, "{id}");
        }
        assert!(!holds("", 0));
    }
}
