"""Two kinds of plot as SVG that needs nothing else and reads on light and on dark pages."""

import math
from xml.sax.saxutils import escape

STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #6e7781 } .strong { font-weight: 600 } line.grid { stroke: #8b949e; stroke-opacity: .3 }
.c0 { color: #d1242f } .c1 { color: #0969da } .c2 { color: #54aeff } .c3 { color: #2da44e } .c4 { color: #bf8700 } .c5 { color: #8250df }
circle, rect.key { fill: currentColor; stroke: currentColor } circle.open { fill: none; stroke-width: 2 } polyline { fill: none; stroke: currentColor; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #adbac7 } .c0 { color: #ff7b72 } .c1 { color: #58a6ff } .c2 { color: #9ecbff } .c3 { color: #56d364 } .c4 { color: #e3b341 } .c5 { color: #bc8cff } }
</style>"""
LOW = 0.001  # seconds: the least that an axis shows


def dots(rows):
    """A line a case, a dot a tool, along a logarithmic axis of seconds. rows: (label, {tool: seconds})."""
    rows = list(rows)
    tools = sorted({tool for _, points in rows for tool in points}, key=lambda tool: (tool != "bake", "reported" in tool, tool))
    left, right, step, top = 300, 860, 26, 58
    x = scale([seconds for _, points in rows for seconds in points.values()], left, right)
    bottom = top + step * len(rows)
    parts = []
    for place, tool in enumerate(tools):
        parts.append(f'<g class="c{place}">{dot(left + 6 + place % 3 * 190, 14 + place // 3 * 18, "reported" in tool)}</g>')
        parts.append(text(left + 16 + place % 3 * 190, 18 + place // 3 * 18, tool))
    parts += [grid(x(value), top - 12, x(value), bottom - 8) + text(x(value), bottom + 10, label, "middle") for value, label in ticks(x)]
    for row, (label, points) in enumerate(rows):
        y = top + step * row + 6
        parts.append(text(left - 14, y + 4, label, "end") + grid(left, y, right, y))
        for tool in reversed(tools):  # bake's on top
            if tool in points:
                at = f"<title>{escape(tool)}: {points[tool]:.3g} s</title>"
                parts.append(f'<g class="c{tools.index(tool)}">{dot(x(points[tool]), y, "reported" in tool)}{at}</g>')
    return svg(right + 30, bottom + 22, parts)


def panels(charts):
    """Charts side by side, both axes logarithmic. charts: (label of x, {series: [(count, seconds)]})."""
    width, height, gap, parts = 230, 200, 70, []
    y = scale([seconds for _, series in charts for line in series.values() for _, seconds in line], height, 20)
    for place, (label, series) in enumerate(charts):
        left = 60 + place * (width + gap)
        counts = sorted({count for line in series.values() for count, _ in line})
        x = scale(counts, left, left + width, low=1)
        parts += [grid(left, y(value), left + width, y(value)) + text(left - 12, y(value) + 4, name, "end") for value, name in ticks(y)]
        parts += [text(x(count), height + 18, short(count), "middle") for count in counts]
        parts.append(text(left + width / 2, height + 38, label, "middle", "strong"))
        for colour, (name, line) in enumerate(series.items()):
            points = " ".join(f"{x(count):.1f},{y(seconds):.1f}" for count, seconds in line)
            marks = "".join(dot(x(count), y(seconds), False) for count, seconds in line)
            parts.append(f'<g class="c{colour}"><polyline points="{points}"/>{marks}')
            parts.append(f'<rect class="key" x="{left}" y="{height + 50 + colour * 18}" width="12" height="3"/></g>')
            parts.append(text(left + 18, height + 56 + colour * 18, name))
    most = max(len(series) for _, series in charts)
    return svg(60 + len(charts) * (width + gap), height + 56 + most * 18, parts)


def scale(values, start, end, low=LOW):
    """Maps values between powers of ten to start…end, logarithmically."""
    first = math.floor(math.log10(max(min(values), low)))
    last = max(math.ceil(math.log10(max(values))), first + 1)

    def place(value):
        return start + (math.log10(max(value, low)) - first) / (last - first) * (end - start)

    place.powers = range(first, last + 1)
    return place


def ticks(place):
    names = {-3: "1 ms", -2: "10 ms", -1: "0.1 s"}
    return [(10.0**power, names.get(power, f"{10**max(power, 0)} s")) for power in place.powers]


def short(count):
    return f"{count // 1000}k" if count >= 1000 else str(count)


def dot(x, y, is_open):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"{" class=" + chr(34) + "open" + chr(34) if is_open else ""}/>'


def grid(x1, y1, x2, y2):
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x, y, what, anchor="start", kind=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}>{escape(what)}</text>'


def svg(width, height, parts):
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n{STYLE}\n' + "\n".join(parts) + "\n</svg>\n"
