"""From what changed to what is worth a line: a pure function from the old state and a change to events.

Every server of a store sees the same changes and tells the same events of them; so that a store can
keep one of them, ``event_id`` ends with a digest of what happened to whom. Events that only one server
can know (transfers, its own life) have its name in that digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from mx.core.cache_view import ListedEntry
from mx.core.counts import Count, EvictionDone
from mx.core.feed import (
    Change,
    EntryChanged,
    EntryGone,
    Event,
    EventKind,
    EventLevel,
    ServerChanged,
    SourceChanged,
    SourceGone,
    TransferChanged,
)
from mx.core.fleet import Fleet
from mx.core.model import EntryStatus
from mx.core.server_state import ServerStatus
from mx.core.source import SourceStatus, SourceSummary
from mx.core.transfer import TransferReport, TransferState
from mx.core.units import format_age, format_rate, format_size

Fields = Mapping[str, str | int | float | bool]


class Teller:
    """Makes the events of one server. ``server`` is its name in them."""

    def __init__(self, server: str) -> None:
        self._server = server

    def events_of(self, before: Fleet, changes: Iterable[Change], *, now_ms: int) -> Iterator[Event]:
        """The events of a batch of changes to ``before``."""
        for change in changes:
            match change:
                case SourceChanged(source):
                    yield from self._source(before.sources.get(source.key), source, now_ms)
                case SourceGone(key):
                    if (known := before.sources.get(key)) is not None:
                        yield self._source_left(known, now_ms)
                case EntryChanged(entry):
                    yield from self._entry(before.entries.get(entry.key), entry, now_ms)
                case EntryGone(entry_key):
                    if (listed := before.entries.get(entry_key)) is not None:
                        yield self._entry_gone(listed, now_ms)
                case TransferChanged(report):
                    yield from self._transfer(before.finished.get(report.transfer_id), report, now_ms)
                case ServerChanged(status):
                    if before.server is not None:
                        yield from self._status(before.server, status, now_ms)
                case _:
                    pass

    def event_of_count(self, count: Count, *, now_ms: int) -> Event | None:
        """The event of a figure, for what no change tells."""
        if not isinstance(count, EvictionDone) or not (count.evicted or count.failed):
            return None
        stayed = f", {count.failed} stayed" if count.failed else ""
        short = "" if count.met else "; the cache stays above its limits"
        return self._own(
            now_ms,
            EventKind.EVICTION,
            "eviction",
            f"eviction ({count.trigger}) freed {format_size(count.bytes_freed)}: {count.evicted} "
            f"{'entry' if count.evicted == 1 else 'entries'} went{stayed}{short}",
            what=f"run {now_ms}",
            level=EventLevel.INFO if count.met and not count.failed else EventLevel.WARNING,
            fields={
                "trigger": count.trigger,
                "evicted": count.evicted,
                "stayed": count.failed,
                "bytes": count.bytes_freed,
                "met": count.met,
            },
        )

    def started(self, version: str, *, now_ms: int) -> Event:
        return self._own(
            now_ms,
            EventKind.SERVER,
            self._server,
            f"server {self._server} started, mx {version}",
            what="start",
        )

    # Sources

    def _source(self, old: SourceSummary | None, new: SourceSummary, now_ms: int) -> Iterator[Event]:
        was = None if old is None else old.status
        if new.status == was:
            return
        who = _worker(new)
        if new.status == SourceStatus.READY:
            back = " again" if was == SourceStatus.STALE else ""
            yield self._of_source(new, now_ms, f"{who} serves {new.model_name}{back}", what="ready")
        elif new.status == SourceStatus.STALE and was is not None:
            silent = format_age(max(0, now_ms - old.updated_at_ms) / 1000) if old is not None else ""
            text = f"{who} is stale: no heartbeat for {silent}"
            yield self._of_source(new, now_ms, text, what="stale", level=EventLevel.WARNING)

    def _source_left(self, known: SourceSummary, now_ms: int) -> Event:
        stale = known.status == SourceStatus.STALE
        text = f"{_worker(known)} {'was removed, stale' if stale else 'left'}; it had {known.model_name}"
        return self._of_source(known, now_ms, text, what="left")

    def _of_source(
        self,
        source: SourceSummary,
        now_ms: int,
        text: str,
        *,
        what: str,
        level: EventLevel = EventLevel.INFO,
    ) -> Event:
        return self._event(
            now_ms,
            EventKind.SOURCE,
            source.worker_id,
            text,
            what=f"{what} {source.key}",
            level=level,
            fields={
                "what": what,
                "model": source.model_name,
                "source_id": source.source_id,
                "rank": source.worker_rank,
            },
        )

    # Models

    def _entry(self, old: ListedEntry | None, new: ListedEntry, now_ms: int) -> Iterator[Event]:
        was = None if old is None else old.status
        name = str(new.key)
        if new.status is EntryStatus.DOWNLOADED and was is not new.status:
            size = format_size(new.disk_bytes or new.bytes_total)
            yield self._of_entry(
                new, now_ms, f"{name} is in the cache: {size}, {new.files} files", what="done"
            )
        elif new.status is EntryStatus.ERROR and was is not new.status:
            text = f"{name} failed: {new.message or 'no reason given'}"
            yield self._of_entry(new, now_ms, text, what="failed", level=EventLevel.ERROR)
        elif new.status is EntryStatus.DOWNLOADING and new.owner and (old is None or old.owner != new.owner):
            text = f"{name} is being downloaded by {new.owner}"
            yield self._of_entry(new, now_ms, text, what=f"started by {new.owner}")
        if old is not None and (old.pin is None) != (new.pin is None):
            why = f": {new.pin.reason}" if new.pin is not None and new.pin.reason else ""
            text = f"{name} was {'unpinned' if new.pin is None else 'pinned'}{why}"
            yield self._of_entry(new, now_ms, text, what="unpinned" if new.pin is None else "pinned")

    def _entry_gone(self, known: ListedEntry, now_ms: int) -> Event:
        size = format_size(known.disk_bytes or known.bytes_total)
        return self._of_entry(known, now_ms, f"{known.key} is gone from the cache: {size}", what="gone")

    def _of_entry(
        self, entry: ListedEntry, now_ms: int, text: str, *, what: str, level: EventLevel = EventLevel.INFO
    ) -> Event:
        key = entry.key
        return self._event(
            now_ms,
            EventKind.MODEL,
            key.name,
            text,
            what=f"{what} {key.provider} {key.commit} {key.weights}",
            level=level,
            fields={
                "what": what.partition(" ")[0],
                "provider": key.provider.value,
                "commit": key.commit,
                "weights": key.weights,
                "bytes": entry.disk_bytes or entry.bytes_total,
            },
        )

    # Transfers

    def _transfer(self, ended: TransferReport | None, new: TransferReport, now_ms: int) -> Iterator[Event]:
        if new.state is TransferState.RUNNING or (ended is not None and ended.state is new.state):
            return
        failed = new.state is TransferState.FAILED
        yield self._own(
            now_ms,
            EventKind.TRANSFER,
            new.worker_id,
            describe_transfer(new),
            what=f"{new.state} {new.transfer_id}",
            level=EventLevel.ERROR if failed else EventLevel.INFO,
            fields={
                "what": new.state.value,
                "model": new.model_name,
                "transfer_id": new.transfer_id,
                "rank": new.worker_rank,
                "strategy": new.strategy.value,
                "bytes": new.bytes_done,
                "seconds": round(new.seconds, 3),
                "gbit_s": round(new.gbit_s, 3),
                "verified": new.verified,
            },
        )

    # Server and store

    def _status(self, old: ServerStatus, new: ServerStatus, now_ms: int) -> Iterator[Event]:
        if old.store_ok != new.store_ok:
            answers = "answers again" if new.store_ok else "does not answer"
            yield self._own(
                now_ms,
                EventKind.STORE,
                new.store_backend,
                f"store {new.store_backend} {answers}",
                what=answers,
                level=EventLevel.INFO if new.store_ok else EventLevel.ERROR,
                fields={"ok": new.store_ok},
            )
        if new.draining and not old.draining:
            text = f"server {self._server} is shutting down"
            yield self._own(now_ms, EventKind.SERVER, self._server, text, what="draining")

    # Parts

    def _own(
        self,
        now_ms: int,
        kind: EventKind,
        subject: str,
        text: str,
        *,
        what: str,
        level: EventLevel = EventLevel.INFO,
        fields: Fields | None = None,
    ) -> Event:
        """Of this server alone."""
        what = f"{what} {self._server}"
        return self._event(now_ms, kind, subject, text, what=what, level=level, fields=fields)

    def _event(
        self,
        now_ms: int,
        kind: EventKind,
        subject: str,
        text: str,
        *,
        what: str,
        level: EventLevel = EventLevel.INFO,
        fields: Fields | None = None,
    ) -> Event:
        digest = hashlib.sha256(f"{kind}\0{subject}\0{what}".encode("utf-8", "replace")).hexdigest()[:16]
        return Event(
            event_id=f"{now_ms:013d}-{digest}",
            at_ms=now_ms,
            kind=kind,
            level=level,
            subject=subject,
            text=text,
            server=self._server,
            fields=fields,
        )


def same_happening(event_id: str) -> str:
    """The part of an id that is equal for the same thing told by several servers."""
    return event_id.rpartition("-")[2]


def describe_transfer(report: TransferReport) -> str:
    """``pull vllm-12 rank 0  85.1 GiB in 1.9 s  358 Gbit/s  from vllm-3 (61 %), vllm-7 (39 %)  verified``"""
    who = f"pull {report.worker_id} rank {report.worker_rank}"
    if report.state is TransferState.FAILED:
        done = f" after {format_size(report.bytes_done)}" if report.bytes_done else ""
        return f"{who} failed{done}: {report.reason or 'no reason given'}"
    parts = [f"{who} {format_size(report.bytes_done)} in {format_age(report.seconds)}"]
    if report.gbit_s:
        parts.append(format_rate(report.gbit_s * 1e9 / 8))
    given = [share for share in report.sources if share.bytes]
    total = sum(share.bytes for share in given)
    if given:
        shares = ", ".join(f"{share.worker_id} ({100 * share.bytes / total:.0f} %)" for share in given)
        parts.append(f"from {shares}")
    else:
        parts.append(f"from {report.strategy.value}")
    if dropped := [
        f"{share.worker_id} given up: {share.dropped}" for share in report.sources if share.dropped
    ]:
        parts.append(f"({'; '.join(dropped)})")
    if report.verified:
        parts.append("verified")
    return " ".join(parts)


def _worker(source: SourceSummary) -> str:
    return f"{source.worker_id} rank {source.worker_rank}"
