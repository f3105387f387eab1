"""Records of models as Redis holds them: a hash for every server, and beside it what only we know.

What other servers change in their hash wins over our part: that counts only as far as it still fits, by
creation time and claim. An entry that is being removed looks to them like one that is being
downloaded: they wait for its claim to end, which is what it means here as well. What they call
downloaded is not believed to be: it may be claimed, and whoever does finds out what is on the disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mx.core.model import TO_BE_VERIFIED, Claim, EntryKey, EntryStatus, ModelRecord, Pin, ReadLease
from mx.store.published import UnreadableError, dump
from mx.store.redis.keys import provider_text

EXTRAS = b"record"  # the field of our own hash
GONE = b"deleted"  # beside it, for a while after a deletion
MEMBERS = (
    b"status",
    b"provider",
    b"created_at",
    b"last_used_at",
    b"message",
    b"claim_id",
    b"lease_expires_at",
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_MS = 253_402_300_799_999  # the end of the year 9999, where RFC 3339 ends
_OURS = "mx:"
_STATUSES = {
    "DOWNLOADING": EntryStatus.DOWNLOADING,
    "DOWNLOADED": EntryStatus.DOWNLOADED,
    "ERROR": EntryStatus.ERROR,
}
_TEXTS = {status: text for text, status in _STATUSES.items()} | {EntryStatus.EVICTING: "DOWNLOADING"}


@dataclass(frozen=True, slots=True)
class Stored:
    """One entry as it lay there. ``record`` None: there is none; ``deleted`` by somebody, then.

    ``revision`` names our last write.
    """

    fields: Mapping[bytes, bytes]
    extras: bytes | None
    record: ModelRecord | None
    revision: str = ""
    deleted: bool = False


def decode(key: EntryKey, fields: Mapping[bytes, bytes], extras: bytes | None) -> Stored:
    """UnreadableError for a hash that no server wrote like this."""
    if not fields:
        return Stored(fields, extras, None)
    found = {name.decode(errors="replace"): _decoded(value) for name, value in fields.items()}
    if "status" not in found:
        raise UnreadableError("it has no status")
    ours = _parse_extras(extras)
    try:
        if not _same_time(ours["created"][0], found.get("created_at")):
            ours = {}  # of an earlier entry of that name
        record = _record(key, found, ours)
    except (TypeError, ValueError, KeyError, IndexError):
        ours = {}  # damaged or none: what other servers need is there all the same
        record = _record(key, found, ours)
    if not ours and record.status is EntryStatus.DOWNLOADED:
        record = replace(record, status=EntryStatus.DOWNLOADING, message=TO_BE_VERIFIED)
    return Stored(fields, extras, record, str(ours.get("revision", "")))


def _record(key: EntryKey, found: Mapping[str, str], ours: Mapping[str, Any]) -> ModelRecord:
    return ModelRecord(
        key,
        status=_status(found, ours),
        created_at_ms=_time(found.get("created_at"), ours.get("created")),
        last_used_at_ms=_time(found.get("last_used_at"), ours.get("used")),
        message=found.get("message", ""),
        claim=_claim(found),
        bytes_total=int(ours.get("bytes_total", 0)),
        bytes_done=int(ours.get("bytes_done", 0)),
        files=int(ours.get("files", 0)),
        bytes_on_disk=int(ours.get("bytes_on_disk", 0)),
        attempts=int(ours.get("attempts", 0)),
        retry_at_ms=int(ours.get("retry_at", 0)),
        pin=Pin(*ours["pin"]) if ours.get("pin") else None,
        leases=tuple(ReadLease(*lease) for lease in ours.get("leases", ())),
        requested_revision=ours.get("requested", ""),
    )


def encode(record: ModelRecord, *, revision: str) -> tuple[dict[bytes, bytes], bytes]:
    """The hash for everybody, and ours."""
    created, used = rfc3339(record.created_at_ms), rfc3339(record.last_used_at_ms)
    fields = {
        b"status": _TEXTS[record.status].encode(),
        b"provider": provider_text(record.key.provider).encode(),
        b"created_at": created.encode(),
        b"last_used_at": used.encode(),
    }
    if record.message:
        fields[b"message"] = record.message.encode()
    if record.claim is not None:
        fields[b"claim_id"] = claim_id(record.claim).encode()
        fields[b"lease_expires_at"] = b"%d" % record.claim.expires_at_ms
    extras: dict[str, object] = {
        "revision": revision,
        "created": [created, record.created_at_ms],
        "used": [used, record.last_used_at_ms],
        "bytes_total": record.bytes_total,
        "bytes_done": record.bytes_done,
        "files": record.files,
        "bytes_on_disk": record.bytes_on_disk,
        "attempts": record.attempts,
        "retry_at": record.retry_at_ms,
        "requested": record.requested_revision,
    }
    if record.status is EntryStatus.EVICTING:
        extras["evicting"] = claim_id(record.claim) if record.claim else ""
    if record.pin is not None:
        extras["pin"] = [record.pin.until_ms, record.pin.reason]
    if record.leases:
        extras["leases"] = [[lease.lease_id, lease.holder, lease.expires_at_ms] for lease in record.leases]
    return fields, dump(extras)


def claim_id(claim: Claim) -> str:
    """Token and owner: the hash alone says whose claim it is. Any text will do for other servers."""
    if not claim.token:
        return claim.owner  # another server's, as it was read
    return f"{_OURS}{claim.token}:{claim.owner}"


def rfc3339(unix_ms: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=min(max(unix_ms, 0), _LATEST_MS))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _claim(found: Mapping[str, str]) -> Claim | None:
    text = found.get("claim_id")
    if not text:
        return None
    end = found.get("lease_expires_at", "")
    expires_at_ms = int(end) if end.isascii() and end.isdigit() and len(end) <= 20 else 0
    prefix, token, owner = [*text.split(":", 2), "", ""][:3]
    if f"{prefix}:" == _OURS and token.isascii() and token.isdigit() and len(token) <= 20:
        return Claim(owner, int(token), expires_at_ms)
    return Claim(text, 0, expires_at_ms)


def _status(found: Mapping[str, str], ours: Mapping[str, Any]) -> EntryStatus:
    status = _STATUSES.get(found["status"])
    if status is None:
        raise UnreadableError(f"its status {found['status'][:40]!r} is none that mx knows")
    if status is EntryStatus.DOWNLOADING and ours.get("evicting") == found.get("claim_id", ""):
        return EntryStatus.EVICTING
    return status


def _time(text: str | None, exact: list[Any] | None) -> int:
    """Unix milliseconds: the number that we wrote, as long as the text says the same."""
    return int(exact[1]) if exact is not None and _same_time(exact[0], text) else _unix_ms(text)


def _same_time(one: str | None, other: str | None) -> bool:
    """Other servers may write the same moment in another form."""
    return one == other or _unix_ms(one) == _unix_ms(other) > 0


def _unix_ms(text: str | None) -> int:
    """0, long ago, for what is no time."""
    try:
        moment = datetime.fromisoformat(text or "")
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0, (moment - _EPOCH) // timedelta(milliseconds=1))
    except (ValueError, OverflowError):
        return 0


def _parse_extras(extras: bytes | None) -> dict[str, Any]:
    """Our own; what is damaged counts as nothing."""
    if extras is None:
        return {}
    try:
        found = json.loads(extras)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _decoded(value: bytes) -> str:
    return value.decode(errors="replace")
