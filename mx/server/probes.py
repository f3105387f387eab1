"""ApiService, HealthService and ``grpc.health.v1``: is anybody there, and can they serve."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from mx.errors import NotFoundError
from mx.server.readiness import Readiness, process_age_s
from mx.wire.v1 import api, health

Context = grpc.aio.ServicerContext[Any, Any]

HEALTH_V1_NAME: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
# A name to ask for that says whether the process answers and nothing else. A liveness probe that
# followed the store would have every server restarted while Redis is away.
LIVENESS_NAME = "liveness"


class ApiService:
    """``ping`` and nothing else. ``id`` and ``payload`` are ignored, and never logged."""

    async def SendRequest(self, request: api.ApiRequest, _context: Context, /) -> api.ApiResponse:
        if request.action == "ping":
            return api.ApiResponse(success=True, data=json.dumps({"message": "pong"}).encode())
        return api.ApiResponse(success=False, error=f"unknown action: {request.action[:200]}")


class HealthService:
    """``status`` is exactly "ok" when the server can serve, else the reason why it can't."""

    def __init__(self, readiness: Readiness, *, version: str) -> None:
        self._readiness = readiness
        self._version = version

    async def GetHealth(self, _request: health.HealthRequest, _context: Context, /) -> health.HealthResponse:
        return health.HealthResponse(
            version=self._version, status=self._readiness.reason, uptime=int(process_age_s())
        )


class StandardHealth:
    """``grpc.health.v1.Health``: the server as a whole is "", each service goes by its full name.

    ``liveness`` is SERVING for as long as anybody answers: also without a store, also while draining.
    """

    def __init__(self, readiness: Readiness, services: frozenset[str]) -> None:
        self._readiness = readiness
        self._services = services | {"", LIVENESS_NAME}

    async def Check(self, request: Any, _context: Context, /) -> Any:
        if request.service not in self._services:
            raise NotFoundError(f"no service {request.service!r} here")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def List(self, _request: Any, _context: Context, /) -> Any:
        kind = health_pb2.HealthCheckResponse
        statuses = {name: kind(status=self._status(name)) for name in self._services}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(self, request: Any, _context: Context, /) -> AsyncIterator[Any]:
        """The state now and whenever it changes; ends with the server."""
        if request.service not in self._services:
            # The protocol wants the stream kept open: the service may come later. Ours never do.
            yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        last: int | None = None
        while True:
            status = self._status(request.service)
            if request.service in self._services and status != last:
                yield health_pb2.HealthCheckResponse(status=status)
                last = status
            if self._readiness.draining:
                return  # NOT_SERVING was the last word
            await self._readiness.wait_changed()

    def _status(self, service: str) -> int:
        kind = health_pb2.HealthCheckResponse
        good = service == LIVENESS_NAME or self._readiness.serving
        return int(kind.SERVING if good else kind.NOT_SERVING)


def standard_health_handler(implementation: StandardHealth) -> grpc.GenericRpcHandler[Any, Any]:
    """Handler of ``grpc.health.v1.Health``, from the messages of grpcio-health-checking."""
    request, reply = (
        health_pb2.HealthCheckRequest.FromString,
        health_pb2.HealthCheckResponse.SerializeToString,
    )
    handlers: dict[str, Any] = {
        "Check": grpc.unary_unary_rpc_method_handler(implementation.Check, request, reply),
        "Watch": grpc.unary_stream_rpc_method_handler(implementation.Watch, request, reply),
        "List": grpc.unary_unary_rpc_method_handler(
            implementation.List,
            health_pb2.HealthListRequest.FromString,
            health_pb2.HealthListResponse.SerializeToString,
        ),
    }
    return grpc.method_handlers_generic_handler(HEALTH_V1_NAME, handlers)
