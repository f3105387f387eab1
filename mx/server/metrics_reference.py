"""``python -m mx.server.metrics_reference`` prints docs/reference/metrics.md, made from the table itself.

A test compares the two.
"""

# ruff: noqa: E501  (the prose of a document keeps its own width)

from __future__ import annotations

import sys

from mx.server.metric_names import SERIES, Series

_HEAD = """\
# Metrics

<!-- Made by `python -m mx.server.metrics_reference > docs/reference/metrics.md`. Change mx/server/metric_names.py, not this file. -->

`GET /metrics` on `server.metrics_port` (9401), in the text format of Prometheus. Names end with their unit; counters with `_total`.
Labels hold words from closed lists and never a model, a host or a token; `server.metrics_model_names` adds `model` where it says so below.

Counters and histograms of events begin with the process. The values about cache, models and sources are read at most every 15 s, and
only while somebody scrapes, so a scrape waits for nothing; `mx_values_age_seconds` says how old they are, and what can't be read is
not there. Beside these are `process_*` and `python_gc_*`, as everywhere.

| name | kind | labels | meaning |
|---|---|---|---|
"""

_TAIL = """
## Questions and their queries

| question | query |
|---|---|
| hit rate | `sum(rate(mx_cache_requests_total{result="hit"}[5m])) / sum(rate(mx_cache_requests_total[5m]))` |
| bytes per second from providers | `sum by (provider) (rate(mx_download_bytes_total[5m]))` |
| downloads that fail, and why | `sum by (reason) (rate(mx_downloads_failed_total{reason!="cancelled"}[1h]))` |
| how full the cache is | `mx_cache_used_bytes / mx_cache_limit_bytes` |
| slowest calls | `histogram_quantile(0.99, sum by (le, method) (rate(mx_rpc_duration_seconds_bucket[5m])))` |
| owners that die while they download | `increase(mx_claims_total{result="taken_over"}[1h])` |
| drift of records and disk | `sum by (kind) (increase(mx_reconcile_drift_total[1d])) > 0` |
"""


def reference() -> str:
    return _HEAD + "".join(map(_row, SERIES)) + _TAIL


def _row(series: Series) -> str:
    labels = [f"`{label}`" for label in series.labels] + (["`model`"] if series.of_model else [])
    return f"| `{series.name}` | {series.kind} | {' '.join(labels)} | {series.help} |\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
