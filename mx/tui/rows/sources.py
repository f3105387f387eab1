"""Sources as a tree: source, its hosts, their workers by rank."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from mx.core import filters
from mx.core.filters import Field
from mx.core.fleet import Fleet
from mx.core.source import SourceEntry, SourceIdentity, SourceStatus, SourceSummary, WorkerKey
from mx.core.units import format_size
from mx.tui.cells import NOTHING, Cell, Column, Tone
from mx.tui.facts import Facts
from mx.tui.moment import Moment

# A worker sends a heartbeat every 30 s; the server gives it up after three.
LATE_S = 90.0

_STATUS = {
    SourceStatus.READY: Cell("✓ ready", Tone.OK),
    SourceStatus.INITIALIZING: Cell("… loading", Tone.ACCENT),
    SourceStatus.STALE: Cell("✗ stale", Tone.BAD),
    SourceStatus.UNKNOWN: Cell("? unknown", Tone.WARN),
}


@dataclass(frozen=True, slots=True)
class Node:
    """A line of the tree. ``worker`` None: a group, of which ``workers`` says what is in it."""

    source_id: str
    host: str
    worker: SourceSummary | None
    workers: tuple[SourceSummary, ...] = ()
    depth: int = 0
    closed: bool = False

    @property
    def ident(self) -> object:
        return (self.source_id, self.host, self.depth) if self.worker is None else self.worker.key


def host_of(row: SourceSummary) -> str:
    """Where it runs, as well as it is known."""
    if row.peer is not None and row.peer.host_id:
        return row.peer.host_id
    endpoint = row.peer.endpoint if row.peer is not None else row.worker_grpc_endpoint
    return endpoint.rpartition(":")[0] or row.topology.get("node", "") or "unknown host"


def leaves(fleet: Fleet) -> list[Node]:
    """One node for each worker; in the order of model, source, host, rank."""
    ordered = sorted(
        fleet.sources.values(),
        key=lambda row: (row.model_name, row.source_id, host_of(row), row.worker_rank, row.worker_id),
    )
    return [Node(row.source_id, host_of(row), row, depth=2) for row in ordered]


def tree(chosen: Iterable[Node], closed: Set[object]) -> list[Node]:
    """The lines: groups in the order of their first worker; ``closed`` ones hide what is in them."""
    sources: dict[str, dict[str, list[Node]]] = {}
    for node in chosen:
        sources.setdefault(node.source_id, {}).setdefault(node.host, []).append(node)
    lines: list[Node] = []
    for source_id, hosts in sources.items():
        workers = tuple(_worker(node) for nodes in hosts.values() for node in nodes)
        top = Node(source_id, "", None, workers, depth=0)
        is_closed = top.ident in closed
        lines.append(Node(source_id, "", None, workers, 0, is_closed))
        if is_closed:
            continue
        for host, nodes in hosts.items():
            inside = tuple(_worker(node) for node in nodes)
            middle = Node(source_id, host, None, inside, 1)
            is_closed = middle.ident in closed
            lines.append(Node(source_id, host, None, inside, 1, is_closed))
            if not is_closed:
                lines += nodes
    return lines


def _worker(node: Node) -> SourceSummary:
    assert node.worker is not None  # leaves are made of workers
    return node.worker


def is_late(row: SourceSummary, moment: Moment) -> bool:
    return moment.since_s(row.updated_at_ms) > LATE_S


def is_problem(row: SourceSummary, moment: Moment) -> bool:
    return row.status in (SourceStatus.STALE, SourceStatus.UNKNOWN) or is_late(row, moment)


def status_cell(row: SourceSummary, moment: Moment) -> Cell:
    if row.status == SourceStatus.READY and is_late(row, moment):
        return Cell("! silent", Tone.WARN)
    try:
        return _STATUS[SourceStatus(row.status)]
    except ValueError:
        return Cell(f"? status {row.status}", Tone.WARN)


def bytes_served(fleet: Fleet) -> dict[str, int]:
    """By worker id, over the transfers that are still known."""
    served: dict[str, int] = {}
    for table in (fleet.running, fleet.finished):
        for report in table.values():
            for share in report.sources:
                served[share.worker_id] = served.get(share.worker_id, 0) + share.bytes
    return served


class Served:
    """``bytes_served`` of the fleet that is shown, counted once for each state of it."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment
        self._of: tuple[object, object] = (None, None)
        self._bytes: dict[str, int] = {}

    def of(self, worker_id: str) -> int:
        fleet = self._moment.fleet
        if self._of[0] is not fleet.running or self._of[1] is not fleet.finished:
            self._of = (fleet.running, fleet.finished)
            self._bytes = bytes_served(fleet)
        return self._bytes.get(worker_id, 0)


def _name(node: Node) -> Cell:
    sign = "▸" if node.closed else "▾"
    if node.worker is not None:
        return Cell(f"    rank {node.worker.worker_rank} · {node.worker.worker_id}")
    if node.depth == 1:
        return Cell(f"  {sign} {node.host}", Tone.DIM)
    return Cell(f"{sign} {node.workers[0].model_name}", Tone.STRONG)


def _status(node: Node, moment: Moment) -> Cell:
    if node.worker is not None:
        return status_cell(node.worker, moment)
    ready = sum(row.status == SourceStatus.READY and not is_late(row, moment) for row in node.workers)
    total = len(node.workers)
    if ready == total:
        return Cell(f"✓ {total} ready", Tone.OK)
    bad = any(is_problem(row, moment) for row in node.workers)
    return Cell(f"{'!' if bad else '…'} {ready} of {total}", Tone.WARN if bad else Tone.ACCENT)


def _heartbeat(node: Node, moment: Moment) -> Cell:
    rows = node.workers if node.worker is None else (node.worker,)
    oldest = min(row.updated_at_ms for row in rows)
    late = moment.since_s(oldest) > LATE_S
    return Cell(f"{'! ' if late else ''}{moment.ago(oldest)}", Tone.WARN if late else Tone.PLAIN)


def _load(node: Node) -> Cell:
    rows = node.workers if node.worker is None else (node.worker,)
    loads = [row.source_load for row in rows if row.source_load is not None]
    return Cell(f"{sum(loads) / len(loads):.2f}") if loads else NOTHING


def _served(node: Node, served: Served) -> Cell:
    rows = node.workers if node.worker is None else (node.worker,)
    total = sum(served.of(row.worker_id) for row in rows)
    return Cell(format_size(total)) if total else NOTHING


def columns(moment: Moment) -> list[Column[Node]]:
    served = Served(moment)
    return [
        Column(title="SOURCE", show=_name, width=28, field="model", elastic=True),
        Column(
            title="ID",
            show=lambda n: Cell(n.source_id, Tone.DIM) if n.depth == 0 else Cell(""),
            width=16,
            field="source",
            level=3,
        ),
        Column(title="STATUS", show=lambda n: _status(n, moment), width=11, field="status"),
        Column(title="HEARTBEAT", show=lambda n: _heartbeat(n, moment), width=10, field="age", right=True),
        Column(title="LOAD", show=_load, width=5, field="load", right=True),
        Column(
            title="SERVED", show=lambda n: _served(n, served), width=9, right=True, field="served", level=1
        ),
        Column(
            title="ACCELERATOR",
            show=lambda n: Cell(n.worker.accelerator or "-") if n.worker else Cell(""),
            width=12,
            field="accelerator",
            level=4,
        ),
        Column(
            title="ENDPOINT",
            show=lambda n: Cell(endpoint_of(n.worker) or "-", Tone.DIM) if n.worker else Cell(""),
            width=22,
            field="endpoint",
            level=5,
        ),
    ]


def endpoint_of(row: SourceSummary) -> str:
    return row.peer.endpoint if row.peer else row.worker_grpc_endpoint


def fields(moment: Moment) -> dict[str, Field[Node]]:
    """As of ``mx source list``; of leaves, groups follow them."""
    served = Served(moment)

    def of(node: Node) -> SourceSummary:
        return _worker(node)

    return {
        "model": Field(lambda n: of(n).model_name),
        "source": Field(lambda n: n.source_id),
        "worker": Field(lambda n: of(n).worker_id),
        "host": Field(lambda n: n.host),
        "rank": Field(lambda n: of(n).worker_rank, filters.number),
        "status": Field(lambda n: status_cell(of(n), moment).text.partition(" ")[2]),
        "age": Field(lambda n: moment.since_s(of(n).updated_at_ms), filters.duration),
        "accelerator": Field(lambda n: of(n).accelerator),
        "load": Field(lambda n: of(n).source_load, filters.number),
        "served": Field(lambda n: served.of(of(n).worker_id), filters.size),
        "step": Field(lambda n: of(n).training_step, filters.number),
        "endpoint": Field(lambda n: endpoint_of(of(n))),
    }


def facts(node: Node, moment: Moment, entry: SourceEntry | None = None) -> Facts:
    row = node.worker
    if row is None:
        by_status: dict[str, int] = {}
        for one in node.workers:
            word = status_cell(one, moment).text
            by_status[word] = by_status.get(word, 0) + 1
        return Facts(
            title=node.workers[0].model_name,
            pairs=[
                ("source id", node.source_id),
                ("host", node.host),
                ("workers", str(len(node.workers))),
                *((word.partition(" ")[2], str(count)) for word, count in by_status.items()),
            ],
            command=f"mx source show {node.source_id}",
        )
    pairs: list[tuple[str, Cell | str]] = [
        ("status", status_cell(row, moment)),
        ("model", row.model_name),
        ("source id", row.source_id),
        ("worker", row.worker_id),
        ("rank", str(row.worker_rank)),
        ("host", node.host),
        ("heartbeat", f"{moment.ago(row.updated_at_ms)} ago"),
        ("load", "" if row.source_load is None else f"{row.source_load:.2f}"),
        ("accelerator", row.accelerator),
        ("endpoint", endpoint_of(row)),
        ("generation", row.peer.generation if row.peer else ""),
        ("layout", row.peer.layout_digest if row.peer else ""),
        ("step", "" if row.training_step is None else str(row.training_step)),
        *((f"at {name}", value) for name, value in sorted(row.topology.items())),
    ]
    if entry is not None:
        identity = entry.identity
        pairs += [
            ("dtype", identity.dtype),
            ("quantization", identity.quantization),
            ("parallel", _parallel(identity)),
            ("revision", identity.revision),
            ("pod", f"{entry.pod.namespace}/{entry.pod.name}".strip("/")),
        ]
    readers = [
        f"{report.worker_id} rank {report.worker_rank}"
        for report in moment.fleet.running.values()
        if any(share.worker_id == row.worker_id and not share.dropped for share in report.sources)
    ]
    sections = (("read now by", tuple(readers)),) if readers else ()
    command = f"mx source show {row.source_id} {row.worker_id}"
    return Facts(
        title=f"{row.worker_id} rank {row.worker_rank}", pairs=pairs, sections=sections, command=command
    )


def _parallel(identity: SourceIdentity) -> str:
    sizes = (("tp", identity.tensor_parallel_size), ("pp", identity.pipeline_parallel_size))
    return " · ".join(f"{name} {size}" for name, size in sizes if size)


def document(row: SourceSummary, moment: Moment) -> dict[str, object]:
    return {
        "source_id": row.source_id,
        "worker_id": row.worker_id,
        "worker_rank": row.worker_rank,
        "model_name": row.model_name,
        "status": status_cell(row, moment).text.partition(" ")[2],
        "updated_at_ms": row.updated_at_ms,
        "age_s": moment.since_s(row.updated_at_ms),
        "accelerator": row.accelerator,
        "source_load": row.source_load,
        "endpoint": endpoint_of(row),
    }


def keys_of(nodes: Iterable[Node]) -> list[WorkerKey]:
    """The workers that these lines stand for, each once."""
    found: dict[WorkerKey, None] = {}
    for node in nodes:
        for row in node.workers if node.worker is None else (node.worker,):
            found[row.key] = None
    return list(found)
