"""One replica of the demo: ``python -m mx.demo.replica``, told what to do by one JSON argument.

It speaks JSON lines on stdout and serves until its stdin is closed.

    {"event": "state", "state": "loading" | "pulling" | "comparing" | "serving", "done": …, "total": …}
    {"event": "loaded", …a row of the report…}
    {"event": "failed", "code": …, "message": …, "remedy": …}
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mx.core.transfer import Strategy
from mx.demo import checkpoint
from mx.errors import IntegrityError, MxError, UnavailableError

if TYPE_CHECKING:
    from mx.transfer.engine import TransferEngine
    from mx.transfer.outcome import LocalTensors

PUBLISH_S = 30.0
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Task:
    """What a replica is told. ``from_disk``: load the files instead of asking peers."""

    name: str
    server: str
    directory: str
    model_name: str
    from_disk: bool


def say(event: str, **fields: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def main() -> int:
    # A demo that is killed leaves no replica behind.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the demo, which ends its replicas
    try:
        run(Task(**json.loads(sys.argv[1])))
    except MxError as error:
        say("failed", code=error.code.value, message=error.message, remedy=error.remedy)
        return error.exit_code
    return 0


def run(task: Task) -> None:
    from mx.client.sync import SyncClient
    from mx.config import load_settings
    from mx.core.source import SourceIdentity
    from mx.transfer.engine import TransferEngine
    from mx.transfer.outcome import LocalTensors
    from mx.wire.roles import WORKER

    settings = load_settings(
        flags={
            "worker.server_address": task.server,
            "worker.host": "127.0.0.1",
            "worker.metadata_port": 0,
            "worker.grpc_port": 0,
        },
        scope="worker",
    )
    client = SyncClient(task.server, role=WORKER)
    identity = SourceIdentity(model_name=task.model_name, mx_version="mx-demo", dtype="bfloat16")
    engine = TransferEngine(settings, client=client, identity=identity, worker_rank=0, worker_id=task.name)
    try:
        say("state", state="starting", done=0, total=0)
        engine.prefetch()
        stored = checkpoint.read_headers(Path(task.directory))
        memory = checkpoint.allocate(stored)
        local = LocalTensors(memory.tensors, memory.mapping)
        row = _load(task, stored, memory) if task.from_disk else _pull(task, engine, local)
        say("state", state="comparing", done=row["bytes"], total=row["bytes"])
        different = checkpoint.differing(stored, memory)
        if different:
            raise IntegrityError(
                f"{task.name}: {len(different)} tensors differ from the file, first {different[0]}"
            )
        engine.publish(local)
        if not engine.wait_published(PUBLISH_S):
            raise UnavailableError(
                f"{task.name}: the server did not take the publication within {PUBLISH_S:g} s"
            )
        if task.from_disk:
            engine.report_files(
                Strategy.DISK, bytes_total=row["bytes"], seconds=row["seconds"], reason="first replica"
            )
        say("loaded", **{**row, "tensors": len(stored)})
        sys.stdin.read()  # until the demo closes it
    finally:
        engine.close()
        client.close()


def _load(
    task: Task, stored: tuple[checkpoint.StoredTensor, ...], memory: checkpoint.Memory
) -> dict[str, Any]:
    total = sum(tensor.size for tensor in stored)
    started = said = time.monotonic()

    def progress(done: int) -> None:
        nonlocal said
        if time.monotonic() - said > 0.1:
            said = time.monotonic()
            say("state", state="loading", done=done, total=total)

    checkpoint.load(stored, memory, progress)
    seconds = time.monotonic() - started
    return {
        "name": task.name,
        "strategy": "disk",
        "bytes": total,
        "verified": True,
        "seconds": seconds,
        "gbit_s": total * 8 / seconds / 1e9,
        "stages_s": {"load": seconds},
        "segments": 0,
        "sources": [],
    }


def _pull(task: Task, engine: TransferEngine, local: LocalTensors) -> dict[str, Any]:
    from mx.transfer.outcome import Failed, Loaded, Skipped

    say("state", state="pulling", done=0, total=sum(t.size for t in local.descriptors))
    match engine.pull(
        local, on_progress=lambda done, total: say("state", state="pulling", done=done, total=total)
    ):
        case Loaded(report):
            return {
                "name": task.name,
                "strategy": "peer",
                "bytes": report.bytes_done,
                "verified": report.verified,
                "seconds": report.seconds,
                "gbit_s": report.gbit_s,
                "stages_s": dict(report.stages_s),
                "segments": report.segments,
                "segments_reread": report.segments_reread,
                "verify_cpu_s": report.verify_cpu_s,
                "sources": [asdict(share) for share in report.sources],
            }
        case Skipped(reason) | Failed(reason):
            raise UnavailableError(f"{task.name}: the pull failed: {reason}")


if __name__ == "__main__":
    sys.exit(main())
