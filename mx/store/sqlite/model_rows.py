"""Columns of ``mx_model`` and ``mx_model_lease`` from core values, and back."""

from __future__ import annotations

import json
from typing import Any

from mx.core.model import (
    Claim,
    EntryKey,
    EntryStatus,
    ModelRecord,
    Pin,
    ProviderName,
    ReadLease,
)

Row = tuple[Any, ...]

KEY_COLUMNS = ("provider", "name", "commit_id", "weights")
STATE_COLUMNS = (
    "status",
    "created_at_ms",
    "last_used_at_ms",
    "message",
    "claim_owner",
    "claim_token",
    "claim_expires_at_ms",
    "bytes_total",
    "bytes_done",
    "files",
    "bytes_on_disk",
    "attempts",
    "retry_at_ms",
    "pinned",
    "pin_until_ms",
    "pin_reason",
    "requested_revision",
)
# One query gives record and leases as of one moment.
LEASES = (
    "(SELECT json_group_array(json_array(lease_id, holder, expires_at_ms)) "
    "FROM mx_model_lease WHERE model_id = mx_model.id)"
)


def encode_key(key: EntryKey) -> tuple[str, str, str, int]:
    """Values in the order of KEY_COLUMNS."""
    return key.provider.value, key.name, key.commit, int(key.weights)


def encode_state(record: ModelRecord) -> Row:
    """Values in the order of STATE_COLUMNS; leases lie in a table of their own."""
    claim, pin = record.claim, record.pin
    return (
        record.status.value,
        record.created_at_ms,
        record.last_used_at_ms,
        record.message,
        *((claim.owner, claim.token, claim.expires_at_ms) if claim else (None, None, None)),
        record.bytes_total,
        record.bytes_done,
        record.files,
        record.bytes_on_disk,
        record.attempts,
        record.retry_at_ms,
        *((1, pin.until_ms, pin.reason) if pin else (0, None, "")),
        record.requested_revision,
    )


def decode_model(row: Row) -> ModelRecord:
    """From values in the order of KEY_COLUMNS, STATE_COLUMNS and LEASES."""
    return ModelRecord(
        key=EntryKey(ProviderName(row[0]), row[1], row[2], bool(row[3])),
        status=EntryStatus(row[4]),
        created_at_ms=row[5],
        last_used_at_ms=row[6],
        message=row[7],
        claim=None if row[8] is None else Claim(row[8], row[9], row[10]),
        bytes_total=row[11],
        bytes_done=row[12],
        files=row[13],
        bytes_on_disk=row[14],
        attempts=row[15],
        retry_at_ms=row[16],
        pin=Pin(row[18], row[19]) if row[17] else None,
        requested_revision=row[20],
        leases=() if row[21] == "[]" else tuple(ReadLease(*lease) for lease in sorted(json.loads(row[21]))),
    )
