"""A fleet at one moment, with everything in it that a screen must be able to show: for tests of faces."""

# ruff: noqa: E501  (tables read better with a line for each row)

from __future__ import annotations

from collections.abc import Sequence

from mx.core.cache_view import CacheStats, KindStats, ListedEntry
from mx.core.eviction import EvictionPlan, EvictionPolicy, EvictionRun, Survivor, Victim
from mx.core.feed import Event, EventKind, EventLevel, FeedPosition, FleetSnapshot, Moving
from mx.core.model import EntryKey, EntryStatus, Pin, ProviderName
from mx.core.server_state import BackendState, RawRecord, ServerStatus, SettingRow
from mx.core.source import PeerRecord, SourceStatus, SourceSummary
from mx.core.transfer import SourceShare, Strategy, TransferReport, TransferState

NOW_MS = 1_790_000_000_000
GIB = 1 << 30
FEED = "feed-1"

_COMMITS = ("8a1f3c5e9b7d2f4a6c8e0b1d3f5a7c9e2b4d6f80", "c0ffee5e9b7d2f4a6c8e0b1d3f5a7c9e2b4d6f81")


def key(
    name: str, *, commit: str = _COMMITS[0], provider: ProviderName = ProviderName.HUGGING_FACE
) -> EntryKey:
    return EntryKey(provider, name, commit)


def server(**changes: object) -> ServerStatus:
    values: dict[str, object] = {
        "version": "0.5.0",
        "started_at_ms": NOW_MS - (12 * 86_400 + 4 * 3600) * 1000,
        "ready": True,
        "draining": False,
        "store_backend": "redis",
        "store_ok": True,
        "store_latency_ms": 0.8,
        "sources_by_status": {"ready": 6, "initializing": 1, "stale": 1},
        "listen": "0.0.0.0:8001",
        "settings_file": "/etc/mx/mx.toml",
        **changes,
    }
    return ServerStatus(**values)  # type: ignore[arg-type]


def entries() -> tuple[ListedEntry, ...]:
    def entry(name: str, size_gib: float, used_s: float, **changes: object) -> ListedEntry:
        provider = changes.pop("provider", ProviderName.HUGGING_FACE)
        assert isinstance(provider, ProviderName)
        values: dict[str, object] = {
            "status": EntryStatus.DOWNLOADED,
            "created_at_ms": NOW_MS - 40 * 86_400_000,
            "last_used_at_ms": NOW_MS - round(used_s * 1000),
            "bytes_total": round(size_gib * GIB),
            "bytes_done": round(size_gib * GIB),
            "files": 12,
            "disk_bytes": round(size_gib * GIB),
            "own_bytes": round(size_gib * GIB),
            "requested_revision": "main",
            **changes,
        }
        return ListedEntry(key=key(name, provider=provider), **values)  # type: ignore[arg-type]

    return (
        entry("deepseek-ai/DeepSeek-V3", 531, 3, status=EntryStatus.DOWNLOADING, bytes_total=681 * GIB,
              bytes_done=531 * GIB, owner="mx-server-0", files=163),
        entry("meta-llama/Llama-3.3-70B-Instruct", 131.4, 192, readers=("vllm-7", "vllm-9"), files=50),
        entry("Qwen/Qwen3-8B", 15.3, 4_000, pin=Pin(None, "canary of the platform team")),
        entry("Qwen/Qwen3-235B-A22B-Instruct-2507", 438, 86_400 * 2.2, files=128),
        entry("mistralai/Mistral-Small-3.2-24B-Instruct-2506", 44.7, 86_400 * 9.5, files=31),
        entry("s3://weights/team-a/reranker-v12", 2.1, 86_400 * 33, provider=ProviderName.S3),
        entry("google/gemma-3-27b-it", 0, 700, status=EntryStatus.ERROR, message="401 from the hub: the token may not read it",
              retry_at_ms=NOW_MS + 95_000, files=0),
    )  # fmt: skip


def _source(model: str, worker: str, rank: int, age_s: float, **changes: object) -> SourceSummary:
    values: dict[str, object] = {
        "status": SourceStatus.READY,
        "accelerator": "H100",
        "source_load": 0.12,
        "peer": PeerRecord(f"10.0.3.{rank + 7}:6555", "g1", host_id=worker.rpartition("-w")[0]),
        **changes,
    }
    source_id = {"meta": "5f1b6c0de1a24d7e", "deep": "0b7ad49c11e23f55"}.get(model[:4], "9c3e4d5f6a7b8c9d")
    return SourceSummary(
        source_id=source_id,
        worker_id=worker,
        worker_rank=rank,
        model_name=model,
        updated_at_ms=NOW_MS - round(age_s * 1000),
        **values,  # type: ignore[arg-type]
    )


LLAMA = "meta-llama/Llama-3.3-70B-Instruct"
DEEPSEEK = "deepseek-ai/DeepSeek-V3"


def sources() -> tuple[SourceSummary, ...]:
    return (
        *(_source(LLAMA, f"vllm-3-w{rank}", rank, 4 + rank, source_load=0.61) for rank in range(3)),
        _source(LLAMA, "vllm-7-w0", 0, 12),
        _source(LLAMA, "vllm-7-w1", 1, 11, source_load=None),
        _source(LLAMA, "vllm-9-w2", 2, 131, source_load=0.0),
        _source(DEEPSEEK, "vllm-12-w0", 0, 2, status=SourceStatus.INITIALIZING, accelerator="B200"),
        _source(DEEPSEEK, "vllm-5-w3", 3, 1000, status=SourceStatus.STALE, accelerator="B200"),
    )


def report(number: int, *, state: TransferState, done: float, **changes: object) -> TransferReport:
    values: dict[str, object] = {
        "transfer_id": f"t{number:04}",
        "model_name": LLAMA,
        "source_id": "5f1b6c0de1a24d7e",
        "worker_id": f"vllm-{20 + number}-w0",
        "worker_rank": number % 4,
        "strategy": Strategy.PEER,
        "state": state,
        "bytes_total": 33 * GIB,
        "bytes_done": round(33 * GIB * done),
        "verified": state is TransferState.DONE,
        "started_at_ms": NOW_MS - 2000 - number * 61_000,
        "seconds": 2.0 * done,
        "stages_s": {"discover": 0.02, "connect": 0.11, "register": 0.3, "plan": 0.01, "read": 1.5 * done},
        "sources": (
            SourceShare("vllm-3-w0", "10.0.3.7:6555", round(20 * GIB * done), 214.8, 40, True),
            SourceShare("vllm-7-w0", "10.0.3.9:6555", round(13 * GIB * done), 139.6, 26, True),
        ),
        "segments": 66,
        "tensors": 291,
        "verify_cpu_s": 0.8,
        **changes,
    }
    return TransferReport(**values)  # type: ignore[arg-type]


def transfers() -> tuple[TransferReport, ...]:
    return (
        report(1, state=TransferState.RUNNING, done=0.81),
        report(2, state=TransferState.RUNNING, done=0.44),
        report(3, state=TransferState.DONE, done=1.0),
        report(4, state=TransferState.DONE, done=1.0, sources=(
            SourceShare("vllm-3-w0", "10.0.3.7:6555", 30 * GIB, 180.0, 60, True),
            SourceShare("vllm-9-w2", "10.0.3.9:6555", 3 * GIB, 20.1, 6, True, "connection reset mid-pull"),
        ), segments_reread=3),
        report(5, state=TransferState.FAILED, done=0.12, reason="no source left: vllm-9-w2 is gone", verified=False),
        report(6, state=TransferState.DONE, done=1.0, strategy=Strategy.DISK, sources=(), seconds=41.2),
    )  # fmt: skip


def events() -> tuple[Event, ...]:
    told: Sequence[tuple[float, EventKind, EventLevel, str, str]] = (
        (86_400 * 1.3, EventKind.SERVER, EventLevel.INFO, "mx-server-0", "server started, version 0.5.0"),
        (700, EventKind.MODEL, EventLevel.ERROR, "google/gemma-3-27b-it", "download failed: 401 from the hub"),
        (300, EventKind.EVICTION, EventLevel.INFO, "run-17", "2 entries evicted, 96.4 GiB freed"),
        (131, EventKind.SOURCE, EventLevel.WARNING, "vllm-9-w2", "vllm-9-w2 rank 2 left mid-pull; 3 segments re-read from vllm-3-w0"),
        (31, EventKind.TRANSFER, EventLevel.INFO, "vllm-23-w0", "pull 33.0 GiB in 1.5 s, 189 Gbit/s, from vllm-3-w0 (61 %), vllm-7-w0 (39 %), verified"),
        (3, EventKind.MODEL, EventLevel.INFO, DEEPSEEK, "downloading, 681 GiB in 163 files"),
    )  # fmt: skip
    return tuple(
        Event(
            event_id=f"{number:06}",
            at_ms=NOW_MS - round(age_s * 1000),
            kind=kind,
            level=level,
            subject=subject,
            text=text,
            server="mx-server-0",
        )
        for number, (age_s, kind, level, subject, text) in enumerate(told)
    )


def eviction_plan() -> EvictionPlan:
    victims = (
        Victim(key("s3://weights/team-a/reranker-v12"), round(2.1 * GIB), "unused for 33d; over its limit"),
        Victim(key("mistralai/Mistral-Small-3.2-24B-Instruct-2506"), round(44.7 * GIB), "unused for 9d 12h; over its limit"),
    )  # fmt: skip
    survivors = (
        Survivor(key("Qwen/Qwen3-8B"), round(15.3 * GIB), "pinned (canary of the platform team)"),
        Survivor(key(LLAMA), round(131.4 * GIB), "read by vllm-7, for 58s at most"),
    )
    return EvictionPlan(victims, survivors, round(46.8 * GIB), round(40 * GIB), True)


def cache() -> CacheStats:
    plan = eviction_plan()
    stuck = ((key("Qwen/Qwen3-235B-A22B-Instruct-2507"), "read by vllm-9 since the plan was made"),)
    return CacheStats(
        root="/var/lib/mx/cache",
        kinds=(
            KindStats("models", 5, 2, round(1163 * GIB), round(484 * GIB)),
            KindStats("metadata", 0, 0, 0, 0),
            KindStats("unfinished", 2, 1, round(531 * GIB), 0),
            KindStats("other", 0, 0, 1 << 20, 0),
        ),
        used_bytes=round(1163 * GIB),
        free_bytes=round(684 * GIB),
        disk_bytes=round(2048 * GIB),
        policy=EvictionPolicy(
            unused_threshold_s=30 * 86_400,
            max_models=24,
            max_size_bytes=1600 * GIB,
            min_free_space_bytes=200 * GIB,
            high_water=0.95,
            low_water=0.9,
            grace_s=3600,
        ),
        eviction_enabled=True,
        next_run_at_ms=NOW_MS + 41 * 60_000,
        runs=(
            EvictionRun("run-17", NOW_MS - 300_000, "interval", plan, round(46.8 * GIB), NOW_MS - 297_000),
            EvictionRun("run-16", NOW_MS - 90_000_000, "command", plan, 0, NOW_MS - 89_990_000, stuck),
        ),
        now_ms=NOW_MS,
    )


def snapshot(**changes: object) -> FleetSnapshot:
    values: dict[str, object] = {
        "position": FeedPosition(FEED, 1),
        "now_ms": NOW_MS,
        "server": server(),
        "cache": cache(),
        "entries": entries(),
        "downloads": ((entries()[0].key, Moving(531 * GIB, 681 * GIB, 120, 163, 2.1 * GIB, 72.0, 4)),),
        "sources": sources(),
        "transfers": transfers(),
        "events": events(),
        **changes,
    }
    return FleetSnapshot(**values)  # type: ignore[arg-type]


def empty_snapshot() -> FleetSnapshot:
    return snapshot(entries=(), downloads=(), sources=(), transfers=(), events=(), cache=None)


def settings() -> tuple[SettingRow, ...]:
    return tuple(
        SettingRow(key, value, origin)
        for key, value, origin in (
            ("cache.directory", "/var/lib/mx/cache", "file:/etc/mx/mx.toml"),
            ("cache.eviction.enabled", "true", "default"),
            ("cache.eviction.policy.grace_time", "1h", "file:/etc/mx/mx.toml"),
            ("cache.eviction.policy.high_water", "0.95", "file:/etc/mx/mx.toml"),
            ("cache.eviction.policy.low_water", "0.9", "default"),
            ("cache.eviction.policy.max_models", "24", "env:MODEL_EXPRESS_CACHE_EVICTION_POLICY_MAX_MODELS"),
            ("cache.eviction.policy.min_free_space_bytes", "200GiB", "file:/etc/mx/mx.toml"),
            ("cache.eviction.policy.unused_threshold", "30d", "file:/etc/mx/mx.toml"),
            ("cache.max_size_bytes", "1600GiB", "file:/etc/mx/mx.toml"),
            ("redis.password", "***", "env:REDIS_PASSWORD"),
            ("server.admin_read_only", "false", "default"),
            ("server.port", "8001", "flag"),
        )
    )


def backends() -> tuple[BackendState, ...]:
    return (
        BackendState(
            "sources",
            "redis",
            "redis://10.0.3.2:6379/0",
            ok=True,
            latency_ms=0.8,
            facts=(("keys", "31"), ("memory", "1.9 MiB"), ("replicas", "2"), ("role", "master")),
        ),
        BackendState(
            "models",
            "kubernetes",
            "namespace inference",
            ok=False,
            latency_ms=2000.0,
            error="no answer in 2 s",
        ),
    )


def raw_record(place: str) -> RawRecord:
    return RawRecord(
        "redis",
        place,
        "status: READY\nupdated_at_ms: 1789999996000\nworker_rank: 0\ntoken: '***'\nmanifest: <18432 bytes, xxh3 5f1b6c0d>",
    )
