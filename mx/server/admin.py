"""``mx.admin.v1.AdminService``: what mx's own clients ask beside the published calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import grpc.aio

from mx.core.server_state import ServerStatus
from mx.core.source import source_id
from mx.errors import InvalidArgumentError
from mx.server.cache_admin import CacheCalls
from mx.server.feed_admin import FeedCalls
from mx.server.models import SILENCE_S, never_silent
from mx.server.readiness import Readiness
from mx.server.roles import Roles
from mx.services.listing import list_cache
from mx.services.tickets import FileTickets
from mx.wire import admin_codec, models_admin_codec, state_codec
from mx.wire.codec import build, decode_identity
from mx.wire.v1 import admin
from mx.wiring import Services

Context = grpc.aio.ServicerContext[Any, Any]

# What a reply holds when the caller leaves the number open.
TRANSFERS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What doesn't change while a server runs. ``listen`` is host:port as bound."""

    version: str
    started_at_ms: int
    store_backend: str
    listen: str
    settings_file: str


@dataclass(frozen=True, slots=True)
class FilesPlace:
    """Where HTTP serves files: on ``port`` (0: nowhere) of this server, by whatever name a client calls
    it; ``hosts`` are addresses of this very process."""

    port: int = 0
    hosts: tuple[str, ...] = ()


class AdminService(CacheCalls, FeedCalls):
    def __init__(
        self,
        facts: ServerFacts,
        *,
        readiness: Readiness,
        services: Services,
        tickets: FileTickets,
        place: FilesPlace,
        roles: Roles,
    ) -> None:
        CacheCalls.__init__(self, services)
        FeedCalls.__init__(self, services)
        self._roles = roles
        self._facts = facts
        self._readiness = readiness
        self._services = services
        self._tickets = tickets
        self._place = place
        self._sources = services.sources
        self._transfers = services.transfers

    async def GetServerStatus(
        self, _request: admin.GetServerStatusRequest, context: Context, /
    ) -> admin.GetServerStatusResponse:
        status = await self.status()
        return state_codec.encode_status(replace(status, read_only=self._roles.is_read_only(context)))

    async def status(self) -> ServerStatus:
        """As a caller who is an operator gets it."""
        await self._readiness.check()
        return ServerStatus(
            version=self._facts.version,
            started_at_ms=self._facts.started_at_ms,
            ready=self._readiness.serving,
            draining=self._readiness.draining,
            store_backend=self._facts.store_backend,
            store_ok=self._readiness.store_ok,
            store_latency_ms=self._readiness.store_latency_ms,
            sources_by_status=dict(await self._sources.counts()) if self._readiness.store_ok else {},
            listen=self._facts.listen,
            settings_file=self._facts.settings_file,
            read_only=self._roles.read_only,
        )

    async def AnnouncePeer(
        self, request: admin.AnnouncePeerRequest, _context: Context, /
    ) -> admin.AnnouncePeerResponse:
        key, peer = admin_codec.decode_key(request.key), admin_codec.decode_peer(request.peer)
        return admin.AnnouncePeerResponse(known=await self._sources.announce(key, peer))

    async def FindPeers(
        self, request: admin.FindPeersRequest, _context: Context, /
    ) -> admin.FindPeersResponse:
        if not request.identity.model_name:
            raise InvalidArgumentError("FindPeers needs an identity with a model_name")
        wanted = source_id(decode_identity(request.identity))
        rows = await self._sources.find_peers(wanted, request.worker_rank)
        return admin.FindPeersResponse(source_id=wanted, rows=map(admin_codec.encode_row, rows))

    async def ListSourceRows(
        self, request: admin.ListSourceRowsRequest, _context: Context, /
    ) -> admin.ListSourceRowsResponse:
        rows = await self._sources.list_sources(admin_codec.decode_row_filter(request))
        return admin.ListSourceRowsResponse(rows=map(admin_codec.encode_row, rows))

    async def GetSource(
        self, request: admin.GetSourceRequest, _context: Context, /
    ) -> admin.GetSourceResponse:
        entry = await self._sources.get(request.source_id, request.worker_id)
        return admin.GetSourceResponse(entry=None if entry is None else admin_codec.encode_full_entry(entry))

    async def WithdrawSource(
        self, request: admin.WithdrawSourceRequest, _context: Context, /
    ) -> admin.WithdrawSourceResponse:
        removed = await self._sources.withdraw(admin_codec.decode_key(request.key))
        return admin.WithdrawSourceResponse(removed=removed)

    async def ReportTransfer(
        self, request: admin.ReportTransferRequest, _context: Context, /
    ) -> admin.ReportTransferResponse:
        self._transfers.record(admin_codec.decode_report(request.report))
        return admin.ReportTransferResponse()

    async def ListTransfers(
        self, request: admin.ListTransfersRequest, _context: Context, /
    ) -> admin.ListTransfersResponse:
        reports = self._transfers.recent(request.limit or TRANSFERS_SHOWN)
        return build(admin.ListTransfersResponse, reports=map(admin_codec.encode_report, reports))

    async def EnsureModel(
        self, request: admin.EnsureModelRequest, context: Context, /
    ) -> AsyncIterator[admin.EnsureProgress]:
        await context.send_initial_metadata(())
        ref = models_admin_codec.decode_ensure(request)
        updates = self._services.models.ensure(ref, weights=not request.ignore_weights, force=request.force)
        async with aclosing(never_silent(updates, within_s=SILENCE_S)) as told:
            async for update in told:
                yield models_admin_codec.encode_progress(update)

    async def OpenModelFiles(
        self, request: admin.OpenModelFilesRequest, context: Context, /
    ) -> admin.OpenModelFilesResponse:
        key = models_admin_codec.decode_key(request.key)
        ticket = await self._tickets.open(key, holder=request.holder[:200] or context.peer())
        return models_admin_codec.encode_opened(
            ticket.key,
            ticket.files,
            ticket=ticket.secret,
            life_s=self._tickets.life_s,
            port=self._place.port,
            hosts=self._place.hosts,
        )

    async def RenewModelFiles(
        self, request: admin.RenewModelFilesRequest, _context: Context, /
    ) -> admin.RenewModelFilesResponse:
        self._tickets.renew(request.ticket)
        return admin.RenewModelFilesResponse()

    async def CloseModelFiles(
        self, request: admin.CloseModelFilesRequest, _context: Context, /
    ) -> admin.CloseModelFilesResponse:
        self._tickets.close(request.ticket)
        return admin.CloseModelFilesResponse()

    async def ListModels(
        self, request: admin.ListModelsRequest, _context: Context, /
    ) -> admin.ListModelsResponse:
        of = self._services
        provider = models_admin_codec.decode_provider(request.provider) if request.provider else None
        listing = await list_cache(
            of.models, of.eviction, of.cache, of.clock, provider=provider, name=request.name or None
        )
        return models_admin_codec.encode_listing(listing)

    async def PinModel(self, request: admin.PinModelRequest, _context: Context, /) -> admin.PinModelResponse:
        pin = models_admin_codec.decode_pin(request.pin) if request.HasField("pin") else None
        await self._services.models.pin(models_admin_codec.decode_key(request.key), pin)
        return admin.PinModelResponse()

    async def PlanEviction(
        self, request: admin.PlanEvictionRequest, _context: Context, /
    ) -> admin.PlanEvictionResponse:
        plan = await self._services.eviction.plan(models_admin_codec.decode_goal(request))
        return admin.PlanEvictionResponse(plan=models_admin_codec.encode_plan(plan))
