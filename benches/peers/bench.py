"""The whole run: prepares, measures what was asked for, writes the report, leaves nothing behind. Started by run.sh."""

import contextlib
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import cases
import report
import scaling
from tools import Bake, Buildah, Docker, Packer, said, unmount


class Notes:
    """results.jsonl: one object per measured run, in the order in which they were made."""

    def __init__(self, path):
        self.path = path

    def add(self, **row):
        row["at"], row["load"] = round(time.time()), round(os.getloadavg()[0], 2)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print("  " + "  ".join(f"{key} {value}" for key, value in row.items() if key not in ("at", "load")), flush=True)


def main(out, wanted):
    unknown = set(wanted) - {*cases.ALL, "scaling"}
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}")
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda *_: sys.exit(1))  # so that everything is taken down
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.jsonl"
    results.unlink(missing_ok=True)
    notes = Notes(results)
    if "LAB" in os.environ:
        Path(os.environ["LAB"]).mkdir(parents=True, exist_ok=True)
    lab = Path(tempfile.mkdtemp(prefix="bake-bench-", dir=os.environ.get("LAB"))).resolve()
    with contextlib.ExitStack() as after:
        after.callback(shutil.rmtree, lab, ignore_errors=True)
        after.callback(unmount, lab)
        (lab / "out").mkdir()
        bake = Bake(lab, os.environ["BAKE"])
        chosen = [name for name in cases.ALL if name in wanted]
        tools = [bake]
        if set(chosen) - {"H"}:
            tools += [tool for tool in (Docker(lab), Docker(lab, "docker classic", buildkit=False), Buildah(lab), Packer(lab)) if present(tool)]
        notes.add(kind="host", system=host(), date=time.strftime("%Y-%m-%d"), versions={tool.name: tool.version() for tool in tools})
        if set(chosen) - {"H"}:
            print("== preparing the base", flush=True)
            for tool in tools:
                after.callback(tool.down)
                tool.up(lab / "base.tar")
        for name in chosen:
            print(f"== {name}: {cases.ALL[name].__doc__.splitlines()[0]}", flush=True)
            cases.ALL[name](cases.Bench(lab, tools, notes))
        if "scaling" in wanted:
            scaling.all_of(lab, bake.program, notes)
    report.write(out)


def present(tool):
    missing = tool.missing()
    if missing:
        print(f"{tool.name} is left out: no {', '.join(missing)} here", flush=True)
    return not missing


def host():
    release = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, {release}, {said(['findmnt', '-no', 'FSTYPE', '-T', tempfile.gettempdir()])}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or [*cases.ALL, "scaling"])
