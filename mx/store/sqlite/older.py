"""The model registry of older releases, taken over once, when a file gets mx's tables for models.

Its table ``models`` stays as it is, so that older tools can still read it. A model that was
DOWNLOADED there is not believed to be: it becomes claimable, and ``mx.services.older`` or whoever
claims it first finds out what is on the disk. So does one that was DOWNLOADING: its owner had no
lease and may be long dead. Hugging Face models had no commit there; an entry of theirs with an empty
commit is one whose commit is not known yet.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from mx.core.model import TO_BE_VERIFIED, EntryStatus, ProviderName, canonical_name
from mx.errors import InvalidArgumentError

_COLUMNS = {"model_name", "provider", "status", "created_at", "last_used_at", "message"}
_PROVIDERS = {"Ngc": ProviderName.NGC, "Gcs": ProviderName.GCS}
_READ = """
    SELECT model_name, provider, status, created_at, last_used_at, message FROM models
    WHERE typeof(model_name) = 'text' AND length(model_name) <= 1024
"""
# The order of equal keys (an NGC model had several spellings): the last one used wins.
_WRITE = """
    INSERT INTO mx_model (
        provider, name, commit_id, weights, status, created_at_ms, last_used_at_ms, message,
        bytes_total, bytes_done, files, bytes_on_disk, attempts, retry_at_ms,
        pinned, pin_reason, requested_revision
    )
    VALUES (?, ?, '', 1, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, 0, '', '')
    ON CONFLICT (provider, name, commit_id, weights) DO UPDATE SET
        status = excluded.status, created_at_ms = excluded.created_at_ms,
        last_used_at_ms = excluded.last_used_at_ms, message = excluded.message
    WHERE excluded.last_used_at_ms > last_used_at_ms
"""


def import_models(connection: sqlite3.Connection) -> None:
    """Rows of ``models`` into ``mx_model``; names that no provider can have are left out.

    A table of that name with other columns is somebody else's and not read.
    """
    columns = {row[1] for row in connection.execute("PRAGMA table_info('models')")}
    if not columns >= _COLUMNS:
        return
    for name, provider, status, created, used, message in connection.execute(_READ).fetchall():
        of = _PROVIDERS.get(provider, ProviderName.HUGGING_FACE)
        try:
            canonical = canonical_name(of, name)
        except InvalidArgumentError:
            continue
        text = message if isinstance(message, str) else ""
        match status:
            case "DOWNLOADED":
                now, text = EntryStatus.DOWNLOADING, TO_BE_VERIFIED
            case "DOWNLOADING":
                now = EntryStatus.DOWNLOADING
            case _:
                now = EntryStatus.ERROR
        connection.execute(_WRITE, (of, canonical, now, _unix_ms(created), _unix_ms(used), text))


def _unix_ms(text: object) -> int:
    """Of an RFC 3339 time; 0, long ago, for what is none."""
    try:
        moment = datetime.fromisoformat(str(text))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0, round(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        return 0
