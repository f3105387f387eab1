"""A process that receives one model: ``JSON`` with address, name, cache, and fields of ReceiveRules.

Prints a JSON line for each update, and one with how it ended.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from mx.client.receive import ReceiveRules, receive_blocking
from mx.client.receive.plan import SpanRules
from mx.client.sync import SyncClient
from mx.core.model import ModelRef, ProviderName
from mx.core.progress import EnsureUpdate
from mx.errors import MxError
from mx.providers.cache import open_cache

MIB = 1 << 20
_LOCK = threading.Lock()


def say(**fields: object) -> None:
    with _LOCK:
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()


def tell(update: EnsureUpdate) -> None:
    say(event="update", message=update.message, bytes_done=update.bytes_done)


def main(task: dict[str, Any]) -> None:
    rules = ReceiveRules(
        connections=2,
        first_pause_s=0.05,
        pause_max_s=0.3,
        poll_s=0.1,
        report_s=0.05,
        spans=SpanRules(least_bytes=MIB // 4, most_bytes=2 * MIB, helper_bytes=MIB // 2),
        **task.get("rules", {}),
    )
    ref = ModelRef(ProviderName(task.get("provider", "hugging-face")), task["name"])
    with SyncClient(task["address"], timeout_s=5) as client:
        try:
            entry = receive_blocking(
                client,
                ref,
                cache=open_cache(Path(task["cache"])),
                weights=task.get("weights", True),
                told=tell,
                rules=rules,
            )
        except MxError as error:
            say(event="failed", code=error.code.value, message=str(error))
        else:
            say(event="received", root=str(entry.root), bytes=entry.total_bytes)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
