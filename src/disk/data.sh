#!/bin/busybox sh
# Makes the file system of a data disk that is blank, and leaves every other one as it is: data.sh DISK FS, in place of what systemd
# does for x-systemd.makefs. systemd-makefs(8) by itself takes for blank what libblkid knows no file system on: that may be a disk
# with a partition table, one whose superblock is damaged, or one with which a program does something of its own.
#
# Blank is here: nothing but zeros in the first 4 MiB and in the last one. Whatever has a format keeps something there.
bb=${0%/*}/busybox
disk=$1 fs=$2

# Counts bytes other than zero: from which MiB on, in how many MiB; one is enough. What cannot be read is none that is zero.
other() { { $bb dd if="$disk" bs=1M skip="$1" count="$2" 2>/dev/null || echo x; } | $bb tr -d '\000' | $bb head -c 1 | $bb wc -c; }

# ext4 and those before it have this number, 0xef53, in their superblock, which begins at 1024.
magic=$($bb dd if="$disk" bs=1 skip=1080 count=2 2>/dev/null | $bb hexdump -v -e '/1 "%02x"')
[ "$magic" != 53ef ] || exit 0

bytes=$($bb blockdev --getsize64 "$disk" 2>/dev/null || $bb stat -L -c %s "$disk")
last=$((bytes / 1048576 - 1))
[ "$last" -gt 0 ] || last=0
if [ "$(other 0 4)" = 0 ] && [ "$(other "$last" 2)" = 0 ]; then
    for makefs in /usr/lib/systemd/systemd-makefs /lib/systemd/systemd-makefs; do
        [ ! -x "$makefs" ] || exec "$makefs" "$fs" "$disk"
    done
    why="the image has no systemd-makefs"
else
    why="it is not blank, and there is no $fs on it"
fi
# As an error: seen with `quiet` on the command line, too.
message="cannot use the data disk ${disk##*/bake-}: $why; nothing is written to it"
echo "<3>bake: $message" 2>/dev/null >/dev/kmsg
echo "$message" >&2
exit 1
