#!/bin/sh
# `bake serve` against nginx serving the same registry as files: `benches/serve.sh [MEGABYTES]`.
# Wants nginx, skopeo and curl. BAKE=PROGRAM measures that one, RUNS=5 is how often each is asked.
set -eu
mb=${1:-200}
runs=${RUNS:-5}
bake=${BAKE:-$(dirname "$0")/../target/release/bake}
lab=$(mktemp -d "${LAB:-/tmp}/bake-serve.XXXXXX")
pids=
trap 'for pid in $pids; do kill "$pid" 2>/dev/null || :; done; wait; rm -rf "$lab"' EXIT
export BAKE_STORE="$lab/store"

mkdir -p "$lab/root/data"
n=0
while [ $n -lt 4 ]; do
    head -c "$((mb * 250000))" /dev/urandom > "$lab/root/data/$n"
    n=$((n + 1))
done
printf '[image]\nname = "web"\nversion = "1"\n[base]\npath = "root"\n' > "$lab/web.toml"
"$bake" build -q "$lab/web.toml" > "$lab/built"
"$bake" export -q --format registry --output "$lab/site" > "$lab/exported"

"$bake" serve -q --listen 127.0.0.1:0 > "$lab/address" 2> "$lab/serve.log" &
pids=$!
cat > "$lab/nginx.conf" <<NGINX
daemon off;
pid $lab/nginx.pid;
user $(id -un);
worker_processes auto;
events { }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    server {
        listen 127.0.0.1:${PORT:-5081};
        root $lab/site;
        index index.html;
        include $lab/site/nginx.conf;
    }
}
NGINX
nginx -e "$lab/nginx.log" -c "$lab/nginx.conf" &
pids="$pids $!"
until [ -s "$lab/address" ] && curl -sf "http://127.0.0.1:${PORT:-5081}/v2/" > "$lab/ping"; do sleep 0.1; done
ours=$(sed 's|http://||' "$lab/address")
theirs=127.0.0.1:${PORT:-5081}
blob=$(cd "$lab/site/v2/web/blobs" && ls -S | head -n 1)

now() { date +%s%N; }
# Runs a command; adds its milliseconds to a file.
timed() {
    file=$1
    shift
    start=$(now)
    "$@"
    echo $((($(now) - start) / 1000000)) >> "$lab/$file"
}
pull() {
    rm -rf "$lab/copy"
    timed "$1" skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$2/web:1" "dir:$lab/copy"
}
# Twenty times, as once takes too little time to be measured.
fetch() {
    url=http://$2/v2/web/blobs/$blob
    timed "$1" curl -sf -o /dev/null $(yes "$url -o /dev/null" | head -n 19) "$url"
}
median() { sort -n "$lab/$1" | sed -n "$(((runs + 1) / 2))p"; }

round=0
while [ $round -le "$runs" ]; do
    # The first round warms the cache of pages and is not counted.
    [ $round -ne 1 ] || rm -f "$lab"/*-ms
    pull serve-pull-ms "$ours"; pull nginx-pull-ms "$theirs"
    fetch serve-fetch-ms "$ours"; fetch nginx-fetch-ms "$theirs"
    round=$((round + 1))
done
echo "median of $runs, image of $mb MB: bake serve, nginx, nginx / bake serve"
for what in pull fetch; do
    a=$(median "serve-$what-ms") b=$(median "nginx-$what-ms")
    echo "$what ms: $a $b $((b * 100 / a))%"
done
