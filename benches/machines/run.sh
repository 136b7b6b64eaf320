#!/usr/bin/env bash
# Makes the disk of a machine with a web server by bake (web.toml) and by mkosi (mkosi/), in alternation, RUNS times (3), and prints wall and
# CPU seconds and KB of memory of each run, and the medians. Then what bake takes where nothing changed, and where one file did; and how long
# the disk takes from QEMU's start to an answer over HTTP, beside a machine made by hand (plain.toml), both emulated.
# Both have their packages and their tools at hand, and write to a file system with a journal that is made for this, in a file. mkosi is
# that of Debian 13, in a root that bake bakes; it runs as root, as its own documentation recommends for speed.
# Needs root, QEMU with OVMF, curl, GNU time, and 12 GB. Usage: benches/machines/run.sh [BAKE]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bake=$(realpath "${1:-target/release/bake}")
lab=$(mktemp -d)
fs=$lab/fs
cleanup() {
    set +e
    # What runs in it ends by the same signal, but perhaps a moment later.
    for place in "$fs/tools" "$fs"; do
        for _ in {1..40}; do
            mountpoint -q "$place" || break
            umount -R "$place" 2>/dev/null || sleep 0.5
        done
    done
    rm -rf --one-file-system "$lab"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

truncate -s 24G "$lab/disk"
mkfs.ext4 -q -O has_journal "$lab/disk"
mkdir "$fs"
mount -o loop "$lab/disk" "$fs"
export TMPDIR=$fs/tmp
mkdir "$fs/tmp" "$fs/lab"

echo "tools of mkosi" >&2
cp "$here/tools.toml" "$fs/lab"
"$bake" --store "$fs/tools-store" build -q "$fs/lab/tools.toml" >&2
"$bake" --store "$fs/tools-store" export -q mkosi-tools:1 --format dir --output "$fs/tools" >&2
rm -rf "$fs/tools-store"
mount --bind "$fs/tools" "$fs/tools"
mkdir -p "$fs/tools/lab"
mount --bind "$fs/lab" "$fs/tools/lab"
mount -t proc proc "$fs/tools/proc"
mount --rbind /sys "$fs/tools/sys"; mount --make-rslave "$fs/tools/sys"
mount --rbind /dev "$fs/tools/dev"; mount --make-rslave "$fs/tools/dev"
mount -t tmpfs tmpfs "$fs/tools/run"
cp /etc/resolv.conf "$fs/tools/etc/resolv.conf"
cp -r "$here/mkosi" "$here"/{web,plain}.toml "$here/index.html" "$fs/lab"
mkdir -p "$fs/lab/mkosi/mkosi.extra/var/www/html" "$fs/lab/cache"
cp "$here/index.html" "$fs/lab/mkosi/mkosi.extra/var/www/html"
# The packages come from where the host has its own; mkosi would also want the archive of debug symbols, which not every mirror has.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -1)
security=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep security | head -1)
mkdir -p "$fs/lab/mkosi/mkosi.sandbox/etc/apt/sources.list.d"
for suite in "$mirror bookworm bookworm-updates" "${security:-$mirror-security} bookworm-security"; do
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n' \
        "${suite%% *}" "${suite#* }"
done >"$fs/lab/mkosi/mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources"
by_mkosi=(chroot "$fs/tools" env HOME=/root LANG=C.UTF-8 TMPDIR=/lab mkosi --directory /lab/mkosi
    --package-cache-dir /lab/cache --workspace-dir /lab --output-dir /lab/out --force build)
by_bake=("$bake" --store "$fs/store" build -q "$fs/lab/web.toml")

# timed WHAT COMMAND…: a line of wall, user and system seconds, and KB of memory of the largest process.
timed() {
    local what=$1
    shift
    sync -f "$fs"
    /usr/bin/time -o "$lab/time" -f "$what %e %U %S %M" "$@" >>"$lab/log" 2>&1 || { tail -30 "$lab/log" >&2; exit 1; }
    tee -a "$lab/all" <"$lab/time"
}

# boots WHAT OPTION…: seconds until a machine answers that QEMU is given these options for.
boots() {
    local what=$1 begun qemu took end=$((SECONDS + 300))
    shift
    begun=$(date +%s%N)
    qemu-system-x86_64 -M q35,smm=off -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -nodefaults -no-user-config -display none \
        -device virtio-rng-pci -serial "file:$lab/console" \
        -netdev user,id=net,hostfwd=tcp:127.0.0.1:18080-:80 -device virtio-net-pci,netdev=net,romfile= "$@" &
    qemu=$!
    until curl -sf -m 2 -o /dev/null http://127.0.0.1:18080/; do
        { [ $SECONDS -lt $end ] && kill -0 $qemu; } || { tail -30 "$lab/console" >&2; kill $qemu; exit 1; }
        sleep 0.1
    done
    took=$(( ($(date +%s%N) - begun) / 1000000 ))
    printf '%s %d.%03d\n' "$what" $((took / 1000)) $((took % 1000)) | tee -a "$lab/all"
    kill $qemu
    wait $qemu 2>/dev/null || true
}

# A store that has the packages and bake's own tools, and nothing else.
anew() { rm -rf "$fs/store" "$fs/lab/disk.raw"; cp -a "$fs/ready" "$fs/store"; }

echo "packages, and bake's own tools" >&2
mkdir "$fs/lab/out"
{ "${by_mkosi[@]}"; "${by_bake[@]}"; } >>"$lab/log" 2>&1 || { tail -40 "$lab/log" >&2; exit 1; }
cp -a "$fs/store" "$fs/ready"
"$bake" --store "$fs/ready" rm -q bench-machine:1 >>"$lab/log"
mv "$fs/ready/cache/packages" "$fs/packages"
"$bake" --store "$fs/ready" gc -q --cache-older-than 0s >>"$lab/log"
rm -rf "$fs/ready/cache/packages"
mv "$fs/packages" "$fs/ready/cache/packages"
for _ in $(seq "${RUNS:-3}"); do
    anew
    timed bake "${by_bake[@]}"
    rm -rf "$fs/lab/out"
    mkdir "$fs/lab/out"
    timed mkosi "${by_mkosi[@]}"
done
timed bake-nothing-changed "${by_bake[@]}"
for n in $(seq "${RUNS:-3}"); do
    echo "<p>$n</p>" >"$fs/lab/index.html"
    timed bake-one-file "${by_bake[@]}" --set-version "1.$n"
done
"$bake" --store "$fs/store" build -q "$fs/lab/plain.toml" >>"$lab/log"
"$bake" --store "$fs/store" export -q bench-plain:1 --format dir --output "$fs/plain" >>"$lab/log"
mke2fs -q -t ext4 -d "$fs/plain" "$fs/plain.raw" 1G
for _ in $(seq "${RUNS:-3}"); do
    boots boot-bake -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd \
        -drive "if=virtio,format=raw,snapshot=on,file=$fs/lab/disk.raw"
    boots boot-by-hand -drive "if=virtio,format=raw,snapshot=on,file=$fs/plain.raw" -append "root=/dev/vda rw console=ttyS0" \
        -kernel "$fs"/plain/boot/vmlinuz-* -initrd "$fs"/plain/boot/initrd.img-*
done
ls -ls "$fs/lab/disk.raw" "$fs/lab/out/"*.raw
echo "median wall seconds"
sort -k1,1 -k2n "$lab/all" | awk '{ if ($1 != last && n) print last, all[int((n + 1) / 2)]; if ($1 != last) n = 0; last = $1; all[++n] = $2 } END { print last, all[int((n + 1) / 2)] }'
