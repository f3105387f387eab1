"""The cache as JSON documents and as text: values in, documents or lines out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mx.cli.output import Cell, Column, Output
from mx.core.cache_view import CacheListing, EntryDetail, ListedEntry
from mx.core.eviction import EvictionPlan, EvictionRun, Survivor, Victim
from mx.core.model import EntryKey, EntryStatus
from mx.core.units import format_age, format_size
from mx.core.verification import EntryVerified, Outcome

Document = dict[str, object]

# ---- keys and entries ------------------------------------------------------------------------


def key_document(key: EntryKey) -> Document:
    return {
        "model": key.name,
        "revision": key.commit,
        "provider": key.provider.value,
        "weights": key.weights,
    }


def entry_document(entry: ListedEntry, unused_s: float) -> Document:
    return {
        **key_document(entry.key),
        "status": entry.status.value,
        "message": entry.message,
        "bytes": entry.disk_bytes,
        "content_bytes": entry.bytes_total,
        "own_bytes": entry.own_bytes,
        "files": entry.files,
        "unused_s": unused_s,
        "pinned": entry.pin is not None,
        "pinned_until_ms": entry.pin.until_ms if entry.pin else None,
        "pin_reason": entry.pin.reason if entry.pin else "",
        "readers": list(entry.readers),
        "owner": entry.owner,
    }


def unused_s(entry: ListedEntry, listing: CacheListing) -> float:
    return max(0.0, (listing.now_ms - entry.last_used_at_ms) / 1000)


def held(entry: ListedEntry) -> str:
    """What keeps an entry, in short."""
    parts = ["pin"] if entry.pin else []
    parts += [f"{len(entry.readers)} readers"] if entry.readers else []
    return ", ".join(parts + ([entry.owner] if entry.owner else []))


_ENTRIES = (
    Column("MODEL", elastic=True),
    Column("REVISION"),
    Column("STATUS"),
    Column("SIZE", justify="right"),
    Column("UNUSED", justify="right"),
    Column("HELD BY"),
    Column("FILES", justify="right", optional=True),
)
_STYLES = {
    EntryStatus.DOWNLOADED: "green",
    EntryStatus.DOWNLOADING: "yellow",
    EntryStatus.EVICTING: "yellow",
    EntryStatus.ERROR: "red",
}


def _size(entry: ListedEntry) -> str:
    """What the disk has for it; where that is nothing of its own, what it would be."""
    if entry.disk_bytes or not entry.bytes_total or entry.status is not EntryStatus.DOWNLOADED:
        return format_size(entry.disk_bytes)
    return f"shared {format_size(entry.bytes_total)}"


def print_entries(
    out: Output, rows: Sequence[tuple[ListedEntry, float]], listing: CacheListing, *, wide: bool
) -> None:
    cells = [
        (
            f"{one.key.name}{'' if one.key.weights else ' (metadata)'}",
            one.key.commit[:12] or "-",
            Cell(one.status.value, _STYLES[one.status]),
            _size(one),
            format_age(unused),
            held(one) or "-",
            str(one.files),
        )
        for one, unused in rows
    ]
    if cells:
        out.table(_ENTRIES, cells, wide=wide)
    limit = "" if listing.max_size_bytes is None else f" of {format_size(listing.max_size_bytes)}"
    out.say(f"{format_size(listing.used_bytes)}{limit} used, {format_size(listing.free_bytes)} free on disk")


# ---- one entry -------------------------------------------------------------------------------


def detail_document(detail: EntryDetail, now_ms: int) -> Document:
    listed, claim = detail.listed, detail.claim
    return {
        **entry_document(listed, max(0.0, (now_ms - listed.last_used_at_ms) / 1000)),
        "path": detail.root or None,
        "created_at_ms": listed.created_at_ms,
        "last_used_at_ms": listed.last_used_at_ms,
        "completed_at_ms": detail.completed_at_ms or None,
        "requested_revision": listed.requested_revision,
        "attempts": detail.attempts,
        "retry_at_ms": listed.retry_at_ms or None,
        "claim": None
        if claim is None
        else {"owner": claim.owner, "token": claim.token, "expires_at_ms": claim.expires_at_ms},
        "leases": [
            {"id": one.lease_id, "holder": one.holder, "expires_at_ms": one.expires_at_ms}
            for one in detail.leases
        ],
        "shares_with": [key_document(key) for key in detail.shares_with],
        "file_list": [
            {
                "path": file.path,
                "bytes": file.size_bytes,
                "digest": file.digest,
                "xxh3": file.xxh3,
                "block": file.block,
                "users": file.users,
            }
            for file in detail.files
        ],
    }


def print_detail(out: Output, detail: EntryDetail, now_ms: int, *, wide: bool) -> None:
    one = detail.listed
    out.line(str(one.key))
    pin = one.pin
    content = sum(file.size_bytes for file in detail.files) or one.bytes_total
    until = "" if pin is None or pin.until_ms is None else f" for {span(now_ms, pin.until_ms)}"
    pairs = [
        ("provider", one.key.provider.value),
        ("revision", one.key.commit),
        ("asked for as", one.requested_revision),
        ("path", detail.root),
        ("status", f"{one.status.value}{f': {one.message}' if one.message else ''}"),
        ("size", f"{format_size(content)} in {one.files} files"),
        ("on disk", _on_disk(one, content)),
        ("alone", f"{format_size(one.own_bytes)}, the rest is shared" if detail.shares_with else ""),
        ("shared with", ", ".join(map(str, detail.shares_with))),
        ("used", f"{span(one.last_used_at_ms, now_ms)} ago"),
        ("pinned", "" if pin is None else f"{until.strip() or 'for ever'} {pin.reason}".strip()),
    ]
    if (claim := detail.claim) is not None:
        pairs.append(("claimed", f"by {claim.owner}, for {span(now_ms, claim.expires_at_ms)} more at most"))
    if detail.attempts:
        pairs.append(("failed", f"{detail.attempts} times, next try in {span(now_ms, one.retry_at_ms)}"))
    pairs += [
        ("read", f"by {lease.holder}, for {span(now_ms, lease.expires_at_ms)} more at most")
        for lease in detail.leases
    ]
    out.fields(pairs, indent=2)
    if detail.files:
        columns = (
            Column("FILE", elastic=True),
            Column("SIZE", justify="right"),
            Column("DIGEST"),
            Column("USERS", justify="right"),
            Column("BYTES AT", optional=True),
        )
        cells = [
            (file.path, format_size(file.size_bytes), _short(file.digest, wide), str(file.users), file.block)
            for file in detail.files
        ]
        out.table(columns, cells, wide=wide)


def _on_disk(entry: ListedEntry, content_bytes: int) -> str:
    """What a removal could free, and why it is less than the files are long."""
    if entry.disk_bytes >= content_bytes or entry.status is not EntryStatus.DOWNLOADED:
        return format_size(entry.disk_bytes)
    if not entry.disk_bytes:
        return "nothing of its own: the bytes are shared with files outside mx's cache"
    return f"{format_size(entry.disk_bytes)}: the rest is shared with files outside mx's cache, or compressed"


def _short(digest: str, wide: bool) -> str:
    algorithm, _, value = digest.partition(":")
    return digest if wide or len(value) <= 12 else f"{algorithm}:{value[:12]}"


def span(from_ms: int, to_ms: int) -> str:
    """Between two times, for people."""
    return format_age((to_ms - from_ms) / 1000)


# ---- plans and runs --------------------------------------------------------------------------


def plan_document(plan: EvictionPlan) -> Document:
    return {
        "victims": [_judged(one) for one in plan.victims],
        "survivors": [_judged(one) for one in plan.survivors],
        "bytes_freed": plan.bytes_freed,
        "target_bytes": plan.target_bytes,
        "met": plan.met,
        "executed": False,
        "failed": [],
    }


def run_document(done: EvictionRun) -> Document:
    return {
        **plan_document(done.plan),
        "bytes_freed": done.bytes_freed,
        "executed": True,
        "failed": [{**key_document(key), "reason": reason} for key, reason in done.failed],
    }


def _judged(one: Victim | Survivor) -> Document:
    return {**key_document(one.key), "bytes": one.bytes, "reason": one.reason}


def print_plan(out: Output, plan: EvictionPlan, *, verb: str = "evict") -> None:
    columns = (
        Column("PLAN"),
        Column("MODEL", elastic=True),
        Column("SIZE", justify="right"),
        Column("WHY"),
    )
    cells = [
        *((Cell(verb, "red"), str(one.key), format_size(one.bytes), one.reason) for one in plan.victims),
        *(
            (Cell("keep", "green"), str(one.key), format_size(one.bytes), one.reason)
            for one in plan.survivors
        ),
    ]
    if cells:
        out.table(columns, cells)
    short = "" if plan.met else f", short of {format_size(plan.target_bytes)}"
    out.line(f"{len(plan.victims)} entries to {verb}, {format_size(plan.bytes_freed)} to free{short}")


# ---- verify ----------------------------------------------------------------------------------


def verified_document(done: Iterable[EntryVerified]) -> Document:
    entries = list(done)
    counts = {each.value: sum(one.outcome is each for one in entries) for each in Outcome}
    return {
        "entries": [
            {
                **key_document(one.key),
                "outcome": one.outcome.value,
                "files": one.files,
                "bytes": one.bytes_read,
                "faults": [{"path": f.path, "kind": f.kind.value, "detail": f.detail} for f in one.faults],
                "extras": list(one.extras),
                "detail": one.detail,
                "withdrawn": [key_document(key) for key in one.withdrawn],
            }
            for one in entries
        ],
        "bytes_read": sum(one.bytes_read for one in entries),
        **counts,
    }


_OUTCOMES = {
    Outcome.SOUND: "green",
    Outcome.REPAIRED: "green",
    Outcome.GONE: "yellow",
    Outcome.DAMAGED: "red",
    Outcome.QUARANTINED: "red",
}


def print_verified(out: Output, done: Sequence[EntryVerified]) -> None:
    columns = (
        Column("OUTCOME"),
        Column("MODEL", elastic=True),
        Column("FILES", justify="right"),
        Column("READ", justify="right"),
    )
    cells = [
        (
            Cell(one.outcome.value, _OUTCOMES[one.outcome]),
            str(one.key),
            str(one.files),
            format_size(one.bytes_read),
        )
        for one in done
    ]
    if cells:
        out.table(columns, cells)
    for one in done:
        for fault in one.faults:
            out.line(f"{one.key}: {fault.path}: {fault.kind.value}, {fault.detail}")
        for key in one.withdrawn:
            out.line(f"{one.key}: {key} used the same bytes and is {one.outcome.value} too")
        if one.extras:
            more = f" and {len(one.extras) - 3} more" if len(one.extras) > 3 else ""
            out.say(f"{one.key}: {', '.join(one.extras[:3])}{more} beside it, recorded by nobody")
        if one.detail:
            out.line(f"{one.key}: {one.detail}")
