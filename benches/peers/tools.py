"""Who builds: bake and its peers, each behind the same few verbs.

    up(base)         brings the base (a tar) into the tool's own store, starts what the tool needs
    forget()         back to that state: no image, no cached step, no fetched package; only the base is at hand
    build(work)      the commands that build into the tool's own store; `fresh` forbids the cache of steps, `kept` allows fetched packages
    export(work, to) the commands that make an OCI layout of it; none for bake, whose store is one
    down()           stops and removes everything

All that a tool writes lies below its directory in the lab.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

import clock
from work import BASE, Run, Work


STRAYS = ("/etc/docker", "/etc/docker/key.json", "/run/docker")  # what dockerd makes whatever it is told


class Tool:
    name = ""
    programs = ()
    caches = True  # whether it has a cache of steps at all
    keeps = False  # whether it can use packages that an earlier build has fetched
    env = {}

    def __init__(self, lab):
        self.home = lab / self.name.replace(" ", "-")
        self.out = lab / "out" / self.name.replace(" ", "-")

    def missing(self):
        return [program for program in self.programs if not shutil.which(program)]

    def up(self, base):
        pass

    def export(self, work, to, compression="gzip"):
        return []

    def down(self):
        shutil.rmtree(self.home, ignore_errors=True)


class Bake(Tool):
    name = "bake"
    keeps = True

    def __init__(self, lab, program):
        super().__init__(lab)
        self.program, self.store, self.published = str(program), self.home / "store", set()
        self.env = {"BAKE_STORE": str(self.store)}
        self.warm = Work("base", self.home / "base", [Run(":")])
        self.lock = self.warm.directory / "recipe.lock"

    def version(self):
        return said([self.program, "--version"])

    def up(self, base):
        """Bakes the base, with one step over it so that it is unpacked too, and writes it to `base` for the others."""
        self.warm.write()
        clock.run([self.program, "build", "-q", self.warm.directory / "recipe.toml"], self.env)
        clock.run([self.program, "export", "-q", "base:1", "--format", "tar", "--output", base], self.env)
        self.at_hand = set(self.cached())

    def cached(self):
        """Every entry of the cache: files, and unpacked layers as a whole."""
        for top, directories, files in os.walk(self.store / "cache"):
            if Path(top).name in ("layers", "packages"):
                files, directories[:] = files + directories, []
            yield from (os.path.join(top, name) for name in files)

    def forget(self, packages=True):
        for image in sorted(self.published):
            clock.run([self.program, "rm", "-q", image], self.env)
        self.published.clear()
        for path in set(self.cached()) - self.at_hand:
            remove(path)
        if packages:
            for path in (self.store / "cache/packages").iterdir():
                remove(path)

    def build(self, work, fresh=False, kept=False, version="1"):
        if fresh:  # an image that is there already would be the answer, so forget() comes first; the base stays cached
            self.forget(packages=not kept)
            if not kept:
                work.relock(self.lock)
        self.published.add(f"{work.name}:{version}")
        return [[self.program, "build", "-q", "--set-version", version, work.directory / "recipe.toml"]]


class Docker(Tool):
    """Docker: a daemon of our own with nothing of the host's, with its classic builder or with the BuildKit inside."""

    programs = ("docker", "dockerd", "skopeo")
    group = "/bake-bench"
    daemon = None

    def __init__(self, lab, name="docker with BuildKit", buildkit=True):
        self.name, self.keeps = name, buildkit
        super().__init__(lab)
        self.socket = f"unix://{self.home}/socket"
        self.env = {"DOCKER_BUILDKIT": str(int(buildkit)), "DOCKER_HOST": self.socket, "DOCKER_CONFIG": f"{self.home}/config"}

    def version(self):
        return said(["dockerd", "--version"])

    def up(self, base):
        self.home.mkdir(parents=True)
        self.strays = [path for path in STRAYS if not os.path.exists(path)]
        self.daemon = subprocess.Popen(
            ["dockerd", "--data-root", self.home / "data", "--exec-root", self.home / "run", "--pidfile", self.home / "pid", "--host", self.socket]
            + ["--bridge=none", "--iptables=false", "--storage-driver=overlay2", f"--cgroup-parent={self.group}"],
            stdin=subprocess.DEVNULL, stdout=open(self.home / "log", "w"), stderr=subprocess.STDOUT, start_new_session=True,
        )
        until(lambda: said(["docker", "info", "--format", "{{.ServerVersion}}"], self.env), self.home / "log")
        clock.run(["docker", "import", base, BASE], self.env)

    def forget(self):
        clock.run(["docker", "image", "prune", "--force"], self.env)
        images, base = (set(said(["docker", "images", "-q", *which], self.env).split()) for which in ((), (BASE,)))
        for image in images - base:
            clock.run(["docker", "rmi", "--force", image], self.env)
        clock.run(["docker", "builder", "prune", "--all", "--force"], self.env)

    def build(self, work, fresh=False, kept=False, version="1"):
        if fresh and not kept:
            self.forget()
        file = work.directory / ("Dockerfile.kept" if kept else "Dockerfile")
        return [["docker", "build", "-q", "--network=host", *["--no-cache"] * fresh, "-f", file, "-t", work.name, work.directory]]

    def export(self, work, to, compression="gzip"):
        copy = ["skopeo", f"--tmpdir={to.parent}", "copy", "-q", f"--src-daemon-host={self.socket}", f"--dest-compress-format={compression}"]
        return [[*copy, f"docker-daemon:{work.name}:latest", f"oci:{to}:latest"]]

    def down(self):
        if self.daemon is None:
            return
        self.daemon.terminate()
        try:
            self.daemon.wait(60)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
        unmount(self.home)
        super().down()
        for group in Path("/sys/fs/cgroup").glob("**" + self.group):
            remove_group(group)
        for path in filter(os.path.exists, self.strays):
            remove(path)


class Packer(Docker):
    """Packer with its docker builder. It has no cache."""

    programs = (*Docker.programs, "packer")
    caches = False

    def __init__(self, lab):
        super().__init__(lab, "packer with docker", buildkit=False)
        self.env |= {"CHECKPOINT_DISABLE": "1", "PACKER_CONFIG_DIR": f"{self.home}/config"}

    def version(self):
        return "packer " + said(["packer", "version"], self.env).split("\n")[0].split()[-1]

    def build(self, work, fresh=False, kept=False, version="1"):
        self.forget()
        return [["packer", "build", work.directory / "packer.json"]]


class Buildah(Tool):
    """Buildah as root, with chroot isolation: its quickest."""

    name = "buildah chroot"
    programs = ("buildah", "skopeo")
    keeps = True

    def __init__(self, lab):
        super().__init__(lab)
        self.store = ["--root", self.home / "root", "--runroot", self.home / "run", "--storage-driver", "overlay"]
        self.env = {"TMPDIR": str(self.home / "tmp")}  # its cache mounts lie there

    def version(self):
        return said(["buildah", "--version"])

    def up(self, base):
        (self.home / "tmp").mkdir(parents=True)
        clock.run(["skopeo", "copy", "-q", f"tarball:{base}", f"containers-storage:[overlay@{self.home}/root+{self.home}/run]{BASE}"], self.env)

    def forget(self):
        listed = said(["buildah", *self.store, "images", "--all", "--format", "{{.ID}} {{.Name}}"], self.env).splitlines()
        images = {line.split()[0] for line in listed if BASE.split(":")[0] not in line}
        if images:
            clock.run(["buildah", *self.store, "rmi", "--force", *images], self.env)
        shutil.rmtree(self.home / "tmp")
        (self.home / "tmp").mkdir()

    def build(self, work, fresh=False, kept=False, version="1"):
        if fresh and not kept:
            self.forget()
        file = work.directory / ("Dockerfile.kept" if kept else "Dockerfile")
        how = ["--isolation=chroot", "--network=host", "--pull-never", "--layers", *["--no-cache"] * fresh]
        return [["buildah", *self.store, "bud", "-q", *how, "-f", file, "-t", f"localhost/{work.name}", work.directory]]

    def export(self, work, to, compression="gzip"):
        return [["buildah", *self.store, "push", "-q", f"--compression-format={compression}", f"localhost/{work.name}", f"oci:{to}:latest"]]

    def down(self):
        unmount(self.home)
        super().down()


def said(argv, env=None):
    """What a command prints, or nothing if it fails."""
    argv = [str(word) for word in argv]
    return subprocess.run(argv, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.strip()


def until(ready, log, seconds=60):
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise clock.Failed(f"not ready after {seconds} s:\n" + log.read_text()[-2000:])
        time.sleep(0.1)


def remove(path):
    shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def unmount(directory):
    """Takes away every mount below directory, the innermost first."""
    with open("/proc/self/mountinfo") as file:
        places = [line.split()[4] for line in file]
    for place in sorted((place for place in places if place.startswith(f"{directory}/")), key=len, reverse=True):
        subprocess.run(["umount", "--lazy", place], check=False)


def remove_group(group):
    """Removes an empty tree of control groups."""
    for top, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(top)
        except OSError:  # still in use by somebody, or not ours to remove: an empty group harms nobody
            pass
