"""ModelCacheEntry objects from records, and back (storage contract, section 4.2).

The id of a claim is ``owner#token``, so that one text is both what others compare and what mx needs to
know. EVICTING is published as a claimed download, which older servers wait for. What mx keeps beside
the published members lies in ``status.mx``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from mx.core.model import (
    TO_BE_VERIFIED,
    Claim,
    EntryKey,
    EntryStatus,
    ModelRecord,
    Pin,
    ProviderName,
    ReadLease,
    canonical_name,
)
from mx.errors import InvalidArgumentError
from mx.store.kubernetes.api import Object, Patch
from mx.store.kubernetes.claims import PUBLISHED_LEASE_S, ClaimWatch
from mx.store.kubernetes.names import (
    API_VERSION,
    MODELS,
    cache_entry_name,
    entry_key,
    from_date,
    is_date,
    parse_entry_key,
    provider_of,
    provider_spelling,
    to_date,
)

_PHASES: Final = {
    EntryStatus.DOWNLOADING: "Downloading",
    EntryStatus.EVICTING: "Downloading",
    EntryStatus.DOWNLOADED: "Downloaded",
    EntryStatus.ERROR: "Error",
}
_CLAIM_MEMBERS: Final = ("claimId", "leaseExpiresAt")
_COUNTS: Final = {
    "bytesTotal": "bytes_total",
    "bytesDone": "bytes_done",
    "files": "files",
    "bytesOnDisk": "bytes_on_disk",
    "attempts": "attempts",
}


@dataclass(frozen=True, slots=True)
class ModelValue:
    """What a mirror keeps of an object. ``key`` None: its name is none that a provider can have."""

    key: EntryKey | None
    status: Object
    by_mx: bool


def model_name(key: EntryKey) -> str:
    """Name of the object that belongs to a key."""
    return cache_entry_name(key.provider, entry_key(key))


def model_object(key: EntryKey) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": MODELS.kind,
        "metadata": {"name": model_name(key)},
        "spec": {
            "modelName": entry_key(key),
            "provider": provider_spelling(key.provider),
            "entry": {"name": key.name, "commit": key.commit, "weights": key.weights},
        },
    }


def decode_model_object(found: Object) -> ModelValue:
    try:
        value = _decode_model_object(found)
        if value.status:
            _members(value.status)
    except (AttributeError, KeyError, TypeError, ValueError):  # somebody's own making
        return ModelValue(None, {}, by_mx=False)
    return value


def _decode_model_object(found: Object) -> ModelValue:
    spec = found.get("spec") or {}
    status = found.get("status") or {}
    provider = provider_of(str(spec.get("provider", "")))
    entry = spec.get("entry")
    if provider is None:
        return ModelValue(None, status, by_mx=False)
    if isinstance(entry, dict) and entry.get("name"):
        key = EntryKey(provider, entry["name"], entry.get("commit", ""), entry.get("weights", True))
        return ModelValue(key, status, by_mx=True)
    found_key = parse_entry_key(provider, str(spec.get("modelName", "")))
    try:
        name = canonical_name(provider, found_key.name)
    except InvalidArgumentError:
        return ModelValue(None, status, by_mx=False)
    return ModelValue(EntryKey(provider, name, found_key.commit, found_key.weights), status, by_mx=False)


# --- records ----------------------------------------------------------------------------------------
def decode_record(value: ModelValue, *, claims: ClaimWatch) -> ModelRecord | None:
    """The record; None for an object that was begun and has no status yet."""
    key, status = value.key, value.status
    if key is None or not status:
        return None
    now, message = _decode_phase(value)
    return ModelRecord(key, now, message=message, claim=_decode_claim(value, now, claims), **_members(status))


def _members(status: Object) -> dict[str, Any]:
    """Of a record, all that needs no judgement."""
    mx = status.get("mx") or {}
    pin = mx.get("pin")
    return {
        "created_at_ms": _time(status, mx, "createdAt"),
        "last_used_at_ms": _time(status, mx, "lastUsedAt"),
        "retry_at_ms": int(mx.get("retryAtMs", 0)),
        "pin": None if pin is None else _decode_pin(pin),
        "leases": tuple(
            ReadLease(str(one["id"]), str(one["holder"]), int(one["expiresAtMs"]))
            for one in mx.get("leases") or ()
        ),
        "requested_revision": str(mx.get("requestedRevision", "")),
        **{field: int(mx.get(member, 0)) for member, field in _COUNTS.items()},
    }


def encode_record(record: ModelRecord, *, previous: Object, same_claim: bool, lease_s: float) -> Object:
    """The whole status. ``same_claim``: the claim of ``previous`` stays, to the letter."""
    previous_mx = previous.get("mx") or {}
    mx: Object = {key: value for key, value in previous_mx.items() if key not in _OWN_MEMBERS}
    mx |= {member: getattr(record, field) for member, field in _COUNTS.items()}
    if record.status is EntryStatus.EVICTING:
        mx["evicting"] = True
    if record.retry_at_ms:
        mx["retryAtMs"] = record.retry_at_ms
    if record.requested_revision:
        mx["requestedRevision"] = record.requested_revision
    if (pin := record.pin) is not None:
        until_ms = None if pin.until_ms is None else pin.until_ms
        mx["pin"] = {"untilMs": until_ms, "reason": pin.reason}
    if record.leases:
        mx["leases"] = [
            {"id": one.lease_id, "holder": one.holder, "expiresAtMs": one.expires_at_ms}
            for one in record.leases
        ]
    status: Object = {key: value for key, value in previous.items() if key not in _PUBLISHED}
    status |= {"phase": _PHASES[record.status], "mx": mx}
    for member, value in (("createdAt", record.created_at_ms), ("lastUsedAt", record.last_used_at_ms)):
        status[member] = to_date(value)
        if not is_date(value):
            mx[f"{member}Ms"] = value
    if record.message:
        status["message"] = record.message
    if record.claim is not None and same_claim:
        status |= {member: previous[member] for member in _CLAIM_MEMBERS if member in previous}
        if "leaseSeconds" in previous_mx:
            mx["leaseSeconds"] = previous_mx["leaseSeconds"]
    elif record.claim is not None:
        status["claimId"] = claim_id(record.claim)
        status["leaseExpiresAt"] = to_date(record.claim.expires_at_ms)
        mx["leaseSeconds"] = lease_s
    return status


_PUBLISHED: Final = frozenset({"phase", "createdAt", "lastUsedAt", "message", "mx", *_CLAIM_MEMBERS})
_OWN_MEMBERS: Final = frozenset(
    {
        *_COUNTS,
        "evicting",
        "retryAtMs",
        "requestedRevision",
        "pin",
        "leases",
        "leaseSeconds",
        "createdAtMs",
        "lastUsedAtMs",
    }
)


def status_patch(previous: Object, status: Object, *, version: str) -> Patch:
    """From one status to the other, if the object is still of that version; empty when they are equal."""
    changes: Patch = [
        {"op": "add", "path": f"/status/{member}", "value": value}
        for member, value in status.items()
        if previous.get(member) != value or member not in previous
    ]
    changes += [{"op": "remove", "path": f"/status/{member}"} for member in previous if member not in status]
    if not changes:
        return []
    begin = [] if previous else [{"op": "add", "path": "/status", "value": {}}]
    return [{"op": "test", "path": "/metadata/resourceVersion", "value": version}, *begin, *changes]


# --- claims -----------------------------------------------------------------------------------------
def claim_id(claim: Claim) -> str:
    return f"{claim.owner}#{claim.token}"


def lease_of(status: Object) -> tuple[str, str, float]:
    """Claim id, when it was extended, and for how long it is good."""
    length_s = (status.get("mx") or {}).get("leaseSeconds")
    return (
        status.get("claimId") or "",
        status.get("leaseExpiresAt") or "",
        float(length_s) if isinstance(length_s, (int, float)) else PUBLISHED_LEASE_S,
    )


def parse_claim(text: str, *, expires_at_ms: int) -> Claim:
    """Of another server's kind of claim only that somebody holds it is known; its token is 0."""
    owner, mark, token = text.rpartition("#")
    if mark and token.isascii() and token.isdigit():
        return Claim(owner, int(token), expires_at_ms)
    return Claim(f"claim {text}", 0, expires_at_ms)


def token_of(value: ModelValue) -> int:
    text = value.status.get("claimId") or ""
    return parse_claim(text, expires_at_ms=0).token if text else 0


def _decode_claim(value: ModelValue, now: EntryStatus, claims: ClaimWatch) -> Claim | None:
    text, lease, length_s = lease_of(value.status)
    if not text or now not in (EntryStatus.DOWNLOADING, EntryStatus.EVICTING):
        return None
    return parse_claim(text, expires_at_ms=claims.expires_at_ms(value.key, text, lease, length_s=length_s))


def _decode_phase(value: ModelValue) -> tuple[EntryStatus, str]:
    status = value.status
    message = status.get("message") or ""
    match status.get("phase", ""):
        case "" | "Downloading":
            evicting = (status.get("mx") or {}).get("evicting") is True
            theirs = bool(status.get("claimId")) and not token_of(value)
            return EntryStatus.EVICTING if evicting and not theirs else EntryStatus.DOWNLOADING, message
        case "Downloaded" if _is_of_unknown_revision(value):
            # Nothing tells which files it had: whoever wants the model finds out what is there.
            return EntryStatus.DOWNLOADING, TO_BE_VERIFIED
        case "Downloaded":
            return EntryStatus.DOWNLOADED, message
        case _:
            return EntryStatus.ERROR, message


def _is_of_unknown_revision(value: ModelValue) -> bool:
    key = value.key
    unknown = key is not None and key.provider is ProviderName.HUGGING_FACE and not key.commit
    return unknown and not value.by_mx


def _decode_pin(pin: Any) -> Pin:
    until_ms = pin.get("untilMs")
    return Pin(None if until_ms is None else until_ms, pin.get("reason", ""))


def _time(status: Object, mx: Object, member: str) -> int:
    exact = mx.get(f"{member}Ms")
    if isinstance(exact, int) and to_date(exact) == status.get(member):
        return exact
    return from_date(status.get(member))
