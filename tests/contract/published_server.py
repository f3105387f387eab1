"""What published servers of each generation do to Redis, from the storage contract (sections 2 and 3).

Plain and synchronous, with the fields and spellings of the contract and none of mx's code.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Literal

import redis

Generation = Literal["0.3.0", "0.5.0", "later"]

IDENTITY = {
    "model_name": "org/Model-7B",
    "mx_version": "0.5.0",
    "mx_source_type": 0,
    "backend_framework": 1,
    "tensor_parallel_size": 8,
    "pipeline_parallel_size": 1,
    "expert_parallel_size": 0,
    "dtype": "bfloat16",
    "quantization": "",
    "extra_parameters": {"training_step": "7"},
    "revision": "abc",
    "backend_framework_version": "",
    "torch_version": "",
    "cuda_version": "",
    "triton_version": "",
    "gpu_arch": "",
    "compile_config_digest": "",
}


def record(rank: int, *, status: int, updated_at: int, generation: Generation) -> dict[str, Any]:
    found = {
        "worker_rank": rank,
        "backend_type": "nixl",
        "nixl_metadata": [0, 110, 255],
        "transfer_engine_session_id": None,
        "tensors": [
            {"name": "w", "addr": str(1 << 63), "size": "4096", "device_id": rank, "dtype": "torch.bfloat16"}
        ],
        "status": status,
        "updated_at": updated_at,
        "metadata_endpoint": "10.0.0.9:5555",
        "agent_name": f"agent-{rank}",
        "worker_grpc_endpoint": "10.0.0.9:6555",
    }
    if generation != "0.3.0":
        found |= {"accelerator": "cuda", "artifact_source": None}
    return found


def summary(rank: int, *, status: int, updated_at: int) -> dict[str, Any]:
    return {"worker_rank": rank, "status": status, "updated_at": updated_at, "accelerator": "cuda"}


@dataclass
class PublishedServer:
    client: redis.Redis
    generation: Generation = "later"

    def publish(
        self, source_id: str, worker_id: str, *, rank: int = 0, status: int = 1, updated_at: int = 0
    ) -> None:
        worker, source = f"mx:source:{source_id}:{worker_id}", f"mx:source:{source_id}"
        whole = record(rank, status=status, updated_at=updated_at, generation=self.generation)
        self.client.hset(worker, str(rank), json.dumps(whole))
        self.client.hset(source, "__attributes__", json.dumps(IDENTITY))
        self._rewrite(source_id, worker_id, rank, status, updated_at)

    def heartbeat(
        self, source_id: str, worker_id: str, *, rank: int = 0, status: int = 2, updated_at: int
    ) -> None:
        worker = f"mx:source:{source_id}:{worker_id}"
        found = self.client.hget(worker, str(rank))
        if found is None:
            return
        if self.generation != "later":
            whole = json.loads(found) | {"status": status, "updated_at": updated_at}
            self.client.hset(worker, str(rank), json.dumps(whole))
        self._rewrite(source_id, worker_id, rank, status, updated_at)

    def _rewrite(self, source_id: str, worker_id: str, rank: int, status: int, updated_at: int) -> None:
        text = json.dumps(summary(rank, status=status, updated_at=updated_at))
        if self.generation == "later":
            self.client.hset(f"mx:source:{source_id}:{worker_id}", f"status:{rank}", text)
        shown = str(rank) if self.generation == "0.3.0" else text
        self.client.hset(f"mx:source:{source_id}", worker_id, shown)

    def ranks(self, source_id: str) -> dict[str, int]:
        """Worker ids with their status, as a listing of the last generation finds them."""
        found = {}
        for worker_id, text in self.client.hgetall(f"mx:source:{source_id}").items():
            if worker_id == "__attributes__":
                assert json.loads(text)["model_name"]
                continue
            shown = json.loads(text)
            rank = shown["worker_rank"]
            worker = f"mx:source:{source_id}:{worker_id}"
            whole = json.loads(str(self.client.hget(worker, str(rank))))
            live = json.loads(str(self.client.hget(worker, f"status:{rank}")))
            assert whole.keys() >= record(0, status=0, updated_at=0, generation="later").keys()
            assert all(0 <= byte < 256 for byte in whole["nixl_metadata"])
            newest = live if live["updated_at"] >= whole["updated_at"] else whole
            found[worker_id] = newest["status"]
        return found

    # Registry of models

    CLAIM = """
    local now = redis.call('TIME')
    local ms = now[1] * 1000 + math.floor(now[2] / 1000)
    local status = redis.call('HGET', KEYS[1], 'status')
    local lease = redis.call('HGET', KEYS[1], 'lease_expires_at')
    if not status then
      redis.call('HSET', KEYS[1], 'created_at', ARGV[2], 'last_used_at', ARGV[2], 'provider', ARGV[3])
    elseif status ~= 'DOWNLOADING' or (lease and tonumber(lease) > ms) then
      return status
    end
    redis.call('HSET', KEYS[1], 'status', 'DOWNLOADING', 'claim_id', ARGV[1], 'lease_expires_at', ms + 30000)
    return 'won'
    """
    FINISH = """
    if redis.call('HGET', KEYS[1], 'status') ~= 'DOWNLOADING' then return 0 end
    if redis.call('HGET', KEYS[1], 'claim_id') ~= ARGV[1] then return 0 end
    redis.call('HSET', KEYS[1], 'status', ARGV[2], 'message', ARGV[3])
    redis.call('HDEL', KEYS[1], 'claim_id', 'lease_expires_at')
    return 1
    """

    def claim(self, key: str, claim_id: str, *, provider: str = "HuggingFace") -> str:
        """``won``, or the status that stands in the way."""
        return str(self.client.eval(self.CLAIM, 1, key, claim_id, now_text(), provider))

    def finish(self, key: str, claim_id: str, status: str, message: str = "") -> bool:
        return bool(self.client.eval(self.FINISH, 1, key, claim_id, status, message))


def now_text() -> str:
    """As servers in Rust write it."""
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanos:09}+00:00"
