#!/usr/bin/env bash
# What an `ansible` step costs over `ansible-playbook` itself: the same playbook by a step, whose tool is in no image, and in a chroot on a root that
# has Ansible of the same suite, with a local connection and pipelining, both on a fresh overlay. In alternation; seconds of the step by bake's own
# clock, of the chroot from before `ansible-playbook` to its end. Needs Debian's archive once. As root.
# RUNS=5 benches/ansible.sh
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${RUNS:-5}
[ -n "${BAKE:-}" ] || cargo build --release --quiet
bake=${BAKE:-$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/bake}
lab=$(mktemp -d -p "${LAB:-/var/tmp}"); trap 'umount "$lab/root" 2>/dev/null || true; rm -rf "$lab"' EXIT
export BAKE_STORE=$lab/store
mkdir -p "$lab/play" "$lab/root" "$lab/upper" "$lab/work"
cat > "$lab/play/site.yml" <<'Y'
- hosts: all
  gather_facts: true
  tasks:
    - ansible.builtin.group: { name: app, gid: 990 }
    - ansible.builtin.user: { name: app, uid: 990, group: app, create_home: false }
    - ansible.builtin.file: { path: /srv/app, state: directory, owner: app, mode: "0750" }
    - ansible.builtin.copy: { content: "listen = {{ port }}\n", dest: /etc/app.conf }
    - ansible.builtin.lineinfile: { path: /etc/hosts.allow, line: "app: ALL", create: true }
    - ansible.builtin.command: { cmd: /bin/true }
    - ansible.builtin.stat: { path: /srv/app }
    - ansible.builtin.file: { src: /etc/app.conf, dest: /srv/app/conf, state: link }
Y
head='[image]\nname = "%s"\nversion = "1"\n[base]\ndebian = "trixie"\n'
{ printf "$head" step; printf '[[step]]\nname = "play"\nansible = "play/site.yml"\nvars = { port = 80 }\n'; } > "$lab/step.toml"
{ printf "$head" chroot; printf '[[step]]\npackages = ["ansible-core"]\n'; } > "$lab/chroot.toml"
"$bake" build -q "$lab/chroot.toml" "$lab/step.toml" > /dev/null
"$bake" export chroot:1 --format dir --output "$lab/lower" > /dev/null
cp -r "$lab/play" "$lab/lower/play"
python3 - "$bake" "$lab" "$runs" <<'PY'
import re, shutil, os, statistics, subprocess, sys, time
bake, lab, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
def step(number):
    words = [bake, "build", "--progress=plain", "--no-cache=play", f"--set-version={number}", f"{lab}/step.toml"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    start = re.search(r"\[\d+/\d+\] done: play \(([0-9.]+)s", done.stderr)
    return float(start.group(1))
def chroot():
    for name in ("upper", "work"):
        shutil.rmtree(f"{lab}/{name}"); os.mkdir(f"{lab}/{name}")
    options = f"lowerdir={lab}/lower,upperdir={lab}/upper,workdir={lab}/work"
    subprocess.run(["mount", "-t", "overlay", "none", "-o", options, f"{lab}/root"], check=True)
    try:
        start = time.monotonic()
        words = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", f"mount -t proc none {lab}/root/proc && mount -t devtmpfs none {lab}/root/dev 2>/dev/null; "
                 f"exec chroot {lab}/root env LC_ALL=C.UTF-8 ANSIBLE_PIPELINING=1 ansible-playbook -i localhost, -c local -e port=80 /play/site.yml"]
        done = subprocess.run(words, capture_output=True, text=True)
        took = time.monotonic() - start
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        return took
    finally:
        subprocess.run(["umount", f"{lab}/root"], check=True)
steps, chroots = [], []
chroot(); step(1000)
for number in range(runs):
    chroots.append(chroot()); steps.append(step(number + 1))
ratio = statistics.median(s / c for s, c in zip(steps, chroots))
print(f"ansible step {statistics.median(steps):.1f} s (least {min(steps):.1f}), in a chroot {statistics.median(chroots):.1f} s (least {min(chroots):.1f}), ratio {ratio:.2f}")
PY
