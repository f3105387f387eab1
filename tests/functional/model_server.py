"""A whole server with a cache on disk, fed by a hub on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from mx.config import load_settings
from mx.server.app import HttpPlace, RunningServer, running_server
from mx.server.metrics import ServerMetrics
from mx.testing.fake_hub import FakeHub
from mx.wire.v1 import model
from mx.wiring import Services, open_services

WEIGHTS = bytes(range(256)) * 9000  # more than two blocks of what the server reads at once
FILES: Mapping[str, bytes] = {
    "config.json": b'{"model_type": "tiny"}',
    "empty.txt": b"",
    "model.safetensors": WEIGHTS,
    "nested/deep/part.safetensors": b"weights" * 1000,
    "tokenizer.json": b"{}" * 20_000,
}


@dataclass(frozen=True, slots=True)
class ModelServer:
    server: RunningServer
    services: Services
    hub: FakeHub
    cache: Path
    channel: grpc.aio.Channel
    stub: model.ModelServiceAsyncStub

    @property
    def address(self) -> str:
        return self.server.listen


@asynccontextmanager
async def model_server(
    folder: Path,
    hub: FakeHub,
    *,
    http: HttpPlace | None = None,
    **flags: object,
) -> AsyncIterator[ModelServer]:
    """``flags`` are settings by their dotted key. Without ``http`` there is gRPC only."""
    cache = folder / "cache"
    settings = load_settings(
        flags={
            "metadata.backend": "memory",
            "cache.directory": str(cache),
            "providers.huggingface.endpoint": hub.endpoint,
            **flags,
        },
        environ={},
        cwd=folder,
        scope="server",
    )
    metrics = ServerMetrics(scheme=settings.server.metrics_scheme)
    async with (
        open_services(settings, tally=metrics) as services,
        running_server(services, host="127.0.0.1", port=0, http=http, metrics=metrics) as server,
        grpc.aio.insecure_channel(server.listen) as channel,
    ):
        yield ModelServer(server, services, hub, cache, channel, model.ModelServiceAsyncStub(channel))
