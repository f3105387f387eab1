"""A server's life: open, listen, serve, drain, close."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from mx import __version__
from mx.errors import MxError, SettingsError
from mx.logs import event_log
from mx.server.admin import AdminService, FilesPlace, ServerFacts
from mx.server.http import Exposition, HttpRules, RunningHttp, local_hosts, running_http
from mx.server.interceptors import UNARY_LIMIT_S, Guard, Traffic
from mx.server.listen import check_address, join_address
from mx.server.metrics import ServerMetrics
from mx.server.models import ModelService
from mx.server.probes import (
    HEALTH_V1_NAME,
    ApiService,
    HealthService,
    StandardHealth,
    standard_health_handler,
)
from mx.server.readiness import Readiness, process_age_s
from mx.server.roles import Roles
from mx.server.signals import Signals
from mx.server.sources import P2pService
from mx.services.feed_service import FeedService
from mx.services.tickets import FileTickets
from mx.wire.v1 import admin, api, health, model, p2p
from mx.wiring import Services, open_services

if TYPE_CHECKING:
    from mx.config import Settings

log = event_log(__name__)

MESSAGE_LIMIT_BYTES = 100 * 1024 * 1024
# Wire contract, section 4. The published client pings every 30 s while a stream is silent; with the
# defaults the connection dies after 90 s. The first name is the one that works: the one with
# ``recv`` in it is silently ignored.
SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    # Otherwise two servers on one port would share its connections, unnoticed.
    ("grpc.so_reuseport", 0),
)
SERVICE_NAMES = (
    api.ApiService_NAME,
    health.HealthService_NAME,
    model.ModelService_NAME,
    p2p.P2pService_NAME,
    admin.AdminService_NAME,
    HEALTH_V1_NAME,
)
# Not counted as in flight, and answered while draining: who asks wants to know just that.
_PROBES = frozenset(
    {
        f"/{health.HealthService_NAME}/GetHealth",
        f"/{HEALTH_V1_NAME}/Check",
        f"/{HEALTH_V1_NAME}/Watch",
        f"/{HEALTH_V1_NAME}/List",
        f"/{admin.AdminService_NAME}/GetServerStatus",
        # Never ends by itself, and would hold up the end of everything else; the feed refuses and ends it.
        f"/{admin.AdminService_NAME}/Watch",
    }
)
# Successes worth a line at INFO; heartbeats and listings are too many.
_NOTED = frozenset(
    {
        f"/{model.ModelService_NAME}/EnsureModelDownloaded",
        f"/{model.ModelService_NAME}/DeleteModel",
        f"/{p2p.P2pService_NAME}/PublishMetadata",
        f"/{admin.AdminService_NAME}/AnnouncePeer",
        f"/{admin.AdminService_NAME}/WithdrawSource",
    }
)
# These walk over every file of the cache.
_WALKS = frozenset(
    f"/{admin.AdminService_NAME}/{name}" for name in ("PlanEviction", "PlanRemoval", "GetCacheStats")
)
_DRAINING = "the server is draining: it shuts down"
# For answers on their way when everything else has been waited for.
_LAST_WORDS_S = 0.25


@dataclass(frozen=True, slots=True)
class HttpPlace:
    """Where HTTP is to listen, beside gRPC's host; ``port`` 0 takes a free one.

    ``required`` False: a server without it is better than none, and files travel over gRPC.
    """

    port: int
    required: bool = True
    rules: HttpRules = field(default_factory=HttpRules)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that listens. ``listen`` is host:port with the port really bound; ``http`` None is off."""

    listen: str
    port: int
    http: RunningHttp | None
    readiness: Readiness
    traffic: Traffic
    metrics: ServerMetrics
    _feed: FeedService
    _server: grpc.aio.Server

    async def drain(self, grace_s: float, *, force: asyncio.Event | None = None) -> bool:
        """Not ready, no new work, wait for what runs; False when something had to be cut off.

        ``force`` ends the waiting early.
        """
        self.readiness.drain()
        self._feed.end_watches(_DRAINING)
        waiting = asyncio.ensure_future(self.traffic.wait_idle())
        forced = asyncio.ensure_future((force or asyncio.Event()).wait())
        try:
            await asyncio.wait({waiting, forced}, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            forced.cancel()
        finished = self.traffic.in_flight == 0
        await self._server.stop(_LAST_WORDS_S if finished else None)
        return finished


@asynccontextmanager
async def running_server(
    services: Services,
    *,
    host: str,
    port: int,
    settings_file: str = "",
    legacy_tensors: bool = False,
    unary_limit_s: float = UNARY_LIMIT_S,
    http: HttpPlace | None = None,
    metrics: ServerMetrics | None = None,
    read_only: bool = False,
) -> AsyncIterator[RunningServer]:
    """Listen while the body runs; ``port`` 0 takes a free one. Services stay their opener's.

    ``legacy_tensors`` fills the deprecated field of GetMetadata too, for clients older than the
    oneof; ``unary_limit_s`` bounds a call whose client gave no deadline. ``http`` None listens for
    gRPC only; ``metrics`` are those that the services were opened with, if any. ``read_only``: operators
    may look and not change.

    Raises SettingsError when nothing can listen there.
    """
    check_address(host, port)
    readiness = Readiness(services.store)
    await readiness.check()
    traffic = Traffic(readiness)
    metrics = metrics or ServerMetrics()
    metrics.watch(readiness, traffic, store_backend=services.store_backend)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    try:
        bound = server.add_insecure_port(join_address(host, port))
    except RuntimeError as error:
        raise SettingsError((f"can't listen on {join_address(host, port)}: {error}",)) from error
    listen = join_address(host, bound)
    facts = ServerFacts(
        version=__version__,
        started_at_ms=services.clock.now_ms() - int(process_age_s() * 1000),
        store_backend=services.store_backend,
        listen=listen,
        settings_file=settings_file,
    )
    async with AsyncExitStack() as beside:
        tickets = await beside.enter_async_context(FileTickets(services.models, services.clock))
        web = await beside.enter_async_context(
            _running_http(host, http, services, tickets, traffic=traffic, exposition=metrics.exposition)
        )
        if web is not None:
            metrics.watch_http(web.counts)
        place = FilesPlace() if web is None else FilesPlace(web.port, await local_hosts(host))
        roles = Roles(read_only=read_only)
        admin_service = AdminService(
            facts, readiness=readiness, services=services, tickets=tickets, place=place, roles=roles
        )
        handlers = _handlers(
            services,
            facts,
            admin_service,
            readiness=readiness,
            metrics=metrics,
            legacy_tensors=legacy_tensors,
        )
        server.add_generic_rpc_handlers(
            [
                Guard(
                    handler,
                    traffic,
                    open_while_draining=_PROBES,
                    noted=_NOTED,
                    unary_limit_s=unary_limit_s,
                    walks=_WALKS,
                    called=metrics.called,
                    require=roles.require,
                )
                for handler in handlers
            ]
        )
        # A published client asks for no reflection; grpcurl and people do.
        reflection.enable_server_reflection(
            (*SERVICE_NAMES, reflection.SERVICE_NAME), server, pool=_reflection_pool()
        )
        await server.start()
        watchers = [
            asyncio.create_task(readiness.watch_store(), name="store watch"),
            asyncio.create_task(metrics.keep_reading(services), name="values for metrics"),
            asyncio.create_task(
                services.feed.keep_status(admin_service.status, changed=readiness.wait_changed),
                name="status for the feed",
            ),
        ]
        services.feed.tell_started(__version__)
        try:
            yield RunningServer(listen, bound, web, readiness, traffic, metrics, services.feed, server)
        finally:
            for watcher in watchers:
                watcher.cancel()
            await asyncio.wait(watchers)
            readiness.drain()
            await server.stop(None)


@asynccontextmanager
async def _running_http(
    host: str,
    place: HttpPlace | None,
    services: Services,
    tickets: FileTickets,
    *,
    traffic: Traffic,
    exposition: Exposition | None,
) -> AsyncIterator[RunningHttp | None]:
    """The listener for HTTP; None when it is off, or not required and can't be had."""
    async with AsyncExitStack() as opened:
        web: RunningHttp | None = None
        if place is not None:
            try:
                web = await opened.enter_async_context(
                    running_http(
                        host=host,
                        port=place.port,
                        traffic=traffic,
                        exposition=exposition,
                        tickets=tickets,
                        cache=services.cache,
                        rules=place.rules,
                    )
                )
            except SettingsError as error:
                if place.required:
                    raise
                log.warn("no HTTP: no metrics, and files travel over gRPC", error=str(error))  # noqa: G010  # an EventLog
        yield web


def _handlers(
    services: Services,
    facts: ServerFacts,
    admin_service: AdminService,
    *,
    readiness: Readiness,
    metrics: ServerMetrics,
    legacy_tensors: bool,
) -> list[grpc.GenericRpcHandler[Any, Any]]:
    return [
        p2p.P2pService_handler(P2pService(services.sources, legacy_tensors=legacy_tensors)),
        model.ModelService_handler(ModelService(services.models, services.cache, served=metrics.served)),
        admin.AdminService_handler(admin_service),
        api.ApiService_handler(ApiService()),
        health.HealthService_handler(HealthService(readiness, version=facts.version)),
        standard_health_handler(StandardHealth(readiness, frozenset(SERVICE_NAMES))),
    ]


def _reflection_pool() -> DescriptorPool:
    """Every file of every registered service; ours keeps only mx's."""
    pool = DescriptorPool()
    for file in (api, health, model, p2p, admin):
        pool.AddSerializedFile(file.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(health_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(reflection_pb2.DESCRIPTOR.serialized_pb)
    return pool


async def serve(
    settings: Settings, *, port: int | None = None, on_ready: Callable[[RunningServer], None] | None = None
) -> int:
    """Serve until SIGTERM or SIGINT, then drain; the exit code.

    0 after a drain, also one that ran out of its grace time; a second signal forces the end: 130
    for SIGINT, 1 for SIGTERM. ``port`` overrides the settings and may be 0. ``on_ready`` is called
    once the server listens. Raises SettingsError when a store can't be opened, a port can't be had,
    or the settings ask for what this version can't do.
    """
    _require_no_enforcement(settings)
    signals = Signals()
    metrics = ServerMetrics(
        scheme=settings.server.metrics_scheme, model_names=settings.server.metrics_model_names
    )
    with signals.installed():
        async with _opened(settings, metrics) as services:
            config_file = settings.config_file
            async with running_server(
                services,
                host=settings.server.host,
                port=settings.server.port if port is None else port,
                settings_file="" if config_file is None else str(config_file),
                http=_http_place(settings),
                metrics=metrics,
                read_only=settings.server.admin_read_only,
            ) as server:
                log.info(
                    "server listening",
                    listen=server.listen,
                    http="off" if server.http is None else server.http.listen,
                    store=services.store_backend,
                    version=__version__,
                )
                if on_ready is not None:
                    on_ready(server)
                await signals.first.wait()
                await _drain(server, settings.server.grace_s, signals)
    return signals.exit_code


def _http_place(settings: Settings) -> HttpPlace | None:
    """A port that nobody chose is no reason not to start: two servers on one machine share the default."""
    port = settings.server.metrics_port
    if not port:
        return None
    rules = HttpRules(transfers=settings.server.http_transfers)
    return HttpPlace(port, required=settings.explicit("server.metrics_port"), rules=rules)


def _require_no_enforcement(settings: Settings) -> None:
    """Who asks for authentication must not get a server without it."""
    if settings.security.mode != "off":
        raise SettingsError(
            (f"security.mode = {settings.security.mode} is not available in this version of mx",),
            remedy="leave it off and keep the port inside a network that you trust",
        )


@asynccontextmanager
async def _opened(settings: Settings, metrics: ServerMetrics) -> AsyncIterator[Services]:
    """Services; a store that can't be opened is a problem of settings, once and clearly."""
    opened = False
    try:
        async with open_services(settings, tally=metrics) as services:
            opened = True
            yield services
    except MxError as error:
        if opened or isinstance(error, SettingsError):
            raise
        raise SettingsError((error.message,), remedy=error.remedy) from error


async def _drain(server: RunningServer, grace_s: float, signals: Signals) -> None:
    begin_s = time.monotonic()
    log.info("draining", in_flight=server.traffic.in_flight, grace_s=grace_s)
    finished = await server.drain(grace_s, force=signals.second)
    write = log.info if finished else log.warn
    write("drained", seconds=round(time.monotonic() - begin_s, 3), finished=finished)
