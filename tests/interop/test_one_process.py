"""mx and the published package imported and used in one process, in either order of import."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

# Python names the directory of a script, not that of -c: the tests' own modules come by argument.
PROGRAM = """
import os, sys
server, folder, order = sys.argv[1:]
sys.path.insert(0, folder)
if order == "mx-first":
    import mx.wire.v1.p2p, mx.wire.v1.model, mx.transfer.engine
    import modelexpress.client, modelexpress.model_client
else:
    import modelexpress.client, modelexpress.model_client
    import mx.wire.v1.p2p, mx.wire.v1.model, mx.transfer.engine
from modelexpress import p2p_pb2 as theirs, MxClient
from mx.wire.v1 import p2p as ours
import published_worker, interop_support
from mx.client.sync import SyncClient
from mx.core.source import SourceFilter, SourceStatus
from mx.transfer.outcome import Loaded

# Two classes of one message, the same bytes.
assert theirs.SourceIdentity is not ours.SourceIdentity
fields = dict(mx_version="0.7.0", model_name="org/Modèle", dtype="bfloat16", extra_parameters={"a": "b"})
bytes_ = theirs.SourceIdentity(**fields).SerializeToString()
assert ours.SourceIdentity(**fields).SerializeToString() == bytes_
assert ours.SourceIdentity.FromString(bytes_).model_name == "org/Modèle"

ROWS = [("a", "torch.bfloat16", 300_000), ("b", "torch.uint8", 4097)]
def until_ready(*workers):
    listed = lambda: {row.worker_id for row in interop_support.ready_rows(server)}
    interop_support.until(lambda: listed() == set(workers), what=f"{workers} are READY")

os.environ["MX_METADATA_PORT"] = str(interop_support.free_port())
task = dict(model=interop_support.MODEL, tensors=ROWS)
source = published_worker.Worker(task | dict(worker_id="aaaa0001", seed=1))
source.publish()
until_ready("aaaa0001")
mine = interop_support.Tensors(ROWS)
engine = interop_support.mx_engine(server, worker_id="bbbb0001")
outcome = engine.pull(mine.local)
assert isinstance(outcome, Loaded), outcome
assert mine.digests() == source.digest()["digests"]
source.withdraw()
source.leave()

engine.publish(mine.local)
until_ready("bbbb0001")
(row,) = MxClient(server).list_sources(source.context.identity, theirs.SOURCE_STATUS_READY).instances
assert row.worker_id == "bbbb0001"
os.environ["MX_METADATA_PORT"] = str(interop_support.free_port())
target = published_worker.Worker(task | dict(worker_id="cccc0001"))
answer = target.pull()
assert "seconds" in answer, answer
assert target.digest()["digests"] == mine.digests()
target.leave()
engine.close()
sys.stderr.write("both\\n")
"""


@pytest.mark.parametrize("order", ["mx-first", "modelexpress-first"])
def test_both_packages_publish_and_pull_in_one_process(
    published_python: str, server: str, order: str
) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
        "MX_SERVER_ADDRESS": server,
        "MX_WORKER_HOST": "127.0.0.1",
        "MX_WORKER_GRPC_PORT": "0",
        "MX_HEARTBEAT_INTERVAL_SECS": "1",
    }
    done = subprocess.run(
        [published_python, "-c", PROGRAM, server, str(Path(__file__).parent), order],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("both\n"), done.stderr
