#!/bin/sh
# Exports an image of the store as each file system, in turn, RUNS times (5), and as a tar beside them, which is reading and writing alone.
# Prints wall, user and system seconds and KB of memory of each run, and the medians of the wall seconds. A second program is measured in
# alternation. The programs that make squashfs and erofs are baked before, if the store has none.
# Needs GNU time. Usage: benches/outputs.sh IMAGE [BAKE [BAKE2]]
set -eu
image=$1 first=$(readlink -f "${2:-target/release/bake}") second=${3:+$(readlink -f "$3")}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$first" --quiet export "$image" --format erofs --output "$dir/out" >/dev/null
for n in $(seq "${RUNS:-5}"); do
    for format in ext4 erofs squashfs tar; do
        for bake in "$first" ${second:+"$second"}; do
            rm -f "$dir/out"; sync -f "$dir"
            /usr/bin/time -f "$format $bake %e %U %S %M" "$bake" --quiet export "$image" --format $format --output "$dir/out" 2>&1 >/dev/null | tail -1 | tee -a "$dir/all"
        done
    done
done
echo "median wall seconds"
sort -k1,2 -k3n "$dir/all" | awk '{ key = $1 " " $2; if (key != last && n) print last, all[int((n + 1) / 2)]; if (key != last) n = 0; last = key; all[++n] = $3 } END { print last, all[int((n + 1) / 2)] }'
