#!/usr/bin/env python3
"""Runs commands in a terminal and draws what is on the screen in the end as an SVG: the picture in the README.

    docs/terminal.py 'bake build examples/web/nginx.toml' 'bake list' > docs/build.svg

The commands run in a shell in the current folder, with a store of their own that is removed afterwards; put the bake to show first
in PATH. Knows the few control sequences that bake writes.
"""

import fcntl
import os
import pty
import re
import struct
import sys
import tempfile
import termios
from xml.sax.saxutils import escape

COLUMNS = 88
COLORS = {"1;31": "#ff7b72", "32": "#7ee787", "1;33": "#e3b341", "1": "#f0f6fc", "2": "#8b949e", "1;34": "#79c0ff"}
TEXT, BACK = "#c9d1d9", "#161b22"


def record(command, store):
    """Returns all that the command writes to a terminal."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", BAKE_STORE=store, PS1="")
        os.execvp("sh", ["sh", "-c", f"stty cols {COLUMNS} rows 200; {command}"])
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 200, COLUMNS, 0, 0))
    out = b""
    while True:
        try:
            read = os.read(fd, 1 << 16)
        except OSError:
            break
        if not read:
            break
        out += read
    os.waitpid(pid, 0)
    return out.decode()


def screen(text):
    """Returns the rows on the screen: lists of (character, style)."""
    rows, row, column, style = [[]], 0, 0, ""
    for part in re.finditer(r"\x1b\[([\d;]*)([A-Za-z])|([\r\n])|([^\x1b])", text):
        numbers, verb, move, char = part.groups()
        if verb == "m":
            style = "" if numbers in ("", "0") else numbers
        elif verb == "A":
            row = max(0, row - int(numbers or 1))
        elif verb == "B":
            row += int(numbers or 1)
        elif verb == "K":
            rows[row] = [] if numbers == "2" else rows[row][:column]
        elif move == "\r":
            column = 0
        elif move == "\n":
            row, column = row + 1, 0
        elif char:
            if column == COLUMNS:
                row, column = row + 1, 0
            while len(rows) <= row:
                rows.append([])
            rows[row] += [(" ", "")] * (column + 1 - len(rows[row]))
            rows[row][column] = (char, style)
            column += 1
        while len(rows) <= row:
            rows.append([])
    return rows


def runs(cells):
    """Joins neighbours of one style; blanks at the end go."""
    joined = []
    for char, style in cells:
        if joined and joined[-1][1] == style:
            joined[-1][0] += char
        else:
            joined.append([char, style])
    while joined and not joined[-1][0].strip():
        joined.pop()
    return joined


def draw(rows):
    """Returns the rows as an SVG."""
    step, wide, edge = 19, 8.43, 18
    width, height = round(COLUMNS * wide + 2 * edge), len(rows) * step + 2 * edge
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f'<rect width="100%" height="100%" rx="8" fill="{BACK}"/>',
        f'<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" font-size="14" fill="{TEXT}">',
    ]
    for number, cells in enumerate(rows):
        at, spans = 0, []
        for text, style in runs(cells):
            color = f' fill="{COLORS[style]}"' if style in COLORS else ""
            # Placed by column, so that the picture is straight in any font.
            spans.append(f'<tspan x="{edge + at * wide:.1f}"{color} xml:space="preserve">{escape(text)}</tspan>')
            at += len(text)
        if spans:
            out.append(f'<text y="{edge + number * step + 14}">{"".join(spans)}</text>')
    return "\n".join(out + ["</g>", "</svg>"])


def main():
    rows = []
    with tempfile.TemporaryDirectory() as store:
        for command in sys.argv[1:]:
            rows.append([(char, "1;34") for char in "$ "] + [(char, "1") for char in command])
            shown = screen(record(command, store))
            while shown and not runs(shown[-1]):
                shown.pop()
            rows += shown + [[]]
    print(draw(rows[:-1]))


main()
