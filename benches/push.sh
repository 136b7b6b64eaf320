#!/bin/sh
# Pushes an image of 200 MB (five layers of random bytes) to Debian's registry on loopback and pulls it back, with bake and with skopeo,
# each five times into a place that has nothing of it, and pushes what is there already. Prints wall seconds and KB of memory.
# Needs docker-registry, skopeo, python3 and GNU time. Usage: benches/push.sh [BAKE]
set -eu
bake=$(readlink -f "${1:-target/release/bake}")
dir=$(mktemp -d); cd "$dir"
trap 'kill $registry 2>/dev/null || true; rm -rf "$dir"' EXIT
port=5987 to=localhost:5987
printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s", secret: x}\n' "$dir/data" $port >config.yml
docker-registry serve config.yml >log 2>&1 & registry=$!
python3 - <<'P'
import hashlib, io, json, os, tarfile
os.makedirs("lay/blobs/sha256")
def put(media, data):
    digest = hashlib.sha256(data).hexdigest()
    open("lay/blobs/sha256/" + digest, "wb").write(data)
    return {"mediaType": media, "digest": "sha256:" + digest, "size": len(data)}
v1 = "application/vnd.oci.image."
layers = []
for n, megabytes in enumerate([80, 60, 40, 15, 5]):
    out, info = io.BytesIO(), tarfile.TarInfo("file%d" % n)
    info.size = megabytes << 20
    with tarfile.open(fileobj=out, mode="w") as tar: tar.addfile(info, io.BytesIO(os.urandom(info.size)))
    layers.append(put(v1 + "layer.v1.tar", out.getvalue()))
config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [one["digest"] for one in layers]}}
config = put(v1 + "config.v1+json", json.dumps(config).encode())
manifest = {"schemaVersion": 2, "mediaType": v1 + "manifest.v1+json", "config": config, "layers": layers}
manifest = put(v1 + "manifest.v1+json", json.dumps(manifest).encode())
json.dump({"schemaVersion": 2, "manifests": [manifest]}, open("lay/index.json", "w"))
open("lay/oci-layout", "w").write('{"imageLayoutVersion":"1.0.0"}')
P
"$bake" --quiet --store store import lay big:1 >/dev/null
timed() { what=$1; shift; /usr/bin/time -f "$what %e s %M KB" "$@" >/dev/null 2>err; tail -1 err; }
for n in 1 2 3 4 5; do
    rm -rf data; timed "push bake" "$bake" --store store push big:1 $to/big
    rm -rf data; timed "push skopeo" skopeo --insecure-policy copy -q --preserve-digests --dest-tls-verify=false oci:lay docker://$to/big:1
    rm -rf other copy
    timed "pull bake" "$bake" --store other pull $to/big:1
    timed "pull skopeo" skopeo --insecure-policy copy -q --preserve-digests --src-tls-verify=false docker://$to/big:1 oci:copy:1
done
for n in 1 2 3 4 5; do timed "push again" "$bake" --store store push big:1 $to/big; done
