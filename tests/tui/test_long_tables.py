"""Tables so long that they are painted once a second; here that second never ends."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from stage import stage

from mx.client.record import Recorder
from mx.client.replay import ReplayClient
from mx.testing import fleet_samples as some
from mx.tui.app import Site


def fleet(folder: Path, name: str) -> Site:
    first = some.entries()[0]
    key = first.key
    path = folder / f"{name}.jsonl"
    with Recorder(path) as recorder:
        entries = tuple(replace(first, key=replace(key, name=f"{name}/{number:04}")) for number in range(600))
        recorder.write(some.snapshot(entries=entries))
    return Site(name, name, lambda: nullcontext(ReplayClient(path)))


async def test_rows_of_the_endpoint_before_are_not_offered(tmp_path: Path) -> None:
    async with stage(fleet(tmp_path, "one"), fleet(tmp_path, "two")) as shown:
        await shown.shows("● live")
        await shown.go("cache")
        await shown.shows("one/0000", "Cache 600")
        shown.app.action_next_site()
        await shown.shows("two/0000")
        assert "one/" not in shown.text
        await shown.press("space")
        assert [entry.key.name for entry in shown.app.screen.sheet.chosen] == ["two/0000"]  # type: ignore[attr-defined]


async def test_a_key_is_answered_before_the_second_is_over(tmp_path: Path) -> None:
    async with stage(fleet(tmp_path, "one")) as shown:
        await shown.shows("● live")
        await shown.go("cache")
        await shown.shows("Cache 600")
        await shown.press("space", "space")
        await shown.shows("2 marked", "●")
        await shown.press("slash")
        await shown.type("0599")
        await shown.press("enter")
        await shown.shows("one/0599", "Cache 1 of 600")
