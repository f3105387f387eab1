"""What may happen to the record of a model: one rule book for every store.

Pure functions from the record as it lies in a store to the one that takes its place. A store
calls them inside its own atomic step, so that all stores give the same answers.

    (none) ──claim──▶ DOWNLOADING ──finish──▶ DOWNLOADED ──mark_evicting──▶ EVICTING ──delete──▶ (none)
                        ▲   │ ▲ └──finish──▶ ERROR                             │
                        └───┘ └──────claim─────┘                               │
             claim of a dead owner   claim, past its back-off                  │
                        ▲                                                      │
                        └──────────────── claim of a dead owner ───────────────┘
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import assert_never

from mx.core.model import (
    TO_BE_VERIFIED,
    Claim,
    EntryKey,
    EntryStatus,
    ModelRecord,
    ProviderName,
    ReadLease,
)
from mx.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Won:
    """The claim is ours; every later write carries its token."""

    record: ModelRecord
    claim: Claim
    resumed: bool  # a dead owner left bytes that can be used
    taken_over: bool = False  # its owner did not hand it back


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else downloads, or removes the entry: look again when ``record.claim`` has expired."""

    record: ModelRecord


@dataclass(frozen=True, slots=True)
class Ready:
    """The entry is there."""

    record: ModelRecord


@dataclass(frozen=True, slots=True)
class BackingOff:
    """The last attempt failed and the time for the next one has not come."""

    record: ModelRecord


ClaimResult = Won | Held | Ready | BackingOff


class Free(Enum):
    """There is nothing in the way of a claim."""

    FREE = "free"


def is_claimed(record: ModelRecord, *, now_ms: int) -> bool:
    """Whether an owner is at work whose claim has not expired."""
    return record.claim is not None and record.claim.expires_at_ms > now_ms


def is_older(record: ModelRecord) -> bool:
    """Whether an older registry wrote it and nobody has settled it since (``mx.services.older``)."""
    if record.key.provider is ProviderName.HUGGING_FACE and not record.key.commit:
        return True  # "full, unknown revision": storage contract, section 3
    return record.status is EntryStatus.DOWNLOADING and record.message == TO_BE_VERIFIED


def is_pinned(record: ModelRecord, *, now_ms: int) -> bool:
    pin = record.pin
    return pin is not None and (pin.until_ms is None or pin.until_ms > now_ms)


def live_leases(leases: Iterable[ReadLease], *, now_ms: int) -> tuple[ReadLease, ...]:
    return tuple(lease for lease in leases if lease.expires_at_ms > now_ms)


def holds(record: ModelRecord | None, claim: Claim) -> bool:
    """Whether this claim is the newest of the record. Time does not end it, another claim does."""
    return (
        record is not None
        and record.claim is not None
        and (record.claim.token, record.claim.owner) == (claim.token, claim.owner)
    )


def unchanged(record: ModelRecord, observed: ModelRecord) -> bool:
    """Whether nobody claimed, finished, re-created or used the entry since it was observed."""
    return (record.status, record.claim, record.created_at_ms, record.last_used_at_ms) == (
        observed.status,
        observed.claim,
        observed.created_at_ms,
        observed.last_used_at_ms,
    )


def standing(record: ModelRecord | None, *, now_ms: int, force: bool) -> Held | Ready | BackingOff | Free:
    """What a claim would meet. ``force`` skips a back-off; it takes nothing from a living owner."""
    if record is None:
        return Free.FREE
    match record.status:
        case EntryStatus.DOWNLOADED:
            return Ready(record)
        case EntryStatus.DOWNLOADING | EntryStatus.EVICTING:
            return Held(record) if is_claimed(record, now_ms=now_ms) else Free.FREE
        case EntryStatus.ERROR:
            return Free.FREE if force or record.retry_at_ms <= now_ms else BackingOff(record)
    assert_never(record.status)


def new_claim(owner: str, *, token: int, lease_s: float, now_ms: int) -> Claim:
    return Claim(owner, token, now_ms + round(lease_s * 1000))


def claimed(
    key: EntryKey, record: ModelRecord | None, claim: Claim, *, requested_revision: str, now_ms: int
) -> Won:
    """The claim of an entry that is free. Attempts stay, so that back-offs keep growing."""
    if record is None:
        fresh = ModelRecord(
            key, EntryStatus.DOWNLOADING, now_ms, now_ms, claim=claim, requested_revision=requested_revision
        )
        return Won(fresh, claim, resumed=False)
    # What was being removed can't be counted on; what was being downloaded can.
    bytes_done = 0 if record.status is EntryStatus.EVICTING else record.bytes_done
    taken = replace(
        record,
        status=EntryStatus.DOWNLOADING,
        claim=claim,
        last_used_at_ms=max(record.last_used_at_ms, now_ms),
        message="",
        bytes_done=bytes_done,
        retry_at_ms=0,
        requested_revision=requested_revision or record.requested_revision,
    )
    return Won(taken, claim, resumed=bytes_done > 0, taken_over=record.claim is not None)


def refreshed(
    record: ModelRecord,
    claim: Claim,
    *,
    lease_s: float,
    now_ms: int,
    bytes_done: int,
    bytes_total: int,
    files: int,
) -> ModelRecord:
    renewed = new_claim(claim.owner, token=claim.token, lease_s=lease_s, now_ms=now_ms)
    if record.status is EntryStatus.EVICTING:  # being removed is no use and no progress
        return replace(record, claim=renewed)
    return replace(
        record,
        claim=renewed,
        last_used_at_ms=max(record.last_used_at_ms, now_ms),
        bytes_done=bytes_done,
        bytes_total=bytes_total,
        files=files,
    )


def require_final(status: EntryStatus) -> None:
    """InvalidArgumentError unless ``status`` is one that a claim can end with."""
    if status not in (EntryStatus.DOWNLOADED, EntryStatus.ERROR):
        raise InvalidArgumentError(f"a claim ends as downloaded or error, not as {status}")


def finished(
    record: ModelRecord,
    *,
    status: EntryStatus,
    message: str,
    bytes_on_disk: int,
    files: int,
    retry_at_ms: int,
    now_ms: int,
) -> ModelRecord:
    done = status is EntryStatus.DOWNLOADED
    evicted = record.status is EntryStatus.EVICTING
    return replace(
        record,
        status=status,
        claim=None,
        last_used_at_ms=record.last_used_at_ms if evicted else max(record.last_used_at_ms, now_ms),
        message=message,
        bytes_done=record.bytes_total if done else record.bytes_done,
        files=files,
        bytes_on_disk=bytes_on_disk,
        attempts=0 if done else record.attempts + 1,
        retry_at_ms=0 if done else retry_at_ms,
    )


def released(record: ModelRecord) -> ModelRecord:
    return replace(record, claim=None)


def touched(record: ModelRecord, *, now_ms: int) -> ModelRecord:
    return replace(record, last_used_at_ms=max(record.last_used_at_ms, now_ms))


def reconciled(
    stored: ModelRecord | None, record: ModelRecord, *, observed: ModelRecord | None
) -> ModelRecord | None:
    """What ``put`` writes; None when somebody is at work on the entry or it changed meanwhile.

    Pins and leases are not reconciliation's to change, and an entry is not made older than it is.
    """
    if record.claim is not None or record.status is EntryStatus.EVICTING:
        raise InvalidArgumentError(f"{record.key}: only claim and mark_evicting make claims")
    if stored is None:
        return None if observed is not None else record
    if stored.claim is not None or stored.status is EntryStatus.EVICTING:
        return None
    if observed is not None and not unchanged(stored, observed):
        return None
    return replace(
        record,
        created_at_ms=stored.created_at_ms,
        last_used_at_ms=max(stored.last_used_at_ms, record.last_used_at_ms),
        pin=stored.pin,
        leases=stored.leases,
    )


def may_evict(record: ModelRecord | None, observed: ModelRecord, *, now_ms: int) -> bool:
    """Neither pinned, leased, claimed nor used since it was observed."""
    return (
        record is not None
        and unchanged(record, observed)
        and not is_claimed(record, now_ms=now_ms)
        and not is_pinned(record, now_ms=now_ms)
        and not live_leases(record.leases, now_ms=now_ms)
    )


def evicting(record: ModelRecord, claim: Claim) -> ModelRecord:
    return replace(record, status=EntryStatus.EVICTING, claim=claim)


def may_delete(record: ModelRecord | None, *, token: int | None, observed: ModelRecord | None) -> bool:
    if record is None:
        return False
    if token is not None and (record.claim is None or record.claim.token != token):
        return False
    return observed is None or unchanged(record, observed)


def leased(record: ModelRecord, lease: ReadLease, *, now_ms: int) -> ModelRecord | None:
    """With the lease added or renewed, without expired ones; None when the entry can't be read."""
    if record.status is not EntryStatus.DOWNLOADED:
        return None
    others = (other for other in record.leases if other.lease_id != lease.lease_id)
    kept = (*live_leases(others, now_ms=now_ms), lease)
    return replace(touched(record, now_ms=now_ms), leases=tuple(sorted(kept, key=lambda one: one.lease_id)))
