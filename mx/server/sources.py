"""``model_express.p2p.P2pService`` over SourcesService.

Validation problems and unknown objects are answered in-band, trouble with the store is an RPC
error: a published worker publishes again after two answers with success = false, so an outage must
never look like that.
"""

from __future__ import annotations

from typing import Any

import grpc.aio

from mx.errors import InvalidArgumentError
from mx.services.sources import SourcesService
from mx.wire import codec
from mx.wire.v1 import p2p

Context = grpc.aio.ServicerContext[Any, Any]


class P2pService:
    """``legacy_tensors``: also fill the deprecated field, for clients older than the oneof."""

    def __init__(self, sources: SourcesService, *, legacy_tensors: bool = False) -> None:
        self._sources = sources
        self._legacy_tensors = legacy_tensors

    async def PublishMetadata(
        self, request: p2p.PublishMetadataRequest, _context: Context, /
    ) -> p2p.PublishMetadataResponse:
        identity, worker, worker_id, pod = codec.decode_publish(request)
        try:
            source_id = await self._sources.publish(identity, worker, worker_id=worker_id, pod=pod)
        except InvalidArgumentError as error:
            return p2p.PublishMetadataResponse(success=False, message=str(error))
        return p2p.PublishMetadataResponse(
            success=True, message="published", mx_source_id=source_id, worker_id=worker_id
        )

    async def ListSources(
        self, request: p2p.ListSourcesRequest, _context: Context, /
    ) -> p2p.ListSourcesResponse:
        rows = await self._sources.list_sources(codec.decode_filter(request))
        return p2p.ListSourcesResponse(instances=map(codec.encode_instance, rows))

    async def GetMetadata(
        self, request: p2p.GetMetadataRequest, _context: Context, /
    ) -> p2p.GetMetadataResponse:
        if not request.mx_source_id or not request.worker_id:
            return p2p.GetMetadataResponse(found=False)
        entry = await self._sources.get(request.mx_source_id, request.worker_id)
        if entry is None:
            return p2p.GetMetadataResponse(
                found=False, mx_source_id=request.mx_source_id, worker_id=request.worker_id
            )
        return codec.encode_entry(entry, legacy_tensors=self._legacy_tensors)

    async def UpdateStatus(
        self, request: p2p.UpdateStatusRequest, _context: Context, /
    ) -> p2p.UpdateStatusResponse:
        key, status, load = codec.decode_status(request)
        try:
            known = await self._sources.update_status(key, status, load)
        except InvalidArgumentError as error:
            return p2p.UpdateStatusResponse(success=False, message=str(error))
        if not known:
            return p2p.UpdateStatusResponse(success=False, message=f"{key} is not known; publish it first")
        return p2p.UpdateStatusResponse(success=True, message="updated")
