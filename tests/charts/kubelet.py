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
            numbers = {one["name"]: one["containerPort"] for one in server.container.spec["ports"]}
            url = f"http://127.0.0.1:{numbers.get(port, port)}{path}"
            return server.run(["curl", "--silent", "--fail", "--max-time", str(timeout_s), url])
        case other:
            raise AssertionError(f"no such probe: {other}")


def wait_until_ready(server: Running) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while probe(server, "startupProbe").returncode:
        assert server.process.poll() is None, server.said()
        assert time.monotonic() < deadline, server.said()
    for name in ("livenessProbe", "readinessProbe"):
        answer = probe(server, name)
        assert answer.returncode == 0, f"{name}: {answer.stderr}\n{server.said()}"
