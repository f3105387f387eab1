"""In which order sources are tried: near before far, then by the policy that the operator chose.

Policies are the published ones. A load of None is unknown, everywhere the same (0.5), and never
idle. ``random`` is drawn from the target's stable name, so that restarts choose alike and tests
repeat, while different targets spread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from mx.core.source import SourceSummary

POLICIES = ("random", "rendezvous_hash", "load_aware", "topology_aware")
UNKNOWN_LOAD = 0.5


def order_sources(
    rows: Sequence[SourceSummary],
    *,
    policy: str,
    target: str,
    host_id: str = "",
    topology: Mapping[str, str] | None = None,
    levels: Sequence[str] = (),
    load_weight: float = 1.0,
) -> tuple[SourceSummary, ...]:
    """``rows`` best first. ``target`` is a stable name of this worker; ``levels`` go broad to narrow."""

    def key(row: SourceSummary) -> tuple[float, ...]:
        near = 0.0 if is_same_host(row, host_id) else 1.0
        draw = _draw(target, row.worker_id)
        load = load_weight * (UNKNOWN_LOAD if row.source_load is None else row.source_load)
        match policy:
            case "load_aware":
                return (near, load, draw)
            case "topology_aware":
                return (near, -float(shared_levels(row.topology, topology or {}, levels)), load, draw)
            case _:
                return (near, draw)

    return tuple(sorted(rows, key=key))


def is_same_host(row: SourceSummary, host_id: str) -> bool:
    return bool(host_id) and row.peer is not None and row.peer.host_id == host_id


def shared_levels(theirs: Mapping[str, str], ours: Mapping[str, str], levels: Sequence[str]) -> int:
    """How many levels agree, from the broadest down to the first that differs or is unknown."""
    count = 0
    for level in levels:
        if not theirs.get(level) or theirs.get(level) != ours.get(level):
            break
        count += 1
    return count


def _draw(target: str, worker_id: str) -> float:
    digest = hashlib.blake2b(f"{target}\0{worker_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
