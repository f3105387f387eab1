"""Prometheus metrics of one server, in a registry of its own.

Services tell what happened (``mx.ports.Tally``), the guard of the calls how they ended. What has to
be looked at (sizes, records) is never read while somebody waits for an answer: ``exposition`` gives
the newest values there are and has newer ones read for the next time, each within a bound.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol, assert_never

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from mx import __version__
from mx.core.cached import CacheUsage
from mx.core.counts import (
    BytesFetched,
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
from mx.core.eviction import EvictionPolicy
from mx.core.model import EntryKey, EntryStatus
from mx.core.transitions import is_pinned
from mx.errors import MxError
from mx.logs import event_log
from mx.server import metric_names as names
from mx.server.interceptors import Traffic
from mx.server.metric_names import Series
from mx.server.readiness import Readiness, process_age_s
from mx.wiring import Services

log = event_log(__name__)

# Walking a large cache on a slow disk takes seconds: not for every scrape, and not for ever.
READ_EVERY_S = 15.0
READ_LIMIT_S = 30.0

Values = Mapping[tuple[Series, tuple[str, ...]], float]


class ServedCounts(Protocol):
    """What the listener for HTTP knows of its transfers."""

    @property
    def transfers(self) -> int: ...
    @property
    def cut(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def in_flight(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Read:
    """Values of one kind, and when they were read (monotonic seconds)."""

    values: Values
    at_s: float


class ServerMetrics:
    """``mx.ports.Tally`` of one server; see the head of this module.

    ``scheme`` labels mx_build_info. ``model_names`` adds the label ``model`` to what is counted by
    model: as many series as there are models, and names that anybody who may scrape can read.
    """

    def __init__(
        self,
        *,
        scheme: str = "",
        model_names: bool = False,
        read_every_s: float = READ_EVERY_S,
        read_limit_s: float = READ_LIMIT_S,
    ) -> None:
        self._scheme = scheme
        self._model_names = model_names
        self._read_every_s = read_every_s
        self._read_limit_s = read_limit_s
        self._registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._reads: dict[str, _Read] = {}
        self._asked = asyncio.Event()
        self._measuring: asyncio.Future[CacheUsage] | None = None
        self._readiness: Readiness | None = None
        self._traffic: Traffic | None = None
        self._backend = ""
        self._http: ServedCounts | None = None
        self._served_bytes = 0
        for series in names.COUNTED:
            self._make(series)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(_Looked(self._seen))

    def exposition(self) -> tuple[bytes, str]:
        """Everything in the text format of Prometheus, and its content type. Waits for nothing."""
        self._asked.set()
        return generate_latest(_WithoutBirthdays(self._registry)), CONTENT_TYPE_PLAIN_0_0_4

    def watch(self, readiness: Readiness, traffic: Traffic, *, store_backend: str) -> None:
        """Where the state of the server is looked up."""
        self._readiness, self._traffic, self._backend = readiness, traffic, store_backend

    def watch_http(self, counts: ServedCounts) -> None:
        """Where the transfers over HTTP are looked up."""
        self._http = counts

    # Counted as it happens

    def add(self, count: Count) -> None:
        match count:
            case ModelWanted(key, answer):
                self._count(names.CACHE_REQUESTS, answer.value, key=key)
            case ClaimWon(_, taken_over):
                self._count(names.CLAIMS, "taken_over" if taken_over else "won")
            case ClaimLost():
                self._count(names.CLAIMS, "lost")
            case DownloadStarted(key, resumed):
                self._count(names.DOWNLOADS_STARTED, _yes(resumed), key=key)
                self._gauges[names.DOWNLOADS_RUNNING.name].labels(key.provider.value).inc()
            case DownloadEnded():
                self._ended(count)
            case BytesFetched(key, size):
                self._count(names.DOWNLOAD_BYTES, key=key, by=size)
            case EvictionDone(trigger, evicted, failed, bytes_freed, met):
                self._count(names.EVICTION_RUNS, trigger, _yes(met))
                self._count(names.EVICTED, trigger, by=evicted)
                self._count(names.NOT_EVICTED, trigger, by=failed)
                self._count(names.FREED_BYTES, "eviction", by=bytes_freed)
            case ModelsRemoved(entries, bytes_freed):
                self._count(names.REMOVED, by=entries)
                self._count(names.FREED_BYTES, "removal", by=bytes_freed)
            case CacheReconciled():
                self._reconciled(count)
            case OlderSettled(verified, unfinished, without_files):
                self._count(names.DRIFT, "verified", by=verified)
                self._count(names.DRIFT, "unfinished", by=unfinished)
                self._count(names.DRIFT, "without_files", by=without_files)
            case SourcesReaped(marked_stale, removed):
                self._count(names.REAPED, "marked_stale", by=marked_stale)
                self._count(names.REAPED, "removed", by=removed)
            case _:
                assert_never(count)

    def served(self, size_bytes: int) -> None:
        """Bytes of files that went out over gRPC."""
        self._served_bytes += size_bytes

    def called(self, method: str, code: str, seconds: float) -> None:
        """A call (/package.Service/Method) that ended; ``code`` is the name of its gRPC status."""
        service, _, leaf = method.removeprefix("/").rpartition("/")
        self._count(names.CALLS, service, leaf, code)
        self._histograms[names.CALL_SECONDS.name].labels(service, leaf).observe(seconds)

    def _ended(self, count: DownloadEnded) -> None:
        key, provider = count.key, count.key.provider.value
        self._gauges[names.DOWNLOADS_RUNNING.name].labels(provider).dec()
        if count.code is None:
            self._count(names.DOWNLOADS_DONE, key=key)
        else:
            self._count(names.DOWNLOADS_FAILED, count.code.value, key=key)
        result = "failed" if count.code else "completed"
        self._histograms[names.DOWNLOAD_SECONDS.name].labels(provider, result).observe(count.seconds)

    def _reconciled(self, count: CacheReconciled) -> None:
        self._count(names.RECONCILE_RUNS)
        for kind, number in (
            ("adopted", count.adopted),
            ("without_files", count.without_files),
            ("removal_finished", count.removals_finished),
            ("failed", count.failed),
        ):
            self._count(names.DRIFT, kind, by=number)
        self._count(names.FREED_BYTES, "leftovers", by=count.bytes_cleaned)

    def _count(self, series: Series, *labels: str, key: EntryKey | None = None, by: float = 1) -> None:
        counter = self._counters[series.name]
        if key is not None:
            labels = (key.provider.value, *labels, *((key.name,) if self._model_names else ()))
        # A removal may cost the disk a block more than it gains; a counter never goes back.
        (counter.labels(*labels) if labels else counter).inc(max(0, by))

    def _make(self, series: Series) -> None:
        labels = (*series.labels, *(("model",) if series.of_model and self._model_names else ()))
        match series.kind:
            case "counter":
                name = series.name.removesuffix("_total")
                self._counters[series.name] = Counter(name, series.help, labels, registry=self._registry)
            case "gauge":
                self._gauges[series.name] = Gauge(series.name, series.help, labels, registry=self._registry)
            case "histogram":
                self._histograms[series.name] = Histogram(
                    series.name, series.help, labels, buckets=series.buckets, registry=self._registry
                )
            case _:
                assert_never(series.kind)

    # Looked at

    async def keep_reading(self, services: Services) -> NoReturn:
        """Read once, then whenever somebody asked since, but not more often than every ``read_every_s``."""
        while True:
            await self.read(services)
            self._asked.clear()
            await asyncio.sleep(self._read_every_s)
            await self._asked.wait()

    async def read(self, services: Services) -> None:
        """Look at everything that takes a while, side by side."""
        await asyncio.gather(
            self._keep("cache", lambda: self._read_cache(services)),
            self._keep("models", lambda: _read_models(services)),
            self._keep("sources", lambda: _read_sources(services)),
        )

    async def _read_cache(self, services: Services) -> Values:
        """One walk at a time: on a disk that hangs, each scrape would otherwise cost one more thread."""
        if self._measuring is None or self._measuring.done():
            self._measuring = asyncio.ensure_future(asyncio.to_thread(services.cache.usage))
            self._measuring.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return _cache_values(await asyncio.shield(self._measuring), services.eviction.policy)

    async def _keep(self, what: str, read: Callable[[], Awaitable[Values]]) -> None:
        """Values that can't be read now are left out: old ones would look like new ones."""
        try:
            async with asyncio.timeout(self._read_limit_s):
                self._reads[what] = _Read(await read(), time.monotonic())
        except (MxError, TimeoutError) as error:
            self._reads.pop(what, None)
            log.debug("values for metrics not read", of=what, error=str(error) or "took too long")
        except Exception:  # whoever watches must outlive what they watch
            self._reads.pop(what, None)
            log.exception("defect while reading values for metrics", of=what)

    def _seen(self) -> Values:
        values: dict[tuple[Series, tuple[str, ...]], float] = {
            (names.BUILD, (__version__, self._scheme)): 1,
            (names.UPTIME, ()): process_age_s(),
            (names.SERVED_BYTES, ("grpc",)): self._served_bytes,
        }
        if self._readiness is not None and self._traffic is not None:
            values |= {
                (names.READY, ()): float(self._readiness.serving),
                (names.STORE_UP, (self._backend,)): float(self._readiness.store_ok),
                (names.STORE_LATENCY, (self._backend,)): self._readiness.store_latency_ms / 1000,
                (names.CALLS_RUNNING, ()): self._traffic.in_flight,
            }
        for what, read in tuple(self._reads.items()):
            values |= read.values
            values[names.VALUES_AGE, (what,)] = time.monotonic() - read.at_s
        if self._http is not None:
            values |= {
                (names.SERVED_BYTES, ("http",)): self._http.bytes_sent,
                (names.HTTP_TRANSFERS, ()): self._http.transfers,
                (names.HTTP_CUT, ()): self._http.cut,
                (names.HTTP_RUNNING, ()): self._http.in_flight,
            }
        return values


class _Looked(Collector):
    """What is looked up when somebody asks, as Prometheus wants it."""

    def __init__(self, look: Callable[[], Values]) -> None:
        self._look = look

    def collect(self) -> Iterable[Metric]:
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for (series, labels), value in self._look().items():
            family = families.get(series.name)
            if family is None:
                kind = CounterMetricFamily if series.kind == "counter" else GaugeMetricFamily
                family = families[series.name] = kind(series.name, series.help, labels=series.labels)
            family.add_metric(labels, value)
        return families.values()


class _WithoutBirthdays(CollectorRegistry):
    """A registry without the time at which each series was made: twice the lines, and nobody's question."""

    def __init__(self, inner: CollectorRegistry) -> None:
        super().__init__()
        self._inner = inner

    def collect(self) -> Iterator[Metric]:
        for metric in self._inner.collect():
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric


def _cache_values(usage: CacheUsage, policy: EvictionPolicy) -> Values:
    limits = (
        (names.CACHE_LIMIT, policy.max_size_bytes),
        (names.CACHE_MIN_FREE, policy.min_free_space_bytes),
        (names.CACHE_MOST_MODELS, policy.max_models),
    )
    found = (
        (names.CACHE_USED, usage.used_bytes),
        (names.DISK_FREE, usage.free_bytes),
        (names.DISK_SIZE, usage.disk_bytes),
        *limits,
    )
    return {(series, ()): float(value) for series, value in found if value is not None}


async def _read_models(services: Services) -> Values:
    records = await services.models_store.list_models()
    now_ms = services.clock.now_ms()
    by_status = dict.fromkeys(EntryStatus, 0)
    for record in records:
        by_status[record.status] += 1
    pinned = sum(is_pinned(record, now_ms=now_ms) for record in records)
    values: dict[tuple[Series, tuple[str, ...]], float] = {(names.PINNED, ()): pinned}
    return values | {(names.ENTRIES, (status.value,)): number for status, number in by_status.items()}


async def _read_sources(services: Services) -> Values:
    counts = await services.sources.counts()
    return {(names.SOURCES, (status,)): number for status, number in counts.items()}


def _yes(value: bool) -> str:
    return "true" if value else "false"
