"""A worker of the published package ``modelexpress`` 0.7.0, with nothing of mx in it.

    python published_worker.py '{"model": …, "worker_id": …, "tensors": [[name, dtype, bytes], …], "seed": 1}'

Runs in an environment that has the package and is told what to do by lines on stdin; each is answered
by one JSON object on stdout.

    digest    {"digests": […]}      SHA-256 of each tensor
    agent     {"agent": name}       start the NIXL agent ahead of a pull
    publish   {"tensors": n}        register and publish, then heartbeat until the end
    pull      {"seconds": s} or {"error": text, "mutated": bool}
    lease     {"lease": n}          hold the first listed source, of n tensors, as the package's refit does
    release   {"released": true}    a second one is sent too; refusals: {"error": code, "details": text}
    withdraw  {}                    no longer a source
    leave     {}                    close the NIXL agent

Metadata mode, ports and server come by the package's own environment variables.

The package knows CUDA and XPU memory only. Its boundaries for both device and engine are protocols, so two
small classes here stand for a host "device" and for an engine with a dictionary of tensors. Discovery,
metadata, worker service, NIXL, reading and heartbeat are the package's own, untouched.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import random
import signal
import sys
import time
from typing import Any

import grpc
import torch
from modelexpress import p2p_pb2
from modelexpress.adapter import EngineAdapter, StrategyFailed
from modelexpress.load_strategy.base import publish_metadata, register_tensors, unpublish_metadata
from modelexpress.load_strategy.context import LoadContext, LoadResult
from modelexpress.load_strategy.rdma_strategy import RdmaStrategy
from modelexpress.metadata.client_factory import create_metadata_client
from modelexpress.metadata.worker_server import TensorReadLease, prepare_tensor_read
from modelexpress.nixl_transfer import NixlTransferManager

GAP_BYTES = 64
PR_SET_PDEATHSIG = 1


class HostDevice:
    """The package's ``AcceleratorBackend`` for host memory, which NIXL calls DRAM."""

    name = "cpu"
    torch_device_type = "cpu"
    nixl_mem_type = "DRAM"

    def set_device(self, device_id: int) -> None: ...

    def current_device(self) -> int:
        return 0

    def synchronize(self, device_id: int | None = None) -> None: ...

    def empty_cache(self) -> None: ...

    def torch_device(self, device_id: int) -> torch.device:
        return torch.device("cpu")

    def is_accel_tensor(self, tensor: torch.Tensor) -> bool:
        return tensor.device.type == "cpu"

    def supports_rdma_p2p(self) -> bool:
        return True

    def supports_pool_reg(self) -> bool:
        return False

    def supports_vmm(self) -> bool:
        return False

    def supports_gds(self) -> bool:
        return False


class TensorsAdapter(EngineAdapter):
    """An engine whose model is these tensors."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._tensors = tensors

    def discover_tensors(self, result: LoadResult) -> dict[str, torch.Tensor]:
        return dict(self._tensors)


def allocate(rows: list[list[Any]], seed: int) -> dict[str, torch.Tensor]:
    """Tensors 64 bytes apart in one touched block; bytes are random for a seed, else all 1."""
    length = sum(size + GAP_BYTES - size % -GAP_BYTES for _, _, size in rows)
    block = torch.ones(max(length, 1), dtype=torch.uint8)
    draw = random.Random(seed)
    tensors, at = {}, 0
    for name, dtype, size in rows:
        raw = block[at : at + size]
        if seed and size:
            content = draw.randbytes(size)
            ctypes.memmove(raw.data_ptr(), content, size)
        tensors[name] = raw.view(getattr(torch, dtype.removeprefix("torch.")))
        at += size + GAP_BYTES + -size % GAP_BYTES
    return tensors


def digest(tensor: torch.Tensor) -> str:
    size = tensor.numel() * tensor.element_size()
    return hashlib.sha256(ctypes.string_at(tensor.data_ptr(), size) if size else b"").hexdigest()


class Worker:
    def __init__(self, task: dict[str, Any]) -> None:
        self.tensors = allocate(task["tensors"], task.get("seed", 0))
        self.lease: TensorReadLease | None = None
        self.context = LoadContext(
            model_config=None,
            load_config=None,
            target_device=torch.device("cpu"),
            global_rank=0,
            worker_rank=task.get("rank", 0),
            local_rank=0,
            device_id=0,
            identity=p2p_pb2.SourceIdentity(
                mx_version="0.7.0",
                model_name=task["model"],
                backend_framework=p2p_pb2.BACKEND_FRAMEWORK_VLLM,
                tensor_parallel_size=1,
                pipeline_parallel_size=1,
                expert_parallel_size=1,
                dtype="bfloat16",
            ),
            mx_client=create_metadata_client(worker_rank=task.get("rank", 0)),
            worker_id=task["worker_id"],
            adapter=TensorsAdapter(self.tensors),
            accelerator_backend=HostDevice(),
        )

    def agent(self) -> dict[str, Any]:
        manager = NixlTransferManager(
            agent_name=f"published-{self.context.worker_id}-{time.time_ns():x}",
            device_id=0,
            listen_port=int(os.environ["MX_METADATA_PORT"]),
            accelerator_backend=self.context.accelerator_backend,
        )
        manager.initialize()
        self.context.nixl_manager = manager
        return {"agent": manager.agent_name}

    def digest(self) -> dict[str, Any]:
        return {"digests": [digest(tensor) for tensor in self.tensors.values()]}

    def _result(self) -> LoadResult:
        model = torch.nn.Module()
        return LoadResult(value=model, model=model)

    def publish(self) -> dict[str, Any]:
        register_tensors(self._result(), self.context)
        publish_metadata(self.context)
        manager = self.context.nixl_manager
        return {"tensors": len(manager.tensor_descriptors) if manager else 0}

    def pull(self) -> dict[str, Any]:
        strategy = RdmaStrategy()
        if not strategy.is_available(self.context):
            return {"error": "the published strategy says that it is not available", "mutated": False}
        started = time.perf_counter()
        try:
            strategy.load(self._result(), self.context)
        except StrategyFailed as error:
            strategy.rollback(self.context)
            return {"error": str(error), "mutated": error.mutated}
        return {"seconds": time.perf_counter() - started}

    def hold(self) -> dict[str, Any]:
        """A lease on the first READY source, as the package's refit takes it."""
        client = self.context.mx_client
        row = client.list_sources(self.context.identity, p2p_pb2.SOURCE_STATUS_READY).instances[0]
        record = client.get_metadata(row.mx_source_id, row.worker_id).worker
        try:
            self.lease, _ = prepare_tensor_read(
                record.worker_grpc_endpoint, row.mx_source_id, worker_id=row.worker_id
            )
        except grpc.RpcError as error:
            return {"error": error.code().name, "details": error.details()}
        return {"lease": len(self.lease.manifest.tensors)}

    def release(self) -> dict[str, Any]:
        assert self.lease is not None
        try:
            self.lease._released = False  # a second release is to reach the source
            self.lease.release()
        except grpc.RpcError as error:
            return {"error": error.code().name, "details": error.details()}
        return {"released": True}

    def withdraw(self) -> dict[str, Any]:
        unpublish_metadata(self.context)
        return {}

    def leave(self) -> dict[str, Any]:
        if self.context.nixl_manager is not None:
            self.context.nixl_manager.shutdown()
            self.context.nixl_manager = None
        return {}


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # NIXL greets on stdout
    logging.basicConfig(level=os.environ.get("MODEL_EXPRESS_LOG_LEVEL", "INFO"), stream=sys.stderr)
    worker = Worker(json.loads(sys.argv[1]))
    commands = {
        "digest": worker.digest,
        "agent": worker.agent,
        "publish": worker.publish,
        "pull": worker.pull,
        "lease": worker.hold,
        "release": worker.release,
        "withdraw": worker.withdraw,
        "leave": worker.leave,
    }
    for line in sys.stdin:
        print(json.dumps(commands[line.strip()]()), file=answers, flush=True)
    worker.withdraw()
    worker.leave()


if __name__ == "__main__":
    main()
