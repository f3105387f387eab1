"""Values of a feed, for tests: small ones with what they need and nothing else."""

from __future__ import annotations

from dataclasses import replace

from mx.core.cache_view import CacheStats, KindStats, ListedEntry
from mx.core.eviction import EvictionPlan, EvictionPolicy, EvictionRun, Survivor, Victim
from mx.core.feed import Event, EventKind, EventLevel, FeedPosition, FleetSnapshot, Moving
from mx.core.model import EntryKey, EntryStatus, Pin, ProviderName
from mx.core.server_state import ServerStatus
from mx.core.source import PeerRecord, SourceStatus, SourceSummary
from mx.core.transfer import SourceShare, Strategy, TransferReport, TransferState


def entry_key(name: str = "org/m", *, weights: bool = True) -> EntryKey:
    return EntryKey(ProviderName.HUGGING_FACE, name, "a" * 40, weights)


def listed(name: str = "org/m", status: EntryStatus = EntryStatus.DOWNLOADED) -> ListedEntry:
    return ListedEntry(
        key=entry_key(name),
        status=status,
        created_at_ms=1,
        last_used_at_ms=2,
        bytes_total=100,
        files=3,
        pin=Pin(None, "kept"),
        readers=("w0",),
    )


def source(
    worker_id: str = "w0", *, rank: int = 0, status: int = SourceStatus.READY, at_ms: int = 5
) -> SourceSummary:
    return SourceSummary(
        source_id="0" * 16,
        worker_id=worker_id,
        worker_rank=rank,
        model_name="org/m",
        status=status,
        updated_at_ms=at_ms,
        topology={"node": "n0"},
        source_load=0.5,
        peer=PeerRecord("10.0.0.1:1234", "g0"),
    )


def transfer(
    transfer_id: str = "t0", state: TransferState = TransferState.RUNNING, *, bytes_done: int = 0
) -> TransferReport:
    return TransferReport(
        transfer_id=transfer_id,
        model_name="org/m",
        source_id="0" * 16,
        worker_id="w1",
        worker_rank=0,
        strategy=Strategy.PEER,
        state=state,
        bytes_total=100,
        bytes_done=bytes_done,
        verified=state is TransferState.DONE,
        started_at_ms=1,
        seconds=1.0,
        stages_s={"read": 0.5},
        sources=(SourceShare("w0", "10.0.0.1:1234", bytes_done, 1.0, 1, True),),
    )


def event(number: int = 0, kind: EventKind = EventKind.SOURCE) -> Event:
    return Event(
        event_id=f"{number:013d}-0",
        at_ms=number,
        kind=kind,
        level=EventLevel.INFO,
        subject="w0",
        text=f"event {number}",
        fields={"bytes": 7, "ratio": 0.5, "ok": True, "from": "w1"},
    )


def cache_stats() -> CacheStats:
    key = entry_key("org/old")
    plan = EvictionPlan((Victim(key, 7, "unused"),), (Survivor(entry_key(), 9, "pinned"),), 7, 7, True)
    return CacheStats(
        root="/models",
        kinds=(KindStats("models", 1, 1, 100, 0),),
        used_bytes=100,
        free_bytes=900,
        disk_bytes=1000,
        policy=EvictionPolicy(max_size_bytes=500),
        eviction_enabled=True,
        next_run_at_ms=None,
        runs=(EvictionRun("r0", 1, "interval", plan, 7, 2, ((key, "in use"),)),),
        now_ms=3,
    )


def server_status(**changes: object) -> ServerStatus:
    status = ServerStatus(
        version="0.0.0",
        started_at_ms=1,
        ready=True,
        draining=False,
        store_backend="memory",
        store_ok=True,
        store_latency_ms=0.5,
        sources_by_status={"ready": 1},
        listen="127.0.0.1:1",
        settings_file="",
    )
    return replace(status, **changes)  # type: ignore[arg-type]


def snapshot(sequence: int = 1, *, feed_id: str = "f0") -> FleetSnapshot:
    return FleetSnapshot(
        position=FeedPosition(feed_id, sequence),
        now_ms=10,
        server=server_status(),
        cache=cache_stats(),
        entries=(listed(), listed("org/n", EntryStatus.DOWNLOADING)),
        downloads=((entry_key("org/n"), Moving(1, 2, rate=3.0)),),
        sources=(source(), source("w1")),
        transfers=(transfer("t1"), transfer("t0", TransferState.DONE, bytes_done=100)),
        events=(event(0), event(1)),
        dropped=2,
    )
