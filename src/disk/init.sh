#!/bin/busybox sh
# The first program of a machine that bake made: finds the root file system, checks it, shows it read-only, and hands over to the
# image's own init. What may be written lies in memory: /etc and /var over those of the image, /tmp empty.
#
# On the kernel's command line: bake.root=NAME, the name of the root's partition; bake.verity=BLOCKS:HASH:SALT for one that is checked by
# NAME_verity; without it NAME is mounted to be written to. Where a file /root.raw is in the RAM disk, as after a boot over the network,
# that is the disk.
PATH=/bin
bb=/bin/busybox

log() { echo "bake: $*" >/dev/kmsg; }

# Nothing works without a root: the machine ends, and says why. With panic=SECONDS on the command line it starts again, as after
# any other panic: a boot loader that counts may choose another version then.
fail() {
    log "cannot start: $*"
    $bb sleep 1
    ! $bb grep -Eq '(^| )panic=-?[1-9]' /proc/cmdline || exit 1
    echo o >/proc/sysrq-trigger
    $bb sleep 60
    exit 1
}

$bb mkdir -p /dev /proc /sys /run /sysroot
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev
$bb mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs /run

root= verity= fs=
for word in $($bb cat /proc/cmdline); do
    case $word in
        bake.root=*) root=${word#*=} ;;
        bake.verity=*) verity=${word#*=} ;;
        bake.fs=*) fs=${word#*=} ;;
    esac
done
[ -n "$root" ] || fail "no bake.root= on the command line"

while read -r module; do $bb modprobe "$module" || log "cannot load the module $module"; done </modules

[ ! -f /root.raw ] || $bb losetup -P "$($bb losetup -f)" /root.raw || fail "the disk in memory cannot be used"

# Loads what the devices that are there ask for; each may bring others.
load_for_devices() {
    $bb find /sys/devices -name modalias -exec $bb cat {} + 2>/dev/null | $bb sort -u | while read -r alias; do
        $bb modprobe -q "$alias" 2>/dev/null
    done
}

# The device of the partition of that name. The name is unique: bake makes it of the image's name and version.
partition() {
    for event in /sys/class/block/*/uevent; do
        if $bb grep -Fqx "PARTNAME=$1" "$event"; then
            event=${event%/uevent}
            echo "/dev/${event##*/}"
            return 0
        fi
    done
    return 1
}

present() { data=$(partition "$root") && { [ -z "$verity" ] || hashes=$(partition "${root}_verity"); }; }

tries=0
until present; do
    # Some devices take their time; after 30 seconds none will come.
    [ $tries -lt 300 ] || fail "there is no partition named $root${verity:+, or none named ${root}_verity}"
    [ $((tries % 10)) -ne 0 ] || load_for_devices
    tries=$((tries + 1))
    $bb sleep 0.1
done

if [ -n "$verity" ]; then
    IFS=: read -r blocks hash salt <<END
$verity
END
    table="0 $((blocks * 8)) verity 1 $data $hashes 4096 4096 $blocks 1 sha256 $hash $salt"
    dmsetup create root --readonly --noudevsync --table "$table" || fail "the root cannot be checked: $data, $hashes"
    $bb mount -t "${fs:-erofs}" -o ro /dev/dm-0 /sysroot || fail "$data is not what its hash says, or cannot be mounted"
    $bb mkdir /run/state
    $bb mount -t tmpfs -o mode=0755 state /run/state
    for dir in etc var; do
        [ -d "/sysroot/$dir" ] || continue
        $bb mkdir "/run/state/$dir" "/run/state/.$dir"
        $bb mount -t overlay -o "lowerdir=/sysroot/$dir,upperdir=/run/state/$dir,workdir=/run/state/.$dir" state "/sysroot/$dir" ||
            fail "/$dir cannot be shown"
    done
    [ ! -d /sysroot/tmp ] || $bb mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /sysroot/tmp
else
    $bb mount -t "${fs:-ext4}" -o rw "$data" /sysroot || fail "$data cannot be mounted"
fi

# Data disks: made on first boot where they are blank (x-systemd.makefs), and only then, which data.sh sees to.
if [ -s /fstab ] && [ -d /sysroot/etc ]; then
    while read -r device target rest; do
        $bb mkdir -p "/sysroot$target" || log "there is no directory $target for the data disk $device"
        $bb grep -Fq " $target " /sysroot/etc/fstab 2>/dev/null || echo "$device $target $rest" >>/sysroot/etc/fstab
    done </fstab
    # A disk is called by its serial number, however it is attached; after the rules that find its properties.
    $bb mkdir -p -m 0755 /run/udev/rules.d
    $bb cat /udev.rules >/run/udev/rules.d/61-bake-data.rules
    $bb mkdir -p -m 0755 /run/systemd/system /run/bake-data
    $bb cp /bin/busybox /data.sh /run/bake-data/
    $bb cp -R /units/. /run/systemd/system/
fi

# A machine under test finds in QEMU's firmware configuration what answers in it, and systemd starts that; on the disk there is
# nothing of it (docs/design/machines.md says why this is no way in).
given=/sys/firmware/qemu_fw_cfg/by_name/opt/bake
if [ -r $given/agent/raw ] && [ -r $given/unit/raw ]; then
    if [ -e /sysroot/usr/lib/systemd/systemd ]; then
        $bb mkdir -p -m 0755 /run/systemd/system/sysinit.target.wants
        $bb mkdir -m 0700 /run/bake
        $bb cat $given/agent/raw >/run/bake/agent
        $bb cat $given/unit/raw >/run/systemd/system/bake-agent.service
        $bb ln -s ../bake-agent.service /run/systemd/system/sysinit.target.wants/bake-agent.service
    else
        log "nobody answers inside: no systemd"
    fi
fi

init=
for path in /bin/init /usr/lib/systemd/systemd /sbin/init; do
    # A symlink as a rule, which leads somewhere from inside only.
    if [ -L "/sysroot$path" ] || [ -x "/sysroot$path" ]; then init=$path; fi
done
[ -n "$init" ] || fail "the image has no init"
for dir in dev proc sys run; do
    [ -d "/sysroot/$dir" ] || fail "the image has no directory /$dir"
done
for dir in dev proc sys run; do $bb mount --move "/$dir" "/sysroot/$dir"; done
exec $bb switch_root /sysroot "$init"
