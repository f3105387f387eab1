"""The published Python client against a real mx server: every call of its control plane."""

from __future__ import annotations

import subprocess
from pathlib import Path

CLIENT = """
import sys
from google.protobuf.unknown_fields import UnknownFieldSet
from modelexpress import p2p_pb2
from modelexpress.client import MxClient

READY = p2p_pb2.SOURCE_STATUS_READY
client = MxClient("http://" + sys.argv[1])
identity = p2p_pb2.SourceIdentity(
    mx_version="0.7.0", model_name="deepseek-ai/DeepSeek-V3", backend_framework=1,
    tensor_parallel_size=8, pipeline_parallel_size=1, dtype="bfloat16",
)
tensors = [p2p_pb2.TensorDescriptor(name="w", addr=1 << 40, size=8, device_id=1, dtype="torch.bfloat16")]
worker = p2p_pb2.WorkerMetadata(
    worker_rank=0, nixl_metadata=b"blob", tensors=tensors,
    tensor_source=p2p_pb2.TensorSourceMetadata(tensors=tensors), agent_name="agent",
    metadata_endpoint="10.0.0.7:5555", accelerator="cuda", topology={"zone": "a"},
)
assert not client.update_status("c19c9f4300b46054", "0a1b2c3d", 0, READY)
source = client.publish_metadata(identity, worker, "0a1b2c3d")
assert source == "c19c9f4300b46054", source
assert not client.list_sources(identity, READY).instances
assert client.update_status(source, "0a1b2c3d", 0, READY, source_load=0.0)
(row,) = client.list_sources(identity, READY).instances
assert (row.mx_source_id, row.worker_id, row.worker_rank) == (source, "0a1b2c3d", 0)
assert row.HasField("source_load") and row.source_load == 0.0 and row.updated_at > 0
assert dict(row.topology) == {"zone": "a"} and not row.HasField("training_step")
reply = client.get_metadata(source, "0a1b2c3d")
assert reply.found and reply.identity == identity
assert reply.worker.nixl_metadata == b"blob" and list(reply.worker.tensor_source.tensors) == tensors
assert reply.worker.status == READY and reply.worker.updated_at == row.updated_at
for message in (row, reply, reply.worker, reply.identity):
    assert not len(UnknownFieldSet(message)), "an old client must see nothing new"
assert not client.get_metadata(source, "nobody").found
try:
    client.publish_metadata(p2p_pb2.SourceIdentity(), worker, "0a1b2c3d")
except RuntimeError as error:
    assert "model_name" in str(error), error
else:
    raise AssertionError("an identity without a name was accepted")
assert client.update_status(source, "0a1b2c3d", 0, p2p_pb2.SOURCE_STATUS_STALE)
assert not client.list_sources(identity, READY).instances
assert len(client.list_sources().instances) == 1
client.close()
print("done")
"""


def test_the_published_client_publishes_lists_gets_and_updates(
    published_python: str, server: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [published_python, "-c", CLIENT, server], capture_output=True, cwd=tmp_path, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"done\n"), done.stderr.decode()
