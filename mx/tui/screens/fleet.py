"""What every screen has: head, tabs, trouble, body, prompt, keys."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import WorkType

from mx.core.units import format_age
from mx.tui.cells import Cell, Tone
from mx.tui.ink import ink, stack
from mx.tui.keys import GLOBAL, Key, bindings
from mx.tui.screens.dialogs import help_page
from mx.tui.state import Link, Phase, Watched
from mx.tui.widgets.bars import Band, Prompt, Spot, SpotLine, key_spots

if TYPE_CHECKING:
    from mx.tui.app import MxApp
    from mx.tui.moment import Moment

SCREENS = ("overview", "cache", "eviction", "sources", "workers", "events", "settings")

_PHASES = {
    Phase.LOADING: Cell("… connecting", Tone.ACCENT),
    Phase.LIVE: Cell("● live", Tone.OK),
    Phase.QUIET: Cell("◌ quiet", Tone.WARN),
    Phase.LOST: Cell("▲ lost", Tone.BAD),
    Phase.FAILED: Cell("✗ failed", Tone.BAD),
    Phase.ENDED: Cell("■ end", Tone.DIM),
}


class FleetScreen(Screen[None]):
    """One of the seven. ``paint`` is called when something changed and at least once a second."""

    DEFAULT_CSS = """
    FleetScreen { layout: vertical; background: $background; }
    FleetScreen #body { height: 1fr; }
    FleetScreen #center { display: none; height: 1fr; content-align: center middle; text-align: center; }
    FleetScreen #status { display: none; }
    FleetScreen #keys { background: $surface; }
    FleetScreen.-no-data #body { display: none; }
    FleetScreen.-no-data #center { display: block; }
    FleetScreen.-lost #body { opacity: 55%; }
    FleetScreen.-busy #status { display: block; }
    """
    AUTO_FOCUS: ClassVar = ""  # the line of the prompt would take every key
    NAME: ClassVar[str] = ""
    KEYS: ClassVar[tuple[Key, ...]] = ()
    BINDINGS: ClassVar = bindings(GLOBAL)
    _told_by: Watched | None = None
    _asked_of: Watched | None = None

    @property
    def mx(self) -> MxApp:
        return cast("MxApp", self.app)

    @property
    def moment(self) -> Moment:
        return self.mx.moment

    def compose(self) -> ComposeResult:
        yield SpotLine(id="head")
        yield SpotLine(id="nav")
        yield Band(id="band")
        with Vertical(id="body"):
            yield from self.compose_body()
        yield Static(id="center", markup=False)
        yield SpotLine(id="status")
        yield Prompt(id="prompt")
        yield SpotLine(id="keys")

    def compose_body(self) -> ComposeResult:
        """The widgets of the body."""
        raise NotImplementedError

    def paint_body(self) -> None:
        """Show ``self.moment``; only called when there is something to show."""
        raise NotImplementedError

    def on_mount(self) -> None:
        self.mx.paint_now()

    def on_screen_resume(self) -> None:
        self._asked_of = None
        self.call_after_refresh(self.mx.paint_now)

    def start(
        self, work: Callable[[], Coroutine[None, None, None]], *, group: str, exclusive: bool = False
    ) -> None:
        """Run it beside the screen; ``exclusive``: what runs in this group ends."""
        typed: WorkType[None] = work
        # Without a description Textual writes one: the repr of ``work`` with all the rows that hang on it.
        self.run_worker(typed, group=group, exclusive=exclusive, description=group)

    def ask(self) -> None:
        """Ask the server for what the feed does not tell: it is there, new, or there again."""

    def forget(self) -> None:
        """Another endpoint is watched now: drop what was asked of the last one."""

    def paint(self) -> None:
        link = self.mx.link
        self._ask_if_new(link)
        self.query_one("#head", SpotLine).show(*self._head(link))
        self.query_one("#nav", SpotLine).show(self._tabs())
        text, bad = self._trouble(link)
        self.query_one("#band", Band).show(text, bad=bad)
        status = self.mx.busy_words
        self.set_class(bool(status), "-busy")
        self.query_one("#status", SpotLine).show([Spot(Cell(status, Tone.ACCENT))] if status else [])
        keys = self._footer()
        first = [key for key in keys if key[0] != "?"]  # the way to all the others always has its place
        self.query_one("#keys", SpotLine).show(
            key_spots(first), key_spots([key for key in keys if key not in first])
        )
        has_data = self.moment.fleet.server is not None
        self.set_class(not has_data, "-no-data")
        self.set_class(has_data and link.phase in (Phase.LOST, Phase.FAILED), "-lost")
        if has_data:
            self.paint_body()
        else:
            self.query_one("#center", Static).update(self._center(link))

    def _ask_if_new(self, link: Link) -> None:
        watched = self.mx.watched
        if self._told_by is not watched:
            self._told_by, self._asked_of = watched, None
            self.forget()
        if link.phase not in (Phase.LIVE, Phase.QUIET, Phase.ENDED):
            self._asked_of = None
        elif self._asked_of is not watched:
            self._asked_of = watched
            self.ask()

    def _head(self, link: Link) -> tuple[list[Spot], list[Spot]]:
        site, server = self.mx.site, self.moment.fleet.server
        spots = [Spot(Cell("mx", Tone.STRONG)), Spot(Cell(site.name, Tone.ACCENT), "app.next_site")]
        spots.append(Spot(_PHASES[link.phase]))
        if server is not None and link.phase in (Phase.LOST, Phase.FAILED):
            spots.append(Spot(Cell(f"v{server.version}", Tone.DIM)))  # the rest was so, and may be no more
        elif server is not None:
            store = f"{server.store_backend} {server.store_latency_ms:.1f} ms"
            sick = "draining" if server.draining else "" if server.ready else "not ready"
            spots += [Spot(Cell(f"! {sick}", Tone.WARN))] if sick else []
            spots += [
                Spot(
                    Cell(
                        f"{store} {'●' if server.store_ok else '✗ down'}",
                        Tone.OK if server.store_ok else Tone.BAD,
                    )
                ),
                Spot(Cell(f"v{server.version}", Tone.DIM)),
                Spot(Cell(f"up {self.moment.ago(server.started_at_ms)}", Tone.DIM)),
            ]
        if site.address != site.name:
            spots.append(Spot(Cell(site.address, Tone.DIM)))
        right: list[Spot] = []
        if self.mx.watched.paused:
            right.append(
                Spot(Cell(f"‖ paused, {self.mx.watched.missed} changes since", Tone.WARN), "app.pause")
            )
        if self.mx.is_read_only:
            right.append(Spot(Cell("read-only", Tone.WARN)))
        return spots, right

    def _tabs(self) -> list[Spot]:
        return [
            Spot(
                Cell(f"{number} {name.capitalize()}", Tone.STRONG if name == self.NAME else Tone.DIM)
                if name != self.NAME
                else Cell(f"[{number} {name.capitalize()}]", Tone.STRONG),
                f"app.goto({number})",
            )
            for number, name in enumerate(SCREENS, 1)
        ]

    def _trouble(self, link: Link) -> tuple[str, bool]:
        age = format_age(link.age_s)
        match link.phase:
            case Phase.LOST if self.moment.fleet.server is not None:
                again = f"next try in {format_age(link.retry_in_s)}" if link.retry_in_s >= 1 else "trying now"
                return (
                    f"▲ link lost: data is {age} old · {again} (attempt {link.attempt}) · {link.reason}",
                    True,
                )
            case Phase.FAILED if self.moment.fleet.server is not None:
                return f"✗ {link.reason} · data is {age} old · r connects again", True
            case Phase.QUIET:
                return f"◌ nothing was heard for {age}", False
            case _:
                return "", False

    def _center(self, link: Link) -> Content:
        address = self.mx.site.address
        if link.phase is Phase.FAILED:
            lines = [ink(Cell(f"✗ {link.reason}", Tone.BAD))]
            lines += [ink(""), ink(Cell(link.remedy))] if link.remedy else []
            return stack([*lines, ink(""), ink(Cell("r tries again · : goes to another endpoint", Tone.DIM))])
        if link.phase is Phase.LOST:
            again = f"next try in {format_age(link.retry_in_s)}, attempt {link.attempt}"
            return stack(
                [
                    ink(Cell(f"▲ {address} can't be reached", Tone.BAD)),
                    ink(""),
                    ink(link.reason),
                    ink(Cell(again, Tone.DIM)),
                ]
            )
        return ink(Cell(f"connecting to {address}…", Tone.DIM))

    def _footer(self) -> list[tuple[str, str, str]]:
        keys = (*self.KEYS, *GLOBAL)
        return [(key.label, key.words, key.action) for key in keys if key.words is not None]

    # ---- keys of every screen

    def action_help(self) -> None:
        groups = [
            (f"{self.NAME.capitalize()}", [(key.label, key.help) for key in self.KEYS]),
            ("Everywhere", [(key.label, key.help) for key in GLOBAL if not key.key.isdigit()]),
            ("Screens", [(str(n), name.capitalize()) for n, name in enumerate(SCREENS, 1)]),
        ]
        self.app.push_screen(help_page("Keys", groups))

    def action_jump(self) -> None:
        names = [*SCREENS, *(site.name for site in self.mx.sites[1:])]
        self.query_one(Prompt).ask(":", value="", hint=" ".join(names))

    def on_prompt_entered(self, event: Prompt.Entered) -> None:
        self._leave_prompt()
        if event.sign == ":" and event.text.strip():
            self.mx.jump(event.text.strip())

    def on_prompt_left(self, event: Prompt.Left) -> None:
        self._leave_prompt()

    def _leave_prompt(self) -> None:
        self.query_one(Prompt).close()
        self.focus_body()

    def focus_body(self) -> None:
        """Give the keys back to the body."""
        self.set_focus(None)
