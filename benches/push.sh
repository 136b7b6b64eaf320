#!/bin/sh
# Pushes an image of 200 MB (five layers of random bytes) to Debian's registry on loopback and pulls it back, with bake, skopeo and podman
# in turn, each five times into a place that has nothing of it, and pushes what is there already; then pulls one of 210 MB compressed
# with gzip from 420 MB. Prints wall seconds, processor seconds (user, system) and KB of memory.
# Needs docker-registry, skopeo, podman (as root), python3 and GNU time. Usage: benches/push.sh [BAKE]
set -eu
bake=$(readlink -f "${1:-target/release/bake}")
dir=$(mktemp -d); cd "$dir"
trap 'kill $registry 2>/dev/null || true; $podman rmi --all --force >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
port=5988 to=localhost:5988
podman="podman --root $dir/pod --runroot $dir/podrun"
printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s", secret: x}\n' "$dir/data" $port >config.yml
docker-registry serve config.yml >log 2>&1 & registry=$!
python3 - <<'P'
import gzip, hashlib, io, json, os, tarfile
v1 = "application/vnd.oci.image."
def put(media, data):
    digest = hashlib.sha256(data).hexdigest()
    open(lay + "/blobs/sha256/" + digest, "wb").write(data)
    return {"mediaType": media, "digest": "sha256:" + digest, "size": len(data)}
def text(size):
    return b"".join(b"%08d a line of a file that is like the one before it\n" % n for n in range(size // 50 + 1))[:size]
for lay, packed in [("lay", False), ("gz", True)]:
    os.makedirs(lay + "/blobs/sha256")
    layers, diffs = [], []
    for n, megabytes in enumerate([80, 60, 40, 15, 5]):
        out, info = io.BytesIO(), tarfile.TarInfo("file%d" % n)
        # Packed, half of it is random, in pieces of 4 KiB.
        data = b"".join(os.urandom(4096) + text(4096) for _ in range(megabytes * 256)) if packed else os.urandom(megabytes << 20)
        info.size = len(data)
        with tarfile.open(fileobj=out, mode="w") as tar: tar.addfile(info, io.BytesIO(data))
        raw = out.getvalue()
        diffs.append("sha256:" + hashlib.sha256(raw).hexdigest())
        blob = gzip.compress(raw, 4, mtime=0) if packed else raw
        layers.append(put(v1 + "layer.v1.tar" + ("+gzip" if packed else ""), blob))
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}}
    config = put(v1 + "config.v1+json", json.dumps(config).encode())
    manifest = {"schemaVersion": 2, "mediaType": v1 + "manifest.v1+json", "config": config, "layers": layers}
    manifest = put(v1 + "manifest.v1+json", json.dumps(manifest).encode())
    json.dump({"schemaVersion": 2, "manifests": [manifest]}, open(lay + "/index.json", "w"))
    open(lay + "/oci-layout", "w").write('{"imageLayoutVersion":"1.0.0"}')
P
"$bake" --quiet --store store import lay big:1 >/dev/null
timed() { what=$1; shift; /usr/bin/time -f "$what %e s %U %S %M KB" "$@" >/dev/null 2>err; tail -1 err; }
pulls() {
    rm -rf other copy; $podman rmi --all --force >/dev/null 2>&1
    timed "pull bake $1" "$bake" --store other pull $to/$1:1
    timed "pull skopeo $1" skopeo --insecure-policy copy -q --preserve-digests --src-tls-verify=false docker://$to/$1:1 oci:copy:1
    timed "pull podman $1" $podman pull -q --tls-verify=false $to/$1:1
}
for n in 1 2 3 4 5; do
    rm -rf data; timed "push bake" "$bake" --store store push big:1 $to/big
    rm -rf data; timed "push skopeo" skopeo --insecure-policy copy -q --preserve-digests --dest-tls-verify=false oci:lay docker://$to/big:1
    pulls big
done
for n in 1 2 3 4 5; do timed "push again" "$bake" --store store push big:1 $to/big; done
skopeo --insecure-policy copy -q --preserve-digests --dest-tls-verify=false oci:gz docker://$to/gz:1
for n in 1 2 3 4 5; do pulls gz; done
