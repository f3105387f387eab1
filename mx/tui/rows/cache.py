"""Entries of the cache."""

from __future__ import annotations

from mx.core import filters
from mx.core.cache_view import EntryDetail, ListedEntry
from mx.core.filters import Field
from mx.core.model import EntryStatus
from mx.core.units import format_age, format_size
from mx.tui.cells import NOTHING, Cell, Column, Tone, fit, shorten_name
from mx.tui.commands import target_of
from mx.tui.facts import Facts
from mx.tui.moment import Moment
from mx.tui.pictures import bar


def status_cell(entry: ListedEntry, moment: Moment) -> Cell:
    match entry.status:
        case EntryStatus.DOWNLOADED:
            return Cell("✓ ready", Tone.OK)
        case EntryStatus.ERROR:
            return Cell("✗ error", Tone.BAD)
        case EntryStatus.EVICTING:
            return Cell("… evicting", Tone.WARN)
        case EntryStatus.DOWNLOADING:
            return Cell(f"↓ {_percent(entry, moment)}", Tone.ACCENT if entry.owner else Tone.WARN)


def _percent(entry: ListedEntry, moment: Moment) -> str:
    moving = moment.fleet.downloads.get(entry.key)
    done, total = (
        (entry.bytes_done, entry.bytes_total) if moving is None else (moving.bytes_done, moving.bytes_total)
    )
    share = f"{100 * done // total}%" if total else "starting"
    return share if entry.owner else f"{share} stopped"


def held(entry: ListedEntry) -> Cell:
    parts = ["pinned"] if entry.pin else []
    parts += [f"{len(entry.readers)} reading"] if entry.readers else []
    return Cell(" · ".join(parts), Tone.ACCENT) if parts else NOTHING


def is_problem(entry: ListedEntry) -> bool:
    stopped = entry.status is EntryStatus.DOWNLOADING and not entry.owner
    return stopped or entry.status in (EntryStatus.ERROR, EntryStatus.EVICTING)


def name_of(entry: ListedEntry) -> str:
    return entry.key.name if entry.key.weights else f"{entry.key.name} (metadata)"


def size_cell(entry: ListedEntry) -> Cell:
    """What the disk has for it; in brackets what it would be, where others own it all."""
    if entry.disk_bytes or not entry.bytes_total or entry.status is not EntryStatus.DOWNLOADED:
        return Cell(format_size(entry.disk_bytes))
    return Cell(f"({format_size(entry.bytes_total)})", Tone.DIM)


def size_words(entry: ListedEntry) -> str:
    shared = "" if entry.disk_bytes or not entry.bytes_total else ", all of it shared with others"
    return f"{format_size(entry.disk_bytes or entry.bytes_total)} in {entry.files} files{shared}"


def columns(moment: Moment) -> list[Column[ListedEntry]]:
    return [
        Column(
            title="MODEL",
            show=lambda e: Cell(name_of(e)),
            width=24,
            field="model",
            elastic=True,
            shorten=shorten_name,
        ),
        Column(
            title="REVISION",
            show=lambda e: Cell(e.key.commit[:8]) if e.key.commit else NOTHING,
            width=8,
            field="revision",
            level=3,
        ),
        Column(
            title="PROVIDER",
            show=lambda e: Cell(e.key.provider.value, Tone.DIM),
            width=12,
            field="provider",
            level=5,
        ),
        Column(title="STATUS", show=lambda e: status_cell(e, moment), width=12, field="status"),
        Column(title="SIZE", show=size_cell, width=10, field="size", right=True),
        Column(title="FILES", show=lambda e: Cell(str(e.files)), width=6, field="files", right=True, level=4),
        Column(
            title="LAST USED",
            show=lambda e: Cell(moment.ago(e.last_used_at_ms)),
            width=10,
            field="unused",
            right=True,
        ),
        Column(title="HELD", show=held, width=12, field="held", level=2),
        Column(title="MESSAGE", show=lambda e: Cell(e.message, Tone.DIM), width=20, elastic=True, level=6),
    ]


def fields(moment: Moment) -> dict[str, Field[ListedEntry]]:
    """As of ``mx cache list``; ``age`` is another word for ``unused``."""
    unused: Field[ListedEntry] = Field(lambda e: moment.since_s(e.last_used_at_ms), filters.duration)
    return {
        "model": Field(lambda e: e.key.name),
        "revision": Field(lambda e: e.key.commit),
        "provider": Field(lambda e: e.key.provider.value),
        "status": Field(lambda e: e.status.value),
        "size": Field(lambda e: e.disk_bytes, filters.size),
        "files": Field(lambda e: e.files, filters.number),
        "unused": unused,
        "age": unused,
        "held": Field(lambda e: held(e).text.removeprefix("-")),
    }


def facts(entry: ListedEntry, moment: Moment, detail: EntryDetail | None = None, *, why: str = "") -> Facts:
    """``detail`` brings files, path, leases and claim; ``why`` says why there is none."""
    key, pin = entry.key, entry.pin
    moving = moment.fleet.downloads.get(key)
    pin_until = (
        "" if pin is None else "for ever" if pin.until_ms is None else f"for {moment.until(pin.until_ms)}"
    )
    pairs: list[tuple[str, Cell | str]] = [
        ("status", status_cell(entry, moment)),
        ("message", Cell(entry.message, Tone.BAD if entry.status is EntryStatus.ERROR else Tone.PLAIN)),
        ("provider", key.provider.value),
        ("revision", key.commit),
        ("asked for", entry.requested_revision),
        ("size", size_words(entry)),
        ("alone", format_size(entry.own_bytes) if entry.own_bytes != entry.disk_bytes else ""),
        ("last used", f"{moment.ago(entry.last_used_at_ms)} ago"),
        ("created", f"{moment.ago(entry.created_at_ms)} ago"),
        ("pinned", "" if pin is None else ", ".join(filter(None, (pin_until, pin.reason)))),
        ("read by", ", ".join(entry.readers)),
        ("owner", entry.owner),
        ("next try", f"in {moment.until(entry.retry_at_ms)}" if entry.retry_at_ms > moment.now_ms else ""),
    ]
    if moving is not None and moving.bytes_total:
        share = moving.bytes_done / moving.bytes_total
        pairs.append(("progress", f"{bar(share, 12)} {int(share * 100)}%"))
        pairs.append(("moved", f"{format_size(moving.bytes_done)} of {format_size(moving.bytes_total)}"))
        rate = "" if moving.rate is None else f"{format_size(moving.rate)}/s"
        left = "" if moving.eta_s is None else f"{format_age(moving.eta_s)} left"
        pairs.append(("rate", ", ".join(filter(None, (rate, left)))))
    sections: list[tuple[str, tuple[str, ...]]] = []
    if detail is not None:
        pairs += [("path", detail.root), ("shares with", ", ".join(map(str, detail.shares_with)))]
        if detail.claim is not None:
            until = moment.until(detail.claim.expires_at_ms)
            pairs.append(("claim", f"{detail.claim.owner}, {until} more at most"))
        for lease in detail.leases:
            pairs.append(("lease", f"{lease.holder}, {moment.until(lease.expires_at_ms)} more at most"))
        if detail.files:
            files = tuple(
                f"{format_size(file.size_bytes):>9}  {fit(file.path, 34)}  {file.digest[:19]}".rstrip()
                for file in detail.files
            )
            sections.append((f"{len(files)} files", files))
    elif why:
        sections.append(("files", (why,)))
    return Facts(
        title=str(key),
        pairs=pairs,
        sections=tuple(sections),
        command=f"mx cache show {target_of(key)}",
    )


def document(entry: ListedEntry, moment: Moment) -> dict[str, object]:
    """As ``mx cache list`` writes it."""
    return {
        "model": entry.key.name,
        "revision": entry.key.commit,
        "provider": entry.key.provider.value,
        "weights": entry.key.weights,
        "status": entry.status.value,
        "message": entry.message,
        "bytes": entry.disk_bytes,
        "own_bytes": entry.own_bytes,
        "files": entry.files,
        "unused_s": moment.since_s(entry.last_used_at_ms),
        "pinned": entry.pin is not None,
        "pin_reason": entry.pin.reason if entry.pin else "",
        "readers": list(entry.readers),
        "owner": entry.owner,
    }
