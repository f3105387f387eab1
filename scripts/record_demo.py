#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["pyte>=0.8.2"]
# ///
"""Record a run of ``mx demo`` as one SVG that plays in a browser, in a loop, without a script.

    pip install pyte && python scripts/record_demo.py [--output FILE] [-- mx demo --size 1GiB]

The command runs in a terminal of its own (a pty); pyte turns what it writes into screens. Every screen
is a frame of a film strip that one CSS animation moves. Waits longer than ``LONGEST_S`` are cut to it;
the figures on the screen are what the run measured. A viewer without animation, or one that asked for
less motion, sees the last frame.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pty
import re
import select
import shlex
import struct
import sys
import termios
import time
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pyte

COLUMNS, LINES = 104, 16
CELL_W, CELL_H, FONT_PX, PAD = 8.43, 18, 14, 14
SHORTEST_S, LONGEST_S, LAST_S = 0.12, 1.0, 6.0
BACKGROUND, FOREGROUND, FAINT = "#16181d", "#d7dae0", "#4b505a"
COLOURS = {
    "default": FOREGROUND, "black": FAINT, "red": "#f7768e", "green": "#9ece6a", "brown": "#e0af68",
    "blue": "#7aa2f7", "magenta": "#bb9af7", "cyan": "#7dcfff", "white": "#ffffff",
}  # fmt: skip
# Drawn, not written: fonts leave gaps between these.
BARS = "━╸╺"


@dataclass(frozen=True)
class Frame:
    at_s: float
    rows: tuple[str, ...]


def record(command: list[str]) -> list[Frame]:
    """Run ``command`` in a terminal; the screens it showed. Exits when the command fails."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    stream.feed(f"\x1b[1;32m$\x1b[0m {shlex.join(command)}\r\n".encode())
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    begin = time.monotonic()
    frames = [Frame(0.0, draw(screen))]
    while True:
        ready, _, _ = select.select([terminal], [], [], 0.05)
        data = b""
        with contextlib.suppress(OSError):  # how Linux reports the end of a pty
            data = os.read(terminal, 65536) if ready else b""
        if ready and not data:
            break
        if data:
            stream.feed(data)
            # A repaint comes in one piece; half of one is not worth a frame.
            if not select.select([terminal], [], [], 0.01)[0]:
                frames.append(Frame(time.monotonic() - begin, draw(screen)))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        sys.exit(f"{shlex.join(command)} ended with code {code}:\n" + "\n".join(screen.display).rstrip())
    frames.append(Frame(time.monotonic() - begin, draw(screen)))
    return frames


def draw(screen: pyte.Screen) -> tuple[str, ...]:
    return tuple(row_svg(screen, line) for line in range(LINES))


def row_svg(screen: pyte.Screen, line: int) -> str:
    """One line of the screen as SVG at y = 0; words apart so that columns stay columns in any font."""
    cells = [screen.buffer[line][column] for column in range(COLUMNS)]
    out, column = [], 0
    while column < COLUMNS:
        style, is_bar = look(cells[column]), cells[column].data in BARS
        end = column + 1
        while end < COLUMNS and look(cells[end]) == style and (cells[end].data in BARS) == is_bar:
            end += 1
        text = "".join(cell.data for cell in cells[column:end])
        if is_bar:
            out.append(bar(text, column, style[0]))
        else:
            out.extend(words(text, column, *style))
        column = end
    return "".join(out)


def look(cell: pyte.screens.Char) -> tuple[str, bool]:
    colour = cell.fg if cell.fg in COLOURS else f"#{cell.fg}"
    return COLOURS.get(colour, colour), cell.bold


def bar(text: str, column: int, colour: str) -> str:
    left = column + (0.5 if text[0] == "╺" else 0)
    right = column + len(text) - (0.5 if text[-1] == "╸" else 0)
    x, width = PAD + left * CELL_W, (right - left) * CELL_W
    return f'<rect x="{x:.1f}" y="-7" width="{width:.1f}" height="4" fill="{colour}"/>'


def words(text: str, column: int, colour: str, bold: bool) -> list[str]:
    return [
        f'<text x="{PAD + (column + found.start()) * CELL_W:.1f}" '
        f'textLength="{len(found[0]) * CELL_W:.1f}"'
        + (f' fill="{colour}"' if colour != FOREGROUND else "")
        + (' font-weight="bold"' if bold else "")
        + f">{escape(found[0])}</text>"
        for found in re.finditer(r"\S+(?: \S+)*", text)
    ]


def thin(frames: list[Frame]) -> list[tuple[float, tuple[str, ...]]]:
    """(seconds shown, rows) without repeats and flicker, long waits cut."""
    kept: list[Frame] = []
    for frame in frames:
        if kept and frame.at_s - kept[-1].at_s < SHORTEST_S:
            kept[-1] = Frame(kept[-1].at_s, frame.rows)
        elif not kept or frame.rows != kept[-1].rows:
            kept.append(frame)
    ends = [frame.at_s for frame in kept[1:]]
    shown = [min(end - frame.at_s, LONGEST_S) for frame, end in zip(kept, ends, strict=False)] + [LAST_S]
    return [(seconds, frame.rows) for seconds, frame in zip(shown, kept, strict=True)]


def film(frames: list[tuple[float, tuple[str, ...]]], title: str) -> str:
    """The SVG. A row that several frames show is stored once."""
    used = max(i + 1 for _, rows in frames for i, row in enumerate(rows) if row)
    width, height = round(COLUMNS * CELL_W + 2 * PAD), round(used * CELL_H + 2 * PAD)
    ids: dict[str, str] = {}
    strips, stops, at, total = [], [], 0.0, sum(seconds for seconds, _ in frames)
    for number, (seconds, rows) in enumerate(frames):
        uses = "".join(
            f'<use href="#{ids.setdefault(row, f"r{len(ids)}")}" y="{PAD + (i + 1) * CELL_H - 5}"/>'
            for i, row in enumerate(rows)
            if row
        )
        strips.append(f'<g transform="translate(0 {number * height})">{uses}</g>')
        stops.append(f"{at / total * 100:.3f}%{{transform:translateY({-number * height}px)}}")
        at += seconds
    rows_svg = "\n".join(f'<g id="{name}">{row}</g>' for row, name in ids.items())
    last = -(len(frames) - 1) * height
    nl = "\n"
    size = f'width="{width}" height="{height}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size} role="img">
<title>{escape(title)}</title>
<style>
text{{font-size:{FONT_PX}px;font-family:ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace}}
#film{{transform:translateY({last}px);animation:play {total:.2f}s step-end infinite}}
@media (prefers-reduced-motion:reduce){{#film{{animation:none}}}}
@keyframes play{{{"".join(stops)}}}
</style>
<defs>
{rows_svg}
</defs>
<rect {size} rx="8" fill="{BACKGROUND}"/>
<svg {size}><g id="film" fill="{FOREGROUND}" transform="translate(0 {last})">
{nl.join(strips)}
</g></svg>
</svg>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Record a run of mx demo as an animated SVG.")
    parser.add_argument("--output", type=Path, default=Path("docs/images/demo.svg"))
    parser.add_argument("command", nargs="*", default=["mx", "demo"])
    given = parser.parse_args()
    # The mx of this environment, also when it is not activated.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{Path('.venv/bin').resolve()}:{os.environ['PATH']}"
    frames = thin(record(given.command))
    svg = film(frames, f"Recording of: {shlex.join(given.command)}")
    given.output.write_text(svg, encoding="utf-8")
    print(f"{given.output}: {len(frames)} frames, {len(svg) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
