#!/usr/bin/env bash
# What one trivial step costs: builds of 1 and of N+1 `run = "true"` steps over a small root; the difference over N.
# Each step has an argument of its own: the same step over the same layers would come from the cache.
# RUNS=5 N=50 benches/steps.sh
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${RUNS:-5} n=${N:-50}
cargo build --release --quiet
bake=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/bake
lab=$(mktemp -d); trap 'rm -rf "$lab"' EXIT
mkdir -p "$lab/root/bin"
for program in sh true; do
  cp "/bin/$program" "$lab/root/bin/"
  ldd "/bin/$program" | grep -o '/[^ )]*' | while read -r library; do mkdir -p "$lab/root$(dirname "$library")"; cp "$library" "$lab/root$library"; done
done
recipe() { printf '[image]\nname = "steps"\nversion = "%s"\n[base]\npath = "root"\n' "$1"; for i in $(seq "$1"); do printf '[[step]]\nrun = ["/bin/true", "%s"]\n' "$i"; done; }
recipe 1 > "$lab/1.toml"; recipe $((n + 1)) > "$lab/n.toml"
python3 - "$bake" "$lab" "$runs" "$n" <<'PY'
import shutil, statistics, subprocess, sys, time
bake, lab, runs, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def build(recipe):
    shutil.rmtree(f"{lab}/store", ignore_errors=True)
    start = time.monotonic()
    subprocess.run([bake, "build", "-q", "--store", f"{lab}/store", f"{lab}/{recipe}.toml"], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start
each = []
for _ in range(runs):
    one, many = build("1"), build("n")
    each.append((many - one) / n * 1000)
print(f"one step: min {min(each):.2f}  median {statistics.median(each):.2f}  max {max(each):.2f} ms")
PY
