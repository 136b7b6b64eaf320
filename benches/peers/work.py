"""What is built: each piece of work is stated once and written down for every tool, so that all do the same."""

import json
import os
import random
from dataclasses import dataclass
from pathlib import Path

BASE = "localhost/base:1"  # the name under which the other tools hold the base
STAMP = 1_700_000_000  # the time of all files that are made here


@dataclass(frozen=True)
class Run:
    command: str


@dataclass(frozen=True)
class Copy:
    source: str
    to: str


@dataclass(frozen=True)
class Packages:
    names: str


@dataclass
class Work:
    """Steps over the Debian base. `directory` is the context and holds the Dockerfile, the recipe and the packer template."""

    name: str
    directory: Path
    steps: list
    base: str = 'debian = "bookworm"'
    compression: str = "gzip"

    def write(self, lock=None):
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "recipe.toml").write_text(self.recipe())
        (self.directory / ".dockerignore").write_text("Dockerfile*\nrecipe.*\npacker.json\n.bakeignore\n")
        (self.directory / "Dockerfile").write_text(self.dockerfile())
        (self.directory / "Dockerfile.kept").write_text(self.dockerfile(keep="--mount=type=cache,target=/var/cache/apt --mount=type=cache,target=/var/lib/apt/lists "))
        (self.directory / "packer.json").write_text(self.packer())
        self.relock(lock)
        return self

    def relock(self, lock):
        """Puts back the lock file that pins the base and nothing else, or takes it away."""
        ours = self.directory / "recipe.lock"
        ours.unlink(missing_ok=True)
        if lock:
            ours.write_bytes(lock.read_bytes())

    def recipe(self):
        def step(what):
            match what:
                case Run(command):
                    return f"run = {json.dumps(command)}\n"
                case Copy(source, to):
                    return f"copy = {json.dumps(source)}\nto = {json.dumps(to)}\n"
                case Packages(names):
                    return f"packages = {json.dumps(names.split())}\n"

        head = f'[image]\nname = "{self.name}"\nversion = "1"\ncompression = "{self.compression}"\n\n[base]\n{self.base}\n'
        return head + "".join(f"\n[[step]]\n{step(what)}" for what in self.steps)

    def dockerfile(self, keep=""):
        def line(what):
            match what:
                case Run(command):
                    return f"RUN {command}\n"
                case Copy(source, to):
                    return f"COPY {source} {to}\n"
                case Packages(names):
                    return f"RUN {keep}apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install {names}\n"

        return f"FROM {BASE}\n" + "".join(map(line, self.steps))

    def packer(self):
        def provisioner(what):
            match what:
                case Run(command):
                    return {"type": "shell", "inline": [command]}
                case Copy(source, to):
                    return {"type": "file", "source": str(self.directory / source), "destination": to}
                case Packages(names):
                    return {"type": "shell", "inline": [f"apt-get -q update && apt-get -q -y install {names}"]}

        tag = {"type": "docker-tag", "repository": self.name, "tag": "latest"}
        builder = {"type": "docker", "image": BASE, "pull": False, "commit": True}
        return json.dumps({"builders": [builder], "provisioners": list(map(provisioner, self.steps)), "post-processors": [tag]}, indent=1)


def small(directory):
    """Five trivial commands and a copied file."""
    put(directory / "page.txt", b"first\n")
    steps = [
        Run("echo one > /etc/one"),
        Run("mkdir -p /srv/app && echo two > /srv/app/two"),
        Run("useradd --system --uid 990 app && chown -R app /srv/app"),
        Run("ln -s /srv/app /app && chmod 0750 /srv/app"),
        Run("rm /etc/one && echo five > /etc/five"),
        Copy("page.txt", "/srv/app/page.txt"),
    ]
    return Work("small", directory, steps)


def nothings(directory, count):
    """Commands that do nothing. Each differs from the others: bake would run equal ones over equal layers once."""
    return Work("nothings", directory, [Run(f"true {number}") for number in range(count)])


def packages(directory):
    return Work("packages", directory, [Packages("nginx")])


def tree(directory, files=50_000):
    """Many small files and four large ones, 400 MB, about half of which compresses well."""
    draw = random.Random(4)
    prose = b" ".join(draw.randbytes(draw.randrange(2, 9)).hex().encode() for _ in range(4000)) * 400

    def content(size):
        start = draw.randrange(len(prose) - size // 2)
        return draw.randbytes(size - size // 2) + prose[start : start + size // 2]

    if not (directory / "tree").exists():
        for number in range(files):
            put(directory / f"tree/{number // 1000:02}/{number // 50 % 20:02}/{number:05}", content(draw.randrange(100, 11_900)))
        for number in range(4):
            put(directory / f"tree/large/{number}", content(25_000_000))
        put(directory / "tree/one", b"first\n")
    return Work("tree", directory, [Copy("tree/", "/srv/tree/")])


def block(directory, compression="gzip"):
    """One layer of 1.07 GB in 64 files: words of random bytes, in random order."""
    draw = random.Random(5)
    size = 16 << 20
    if not (directory / "data").exists():
        for kind in range(8):
            words = [draw.randbytes(draw.randrange(3, 9)) for _ in range(4000)]
            drawn = b" ".join(draw.choices(words, k=size // 6))[:size]
            for turn in range(8):  # the same order in another alphabet: as new to a compressor, and quick to make
                alphabet = bytearray(range(256))
                draw.shuffle(alphabet)
                put(directory / f"data/{kind}{turn}", drawn.translate(bytes(alphabet)))
    return Work("block", directory, [Copy("data/", "/srv/data/")], compression=compression)


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (STAMP, STAMP))
