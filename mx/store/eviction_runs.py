"""Runs of eviction as packed bytes, for every store that keeps them outside its process."""

from __future__ import annotations

import json
import zlib
from typing import Any

from mx.core.eviction import EvictionPlan, EvictionRun, Survivor, Victim
from mx.core.model import EntryKey, ProviderName


def pack_run(run: EvictionRun) -> bytes:
    """Packed: reasons repeat, and 10,000 entries are a megabyte of JSON."""
    plan = run.plan
    document = {
        "run_id": run.run_id,
        "started_at_ms": run.started_at_ms,
        "finished_at_ms": run.finished_at_ms,
        "trigger": run.trigger,
        "bytes_freed": run.bytes_freed,
        "failed": [(*_row(key), reason) for key, reason in run.failed],
        "plan": {
            "victims": [(*_row(one.key), one.bytes, one.reason) for one in plan.victims],
            "survivors": [(*_row(one.key), one.bytes, one.reason) for one in plan.survivors],
            "bytes_freed": plan.bytes_freed,
            "target_bytes": plan.target_bytes,
            "met": plan.met,
        },
    }
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode())


def unpack_run(packed: bytes) -> EvictionRun:
    document = json.loads(zlib.decompress(packed))
    plan = document["plan"]
    return EvictionRun(
        run_id=document["run_id"],
        started_at_ms=document["started_at_ms"],
        trigger=document["trigger"],
        plan=EvictionPlan(
            victims=tuple(Victim(_key(row), row[4], row[5]) for row in plan["victims"]),
            survivors=tuple(Survivor(_key(row), row[4], row[5]) for row in plan["survivors"]),
            bytes_freed=plan["bytes_freed"],
            target_bytes=plan["target_bytes"],
            met=plan["met"],
        ),
        bytes_freed=document["bytes_freed"],
        finished_at_ms=document["finished_at_ms"],
        failed=tuple((_key(row), row[4]) for row in document["failed"]),
    )


def _key(row: list[Any]) -> EntryKey:
    return EntryKey(ProviderName(row[0]), row[1], row[2], bool(row[3]))


def _row(key: EntryKey) -> tuple[str, str, str, int]:
    return key.provider.value, key.name, key.commit, int(key.weights)
