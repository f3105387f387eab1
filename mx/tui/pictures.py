"""Numbers as pictures of characters: bars and sparklines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_LEVELS = " ▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(share: float, width: int) -> str:
    """A bar of ``width`` cells filled to ``share``, eighth by eighth."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, part = divmod(eighths, 8)
    drawn = "█" * full + (_EIGHTHS[part] if part else "")
    return drawn.ljust(width, "░")


def sparkline(values: Sequence[float], width: int, *, peak: float | None = None) -> str:
    """The last values, the newest at the right. Zero is the lowest line, what is above it is never blank."""
    return plot(values, width, 1, peak=peak)[0]


def plot(values: Sequence[float], width: int, height: int, *, peak: float | None = None) -> list[str]:
    """As ``height`` lines, top first. ``peak`` is the value of a full column; by default the largest."""
    shown = _spread(values, width)
    top = max(shown, default=0.0) if peak is None else peak
    steps = height * 8
    levels = [
        0 if top <= 0 or value <= 0 else max(1, min(steps, round(value / top * steps))) for value in shown
    ]
    padding = width - len(levels)
    lines: list[str] = []
    for row in range(height - 1, -1, -1):
        line = "".join(_LEVELS[max(0, min(8, level - row * 8))] for level in levels)
        lines.append(" " * padding + line)
    lines[-1] = lines[-1][:padding] + lines[-1][padding:].replace(" ", "▁")
    return lines


def _spread(values: Sequence[float], width: int) -> list[float]:
    """At most ``width`` values: neighbours that share a column are shown as the larger of them."""
    count = len(values)
    if count <= width or width <= 0:
        return list(values[-width:]) if width > 0 else []
    edges = [index * count // width for index in range(width + 1)]
    return [max(values[begin:end]) for begin, end in pairwise(edges)]
