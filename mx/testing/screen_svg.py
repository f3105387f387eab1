"""What a Textual app shows, as a small SVG: one text for each line, a piece for each style.

Textual's own export is several times as large; these are kept for every screen, size and theme.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual._compositor import LayoutUpdate
from textual.app import App
from textual.strip import Strip

CELL_W, CELL_H, FONT_PX, PAD = 8.43, 17, 14, 8

_STYLE = (
    f'text{{font:{FONT_PX}px "DejaVu Sans Mono",Menlo,Consolas,monospace}}'
    ".b{font-weight:bold}.i{font-style:italic}.u{text-decoration:underline}"
)


def screen_svg(app: App[Any], *, title: str = "") -> str:
    """The whole screen as it is now, with what lies under a dialogue."""
    lines = [_runs(strip) for strip in _strips(app)]
    columns = max((sum(cell_len(text) for text, _ in runs) for runs in lines), default=0)
    theme = app.current_theme
    back, fore = theme.background or "#000000", theme.foreground or "#ffffff"
    width, height = round(columns * CELL_W + 2 * PAD), len(lines) * CELL_H + 2 * PAD
    palette = _Palette(back=back, fore=fore)
    drawn = [part for y, runs in enumerate(lines) for part in _line(runs, y, palette)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            f' width="{width}" height="{height}">',
            *([f"<title>{escape(title)}</title>"] if title else []),
            f"<style>{_STYLE}{palette.css()}</style>",
            f'<rect width="100%" height="100%" fill="{back}"/>',
            f'<g fill="{fore}" xml:space="preserve">',
            *drawn,
            "</g>",
            "</svg>\n",
        ]
    )


def screen_text(app: App[Any]) -> str:
    """The same without colours, for what a test looks for."""
    return "\n".join("".join(text for text, _ in _runs(strip)).rstrip() for strip in _strips(app))


def _strips(app: App[Any]) -> Iterable[Iterable[Strip]]:
    compositor = app.screen._compositor
    update = compositor.render_update(full=True, screen_stack=app._background_screens)
    assert isinstance(update, LayoutUpdate)
    return update.strips


def _runs(strips: Iterable[Strip]) -> list[tuple[str, Style]]:
    """Pieces of one style; blanks join what stands before them where only the colour of text differs."""
    runs: list[tuple[str, Style]] = []
    for segment in (one for strip in strips for one in strip if not one.control):
        style = _plain(segment)
        if runs and runs[-1][1] == style:
            runs[-1] = (runs[-1][0] + segment.text, style)
        elif segment.text:
            runs.append((segment.text, style))
    return runs


def _plain(segment: Segment) -> Style:
    """What is seen of a style; of blanks that is their background."""
    style = segment.style or Style.null()
    back = style.bgcolor
    if not segment.text.strip() and not style.reverse and not style.underline:
        return Style(bgcolor=back)
    front = style.color
    if style.reverse:
        front, back = back, front
    return Style(
        color=front, bgcolor=back, bold=style.bold, italic=style.italic, underline=style.underline or None
    )


class _Palette:
    """A class of one letter or two for each colour that is not the usual one."""

    def __init__(self, *, back: str, fore: str) -> None:
        self.back, self.fore = back.lower(), fore.lower()
        self._names: dict[str, str] = {}

    def name(self, colour: str) -> str:
        return self._names.setdefault(colour, f"c{len(self._names)}")

    def css(self) -> str:
        return "".join(f".{name}{{fill:{colour}}}" for colour, name in self._names.items())


def _hex(colour: Color | None, default: str) -> str:
    return default if colour is None or colour.is_default else colour.get_truecolor().hex.lower()


def _line(runs: list[tuple[str, Style]], y: int, palette: _Palette) -> list[str]:
    top = PAD + y * CELL_H
    backs: list[tuple[str, int, int]] = []
    pieces, column = [], 0
    for text, style in runs:
        width = cell_len(text)
        back = _hex(style.bgcolor, palette.back)
        if backs and backs[-1][0] == back:
            backs[-1] = (back, backs[-1][1], backs[-1][2] + width)
        else:
            backs.append((back, column, width))
        stripped = text.rstrip()
        if stripped.strip():
            lead = len(stripped) - len(stripped.lstrip())
            pieces.append(_piece(stripped[lead:], column + lead, style, palette))
        column += width
    rects = [
        f'<rect class="{palette.name(back)}" x="{PAD + at * CELL_W:.1f}" y="{top}"'
        f' width="{width * CELL_W:.1f}" height="{CELL_H}"/>'
        for back, at, width in backs
        if back != palette.back
    ]
    texts = [f'<text y="{top + 13}">{"".join(pieces)}</text>'] if pieces else []
    return [*rects, *texts]


def _piece(text: str, column: int, style: Style, palette: _Palette) -> str:
    fore = _hex(style.color, palette.fore)
    names = [palette.name(fore)] if fore != palette.fore else []
    names += [
        name for name, is_so in (("b", style.bold), ("i", style.italic), ("u", style.underline)) if is_so
    ]
    wide = len(text) > 3 and any("\u2500" <= char <= "\u25ff" for char in text)
    # Lines and bars must meet whatever font draws them.
    length = f' textLength="{cell_len(text) * CELL_W:.1f}" lengthAdjust="spacingAndGlyphs"' if wide else ""
    kind = f' class="{" ".join(names)}"' if names else ""
    return f'<tspan x="{PAD + column * CELL_W:.1f}"{length}{kind}>{escape(text, quote=False)}</tspan>'
