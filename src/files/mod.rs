//! Disk effects that are whole or absent: atomic writes, locks, folder syncs, paths held inside a root.
