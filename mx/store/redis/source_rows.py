"""From the hashes of a source to the rows of a listing; no I/O.

A source's own hash has one summary per worker, that of the rank published last. It is as fresh as
the live status of that rank, so for workers of one rank, which are nearly all, it is enough. Others are
unclear: their own hash has to be asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mx.core.source import (
    PeerRecord,
    PodReference,
    SourceIdentity,
    SourceSummary,
    layout_signature,
    training_step,
)
from mx.store.published import UnreadableError, WorkerSummary, dump, parse_identity, parse_summary
from mx.store.redis.keys import IDENTITY, source_key
from mx.store.redis.left_alone import LeftAlone


@dataclass(frozen=True, slots=True)
class Static:
    """What a summary lacks: members of the record that listings show, and what JSON can't say.

    ``has_payload`` False: there is none, where the record shows an empty list of tensors.
    """

    grpc_endpoint: str = ""
    pod: PodReference = PodReference()  # noqa: RUF009  # a frozen value
    has_payload: bool = True


@dataclass(frozen=True, slots=True)
class Ours:
    """Our part of one rank. ``static`` None: it was published by somebody else."""

    static: Static | None = None
    peer: PeerRecord | None = None


NOT_OURS = Ours()


@dataclass(slots=True)
class Source:
    """One source as it lies there. ``unclear`` are workers whose own hash has to be asked."""

    source_id: str
    identity: SourceIdentity
    summaries: dict[str, WorkerSummary] = field(default_factory=dict)
    ours: dict[tuple[str, int], Ours] = field(default_factory=dict)
    unclear: list[str] = field(default_factory=list)

    def row(self, worker_id: str, summary: WorkerSummary, *, grpc_endpoint: str = "") -> SourceSummary:
        ours = self.ours.get((worker_id, summary.worker_rank), NOT_OURS)
        return SourceSummary(
            source_id=self.source_id,
            worker_id=worker_id,
            worker_rank=summary.worker_rank,
            model_name=self.identity.model_name,
            status=summary.status,
            updated_at_ms=summary.updated_at_ms,
            accelerator=summary.accelerator,
            training_step=training_step(self.identity),
            layout_signature=layout_signature(self.identity),
            topology=summary.topology,
            source_load=summary.source_load,
            worker_grpc_endpoint=ours.static.grpc_endpoint if ours.static else grpc_endpoint,
            peer=ours.peer,
        )

    def rows(self, asked: Mapping[str, Mapping[int, WorkerSummary]]) -> Iterator[SourceSummary]:
        """Every rank. ``asked`` has what the hashes of the unclear workers say, by rank."""
        for worker_id, summary in self.summaries.items():
            if worker_id not in asked:
                yield self.row(worker_id, summary)
        for worker_id, ranks in asked.items():
            known = self.summaries.get(worker_id)
            if known is not None:
                ranks = {**ranks, known.worker_rank: newer(ranks.get(known.worker_rank), known)}
            for summary in ranks.values():
                yield self.row(worker_id, summary)


def newer(one: WorkerSummary | None, other: WorkerSummary) -> WorkerSummary:
    """The live status, unless a heartbeat of a server that does not know it came later."""
    return one if one is not None and one.updated_at_ms >= other.updated_at_ms else other


def parse_source(
    source_id: str, fields: Mapping[bytes, bytes], index: Mapping[bytes, bytes], left_alone: LeftAlone
) -> Source | None:
    """None when there is no such source. What can't be read is left alone and logged."""
    if IDENTITY not in fields:
        return None
    try:
        source = Source(source_id, parse_identity(fields[IDENTITY]))
    except UnreadableError as error:
        left_alone.note(source_key(source_id), "identity", error)
        return None
    source.ours.update(_parse_index(source_id, index))
    ranks: dict[str, set[int]] = {}
    for worker_id, rank in source.ours:
        ranks.setdefault(worker_id, set()).add(rank)
    for name, text in fields.items():
        if name == IDENTITY:
            continue
        try:
            worker_id = name.decode()
            if text.isdigit():  # releases 0.3.0 and 0.4.x wrote the rank alone
                source.unclear.append(worker_id)
                continue
            summary = parse_summary(text)
        except (UnicodeDecodeError, UnreadableError) as error:
            left_alone.note(source_key(source_id), repr(name), error)
            continue
        source.summaries[worker_id] = summary
        if ranks.get(worker_id) != {summary.worker_rank}:
            source.unclear.append(worker_id)
    return source


def dump_static(static: Static) -> bytes:
    pod = static.pod
    marks = "" if static.has_payload else "-"
    return dump([static.grpc_endpoint, pod.name, pod.uid, pod.namespace, marks])


def dump_peer(peer: PeerRecord) -> bytes:
    return dump([peer.endpoint, peer.generation, peer.host_id, peer.layout_digest])


def parse_ours(static: bytes | None, peer: bytes | None) -> Ours:
    """Our own values: damaged ones count as absent, and the worker's next publish mends them."""
    texts = _texts(static, 5)
    parts = _texts(peer, 4)
    return Ours(
        None if texts is None else Static(texts[0], PodReference(*texts[1:4]), texts[4] != "-"),
        None if parts is None else PeerRecord(*parts),
    )


def _parse_index(source_id: str, index: Mapping[bytes, bytes]) -> Iterator[tuple[tuple[str, int], Ours]]:
    for name, value in index.items():
        kind, _, rest = name.partition(b":")
        rank, _, worker_id = rest.partition(b":")
        if kind == b"s":
            try:
                key = worker_id.decode(), int(rank)
            except ValueError:
                continue
            yield key, parse_ours(value, index.get(b"p:" + rest))


def _texts(value: bytes | None, count: int) -> list[str] | None:
    if value is None:
        return None
    try:
        found = json.loads(value)
    except ValueError:
        return None
    if not isinstance(found, list) or len(found) != count or not all(isinstance(one, str) for one in found):
        return None
    return found
