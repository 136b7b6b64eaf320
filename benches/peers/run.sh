#!/usr/bin/env bash
# bake against its peers, and bake alone as things grow: figures, a table and two plots in a directory. See ../README.md.
#   benches/peers/run.sh OUT [CASE…]      CASE: A B C D E F G H scaling; all of them if none is named
#   BAKE=PROGRAM   bake to measure, else it is built      RUNS=5   runs of the small cases      BIG_RUNS=3   of D, E, F and H
#   LAB=DIR        where all the work is done and removed again (10 GB), else below the temporary directory
set -euo pipefail
export PATH="/usr/sbin:/usr/bin:/sbin:/bin:$PATH" # the packages that README.md names, not something else of the same name
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { sed -n '2,6s/^# \?//p' "$0" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "run.sh: needs root, for the peers' sake" >&2; exit 2; }
if [ -z "${BAKE:-}" ]; then
  (cd "$here/../.." && cargo build --release --locked --quiet)
  BAKE=$(cd "$here/../.." && cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/bake
fi
mkdir -p "$1"
exec env BAKE="$(realpath "$BAKE")" python3 -B "$here/bench.py" "$(realpath "$1")" "${@:2}"
