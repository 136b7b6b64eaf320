"""bake alone, as things grow: files in a context, steps in a recipe, versions in a store."""

import json
import os
import re
import shutil
import subprocess

import clock
import work

FILES = [1_000, 5_000, 20_000, 100_000, 500_000]
STEPS = [1, 5, 20, 100, 500]
VERSIONS = [1, 10, 100, 1_000, 10_000]
RUNS = int(os.environ.get("RUNS", 5))


def all_of(lab, program, notes):
    home = lab / "scaling"
    for name, part in (("files", files), ("steps", steps), ("versions", versions)):
        print(f"== scaling: {part.__doc__.splitlines()[0]}", flush=True)
        home.mkdir()

        def timed(series, count, *argv, watch=False):
            os.sync()
            took = clock.run([program, *argv], {"BAKE_STORE": str(home / "store")}, watch=watch)
            if watch:
                notes.add(kind="memory", case=f"{series}, {count:,} {name}", tool="bake", largest_mib=round(took.largest), together_mib=round(took.together))
                return
            notes.add(kind="scaling", plot=name, series=series, count=count, wall=round(took.wall, 4), cpu=round(took.cpu, 4))

        part(home, timed)
        shutil.rmtree(home)


def recipe(path, base, steps=""):
    path.write_text(f'[image]\nname = "grown"\nversion = "1"\n[base]\n{base}\n{steps}')


def files(home, timed):
    """A build with nothing to do, and a cold one, against the number of files that it copies."""
    recipe(home / "recipe.toml", "scratch = true", '[[step]]\ncopy = "tree/"\nto = "/srv/"\n')
    made = 0
    for count in FILES:
        for number in range(made, count):
            if number % 1000 == 0:
                (home / f"tree/{number // 1000}").mkdir(parents=True)
            work.put(home / f"tree/{number // 1000}/{number}", b"%d\n" % number)
        made = count
        build = ("build", "-q", "--set-version", str(count), home / "recipe.toml")
        timed("cold", count, *build)
        for _ in range(RUNS):
            timed("nothing to do", count, *build)
        if count == FILES[-1]:
            timed("nothing to do", count, *build, watch=True)
            shutil.rmtree(home / "store")
            timed("cold", count, *build, watch=True)
        shutil.rmtree(home / "store")


def steps(home, timed):
    """A cold build, and one with nothing to do, against the number of steps that do nothing."""
    root = home / "root"
    libraries = re.findall(r"/\S+", subprocess.run(["ldd", "/bin/true"], capture_output=True, text=True, check=True).stdout)
    for path in ("/bin/true", *libraries):
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path[1:])
    for count in STEPS:
        # each differs from the others: equal commands over equal layers would be run once
        recipe(home / "recipe.toml", 'path = "root"', "".join(f'[[step]]\nrun = ["/bin/true", "{number}"]\n' for number in range(count)))
        build = ("build", "-q", home / "recipe.toml")
        for _ in range(RUNS):
            shutil.rmtree(home / "store", ignore_errors=True)
            timed("cold", count, *build)
        for _ in range(RUNS):
            timed("nothing to do", count, *build)


def versions(home, timed):
    """What needs the index, against the number of versions that are in it."""
    recipe(home / "recipe.toml", "scratch = true", '[[step]]\nfile = "/name"\ncontent = "{{ version }}"\n')
    build = ("build", "-q", home / "recipe.toml", "--set-version")
    timed("publish", 1, *build, "1")
    index = home / "store/index.json"
    first = json.loads(index.read_text())
    for count in VERSIONS:
        # versions of one content, written as bake writes them: 10,000 builds would measure something else
        entries = [json.loads(json.dumps(first["manifests"][0])) for _ in range(count)]
        for number, entry in enumerate(entries):
            entry["annotations"]["org.opencontainers.image.ref.name"] = f"grown:{number + 1}"
        index.write_text(json.dumps({**first, "manifests": entries}, separators=(",", ":")))
        for _ in range(RUNS):
            timed("nothing to do", count, *build, "1")
            timed("publish", count, *build, "next")
            timed("list", count, "list")
            timed("show", count, "show", "grown:1")
            timed("remove", count, "rm", "-q", "grown:next")
