"""What listings answer, and in which order: for stores whose engine can't say."""

from __future__ import annotations

from collections.abc import Iterable

from mx.core.model import EntryKey
from mx.core.source import SourceFilter, SourceSummary, matches, newest_first


def select_rows(
    rows: Iterable[SourceSummary], query: SourceFilter, *, fresh_after_ms: int | None
) -> tuple[SourceSummary, ...]:
    """See ``SourceStore.list_sources``."""
    found = (row for row in rows if matches(row, query, fresh_after_ms=fresh_after_ms))
    return newest_first(found, limit=query.limit)


def model_order(key: EntryKey) -> tuple[str, str, str, bool]:
    """See ``ModelStore.list_models``."""
    return key.provider, key.name, key.commit, not key.weights
