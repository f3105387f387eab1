"""What services count, as Prometheus reads it; and that the document says what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mx.core.counts import (
    BytesFetched,
    CacheAnswer,
    CacheReconciled,
    ClaimLost,
    ClaimWon,
    Count,
    DownloadEnded,
    DownloadStarted,
    EvictionDone,
    ModelsRemoved,
    ModelWanted,
    OlderSettled,
    SourcesReaped,
)
from mx.core.model import EntryKey, ProviderName
from mx.errors import ErrorCode
from mx.server.metric_names import COUNTED, SERIES, Series
from mx.server.metrics import ServerMetrics
from mx.server.metrics_reference import reference

ROOT = Path(__file__).parents[2]
KEY = EntryKey(ProviderName.NGC, "acme/models/secret-name/1.0", "")

EVERYTHING: tuple[Count, ...] = (
    ModelWanted(KEY, CacheAnswer.MISS),
    ModelWanted(KEY, CacheAnswer.HIT),
    ModelWanted(KEY, CacheAnswer.HIT),
    ClaimWon(KEY, taken_over=False),
    ClaimWon(KEY, taken_over=True),
    ClaimLost(KEY),
    DownloadStarted(KEY, resumed=False),
    DownloadStarted(KEY, resumed=True),
    DownloadStarted(KEY, resumed=True),
    BytesFetched(KEY, 1000),
    BytesFetched(KEY, 24),
    DownloadEnded(KEY, 3.0, None),
    DownloadEnded(KEY, 4.0, ErrorCode.INTEGRITY),
    EvictionDone("room", evicted=2, failed=1, bytes_freed=500, met=False),
    ModelsRemoved(3, 70),
    CacheReconciled(1, 2, 3, 5, 6),
    OlderSettled(4, 9, 10),
    SourcesReaped(7, 8),
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(metrics: ServerMetrics) -> Samples:
    body, content_type = metrics.exposition()
    assert content_type.startswith("text/plain")
    found: Samples = {}
    for family in text_string_to_metric_families(body.decode()):
        for one in family.samples:
            key = (one.name, frozenset(one.labels.items()))
            assert key not in found, f"{one.name} is there twice"
            found[key] = one.value
    return found


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_everything_that_is_counted_is_exposed() -> None:
    assert {type(one) for one in EVERYTHING} == set(get_args(Count)), "a count without a test"
    metrics = ServerMetrics(scheme="blue")
    for count in EVERYTHING:
        metrics.add(count)
    found = samples(metrics)
    of = {"provider": "ngc"}
    assert value(found, "mx_cache_requests_total", result="hit", **of) == 2
    assert value(found, "mx_cache_requests_total", result="miss", **of) == 1
    assert value(found, "mx_claims_total", result="won") == 1
    assert value(found, "mx_claims_total", result="taken_over") == 1
    assert value(found, "mx_claims_total", result="lost") == 1
    assert value(found, "mx_downloads_started_total", resumed="true", **of) == 2
    assert value(found, "mx_downloads_in_progress", **of) == 1
    assert value(found, "mx_downloads_completed_total", **of) == 1
    assert value(found, "mx_downloads_failed_total", reason="integrity", **of) == 1
    assert value(found, "mx_download_bytes_total", **of) == 1024
    assert value(found, "mx_download_duration_seconds_sum", result="completed", **of) == 3
    assert value(found, "mx_download_duration_seconds_count", result="failed", **of) == 1
    assert value(found, "mx_eviction_runs_total", trigger="room", met="false") == 1
    assert value(found, "mx_evicted_entries_total", trigger="room") == 2
    assert value(found, "mx_eviction_kept_entries_total", trigger="room") == 1
    assert value(found, "mx_removed_entries_total") == 3
    assert value(found, "mx_cache_freed_bytes_total", by="eviction") == 500
    assert value(found, "mx_cache_freed_bytes_total", by="removal") == 70
    assert value(found, "mx_cache_freed_bytes_total", by="leftovers") == 6
    kinds = ("adopted", "without_files", "removal_finished", "verified", "failed", "unfinished")
    assert [value(found, "mx_reconcile_drift_total", kind=kind) for kind in kinds] == [1, 12, 3, 4, 5, 9]
    assert value(found, "mx_reconcile_runs_total") == 1
    assert value(found, "mx_sources_reaped_total", action="marked_stale") == 7
    assert value(found, "mx_sources_reaped_total", action="removed") == 8
    built = next(dict(labels) for name, labels in found if name == "mx_build_info")
    assert (built["scheme"], bool(built["version"])) == ("blue", True)
    assert value(found, "mx_uptime_seconds") > 0


def test_names_of_models_only_where_settings_say_so() -> None:
    for model_names in (False, True):
        metrics = ServerMetrics(model_names=model_names)
        for count in EVERYTHING:
            metrics.add(count)
        assert (b"secret-name" in metrics.exposition()[0]) is model_names
    named = samples(metrics)
    assert value(named, "mx_download_bytes_total", provider="ngc", model=KEY.name) == 1024


def test_two_servers_of_one_process_count_apart() -> None:
    one, other = ServerMetrics(), ServerMetrics()
    one.add(ModelsRemoved(5, 0))
    assert value(samples(one), "mx_removed_entries_total") == 5
    assert value(samples(other), "mx_removed_entries_total") == 0


def test_a_removal_that_costs_the_disk_bytes_takes_nothing_back() -> None:
    metrics = ServerMetrics()
    metrics.add(ModelsRemoved(1, -4096))
    assert value(samples(metrics), "mx_cache_freed_bytes_total", by="removal") == 0


def test_calls_by_method_and_status() -> None:
    metrics = ServerMetrics()
    metrics.called("/mx.admin.v1.AdminService/ListModels", "OK", 0.003)
    metrics.called("/mx.admin.v1.AdminService/ListModels", "UNAVAILABLE", 3.0)
    metrics.served(100)
    found = samples(metrics)
    at = {"service": "mx.admin.v1.AdminService", "method": "ListModels"}
    assert value(found, "mx_rpc_requests_total", code="UNAVAILABLE", **at) == 1
    assert value(found, "mx_rpc_duration_seconds_count", **at) == 2
    assert value(found, "mx_rpc_duration_seconds_bucket", le="0.005", **at) == 1
    assert value(found, "mx_served_bytes_total", way="grpc") == 100


class Http:
    """What a listener for HTTP would tell."""

    transfers, cut, bytes_sent, in_flight = 9, 2, 4096, 1


def test_http_is_told_beside_grpc() -> None:
    metrics = ServerMetrics()
    metrics.watch_http(Http())
    found = samples(metrics)
    assert value(found, "mx_served_bytes_total", way="http") == 4096
    assert value(found, "mx_served_bytes_total", way="grpc") == 0
    assert value(found, "mx_http_transfers_total") == 9
    assert value(found, "mx_http_transfers_cut_total") == 2
    assert value(found, "mx_http_transfers_in_progress") == 1


def test_only_what_the_document_names_is_exposed() -> None:
    metrics = ServerMetrics()
    metrics.watch_http(Http())
    for count in EVERYTHING:
        metrics.add(count)
    metrics.called("/a.B/C", "OK", 0.1)
    body = metrics.exposition()[0].decode()
    lines = [line.split() for line in body.splitlines() if line.startswith("# TYPE mx_")]
    declared = {name: kind for _, _, name, kind in lines}
    assert not [name for name in declared if name.endswith("_created")]
    table = {series.name: series.kind for series in SERIES}
    assert declared.items() <= table.items()
    assert {series.name for series in COUNTED} <= set(declared)


@pytest.mark.parametrize("series", SERIES, ids=lambda series: series.name)
def test_names_say_their_unit_and_each_has_its_sentence(series: Series) -> None:
    name, kind, text = series.name, series.kind, series.help
    assert name.startswith("mx_")
    assert name.endswith("_total") is (kind == "counter")
    assert (kind == "histogram") <= name.endswith("_seconds")
    assert text.endswith(".")


def test_the_document_is_up_to_date() -> None:
    assert (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8") == reference(), (
        "run: python -m mx.server.metrics_reference > docs/reference/metrics.md"
    )


def test_queries_in_the_document_name_what_there_is() -> None:
    known = {series.name for series in SERIES} | {"mx_rpc_duration_seconds_bucket"}
    assert set(re.findall(r"\bmx_[a-z_]+", reference())) - {"mx_"} <= known
