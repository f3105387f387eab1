"""The main job with vLLM, for a person: ``python -m mx.engines.vllm.demo`` (``make demo-vllm``).

An mx server and three ``vllm serve --load-format mx``. The first loads from disk; the second takes
its weights from the first; then the first is killed and the third takes its weights from the
second. All must answer with the same tokens. Exit code 0 only when they do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mx.client.sync import SyncClient
from mx.core.source import SourceFilter, SourceStatus
from mx.core.transfer import Strategy, TransferReport
from mx.engines.vllm.replica import Replica, free_port
from mx.errors import DeadlineError, MxError, UnavailableError
from mx.wire.roles import WORKER

PROMPT = "The capital of France is"
_READY_S = 300.0
_LISTED_S = 15.0
# Whoever runs this from a checkout gets a model made; an installed package needs --model.
_MODEL_MAKER = Path(__file__).resolve().parents[3] / "scripts" / "vllm_model.py"


@dataclass(frozen=True, slots=True)
class Served:
    """What one replica did."""

    name: str
    strategy: str
    bytes: int
    load_s: float
    gbit_s: float
    verified: bool
    sources: tuple[str, ...]
    ready_s: float
    reason: str
    text: str
    token_ids: tuple[int, ...]


class Show:
    """Runs the replicas one after another and tells what happens on ``console``."""

    def __init__(self, model: Path, folder: Path, console: Console) -> None:
        self._model = model
        self._folder = folder
        self._console = console
        self._address = f"127.0.0.1:{free_port()}"
        self._client = SyncClient(self._address, timeout_s=10, max_retries=60, retry_delay_s=0.2, role=WORKER)

    def run(self) -> tuple[Served, ...]:
        """Raises an MxError when a replica does not start or is not listed."""
        self._say(f"model {self._model}, prompt {PROMPT!r}, logs in {self._folder}")
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._client)
            stack.enter_context(self._server())
            first = stack.enter_context(self._replica("replica-1"))
            served = [self._watch(first, listed=1)]
            second = stack.enter_context(self._replica("replica-2"))
            served.append(self._watch(second, listed=2))
            first.kill()
            gone_s = self._wait_listed(1)
            self._say(f"replica-1 killed with SIGKILL; the server knew after {gone_s:.2f} s")
            third = stack.enter_context(self._replica("replica-3"))
            served.append(self._watch(third, listed=2))
        return tuple(served)

    @contextlib.contextmanager
    def _server(self) -> Iterator[None]:
        port = self._address.rpartition(":")[2]
        command = [sys.executable, "-m", "mx", "server", "start", "--host", "127.0.0.1", "--port", port]
        with (self._folder / "server.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--metadata-backend", "memory"], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            version = self._client.health().version
            self._say(f"mx server {version} on {self._address}")
            yield
        finally:
            process.terminate()
            process.wait(30)

    def _replica(self, name: str) -> Replica:
        environment = {"MODEL_EXPRESS_URL": self._address}
        return Replica(name, self._model, log=self._folder / f"{name}.log", environment=environment)

    def _watch(self, replica: Replica, *, listed: int) -> Served:
        known = {report.transfer_id for report in self._client.list_transfers()}
        with self._console.status(f"{replica.name} starts (vllm serve --load-format mx)"):
            ready_s = replica.wait_ready(timeout_s=_READY_S)
            text, token_ids = replica.complete(PROMPT)
            self._wait_listed(listed)
        reports = [report for report in self._client.list_transfers() if report.transfer_id not in known]
        if not reports:
            raise UnavailableError(f"{replica.name} told the server nothing:\n{replica.tail()}")
        served = _served(replica.name, reports[0], ready_s, text, token_ids)
        for line in replica.loaded():
            self._say(f"{replica.name}: {line}")
        self._say(f"{replica.name} answers: {PROMPT}{text.splitlines()[0] if text else ''}")
        return served

    def _wait_listed(self, count: int) -> float:
        started = time.monotonic()
        query = SourceFilter(status=SourceStatus.READY)
        while len(self._client.list_sources(query)) != count:
            if time.monotonic() - started > _LISTED_S:
                raise DeadlineError(f"the server does not list {count} ready workers after {_LISTED_S:.0f} s")
            time.sleep(0.05)
        return time.monotonic() - started

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _served(
    name: str, report: TransferReport, ready_s: float, text: str, token_ids: tuple[int, ...]
) -> Served:
    return Served(
        name=name,
        strategy=report.strategy.value,
        bytes=report.bytes_done,
        load_s=report.seconds,
        gbit_s=report.gbit_s,
        verified=report.verified,
        sources=tuple(share.worker_id for share in report.sources if share.bytes),
        ready_s=ready_s,
        reason=report.reason,
        text=text,
        token_ids=token_ids,
    )


def table_of(served: tuple[Served, ...]) -> Table:
    """The report for a person."""
    table = Table(box=None, pad_edge=False)
    for column in ("REPLICA", "WEIGHTS FROM", "MIB", "LOAD S", "GBIT/S", "VERIFIED", "READY S", "WHY"):
        table.add_column(
            column, justify="right" if column in {"MIB", "LOAD S", "GBIT/S", "READY S"} else "left"
        )
    for row in served:
        origin = f"peer {', '.join(row.sources)}" if row.strategy == Strategy.PEER else row.strategy
        table.add_row(
            row.name,
            origin,
            f"{row.bytes / 2**20:.1f}",
            f"{row.load_s:.2f}",
            f"{row.gbit_s:.1f}",
            "yes" if row.verified else "-",
            f"{row.ready_s:.0f}",
            row.reason,
        )
    return table


def as_document(served: tuple[Served, ...]) -> dict[str, Any]:
    """The report for a program."""
    return {"verified": is_right(served), "replicas": [asdict(row) for row in served]}


def is_right(served: tuple[Served, ...]) -> bool:
    """One from disk, the others from peers and verified, and all with the same tokens."""
    strategies = [row.strategy for row in served]
    return (
        strategies == [Strategy.DISK, Strategy.PEER, Strategy.PEER]
        and all(row.verified for row in served[1:])
        and len({row.token_ids for row in served}) == 1
    )


def _make_model() -> Path:
    if not _MODEL_MAKER.is_file():
        raise UnavailableError("no model given", remedy="name a model folder with --model")
    done = subprocess.run(
        [sys.executable, str(_MODEL_MAKER), "any"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise UnavailableError("no model can be made here", remedy="name a model folder with --model")
    return Path(done.stdout.strip().splitlines()[-1])


def main() -> int:
    """Run the show; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mx.engines.vllm.demo", description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a model; default: a small one is made")
    parser.add_argument("--format", choices=("human", "json"), default="human")
    chosen = parser.parse_args()
    talk = Console(stderr=True)
    try:
        model = (chosen.model or _make_model()).absolute()
        folder = Path(tempfile.mkdtemp(prefix="mx-demo-vllm-"))
        served = Show(model, folder, talk).run()
    except MxError as error:
        talk.print(f"error: {error}", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if chosen.format == "json":
        sys.stdout.write(json.dumps(as_document(served)) + os.linesep)
    else:
        Console(width=None if sys.stdout.isatty() else 140).print(table_of(served))
        verdict = "same tokens from all" if is_right(served) else "NOT as it should be: see the logs above"
        sys.stdout.write(f"{verdict}\n")
    return 0 if is_right(served) else 7


if __name__ == "__main__":
    sys.exit(main())
