#!/usr/bin/env bash
# Whether independent stages run side by side: builds of an image that takes a file of one stage, and of two, each stage with a step of SECONDS
# seconds; once asleep and once computing (as much as takes that long alone). On two cores two stages of 5 s take at most 6.5 s.
# RUNS=3 SECONDS_EACH=5 benches/stages.sh
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${RUNS:-3} seconds=${SECONDS_EACH:-5}
[ -n "${BAKE:-}" ] || cargo build --release --quiet
bake=${BAKE:-$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/bake}
lab=$(mktemp -d); trap 'rm -rf "$lab"' EXIT
mkdir -p "$lab/root/bin"
for program in sh sleep; do
  cp "/bin/$program" "$lab/root/bin/"
  ldd "/bin/$program" | grep -o '/[^ )]*' | while read -r library; do mkdir -p "$lab/root$(dirname "$library")"; cp "$library" "$lab/root$library"; done
done
python3 - "$bake" "$lab" "$runs" "$seconds" <<'PY'
import shutil, statistics, subprocess, sys, time
bake, lab, runs, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
LOOP = "i=0; while [ $i -lt {} ]; do i=$((i+1)); done"

def recipe(stages, command):
    text = '[image]\nname = "stages"\nversion = "1"\n[base]\nscratch = true\n'
    for name in "ab"[:stages]:
        text += f'[[step]]\ncopy = "/{name}"\nfrom = "{name}"\nto = "/{name}"\n'
        text += f'[stage.{name}.base]\npath = "root"\n[[stage.{name}.step]]\nrun = "{command}; echo {name} > /{name}"\n'
    with open(f"{lab}/stages.toml", "w") as file:
        file.write(text)

def build(stages, command):
    recipe(stages, command)
    shutil.rmtree(f"{lab}/store", ignore_errors=True)
    start = time.monotonic()
    subprocess.run([bake, "build", "-q", "--store", f"{lab}/store", f"{lab}/stages.toml"], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start

def shell(count):
    start = time.monotonic()
    subprocess.run(["/bin/sh", "-c", LOOP.format(count)], check=True)
    return time.monotonic() - start

count = int(1_000_000 * seconds / min(shell(1_000_000) for _ in range(3)))
for name, command in (("asleep", f"sleep {seconds}"), ("computing", LOOP.format(count))):
    for stages in (1, 2):
        took = [build(stages, command) for _ in range(runs)]
        print(f"{name}, {stages} of {seconds:g} s: min {min(took):.2f}  median {statistics.median(took):.2f}  max {max(took):.2f} s", flush=True)
PY
