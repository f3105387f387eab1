"""What a Textual app shows, as a small SVG: one text for each line, a piece for each style.

Textual's own export is several times as large; these are kept for every screen, size and theme.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any, Self

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
    palette = _Palette.of(app)
    lines = [_line(_runs(strip), y, palette) for y, strip in enumerate(_strips(app))]
    body = [part for line in lines for part in line]
    return _document(body, _size(app), palette, title=title)


class Film:
    """Screens of one app, one after the other: an SVG that plays in a loop, without a script.

    Viewers without animation, and those who asked for less motion, see the last one.
    """

    def __init__(self) -> None:
        self._palette: _Palette | None = None
        self._size = (0, 0)
        self._frames: list[tuple[float, list[str]]] = []

    def take(self, app: App[Any], *, at_s: float) -> None:
        """The screen as it is now; one that looks as the last did is left out."""
        palette = self._palette = self._palette or _Palette.of(app)
        self._size = _size(app)
        lines = ["".join(_line(_runs(strip), y, palette)) for y, strip in enumerate(_strips(app))]
        if not self._frames or self._frames[-1][1] != lines:
            self._frames.append((at_s, lines))

    def svg(self, *, title: str, last_s: float = 5.0) -> str:
        """A line that several screens show is stored once. ``last_s`` is how long the last one stays."""
        assert self._palette is not None, "nothing was taken"
        begin_s, height = self._frames[0][0], self._size[1]
        total_s = self._frames[-1][0] - begin_s + last_s
        names: dict[str, str] = {}
        strips, stops = [], []
        for number, (at_s, lines) in enumerate(self._frames):
            uses = "".join(
                f'<use href="#{names.setdefault(line, f"l{len(names)}")}"/>' for line in lines if line
            )
            strips.append(f'<g transform="translate(0 {number * height})">{uses}</g>')
            stops.append(
                f"{(at_s - begin_s) / total_s * 100:.2f}%{{transform:translateY({-number * height}px)}}"
            )
        last = -(len(self._frames) - 1) * height
        style = (
            f"#film{{transform:translateY({last}px);animation:play {total_s:.2f}s step-end infinite}}"
            "@media (prefers-reduced-motion:reduce){#film{animation:none}}"
            f"@keyframes play{{{''.join(stops)}}}"
        )
        defs = [f'<g id="{name}">{line}</g>' for line, name in names.items()]
        body = ["<defs>", *defs, "</defs>", f'<g id="film" transform="translate(0 {last})">', *strips, "</g>"]
        return _document(body, self._size, self._palette, title=title, style=style)


def _size(app: App[Any]) -> tuple[int, int]:
    return round(app.size.width * CELL_W + 2 * PAD), app.size.height * CELL_H + 2 * PAD


def _document(
    body: Iterable[str], size: tuple[int, int], palette: _Palette, *, title: str, style: str = ""
) -> str:
    width, height = size
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            f' width="{width}" height="{height}">',
            *([f"<title>{escape(title)}</title>"] if title else []),
            f"<style>{_STYLE}{palette.css()}{style}</style>",
            f'<rect width="100%" height="100%" fill="{palette.back}"/>',
            f'<g fill="{palette.fore}" xml:space="preserve">',
            *body,
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

    @classmethod
    def of(cls, app: App[Any]) -> Self:
        theme = app.current_theme
        return cls(back=theme.background or "#000000", fore=theme.foreground or "#ffffff")

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
