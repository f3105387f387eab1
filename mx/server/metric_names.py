"""Every series of the server: name, kind, labels, and what it means. The one table; documents are made of it.

Names begin with ``mx_`` and end with their unit; counters get ``_total``. Labels hold words from
closed lists, except ``model`` where settings switch it on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# A listing takes a millisecond, a removal on a slow disk half an hour.
CALL_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)
DOWNLOAD_BUCKETS_S = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0)


@dataclass(frozen=True, slots=True)
class Series:
    """``name`` as it is exposed. ``of_model`` ones get the label ``model`` where settings say so."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    of_model: bool = False


def _counter(name: str, text: str, *labels: str, of_model: bool = False) -> Series:
    return Series(name, "counter", text, labels, of_model=of_model)


def _gauge(name: str, text: str, *labels: str) -> Series:
    return Series(name, "gauge", text, labels)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Series:
    return Series(name, "histogram", text, labels, buckets)


# Counted as it happens.
CACHE_REQUESTS = _counter(
    "mx_cache_requests_total",
    "Models that callers asked for, by what they met: hit, miss, wait (somebody downloads it) or refused"
    " (backing off after a failure).",
    "provider",
    "result",
    of_model=True,
)
DOWNLOADS_STARTED = _counter(
    "mx_downloads_started_total",
    "Downloads begun, by whether bytes of an earlier attempt were there.",
    "provider",
    "resumed",
    of_model=True,
)
DOWNLOADS_DONE = _counter(
    "mx_downloads_completed_total", "Downloads that ended with a whole model.", "provider", of_model=True
)
DOWNLOADS_FAILED = _counter(
    "mx_downloads_failed_total",
    "Downloads that ended without one, by reason: the error's code; cancelled was stopped and can go on,"
    " conflict was deleted or taken over.",
    "provider",
    "reason",
    of_model=True,
)
DOWNLOADS_RUNNING = _gauge("mx_downloads_in_progress", "Downloads of this server under way.", "provider")
DOWNLOAD_SECONDS = _histogram(
    "mx_download_duration_seconds",
    "Time that downloads took, the failed ones too.",
    "provider",
    "result",
    buckets=DOWNLOAD_BUCKETS_S,
)
DOWNLOAD_BYTES = _counter(
    "mx_download_bytes_total",
    "Bytes that came from the provider; what came twice counts twice.",
    "provider",
    of_model=True,
)
CLAIMS = _counter(
    "mx_claims_total",
    "Exclusive rights to download: won, taken_over (won from an owner that died) and lost.",
    "result",
)
EVICTION_RUNS = _counter(
    "mx_eviction_runs_total",
    "Runs of eviction, by trigger (interval, room, command) and whether the limits are met.",
    "trigger",
    "met",
)
EVICTED = _counter("mx_evicted_entries_total", "Entries that eviction removed.", "trigger")
NOT_EVICTED = _counter(
    "mx_eviction_kept_entries_total",
    "Entries that were to go and stayed, as in use or by a failure.",
    "trigger",
)
REMOVED = _counter("mx_removed_entries_total", "Entries removed because somebody said so.")
FREED_BYTES = _counter(
    "mx_cache_freed_bytes_total",
    "Bytes that the disk gained, by what was removed: eviction, removal, or leftovers of dead downloads.",
    "by",
)
RECONCILE_RUNS = _counter("mx_reconcile_runs_total", "Comparisons of records and disk that came to an end.")
DRIFT = _counter(
    "mx_reconcile_drift_total",
    "What did not fit together: adopted (files without a record), without_files, removal_finished,"
    " failed; of an older registry verified and unfinished.",
    "kind",
)
REAPED = _counter("mx_sources_reaped_total", "Sources that fell silent: marked_stale, removed.", "action")
CALLS = _counter("mx_rpc_requests_total", "Calls answered, by gRPC status.", "service", "method", "code")
CALL_SECONDS = _histogram(
    "mx_rpc_duration_seconds",
    "Time to the end of a call; of a stream, to its last message.",
    "service",
    "method",
    buckets=CALL_BUCKETS_S,
)

COUNTED: tuple[Series, ...] = tuple(value for value in tuple(globals().values()) if isinstance(value, Series))

# Looked at when somebody asks.
BUILD = _gauge("mx_build_info", "Always 1; the labels tell what runs.", "version", "scheme")
UPTIME = _gauge("mx_uptime_seconds", "Time since the process started.")
READY = _gauge("mx_ready", "1 while the server takes work, 0 while it drains or its store is away.")
STORE_UP = _gauge("mx_store_up", "1 when the store answered when it was last asked.", "backend")
STORE_LATENCY = _gauge("mx_store_latency_seconds", "Time that the store took to answer then.", "backend")
CALLS_RUNNING = _gauge("mx_rpc_in_flight", "Calls under way, health and status left out.")
SERVED_BYTES = _counter(
    "mx_served_bytes_total", "Bytes of files sent to clients, by way: grpc or http.", "way"
)
HTTP_TRANSFERS = _counter("mx_http_transfers_total", "Ranges of files begun over HTTP.")
HTTP_CUT = _counter("mx_http_transfers_cut_total", "Of those, the ones that ended early.")
HTTP_RUNNING = _gauge("mx_http_transfers_in_progress", "Ranges of files under way over HTTP.")

# Looked at now and then, as it takes a while; mx_values_age_seconds says when.
CACHE_USED = _gauge("mx_cache_used_bytes", "Bytes below the cache directory, unfinished downloads included.")
CACHE_LIMIT = _gauge("mx_cache_limit_bytes", "cache.max_size_bytes; not there without such a limit.")
CACHE_MIN_FREE = _gauge(
    "mx_cache_min_free_bytes", "min_free_space_bytes of the policy; not there without such a limit."
)
CACHE_MOST_MODELS = _gauge("mx_cache_limit_models", "max_models of the policy; not there without a limit.")
DISK_FREE = _gauge("mx_cache_disk_free_bytes", "Bytes that the cache's file system still gives.")
DISK_SIZE = _gauge("mx_cache_disk_size_bytes", "Bytes of the cache's file system.")
ENTRIES = _gauge("mx_cache_entries", "Records of models, by status.", "status")
PINNED = _gauge("mx_cache_pinned_entries", "Records with a pin that holds.")
SOURCES = _gauge("mx_sources", "Records of sources, by status.", "status")
VALUES_AGE = _gauge("mx_values_age_seconds", "Age of the values about cache, models and sources.", "of")

SERIES: tuple[Series, ...] = tuple(value for value in tuple(globals().values()) if isinstance(value, Series))
