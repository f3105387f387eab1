"""What a kubelet asks a container that runs: its probes."""

from __future__ import annotations

import subprocess
import sys
import time

from container_processes import Running

DEADLINE_S = 120.0

# What the kubelet does for a gRPC probe.
_ASK = """
import sys, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}") as channel:
    request = health_pb2.HealthCheckRequest(service=sys.argv[2])
    answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=float(sys.argv[3]))
sys.exit(0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1)
"""

_CONNECT = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), float(sys.argv[2]))"


def probe(server: Running, name: str) -> subprocess.CompletedProcess[str]:
    """One try of a probe of the manifest."""
    spec = server.container.spec[name]
    timeout_s = spec.get("timeoutSeconds", 1)
    match spec:
        case {"grpc": {"port": port, **rest}}:
            # The time-out is for the answer; the interpreter that asks needs some of its own.
            return server.run(
                [sys.executable, "-c", _ASK, str(port), rest.get("service", ""), str(timeout_s)]
            )
        case {"httpGet": {"port": port, "path": path}}:
            url = f"http://127.0.0.1:{number_of(server, port)}{path}"
            return server.run(["curl", "--silent", "--fail", "--max-time", str(timeout_s), url])
        case {"exec": {"command": command}}:
            return server.exec(command)
        case {"tcpSocket": {"port": port}}:
            return server.run([sys.executable, "-c", _CONNECT, str(number_of(server, port)), str(timeout_s)])
        case other:
            raise AssertionError(f"no such probe: {other}")


def number_of(server: Running, port: str | int) -> int:
    """A port by its name in the manifest, or by its number."""
    numbers = {one["name"]: one["containerPort"] for one in server.container.spec["ports"]}
    return int(numbers.get(port, port))


def wait_until_ready(server: Running) -> None:
    """Until every probe of the manifest is content; the test fails with the container's words."""
    names = [
        one for one in ("startupProbe", "livenessProbe", "readinessProbe") if one in server.container.spec
    ]
    for name in names:
        wait_until_probe(server, name, good=True)


def wait_until_probe(server: Running, name: str, *, good: bool) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while ((done := probe(server, name)).returncode == 0) is not good:
        assert server.process.poll() is None, server.said()
        assert time.monotonic() < deadline, f"{name}: {done.stderr}\n{server.said()}"
