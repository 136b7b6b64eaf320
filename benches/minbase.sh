#!/usr/bin/env bash
# A minimal Debian root: bake against mmdebstrap, in alternation, first with empty package caches, then with the packages at hand.
# Needs root, mmdebstrap and a Debian mirror.   RUNS=5 SUITE=bookworm benches/minbase.sh
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${RUNS:-5} suite=${SUITE:-bookworm}
cargo build --release --quiet
bake=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/bake
mirror=${MIRROR:-$(awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)}
lab=$(mktemp -d); trap 'rm -rf "$lab"' EXIT
printf '[image]\nname = "minbase"\nversion = "1"\n[base]\ndebian = "%s"\n' "$suite" > "$lab/minbase.toml"

timed() { # timed NAME COMMAND…: one line `NAME seconds MiB`
  local name=$1; shift
  /usr/bin/env python3 - "$name" "$@" <<'PY'
import os, subprocess, sys, time
start = time.monotonic()
child = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
err = child.stderr.read()
_, status, usage = os.wait4(child.pid, 0)
if status:
    sys.exit(err.decode(errors="replace"))
print(f"{sys.argv[1]} {time.monotonic() - start:.2f} {usage.ru_maxrss / 1024:.0f}", flush=True)
PY
}
cold() { rm -rf "$lab/store" "$lab/minbase.lock"; timed bake-cold "$bake" build -q --store "$lab/store" "$lab/minbase.toml"; }
warm() { "$bake" rm -q --store "$lab/store" minbase:1 >/dev/null; rm -rf "$lab/store/cache/layers" "$lab/store/cache/steps"; timed bake-cached "$bake" build -q --store "$lab/store" "$lab/minbase.toml"; }
peer() { rm -rf "$lab/root"; timed mmdebstrap-cold mmdebstrap -q --variant=minbase --mode=root "$suite" "$lab/root" "$mirror"; }
peer_warm() { rm -rf "$lab/root"; timed mmdebstrap-cached mmdebstrap -q --variant=minbase --mode=root --skip=download/empty --skip=essential/unlink \
  --setup-hook="mkdir -p \"\$1/var/cache/apt/archives\"; cp $lab/debs/*.deb \"\$1/var/cache/apt/archives/\"" "$suite" "$lab/root" "$mirror"; }

mkdir "$lab/debs"
mmdebstrap -q --variant=minbase --mode=root --skip=download/empty --skip=essential/unlink --skip=cleanup/apt "$suite" "$lab/root" "$mirror" >/dev/null 2>&1 && cp "$lab"/root/var/cache/apt/archives/*.deb "$lab/debs/" || echo "no packages kept for the cached case" >&2
for _ in $(seq "$runs"); do cold; warm; peer; [ -z "$(ls "$lab/debs")" ] || peer_warm; done | tee "$lab/results" >&2
python3 - "$lab/results" <<'PY'
import collections, statistics, sys
rows = collections.defaultdict(list)
for line in open(sys.argv[1]):
    name, seconds, mib = line.split()
    rows[name].append((float(seconds), float(mib)))
median = {name: statistics.median(second for second, _ in values) for name, values in rows.items()}
for name, values in rows.items():
    print(f"{name:18} min {min(v for v, _ in values):.2f}  median {median[name]:.2f}  max {max(v for v, _ in values):.2f} s   {max(m for _, m in values):.0f} MiB")
for kind in ("cold", "cached"):
    if f"mmdebstrap-{kind}" in median:
        print(f"ratio {kind}: {median[f'bake-{kind}'] / median[f'mmdebstrap-{kind}']:.2f}")
PY
