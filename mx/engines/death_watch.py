"""Withdraws a worker's source when the worker is gone, however it went.

Engines kill their workers without notice: vLLM's default on SIGTERM is SIGKILL for the whole tree
a moment later, and no exit hook runs. So a small process outside that tree watches the worker
and withdraws in its place, a few milliseconds after its death. It ends with the worker, holds no
weights and costs no time while it waits. Heartbeats still cover the loss of a whole host.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from mx.config import Settings
from mx.core.source import WorkerKey
from mx.errors import MxError

log = logging.getLogger(__name__)

_STARTED = b"+"
_START_S = 10.0
_CALL_S = 5.0


def start_death_watch(settings: Settings, key: WorkerKey) -> None:
    """Watch this process from now on. A failure to start is logged: heartbeats expire instead."""
    order = {
        "pid": os.getpid(),
        "address": settings.worker.server_address,
        "token_path": str(settings.client.auth_token_path),
        "key": [key.source_id, key.worker_id, key.worker_rank],
    }
    try:
        # The child leaves our process group and our tree, and ends before this returns; what goes on
        # is its own child. It hears of our end by the process descriptor, not by an inherited pipe.
        done = subprocess.run(
            [sys.executable, "-m", "mx.engines.death_watch"],
            input=json.dumps(order).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=_START_S,
            check=False,
        )
        if done.stdout != _STARTED:
            log.warning(
                "no death watch for this worker: a killed worker stays listed until its heartbeat expires"
            )
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("no death watch for this worker: %s", error)


def _main() -> None:
    order: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    watched = os.pidfd_open(order["pid"])
    if os.fork():
        os._exit(0)
    os.write(1, _STARTED)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.chdir("/")
    os.nice(10)
    source_id, worker_id, rank = order["key"]
    _wait(watched, WorkerKey(source_id, worker_id, rank), order["address"], Path(order["token_path"]))


def _wait(watched: int, key: WorkerKey, address: str, token_path: Path) -> None:
    # Imported before the wait: at the end every millisecond is one in which peers try a dead source.
    from mx.client.sync import SyncClient
    from mx.client.token import TokenFile
    from mx.wire.roles import WORKER

    with SyncClient(
        address, timeout_s=_CALL_S, max_retries=3, token=TokenFile(token_path), role=WORKER
    ) as client:
        select.select([watched], [], [])
        # Nobody reads what this process says; the record expires by itself.
        with contextlib.suppress(MxError):
            client.withdraw(key)


if __name__ == "__main__":
    _main()
