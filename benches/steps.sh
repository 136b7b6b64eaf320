#!/usr/bin/env bash
# What one trivial step costs: builds of 1 and of N+1 `run = "true"` steps over a small root; the difference over N. Beside it, in
# alternation and in the same directory, its floor: namespaces, an overlay, the program, and the directories gone again, with nothing kept.
# Each step has an argument of its own: the same step over the same layers would come from the cache.
# RUNS=5 N=50 benches/steps.sh
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${RUNS:-5} n=${N:-50}
[ -n "${BAKE:-}" ] || cargo build --release --quiet
bake=${BAKE:-$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/bake}
lab=$(mktemp -d); trap 'rm -rf "$lab"' EXIT
mkdir -p "$lab/root/bin"
for program in sh true; do
  cp "/bin/$program" "$lab/root/bin/"
  ldd "/bin/$program" | grep -o '/[^ )]*' | while read -r library; do mkdir -p "$lab/root$(dirname "$library")"; cp "$library" "$lab/root$library"; done
done
recipe() { printf '[image]\nname = "steps"\nversion = "%s"\n[base]\npath = "root"\n' "$1"; for i in $(seq "$1"); do printf '[[step]]\nrun = ["/bin/true", "%s"]\n' "$i"; done; }
recipe 1 > "$lab/1.toml"; recipe $((n + 1)) > "$lab/n.toml"
python3 - "$bake" "$lab" "$runs" "$n" <<'PY'
import ctypes, os, shutil, statistics, subprocess, sys, time
bake, lab, runs, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
libc = ctypes.CDLL(None, use_errno=True)
NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000  # mount, UTS, IPC, PID, network
PRIVATE = 0x40000 | 0x4000

def must(outcome):
    if outcome != 0:
        os._exit(1)

def floor():
    start = time.monotonic()
    for number in range(n):
        at = f"{lab}/floor-{number}"
        for directory in ("", "/u", "/w", "/r"):
            os.mkdir(at + directory)
        child = os.fork()
        if child == 0:
            must(libc.unshare(NAMESPACES))
            must(libc.mount(b"none", b"/", None, PRIVATE, None))
            options = f"lowerdir={lab}/root,upperdir={at}/u,workdir={at}/w,volatile"
            must(libc.mount(b"overlay", f"{at}/r".encode(), b"overlay", 0, options.encode()))
            program = os.fork()
            if program == 0:
                os.chroot(f"{at}/r")
                os.execv("/bin/true", ["true", str(number)])
            os._exit(os.waitstatus_to_exitcode(os.waitpid(program, 0)[1]))
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
            sys.exit("steps.sh: the floor needs root and overlays")
        shutil.rmtree(at)
    return (time.monotonic() - start) / n * 1000

def build(recipe):
    shutil.rmtree(f"{lab}/store", ignore_errors=True)
    start = time.monotonic()
    subprocess.run([bake, "build", "-q", "--store", f"{lab}/store", f"{lab}/{recipe}.toml"], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start

figures = {"one step": [], "floor": []}
for _ in range(runs):
    one, many = build("1"), build("n")
    figures["one step"].append((many - one) / n * 1000)
    figures["floor"].append(floor())
for name, each in figures.items():
    print(f"{name}: min {min(each):.2f}  median {statistics.median(each):.2f}  max {max(each):.2f} ms")
PY
