"""A published client that waits in silence for a slow download keeps its connection.

It pings every 30 s, without data and without calls. A gRPC server with default options answers the third
such ping with GOAWAY ``too_many_pings``, which ends the stream after 90 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mx.server.app import SERVER_OPTIONS

OPTIONS = """
import json, grpc
captured = {}
def capture(target, options=None, **_):
    captured.update(options)
    return real(target, options=options)
real, grpc.insecure_channel = grpc.insecure_channel, capture
from modelexpress import ModelCacheClient
ModelCacheClient("127.0.0.1:1").stub
print(json.dumps(captured))
"""
# The published client itself, silent on a stream for longer than a default server would bear.
SILENT_S = 110
SILENCE = """
import sys, time, grpc
from modelexpress import ModelCacheClient
client = ModelCacheClient(sys.argv[1])
client.stub
# Health.Watch says SERVING once and is silent after that, as a download without news is.
watch = client._channel.unary_stream("/grpc.health.v1.Health/Watch")
stream = watch(b"", timeout=float(sys.argv[2]))
assert next(stream) == b"\\x08\\x01", "SERVING"
try:
    next(stream)
except grpc.RpcError as error:
    print(error.code().name, error.details())
"""
# gRPC's C core sends such pings no faster than one a second, whatever a client asks for.
FAST_MS = 1000
DEADLY_PINGS = 3


@pytest.fixture(scope="module")
def client_options(published_python: str) -> dict[str, int]:
    done = subprocess.run([published_python, "-c", OPTIONS], capture_output=True, timeout=60, check=True)
    options: dict[str, int] = json.loads(done.stdout)
    return options


def test_the_published_client_pings_as_the_server_expects(client_options: dict[str, int]) -> None:
    assert client_options["grpc.keepalive_time_ms"] == 30_000
    assert client_options["grpc.keepalive_permit_without_calls"] == 1
    assert client_options["grpc.http2.max_pings_without_data"] == 0
    server = dict(SERVER_OPTIONS)
    assert server["grpc.http2.min_ping_interval_without_data_ms"] <= 10_000
    assert server["grpc.keepalive_permit_without_calls"] == 1
    assert server["grpc.http2.max_ping_strikes"] == 0
    for name in ("grpc.max_send_message_length", "grpc.max_receive_message_length"):
        assert server[name] >= client_options[name], name


@pytest.fixture
def default_server() -> Iterator[str]:
    """A gRPC server with the library's own options: what mx must not be."""
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def silent_stream(address: str, options: dict[str, int], seconds: float) -> str:
    """How a stream ends on which nothing happens: "cancelled by us", or the server's reason."""
    faster = options | {"grpc.keepalive_time_ms": FAST_MS, "grpc.use_local_subchannel_pool": 1}
    with grpc.insecure_channel(address, options=list(faster.items())) as channel:
        stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(stream).status == health_pb2.HealthCheckResponse.SERVING
        end = threading.Timer(seconds, stream.cancel)
        end.start()
        try:
            next(stream)
        except grpc.RpcError as error:
            return "cancelled by us" if error.code() is grpc.StatusCode.CANCELLED else str(error.details())
        finally:
            end.cancel()
    raise AssertionError("the stream was to be silent")


def test_a_silent_stream_of_the_published_client_lives(server: str, client_options: dict[str, int]) -> None:
    """Its options with pings thirty times as fast: twice the pings that end a default connection."""
    assert silent_stream(server, client_options, 2 * DEADLY_PINGS + 0.5) == "cancelled by us"


def test_the_same_stream_dies_on_a_default_server(
    default_server: str, client_options: dict[str, int]
) -> None:
    """Without this, the test before could pass because nobody pings."""
    assert "too many pings" in silent_stream(default_server, client_options, 30).lower()


@pytest.mark.skipif(os.environ.get("MX_SLOW") != "1", reason=f"takes {SILENT_S} s: set MX_SLOW=1")
def test_the_published_client_itself_is_silent_for_longer_than_90_s(
    published_python: str, server: str
) -> None:
    done = subprocess.run(
        [published_python, "-c", SILENCE, server, str(SILENT_S)],
        capture_output=True,
        text=True,
        timeout=SILENT_S + 60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("DEADLINE_EXCEEDED"), (done.stdout, done.stderr)
