#!/usr/bin/env bash
# What the network of a step costs: builds of N `run = ["/bin/true"]` steps with and without `network = true`, the difference over N; and a download of
# SIZE MiB by curl in a step, beside the same download by the same curl on the host, by curl's own clock. Everything in a network namespace of its
# own, where the server has an address for documentation: nothing leaves the machine. As root.
# RUNS=5 N=30 SIZE=200 benches/network.sh
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${BAKE_BENCH_OUTSIDE:-}" ]; then
  [ -n "${BAKE:-}" ] || cargo build --release --quiet
  export BAKE=${BAKE:-$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/bake}
  BAKE_BENCH_OUTSIDE=1 exec unshare --net --mount "$0" "$@"
fi
runs=${RUNS:-5} n=${N:-30} size=${SIZE:-200}
lab=$(mktemp -d); server=
trap '[ -z "$server" ] || kill "$server"; umount "$lab/files" 2>/dev/null || true; rm -rf "$lab"' EXIT
ip link set lo up
ip addr add 203.0.113.7/24 dev lo
mkdir -p "$lab/root/bin" "$lab/root/etc" "$lab/files"
mount -t tmpfs none "$lab/files"
head -c "${size}M" /dev/urandom > "$lab/files/file"
for program in sh true curl; do
  cp "$(type -P "$program")" "$lab/root/bin/"
  ldd "$(type -P "$program")" | grep -o '/[^ )]*' | while read -r library; do mkdir -p "$lab/root$(dirname "$library")"; cp -n "$library" "$lab/root$library"; done
done
# sendfile(2), so that the server is no limit; bounded: it ends with this script.
python3 - "$lab/files/file" <<'PY' &
import os, socket, sys, threading
listener = socket.create_server(("203.0.113.7", 8080))
def serve(stream):
    with stream, open(sys.argv[1], "rb") as file:
        stream.recv(65536)
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % os.fstat(file.fileno()).st_size)
        stream.sendfile(file)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
PY
server=$!
head='[image]\nname = "net"\nversion = "%s"\n[base]\npath = "root"\n[defaults]\nnetwork = %s\n'
for kind in true false; do
  { printf "$head" "$kind" "$kind"; for i in $(seq "$n"); do printf '[[step]]\nrun = ["/bin/true", "%s"]\n' "$i"; done; } > "$lab/$kind.toml"
done
fetch='curl -s -o /dev/null -w "took %{time_total}\\n" http://203.0.113.7:8080/file'
{ printf "$head" fetch true; printf "[[step]]\nrun = '''\n%s\n'''\n" "$fetch"; } > "$lab/fetch.toml"
sleep 0.5
python3 - "$BAKE" "$lab" "$runs" "$n" "$size" <<'PY'
import re, shutil, statistics, subprocess, sys, time
bake, lab, runs, n, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
def build(recipe):
    shutil.rmtree(f"{lab}/store", ignore_errors=True)
    start = time.monotonic()
    done = subprocess.run([bake, "build", "--progress=plain", "--store", f"{lab}/store", f"{lab}/{recipe}.toml"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return time.monotonic() - start, done.stderr
def host():
    words = ["curl", "-s", "-o", "/dev/null", "-w", "%{time_total}", "http://203.0.113.7:8080/file"]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
cost, inside, outside = [], [], []
host()
for _ in range(runs):
    without, with_ = build("false")[0], build("true")[0]
    cost.append((with_ - without) / n * 1000)
    outside.append(host())
    inside.append(float(re.search(r"took ([0-9.]+)", build("fetch")[1]).group(1)))
median = statistics.median
print(f"a step with a network costs {median(cost):.1f} ms more (least {min(cost):.1f})")
rate = lambda seconds: size * 1.048576 / seconds
print(f"{size} MiB: host {rate(median(outside)):.0f} MB/s (best {rate(min(outside)):.0f}), step {rate(median(inside)):.0f} MB/s (best {rate(min(inside)):.0f}),"
      f" ratio {median(outside) / median(inside):.2f}")
PY
