"""The cases: the same work for every tool, in alternation, each run by itself from the state that its case says."""

import os
import shutil

import clock
import work
from tools import remove, said

RUNS = int(os.environ.get("RUNS", 5))
BIG_RUNS = int(os.environ.get("BIG_RUNS", 3))


class Bench:
    """What the cases share."""

    def __init__(self, lab, tools, notes):
        self.lab, self.tools, self.notes = lab, tools, notes
        self.bake = tools[0]

    def written(self, made):
        return made.write(self.bake.lock)

    def caching(self):
        return [tool for tool in self.tools if tool.caches]

    def build(self, tool, made, export=True, **how):
        """Builds untimed, so that the next build finds everything: in the tool's own store, and as an OCI layout."""
        for argv in tool.build(made, **how) + (tool.export(made, tool.out) if export else []):
            clock.run(argv, tool.env)

    def measure(self, case, tool, made, export=True, clear=False, compression="gzip", watch=False, **how):
        """Times one build, and the export by itself, so that both "to an OCI layout" and "to its own store" can be told."""
        commands = tool.build(made, **how)
        if clear:
            shutil.rmtree(tool.out, ignore_errors=True)
        os.sync()  # nobody pays for what another has left to write
        built = [clock.run(argv, tool.env, watch=watch) for argv in commands]
        exported = [clock.run(argv, tool.env, watch=watch) for argv in tool.export(made, tool.out, compression)] if export else []
        row = {
            "case": case,
            "tool": tool.name,
            "store": seconds(built),
            **({"layout": seconds(built + exported)} if export else {}),
            "cpu": round(sum(took.cpu for took in built + exported), 4),
        }
        return {**row, **sizes(built + exported)} if watch else row

    def note(self, row):
        self.notes.add(kind="run", **row)


def seconds(took):
    return round(sum(each.wall for each in took), 4)


def sizes(took):
    return {"largest_mib": round(max(each.largest for each in took)), "together_mib": round(max(each.together for each in took))}


def rounds(count, tools):
    """Alternation: A B C, A B C, … rather than A A, B B, C C, as a busy machine changes with the minutes."""
    return [(turn, tool) for turn in range(count) for tool in tools]


def case_a(bench):
    """Five trivial commands and a copied file, cold; the base is at hand."""
    made = bench.written(work.small(bench.lab / "a"))
    for _, tool in rounds(RUNS, bench.tools):
        bench.note(bench.measure("A", tool, made, fresh=True, clear=True))


def case_b(bench):
    """The build of A once more: nothing has changed."""
    made = bench.written(work.small(bench.lab / "b"))
    for tool in bench.caching():
        bench.build(tool, made)
    for _, tool in rounds(RUNS, bench.caching()):
        bench.note(bench.measure("B", tool, made))


def case_c(bench):
    """The build of A after a change of the file that its last step copies."""
    made = bench.written(work.small(bench.lab / "c"))
    for tool in bench.caching():
        bench.build(tool, made)
    for turn, tool in rounds(RUNS, bench.caching()):
        (made.directory / "page.txt").write_text(f"{tool.name} {turn}\n")
        bench.note(bench.measure("C", tool, made, version=f"2.{turn}"))


def case_d(bench):
    """50,000 small files and four large ones, 400 MB: cold, unchanged, one small file changed."""
    made = bench.written(work.tree(bench.lab / "d"))
    changed = made.directory / "tree/one"
    for _, tool in rounds(BIG_RUNS, bench.caching()):
        bench.note(bench.measure("D cold", tool, made, fresh=True, clear=True))
    for tool in bench.caching():
        bench.build(tool, made, export=False)
    for _, tool in rounds(BIG_RUNS, bench.caching()):
        bench.note(bench.measure("D unchanged", tool, made))
    for turn, tool in rounds(BIG_RUNS, bench.caching()):
        changed.write_text(f"{tool.name} {turn}\n")
        bench.note(bench.measure("D one file", tool, made, version=f"2.{turn}"))
    memory(bench, "D cold", made)
    clean(bench, made)


def case_e(bench):
    """apt-get install nginx, with the packages fetched in the time, then with the packages of an earlier build at hand."""
    made = bench.written(work.packages(bench.lab / "e"))
    for _, tool in rounds(BIG_RUNS, bench.caching()):
        bench.note(bench.measure("E fetched", tool, made, fresh=True, clear=True))
    keeping = [tool for tool in bench.caching() if tool.keeps]
    for tool in keeping:
        bench.build(tool, made, export=False, fresh=True)
        bench.build(tool, made, export=False, fresh=True, kept=True)  # fills the cache mount of those that have one
    for _, tool in rounds(BIG_RUNS, keeping):
        bench.note(bench.measure("E kept", tool, made, fresh=True, kept=True, clear=True))
    clean(bench, made)


def case_f(bench):
    """One layer of 1.07 GB, cold, to gzip and to zstd."""
    source = bench.lab / "f"
    for compression in ("gzip", "zstd"):
        made = bench.written(work.block(source, compression))
        for turn, tool in rounds(BIG_RUNS, bench.caching()):
            row = bench.measure(f"F {compression}", tool, made, compression=compression, fresh=True, clear=True)
            row["bytes"] = blob(tool, made)
            if tool.export(made, tool.out):
                row["export"] = round(row["layout"] - row["store"], 4)
            bench.note(row)
        memory(bench, f"F {compression}", made)
        forget(bench)
    floors(bench, source)
    clean(bench, made)


def floors(bench, source):
    """What the bytes of F cost a compressor and a hash that do nothing else."""
    tar, packed = bench.lab / "f.tar", bench.lab / "f.packed"
    clock.run(["tar", "-C", source, "-cf", tar, "data"])
    commands = {"pigz -6": ["pigz", "-6", "-c", tar], "zstd -3 -T0": ["zstd", "-q", "-3", "-T0", "-c", tar], "sha256sum": ["sha256sum", tar]}
    commands = {name: argv for name, argv in commands.items() if shutil.which(argv[0])}
    for _, name in rounds(BIG_RUNS, commands):
        os.sync()
        took = clock.run(commands[name], output=packed)
        bench.note({"case": "F floor", "tool": name, "layout": seconds([took]), "bytes": packed.stat().st_size})
    tar.unlink()
    packed.unlink()


def case_g(bench):
    """Fifty commands that do nothing, cold, and once more with nothing changed."""
    made = bench.written(work.nothings(bench.lab / "g", 50))
    for _, tool in rounds(BIG_RUNS, bench.caching()):
        bench.note(bench.measure("G cold", tool, made, export=False, fresh=True))
    for tool in bench.caching():
        bench.build(tool, made, export=False)
    for _, tool in rounds(RUNS, bench.caching()):
        bench.note(bench.measure("G unchanged", tool, made, export=False))
    clean(bench, made)


def case_h(bench):
    """A minimal Debian root as a tar, from nothing; then with the packages of an earlier run at hand."""
    bake, tar = bench.bake, bench.lab / "h.tar"
    made = work.Work("minimal", bench.lab / "h", [], compression="none").write()
    env = {"BAKE_STORE": str(bench.lab / "h/store")}
    build = [bake.program, "build", "-q", made.directory / "recipe.toml"]
    export = [bake.program, "export", "-q", "minimal:1", "--format", "tar", "--output", tar]
    debs = bench.lab / "h/debs"
    bootstrap = ["mmdebstrap", "-q", "--variant=minbase", "--mode=root"]
    keep = ["--skip=download/empty", "--skip=essential/unlink"]
    give = [*keep, f'--setup-hook=mkdir -p "$1/var/cache/apt/archives"; cp {debs}/*.deb "$1/var/cache/apt/archives/"']
    peer = bool(shutil.which("mmdebstrap"))

    def ours(case):
        tar.unlink(missing_ok=True)
        os.sync()
        took = [clock.run(build, env), clock.run(export, env)]
        bench.note({"case": case, "tool": "bake", "layout": seconds(took)})

    def theirs(case, *options):
        tar.unlink(missing_ok=True)
        os.sync()
        took = clock.run([*bootstrap, *options, "bookworm", tar, *sources()])
        bench.note({"case": case, "tool": "mmdebstrap", "layout": seconds([took])})

    if not peer:
        print("mmdebstrap is left out: it is not here", flush=True)
    for turn in range(BIG_RUNS):
        shutil.rmtree(bench.lab / "h/store", ignore_errors=True)
        made.relock(None)
        ours("H fetched")
        if peer:
            theirs("H fetched")
    if peer:
        debs.mkdir()
        fetch = [f"--customize-hook=cp $1/var/cache/apt/archives/*.deb {debs}/", "--skip=cleanup/apt"]
        clock.run([*bootstrap, *keep, *fetch, "bookworm", "/dev/null", *sources()])
    for turn in range(BIG_RUNS):
        clock.run([bake.program, "rm", "-q", "minimal:1"], env)
        for part in ("steps", "blobs", "layers"):
            remove(bench.lab / "h/store/cache" / part)
        ours("H kept")
        if peer:
            theirs("H kept", *give)
    shutil.rmtree(bench.lab / "h/store")
    tar.unlink()
    took = [clock.run(command, env, watch=True) for command in (build, export)]
    bench.notes.add(kind="memory", case="H fetched", tool="bake", **sizes(took))
    tar.unlink(missing_ok=True)
    shutil.rmtree(made.directory)


def sources():
    """The host's own package sources for bookworm, as bake takes them: release, updates and security."""
    told = said(["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]).splitlines()
    lines = [f"deb {line}" for line in told if line.split()[1].startswith("bookworm") and line.split()[2] == "main"]
    return lines or ["deb http://deb.debian.org/debian bookworm main", "deb http://deb.debian.org/debian-security bookworm-security main"]


def memory(bench, case, made):
    """One more run of bake, not timed, in which the memory of all its processes is summed."""
    row = bench.measure(case, bench.bake, made, fresh=True, watch=True)
    bench.notes.add(kind="memory", case=case, tool="bake", largest_mib=row["largest_mib"], together_mib=row["together_mib"])


def blob(tool, made):
    """Bytes of the greatest blob that a build has written."""
    layout = tool.out if tool.export(made, tool.out) else tool.store
    return max(path.stat().st_size for path in (layout / "blobs/sha256").iterdir())


def forget(bench):
    for tool in bench.tools:
        tool.forget()
        shutil.rmtree(tool.out, ignore_errors=True)


def clean(bench, made):
    forget(bench)
    shutil.rmtree(made.directory)


ALL = {"A": case_a, "B": case_b, "C": case_c, "D": case_d, "E": case_e, "F": case_f, "G": case_g, "H": case_h}
