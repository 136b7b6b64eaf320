"""Turns results.jsonl into report.md and two plots.   report.py OUT"""

import collections
import json
import statistics
import sys
from pathlib import Path

import plot

# What each case is, the goal (bake / best peer), and what a current BuildKit with its daemon running took in an earlier
# measurement on a machine of the same kind (2 shared cores, November 2026): to an OCI layout, and to its own store.
CASES = {
    "A": ("five trivial commands and a copied file, cold", 0.3, 0.63, 0.34),
    "B": ("the same, unchanged", 0.15, 0.11, 0.10),
    "C": ("the same, last copied file changed", 0.4, 0.12, 0.09),
    "D cold": ("50,000 files, 400 MB, cold", 0.2, 22, None),
    "D unchanged": ("the same, unchanged", 0.15, 1.07, None),
    "D one file": ("the same, one file changed", 0.2, 9.1, None),
    "E fetched": ("install nginx, packages fetched", 0.5, 5.67, None),
    "E kept": ("install nginx, packages at hand", 0.4, None, None),
    "F gzip": ("a layer of 1.07 GB, gzip", 0.5, 16.0, None),
    "F zstd": ("a layer of 1.07 GB, zstd", 0.5, None, None),
    "G cold": ("50 commands that do nothing, cold", 0.1, None, 3.51),
    "G unchanged": ("the same, unchanged", 0.2, None, 0.15),
    "H fetched": ("Debian minbase to a tar, packages fetched", 0.33, None, None),
    "H kept": ("Debian minbase to a tar, packages at hand", 0.25, None, None),
}
LIMITS = {"B": 0.015}  # seconds that bake itself may take
BAKE, REPORTED = "bake", "BuildKit, reported"
NOTES = """\
Wall seconds, median (best) of the runs of each tool, which alternate. All start from the same Debian root, which each has in its own
store already, unpacked: bake exported it for the others. bake's store is an OCI layout; the others build into their own store first,
so the first table adds their export and the second leaves it out. Cold: nothing but that base is cached. "Reported" are figures of a
current BuildKit with its daemon running, taken earlier on a machine of the same kind and **not run here**; the ratio and the verdict
are to the best tool that was run."""


def write(out):
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    host = next(row for row in rows if row["kind"] == "host")
    runs = [row for row in rows if row["kind"] == "run"]
    parts = [f"Measured on {host['date']}: {host['system']}. " + "; ".join(sorted(set(host["versions"].values()))) + ".", NOTES]
    layout, store = times(runs, "layout"), times(runs, "store")
    if layout:
        parts += ["### To an OCI layout (H: to a tar)", compared(layout, 2)]
    if store:
        parts += ["### To the tool's own store", compared({case: by for case, by in store.items() if case[0] in "ABCDG"}, 3)]
    parts += floors(runs) + memory(rows)
    plots = {"peers.svg": plot.dots(shown(layout, store))} if runs else {}
    grown = [row for row in rows if row["kind"] == "scaling"]
    if grown:
        parts += scaling(grown)
        plots["scaling.svg"] = plot.panels(panels(grown))
    for name, text in plots.items():
        (out / name).write_text(text)
        parts.append(f"![{name.partition('.')[0]}]({name})")
    (out / "report.md").write_text("\n\n".join(parts) + "\n")
    print("\n\n".join(parts))


def times(runs, what):
    """case → tool → the seconds of its runs, for the cases that are in the table."""
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in runs:
        if row["case"] in CASES and what in row:
            found[row["case"]][row["tool"]].append(row[what])
    return found


def compared(found, reported):
    tools = [BAKE] + sorted({tool for by in found.values() for tool in by} - {BAKE})
    lines = [["case", "what", *tools, "ratio", "goal", REPORTED]]
    for case in (case for case in CASES if case in found):
        by, (what, goal, *_) = found[case], CASES[case]
        peers = [statistics.median(taken) for tool, taken in by.items() if tool != BAKE]
        ratio, verdict, known = "", f"≤ {goal}", CASES[case][reported]
        if case in LIMITS:
            verdict += f", ≤ {seconds(LIMITS[case])}"
        if peers and BAKE in by:
            ours = statistics.median(by[BAKE])
            met = ours / min(peers) <= goal and ours <= LIMITS.get(case, ours)
            ratio, verdict = f"**{ours / min(peers):.2g}**", f"{verdict}: {'met' if met else '**not met**'}"
        lines.append([case, what, *(cell(by.get(tool)) for tool in tools), ratio, verdict, seconds(known) if known else ""])
    return table(lines)


def floors(runs):
    """The layer of F once more: what its export or its compression costs by itself."""
    found = collections.defaultdict(list)
    for row in (row for row in runs if row["case"].startswith("F")):
        how, tool = row["case"].removeprefix("F "), row["tool"]
        name = tool if how == "floor" else f"bake, {how}: everything" if tool == BAKE else f"{tool}, {how}: export alone"
        found[name].append((row.get("export", row["layout"]), row["bytes"]))
    if not found:
        return []
    lines = [["1.07 GB", "seconds", "MB"]]
    for name, taken in sorted(found.items()):
        size = f"{taken[0][1] / 1e6:.1f}" if taken[0][1] > 1000 else ""
        lines.append([name, cell([second for second, _ in taken]), size])
    return ["### The layer of F: parts", table(lines)]


def memory(rows):
    lines = [["case", "largest process, MiB", "all its processes together, MiB"]]
    lines += [[row["case"], str(row["largest_mib"]), str(row["together_mib"])] for row in rows if row["kind"] == "memory"]
    return ["### Peak memory of bake", "Pages that processes share count for each of them in the sum.", table(lines)] if len(lines) > 1 else []


AXES = {"files": "files copied", "steps": "steps", "versions": "versions in the store"}


def grouped(grown):
    """plot → series → count → seconds of its runs."""
    found = {}
    for row in grown:
        found.setdefault(row["plot"], {}).setdefault(row["series"], {}).setdefault(row["count"], []).append(row["wall"])
    return found


def scaling(grown):
    parts = ["### As things grow: bake alone"]
    for name, by_series in grouped(grown).items():
        counts = sorted({count for by in by_series.values() for count in by})
        lines = [[AXES[name], *(f"{count:,}" for count in counts)]]
        lines += [[series, *(cell(by.get(count)) for count in counts)] for series, by in by_series.items()]
        parts.append(table(lines))
    return parts


def panels(grown):
    return [
        (AXES[name], {series: [(count, statistics.median(taken)) for count, taken in sorted(by.items())] for series, by in by_series.items()})
        for name, by_series in grouped(grown).items()
    ]


def shown(layout, store):
    """The rows of the plot: those of the first table, and those that only the second has."""
    for case, (what, _, *reported) in CASES.items():
        field = 0 if case in layout else 1
        by = (layout, store)[field].get(case)
        if by:
            points = {tool: statistics.median(taken) for tool, taken in by.items()}
            if reported[field]:
                points[REPORTED] = reported[field]
            yield f"{case.split()[0]}  {what}", points


def cell(taken):
    if not taken:
        return ""
    return seconds(statistics.median(taken)) + (f" ({seconds(min(taken))})" if len(taken) > 1 else "")


def seconds(value):
    return f"{value * 1000:.0f} ms" if value < 0.1 else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def table(lines):
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + "---|" * len(lines[0]), *body])


if __name__ == "__main__":
    write(Path(sys.argv[1]))
