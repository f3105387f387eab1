"""What listings answer, and in which order: for stores whose engine can't say."""

from __future__ import annotations

from collections.abc import Iterable

from mx.core.model import EntryKey
from mx.core.source import SourceFilter, SourceStatus, SourceSummary


def select_rows(
    rows: Iterable[SourceSummary], query: SourceFilter, *, fresh_after_ms: int | None
) -> tuple[SourceSummary, ...]:
    """See ``SourceStore.list_sources``."""
    found = [row for row in rows if _matches(row, query, fresh_after_ms)]
    # Two stable sorts: equal times come in key order, so that every store lists them alike.
    found.sort(key=lambda row: (row.source_id, row.worker_id, row.worker_rank))
    found.sort(key=lambda row: row.updated_at_ms, reverse=True)
    return tuple(found[: query.limit] if query.limit > 0 else found)


def model_order(key: EntryKey) -> tuple[str, str, str, bool]:
    """See ``ModelStore.list_models``."""
    return key.provider, key.name, key.commit, not key.weights


def _matches(row: SourceSummary, query: SourceFilter, fresh_after_ms: int | None) -> bool:
    if query.status is not None and row.status != query.status:
        return False
    if query.model_name is not None and row.model_name != query.model_name:
        return False
    if query.worker_rank is not None and row.worker_rank != query.worker_rank:
        return False
    if query.min_training_step is not None and (
        row.training_step is None or row.training_step < query.min_training_step
    ):
        return False
    if query.min_updated_at_ms is not None and row.updated_at_ms < query.min_updated_at_ms:
        return False
    # Only READY promises that somebody is there to answer, so only READY can be out of date.
    return (
        fresh_after_ms is None
        or row.status != SourceStatus.READY
        or row.updated_at_ms >= max(fresh_after_ms, 1)
    )
