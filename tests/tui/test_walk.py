"""Every action by keys alone, over a real cache of this machine."""

from __future__ import annotations

import csv
import json
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from stage import Stage, stage

from mx.client.base import Client
from mx.client.embedded import EmbeddedClient
from mx.config import load_settings
from mx.core.feed import FeedUpdate
from mx.core.model import ModelRef, ProviderName
from mx.core.source import PeerRecord, SourceIdentity, WorkerRecord
from mx.core.transfer import SourceShare, Strategy, TransferReport, TransferState
from mx.testing import fleet_samples as some
from mx.testing.fleet_client import FleetClient
from mx.tui.app import Site
from mx.wiring_local import open_local

MIB = 1 << 20


def make_model(folder: Path, size_bytes: int) -> Path:
    folder.mkdir(parents=True)
    header = json.dumps(
        {"w": {"dtype": "U8", "shape": [size_bytes], "data_offsets": [0, size_bytes]}}
    ).encode()
    (folder / "config.json").write_text('{"model_type": "tiny"}')
    (folder / "model.safetensors").write_bytes(
        struct.pack("<Q", len(header)) + header + folder.name[:1].encode() * size_bytes
    )
    return folder


class Here:
    """A cache of this machine; ``client`` is there while somebody watches."""

    def __init__(self, home: Path) -> None:
        self.settings = load_settings(
            flags={
                "cache.local_path": str(home / "cache"),
                "cache.eviction.policy.grace_time": "0s",
                "database.path": str(home / "records.db"),
            },
            scope="client",
        )
        self.client: Client | None = None

    @property
    def site(self) -> Site:
        return Site("here", "the cache of this machine", self._open)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Client]:
        async with open_local(self.settings) as local:
            self.client = EmbeddedClient(local.services)
            yield self.client


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with outside(tmp_path):
        yield Here(tmp_path)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose name is typed in no time."""
    with tempfile.TemporaryDirectory(prefix="mx") as folder:
        yield Path(folder)


@contextmanager
def outside(folder: Path) -> Iterator[None]:
    """What is saved by a name lands there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


async def ensured(client: Client, folder: Path) -> None:
    async for _ in client.ensure(ModelRef(ProviderName.LOCAL, str(folder))):
        pass


async def test_the_cache_by_keys_alone(here: Here, short: Path) -> None:
    models = [make_model(short / name, size * MIB) for name, size in (("alpha", 3), ("beta", 2))]
    async with stage(here.site, now_ms=lambda: time.time_ns() // 1_000_000) as shown:
        await shown.shows("● live", "none · 2 then e")
        await shown.go("cache")
        await shown.shows("the cache is empty", "mx model download")

        # Ensure: a wrong name says what is wrong with it, a right one is there in the end.
        for folder in models:
            await shown.press("e")
            await shown.shows("Ensure a model")
            await shown.type("-x/y/z")
            await shown.press("enter")
            await shown.until(lambda: "/z" in shown.text.split("Ensure a model")[1], "the line as typed")
            await shown.press(*["backspace"] * 6)
            await shown.type(str(folder))
            await shown.press("enter")
            await shown.until(lambda path=str(folder): path in names(shown), f"{folder} in the cache")
            await shown.shows("verified")

        # Sort, wide, filter as one types, marks, problems only, back.
        await shown.press("s")
        await shown.shows("LAST USED↓")
        await shown.press("w", "w", "slash")
        await shown.type("alph x")
        await shown.press("backspace", "backspace")
        await shown.shows("Cache 1 of 2", "/alph")
        await shown.press("enter", "space")
        await shown.shows("1 marked")
        await shown.press("escape")
        await shown.hides("marked")
        await shown.press("slash")
        await shown.type("size>no")
        await shown.until(
            lambda: "size" in (shown.app.screen.query_one("#entries").border_subtitle or ""), "why"
        )
        await shown.press("escape", "z")
        await shown.shows("nothing matches", "problems only")
        await shown.press("escape", "m")
        await shown.until(lambda: shown.app.screen.has_class("-maximised"), "the table alone")
        await shown.press("escape")

        # Pin with a reason; describe says so; unpin.
        await shown.press("g", "i")
        await shown.shows("Why shall")
        await shown.type("canary")
        await shown.press("enter")
        await shown.shows("pinned", "canary")
        await shown.press("d")
        await shown.shows("esc back", "for ever, canary", "$ mx cache show")
        await shown.press("escape")

        # Eviction: what is pinned stays, the plan says why, and there is nothing to agree to.
        pinned = cursor_name(shown)
        await shown.press("x")
        await shown.shows("0 to evict", "pinned (canary)")
        await shown.press("escape")
        await shown.shows("nothing was changed")
        await shown.press("u")
        await shown.hides("canary")

        # Verify reads it all.
        await shown.press("v")
        await shown.shows("every digest")

        # The plan, No by default, then yes.
        await shown.press("x")
        await shown.shows("1 to evict", f"$ mx cache evict {pinned}")
        await shown.press("enter")
        await shown.hides("1 to evict")
        assert pinned in names(shown)
        await shown.press("x")
        await shown.shows("1 to evict")
        await shown.press("y")
        await shown.until(lambda: pinned not in names(shown), "the entry is gone")
        await shown.shows("1 entry evicted")

        # Delete what is pinned: only after its name was typed, and not by the letter y.
        left = cursor_name(shown)
        await shown.press("i", "enter")
        await shown.until(
            lambda: shown.app.screen.sheet.cursor.pin is not None, "the pin, as the feed tells it"
        )
        await shown.press("ctrl+d")
        await shown.shows("type", "yes, delete", "--force")
        await shown.press("y", "enter", "enter")
        assert left in names(shown)
        await shown.press("backspace")
        await shown.type(left)
        await shown.press("enter", "enter")
        await shown.until(lambda: not names(shown), "the cache is empty")
        await shown.shows("1 entry deleted", "the cache is empty")


async def test_eviction_to_another_target(here: Here, tmp_path: Path) -> None:
    models = [make_model(tmp_path / "w" / name, size * MIB) for name, size in (("alpha", 3), ("beta", 2))]
    async with stage(here.site, now_ms=lambda: time.time_ns() // 1_000_000) as shown:
        await shown.shows("● live")
        assert here.client is not None
        for folder in models:
            await ensured(here.client, folder)
            # What they share with where they came from frees nothing: make the bytes theirs alone.
            for file in folder.iterdir():
                file.unlink()
        await shown.go("eviction")
        await shown.shows("Plan 2", "what the limits demand", "✓ keep", "grace")
        await shown.press("t")
        await shown.type("much")
        await shown.press("enter")
        await shown.shows("much")
        await shown.press(*["backspace"] * 4)
        await shown.type("2.5mib")
        await shown.press("enter")
        await shown.shows("down to 2.50 MiB", "✗ 1 evict")
        await shown.press("n")  # the same plan anew: a dry run
        await shown.settled()
        await shown.press("d")
        await shown.shows("evict, as number 1")
        await shown.press("escape", "tab")
        await shown.press("shift+tab", "x")
        await shown.shows("1 to evict", "--to")
        await shown.press("left", "enter")
        await shown.shows("1 entry evicted", "Runs 1", "✓ target met")
        await shown.press("tab", "d")
        await shown.shows("eviction run")


async def test_sources_by_keys_alone(here: Here, tmp_path: Path) -> None:
    async with stage(here.site, now_ms=lambda: time.time_ns() // 1_000_000) as shown:
        await shown.shows("● live")
        client = here.client
        assert client is not None
        found = [await published(client, f"vllm-{number}-w0", number) for number in range(3)]
        await client.report_transfer(pulled("t1", found[0], TransferState.RUNNING, 0.5))
        await shown.go("sources")
        await shown.shows("vllm-0-w0", "vllm-2-w0", "✓ 3 ready", "Stores")

        # Fold and open a group; the raw record; save as JSON and as CSV; copy.
        await shown.press("enter")
        await shown.hides("vllm-1-w0")
        await shown.press("enter", "j", "j")
        await shown.shows("vllm-1-w0")
        await shown.press("y")
        await shown.shows("Raw record", "worker_id")
        await shown.press("escape", "ctrl+s")
        await shown.shows("into which file")
        await shown.press("enter")
        await shown.shows("rows written to mx-sources.json")
        saved = json.loads((tmp_path / "mx-sources.json").read_text())
        assert {row.get("worker_id") for row in saved} >= {"vllm-0-w0", "vllm-1-w0", "vllm-2-w0"}
        await shown.press("ctrl+s", *["backspace"] * len("json"))
        await shown.type("csv")
        await shown.press("enter")
        await shown.shows("mx-sources.csv")
        rows = list(csv.DictReader((tmp_path / "mx-sources.csv").open()))
        assert [row["worker_id"] for row in rows if row["worker_id"]] == [f"vllm-{n}-w0" for n in range(3)]
        await shown.press("ctrl+s", "enter")  # it is there already
        await shown.shows("choose another name")
        await shown.press("c")
        await shown.shows("copied vllm-0-w0")
        assert shown.app.clipboard == "vllm-0-w0"

        # Stale, for one that another reads from now: its name must be typed.
        await shown.press("t")
        await shown.shows("read now by", "type vllm-0-w0")
        await shown.type("vllm-0-w0")
        await shown.press("enter", "enter")
        await shown.shows("✗ stale")
        await client.report_transfer(pulled("t1", found[0], TransferState.DONE, 1.0))

        # Withdraw two that are marked.
        await shown.press("j", "j", "space", "j", "space")
        await shown.until(lambda: len(shown.app.screen.sheet.look.marked) == 2, "two marks")
        await shown.press("ctrl+d")
        await shown.shows("2 to withdraw")
        await shown.press("y")
        await shown.shows("2 workers withdrawn")
        await shown.hides("vllm-1-w0")

        # Reap: nobody is dead for so long.
        await shown.press("x")
        await shown.shows("Remove the records of dead sources", "nothing to remove")
        await shown.press("enter")

        # The finished pull with its report, on screen 5; events with a filter and their history, on 6.
        await shown.go("workers")
        await shown.shows("Finished 1", "✓ verified")
        await shown.press("tab", "enter")
        await shown.shows("transfer t1", "stages (they overlap)", "$ mx transfer show t1")
        await shown.press("escape")
        await shown.go("events")
        await shown.press("h", "slash")
        await shown.type("kind=source")
        await shown.press("enter")
        await shown.shows("/kind=source", "rank 1 left")
        await shown.hides("  transfer  ")


async def test_what_every_screen_has(here: Here) -> None:
    other = FleetClient([some.snapshot()])
    fleet = Site("fleet", "10.0.3.7:8001", lambda: _as_it_is(other))
    async with stage(here.site, fleet, now_ms=lambda: time.time_ns() // 1_000_000) as shown:
        await shown.shows("● live", "here")

        # Jumps by name, to a screen and to another endpoint; what is nothing is said to be.
        for typed, seen in (("sett", "[7 Settings]"), ("3", "[3 Eviction]"), ("fle", "")):
            await shown.press("colon")
            await shown.type(typed)
            await shown.press("enter")
            if seen.startswith("["):
                await shown.shows(seen)
        await shown.until(lambda: shown.app.site is fleet, "the other endpoint")
        await shown.shows("10.0.3.7:8001")
        await shown.press("colon")
        await shown.type("nowhere")
        await shown.press("enter")
        await shown.shows("no screen or endpoint nowhere")

        # Pause: what comes is counted and not shown, until it goes on.
        await shown.go("cache")
        await shown.shows("google/gemma-3-27b-it")
        await shown.press("p")
        await shown.shows("paused")
        other.push(gone("google/gemma-3-27b-it"))
        await shown.shows("1 changes since")
        assert "google/gemma-3-27b-it" in shown.text
        await shown.press("p")
        await shown.hides("google/gemma-3-27b-it")

        # The palette runs the command of a key; help lists the keys; r connects anew.
        await shown.press("ctrl+p")
        await shown.until(lambda: len(shown.app.screen_stack) > 2, "the palette")
        await shown.type("pause")
        await shown.until(lambda: "hold still" in shown.text, "the command")
        await shown.press("enter")
        await shown.shows("paused")
        await shown.press("p", "question_mark")
        await shown.shows("Everywhere", "ctrl+d", "delete files and records")
        await shown.press("escape", "r")
        await shown.shows("google/gemma-3-27b-it", "● live")

        await shown.press("q")
        await shown.until(lambda: shown.app.return_code is not None or not shown.app.is_running, "the end")


async def test_read_only_is_where_commands_run(here: Here, tmp_path: Path) -> None:
    """The keys are there, and every change is refused before it is planned; by the flag and by the server."""
    told = FleetClient([some.snapshot()])
    looks_only = FleetClient([some.snapshot(server=some.server(read_only=True))])
    for client, flag, why in (
        (told, True, "mx tui was started with --read-only"),
        (looks_only, False, "prod-a lets this caller look only"),
    ):
        async with stage(client, read_only=flag) as shown:
            await shown.shows("● live", "read-only")
            for screen, keys in (
                ("cache", (("x",), ("u",), ("v",), ("ctrl+d",))),
                ("eviction", (("x",), ("ctrl+d",))),
                ("sources", (("t",), ("ctrl+d",), ("x",))),
            ):
                await shown.go(screen)
                if screen == "cache":
                    await shown.press("j", "j", "j")  # the pinned one, so that unpin has something to do
                for key in keys:
                    shown.app.clear_notifications()
                    await shown.press(*key)
                    await shown.shows("refused, this is read-only", why)
                    assert len(shown.app.screen_stack) == 2, "no dialogue"


@asynccontextmanager
async def _as_it_is(client: Client) -> AsyncIterator[Client]:
    yield client


def gone(name: str) -> FeedUpdate:
    from mx.core.feed import EntryGone, FeedPosition, FleetChanges

    return FleetChanges(FeedPosition(some.FEED, 2), some.NOW_MS, (EntryGone(some.key(name)),))


def names(shown: Stage) -> list[str]:
    return [key.name for key in shown.app.watched.fleet.entries]


def cursor_name(shown: Stage) -> str:
    name: str = shown.app.screen.sheet.cursor.key.name
    return name


async def published(client: Client, worker: str, rank: int) -> str:
    identity = SourceIdentity(model_name="org/model", mx_version="1", dtype="bfloat16")
    source = await client.publish(
        identity, WorkerRecord(worker_rank=rank, worker_grpc_endpoint=f"10.0.0.{rank}:1"), worker_id=worker
    )
    from mx.core.source import SourceStatus, WorkerKey

    key = WorkerKey(source, worker, rank)
    await client.announce(key, PeerRecord(f"10.0.0.{rank}:1", "g1", host_id=f"host-{rank}"))
    await client.update_status(key, SourceStatus.READY)
    return source


def pulled(name: str, source: str, state: TransferState, done: float) -> TransferReport:
    return TransferReport(
        transfer_id=name,
        model_name="org/model",
        source_id=source,
        worker_id="vllm-9-w0",
        worker_rank=0,
        strategy=Strategy.PEER,
        state=state,
        bytes_total=MIB,
        bytes_done=round(MIB * done),
        verified=state is TransferState.DONE,
        started_at_ms=time.time_ns() // 1_000_000,
        seconds=1.0,
        stages_s={"discover": 0.1, "read": 0.9},
        sources=(SourceShare("vllm-0-w0", "10.0.0.0:1", round(MIB * done), 1.0, 1, True),),
    )
