"""Every screen in every state, at three sizes, dark and light, as it is kept in ``snapshots``.

    MX_RENEW_SNAPSHOTS=1 python -m pytest tests/tui/test_snapshots.py

writes them anew; look at what git says of them then.
"""

from __future__ import annotations

import difflib
import html
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from stage import Stage, snapshot_file, stage
from textual.theme import Theme

from mx.client.base import Client
from mx.core.feed import FeedPosition, FleetChanges, LinkLost, TransferChanged
from mx.core.transfer import TransferState
from mx.errors import PreconditionError
from mx.testing import fleet_samples as some
from mx.testing.fleet_client import FleetClient
from mx.tui.app import DARK, LIGHT, MxApp
from mx.tui.screens.fleet import SCREENS

RENEW = bool(os.environ.get("MX_RENEW_SNAPSHOTS"))
SIZES = ((80, 24), (120, 40), (200, 60))
LOST = LinkLost("can't reach 10.0.3.7:8001: connection refused", 3, 4.0)
OLDER = PreconditionError(
    "10.0.3.7:8001 is a published server: it can't be watched", remedy="watch a server of mx"
)
STATES: dict[str, Callable[[], Client]] = {
    "full": lambda: FleetClient([some.snapshot()]),
    "empty": lambda: FleetClient([some.empty_snapshot()]),
    "loading": FleetClient,
    "error": lambda: FleetClient(error=OLDER),
    "lost": lambda: FleetClient([some.snapshot(), LOST]),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", STATES)
async def test_every_screen_looks_as_it_did(state: str, size: tuple[int, int], tmp_path: Path) -> None:
    differing = []
    async with stage(STATES[state](), size=size) as shown:
        await phase_of(shown, state)
        past_minutes(shown.app, state)
        for theme in themes(state, size):
            shown.app.wear(theme)
            for name in SCREENS:
                await shown.go(name)
                kept = f"{state}-{size[0]}x{size[1]}-{theme.name.removeprefix('mx-')}-{name}"
                if difference := compared(shown, kept, tmp_path):
                    differing.append(difference)
    assert not differing, "\n\n".join(differing)


@pytest.mark.parametrize(
    ("name", "screen", "keys"),
    [
        ("dialogue-plan", "eviction", ("x",)),
        ("dialogue-typed-name", "cache", ("j", "j", "j", "ctrl+d")),
        ("dialogue-withdraw", "sources", ("ctrl+d",)),
        ("dialogue-raw", "sources", ("j", "j", "y")),
        ("dialogue-keys", "cache", ("question_mark",)),
        ("dialogue-palette", "cache", ("ctrl+p",)),
        ("dialogue-describe", "workers", ("d",)),
        ("dialogue-ensure", "cache", ("e",)),
        ("filter", "cache", ("slash", *"size", "greater_than_sign", *"40gib")),
    ],
)
async def test_what_lies_on_top(name: str, screen: str, keys: tuple[str, ...], tmp_path: Path) -> None:
    async with stage(Planned([some.snapshot()]), size=(120, 40)) as shown:
        await phase_of(shown, "full")
        past_minutes(shown.app, "full")
        await shown.go(screen)
        before = shown.svg
        await shown.press(*keys)
        await shown.until(lambda: shown.svg != before, "an answer to the keys")
        await shown.hides("planning")
        await shown.settled()
        assert not (difference := compared(shown, name, tmp_path)), difference


def themes(state: str, size: tuple[int, int]) -> tuple[Theme, ...]:
    """What goes wrong or is not there has few colours: light at one size shows them all."""
    return (DARK, LIGHT) if state == "full" or size == (120, 40) else (DARK,)


class Planned(FleetClient):
    """Plans to remove what is asked for."""

    async def plan_removal(
        self, *, name: str | None = None, force: bool = False, **asked: object
    ) -> some.EvictionPlan:
        entry = next(one for key, one in self._fleet.entries.items() if key.name == name)
        if entry.pin and not force:
            pinned = some.Survivor(entry.key, entry.disk_bytes, f"pinned ({entry.pin.reason})")
            return some.EvictionPlan((), (pinned,), 0, 0, False)
        victim = some.Victim(entry.key, entry.disk_bytes, "asked for")
        return some.EvictionPlan((victim,), (), entry.disk_bytes, entry.disk_bytes, True)


async def phase_of(shown: Stage, state: str) -> None:
    words = {"full": "● live", "empty": "● live", "loading": "connecting", "error": "✗", "lost": "▲ lost"}
    await shown.shows(words[state])


def past_minutes(app: MxApp, state: str) -> None:
    """Two minutes of pulls, so that there are rates to draw; they end in what the snapshot tells."""
    if state != "full":
        return
    running = [one for one in some.transfers() if one.state is TransferState.RUNNING]
    # Full speed of a link at most, with the ups and downs that pulls have.
    speeds = [0, 0, 12, 80, 190, 320, 380, 360, 390, 400, 340, 210, 60, 8, 0, 0, 0, 40, 160, 270, 300]
    total = len(speeds) * 6
    watched, moved = app.watched, 0.0
    for second in range(-total, 0):
        now_ms = some.NOW_MS + second * 1000
        moved += speeds[(second + total) // 6] / len(running) * 1e9 / 8
        reports = [
            replace(
                one,
                transfer_id=f"past-{one.transfer_id}",
                bytes_done=round(moved),
                seconds=float(second + total),
            )
            for one in running
        ]
        watched.rates.note(reports, now_ms=now_ms)
        watched.rates.sample(now_ms=now_ms)
    update = FleetChanges(
        FeedPosition(some.FEED, 2), some.NOW_MS, tuple(TransferChanged(report) for report in running)
    )
    watched.take(update, now_ms=some.NOW_MS)
    watched.sample(now_ms=some.NOW_MS)


def compared(shown: Stage, name: str, tmp_path: Path) -> str:
    """Nothing, or what is different; what is shown now is kept beside it then."""
    file, found = snapshot_file(name), shown.svg
    if RENEW:
        file.write_text(found, encoding="utf-8")
        return ""
    kept = file.read_text(encoding="utf-8") if file.exists() else ""
    if found == kept:
        return ""
    (tmp_path / file.name).write_text(found, encoding="utf-8")
    lines = difflib.unified_diff(words(kept), words(found), f"snapshots/{file.name}", "now", lineterm="", n=0)
    told = "\n".join(lines) or "the colours are different"
    return f"{told}\nsee {tmp_path / file.name}"


def words(svg: str) -> list[str]:
    """The lines of text."""
    return [html.unescape(re.sub(r"<[^>]+>", " ", line)) for line in svg.splitlines() if "<tspan" in line]


def test_no_snapshot_is_left_over() -> None:
    sizes = [f"{columns}x{lines}" for columns, lines in SIZES]
    wanted = {
        f"{state}-{size}-{theme}-{name}.svg"
        for state in STATES
        for size in sizes
        for theme in ("dark", "light")
        if theme == "dark" or state == "full" or size == "120x40"
        for name in SCREENS
    }
    found = {file.name for file in snapshot_file("x").parent.glob("*.svg")}
    assert {name for name in found if name.split("-")[0] in STATES} == wanted
