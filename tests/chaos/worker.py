"""A worker process for fault tests: one TransferEngine over NIXL, told what to do line by line.

    python tests/chaos/worker.py '{"name": "a", "server": "127.0.0.1:8001", "sizes": [4096], …}'

Commands are JSON lines on stdin, answers JSON lines on stdout, one per command:

    {"do": "publish"}                  {"event": "published", "ready": bool, "port": int}
    {"do": "pull", "hold_at": 0.3}     {"event": "holding", "posted": …}   with 30 % asked for, see Hold
                                       {"event": "outcome", "kind": "Loaded", …}
    {"do": "go"}                       ends the hold
    {"do": "content"}                  {"event": "content", "wrong": …, "untouched": …}
    {"do": "flip", "at": 12345}        {"event": "flipped"}
    {"do": "clear"}                    {"event": "cleared"}   every byte is zero now
    {"do": "close"}, SIGTERM, or the end of stdin: withdraw and exit 0, {"event": "closed", "seconds": …}

Memory is one mapping; tensor i lies behind tensor i - 1 with a gap, and its content follows from
its position and the seed, so that any swapped, shifted or torn range differs.
"""

from __future__ import annotations

import ctypes
import json
import logging
import mmap
import queue
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy

from mx.config import load_settings
from mx.core.source import SourceIdentity
from mx.core.tensors import Extents, TensorDescriptor
from mx.engines.discovery import connect
from mx.errors import MxError
from mx.transfer.digests import XXH3, host_digest
from mx.transfer.engine import TransferEngine
from mx.transfer.nixl import NixlBackend
from mx.transfer.outcome import Failed, Loaded, LocalTensors, Outcome, Skipped

PR_SET_PDEATHSIG = 1
GAP_BYTES = 64
CHUNK_WORDS = 1 << 20
PUBLISH_S = 60.0
HOLD_S = 120.0


@dataclass(frozen=True)
class Task:
    """``change`` alters what the last tensor is said to be: missing, size or dtype.

    ``digest_s`` makes each digest take so much longer.
    ``count`` counts the bytes of every read that is posted; a pull can only be held with it.
    """

    name: str
    server: str
    sizes: list[int]
    filled: bool
    flags: dict[str, Any] = field(default_factory=dict)
    change: str = ""
    count: bool = False
    digest_s: float = 0.0
    model: str = "org/chaos"
    seed: int = 1


def say(event: str, **fields: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


class Memory:
    """The tensors. ``filled`` writes the pattern; otherwise the pages stay zero."""

    def __init__(self, task: Task) -> None:
        self._sizes = task.sizes
        self._seed = task.seed
        length = sum(task.sizes) + GAP_BYTES * len(task.sizes)
        self.mapping = mmap.mmap(-1, max(length, 8))
        self.addr = ctypes.addressof(ctypes.c_char.from_buffer(self.mapping))
        self.words = numpy.frombuffer(self.mapping, dtype=numpy.uint64, count=length // 8)
        if task.filled:
            for first, last, pattern in self._pattern():
                self.words[first:last] = pattern
        rows, at = [], self.addr
        for index, size in enumerate(task.sizes):
            rows.append(TensorDescriptor(f"layers.{index}.weight", at, size, 0, "torch.bfloat16"))
            at += size + GAP_BYTES
        self.rows = tuple(rows)

    def _pattern(self) -> Any:
        """(first word, last word, content) in chunks; odd multiplier, so no word occurs twice."""
        for first in range(0, len(self.words), CHUNK_WORDS):
            last = min(first + CHUNK_WORDS, len(self.words))
            at: Any = numpy.arange(first, last, dtype=numpy.uint64)
            yield first, last, (at + numpy.uint64(self._seed)) * numpy.uint64(0x9E3779B97F4A7C15)

    def wrong_words(self) -> tuple[int, bool]:
        """Words of tensors that differ from the pattern, and whether every word is zero."""
        wanted: Any = numpy.ones(len(self.words), dtype=bool)
        at = 0
        for size in self._sizes:
            at += size
            wanted[at // 8 : (at + GAP_BYTES) // 8] = False
            at += GAP_BYTES
        wrong = sum(
            int(numpy.count_nonzero((self.words[first:last] != pattern) & wanted[first:last]))
            for first, last, pattern in self._pattern()
        )
        return wrong, not self.words.any()


@dataclass
class Hold:
    """Stops a pull before a read: the first to ``source`` (or any) after ``at_bytes`` were asked for.

    Nothing is read before ``sources`` are connected, so that all of them take part.
    """

    at_bytes: int
    source: str = ""
    sources: int = 1


class CountingNixl(NixlBackend):
    """Real NIXL; adds up what it was asked to read, by worker, and can be held."""

    posted: Counter[str]
    hold: Hold | None = None
    go: threading.Event
    _joined: threading.Semaphore

    def __init__(self, agent_name: str, *, progress_delay_us: int) -> None:
        self.posted, self.go, self._joined = Counter(), threading.Event(), threading.Semaphore(0)
        super().__init__(agent_name, progress_delay_us=progress_delay_us)

    def connect(self, metadata: bytes) -> str:
        name = super().connect(metadata)
        self._joined.release()
        return name

    def prepare(self, agent_name: str, extents: Extents) -> object:
        name = agent_name.split("-r0-")[0].removeprefix("mx-")
        if self.hold is not None:
            self._wait(self.hold, name)
        self.posted[name] += sum(extents.length)
        return super().prepare(agent_name, extents)

    def _wait(self, hold: Hold, name: str) -> None:
        while hold.sources > 0:
            assert self._joined.acquire(timeout=HOLD_S)
            hold.sources -= 1
        if self.posted.total() >= hold.at_bytes and hold.source in ("", name):
            self.hold = None
            say("holding", posted=self.posted.total(), source=name)
            assert self.go.wait(HOLD_S)


class Worker:
    def __init__(self, task: Task) -> None:
        self._task = task
        flags = {
            "worker.server_address": task.server,
            "worker.host": "127.0.0.1",
            "worker.metadata_port": 0,
            "worker.heartbeat_interval_s": 1,
            "transfer.segment_bytes": 2 << 20,
            "transfer.digest_threads": 1,
        }
        self._settings = load_settings(flags=flags | task.flags, environ={}, scope="worker")
        self._client = connect(self._settings)
        self._nixl: CountingNixl | None = None
        identity = SourceIdentity(model_name=task.model, mx_version="chaos", dtype="bfloat16")
        self._engine = TransferEngine(
            self._settings,
            client=self._client,
            identity=identity,
            worker_rank=0,
            worker_id=task.name,
            backend=self._counting if task.count else None,
            digester=(XXH3, self._slow_digest) if task.digest_s else None,
        )
        self.commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._memory = Memory(task)
        self._local = LocalTensors(self._changed(self._memory.rows), self._memory.mapping)

    def _slow_digest(self, ranges: Sequence[tuple[int, int]]) -> int:
        time.sleep(self._task.digest_s)
        return host_digest(ranges)

    def _counting(self, agent_name: str) -> NixlBackend:
        delay_us = self._settings.transfer.progress_delay_us
        self._nixl = CountingNixl(agent_name, progress_delay_us=delay_us)
        return self._nixl

    def _changed(self, rows: tuple[TensorDescriptor, ...]) -> tuple[TensorDescriptor, ...]:
        *first, last = rows
        match self._task.change:
            case "missing":
                return tuple(first)
            case "size":
                return (*first, TensorDescriptor(last.name, last.addr, last.size - 64, 0, last.dtype))
            case "dtype":
                return (*first, TensorDescriptor(last.name, last.addr, last.size, 0, "torch.float16"))
        return rows

    # --- commands -------------------------------------------------------------------------------
    def listen(self) -> None:
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "go":
                assert self._nixl is not None
                self._nixl.go.set()
            else:
                self.commands.put(command)
        self.commands.put({"do": "close"})

    def run(self) -> None:
        self._engine.wait_started()
        say("started")
        while True:
            match self.commands.get():
                case {"do": "publish", **options}:
                    self._engine.publish(self._local)
                    ready = options.get("wait", True) and self._engine.wait_published(PUBLISH_S)
                    say("published", ready=ready)
                case {"do": "prefetch"}:
                    self._engine.prefetch()
                    say("prefetching")
                case {"do": "pull", **options}:
                    self._pull(**options)
                case {"do": "content"}:
                    wrong, untouched = self._memory.wrong_words()
                    say("content", wrong=wrong, untouched=untouched)
                case {"do": "clear"}:
                    self._memory.words[:] = 0
                    say("cleared")
                case {"do": "flip", "at": int(at)}:
                    self._memory.mapping[at] ^= 1
                    say("flipped")
                case {"do": "close"}:
                    return

    def close(self) -> None:
        begun = time.monotonic()
        self._engine.close()
        self._client.close()
        say("closed", seconds=time.monotonic() - begun)

    def _pull(self, *, hold_at: float = -1, **hold: Any) -> None:
        if self._nixl is not None:
            self._nixl.go.clear()
            self._nixl.hold = Hold(int(hold_at * sum(self._task.sizes)), **hold) if hold_at >= 0 else None
        begun = time.monotonic()
        outcome = self._engine.pull(self._local)
        posted = dict(self._nixl.posted) if self._nixl else {}
        say("outcome", **describe(outcome), seconds=time.monotonic() - begun, posted=posted)


def describe(outcome: Outcome) -> dict[str, object]:
    match outcome:
        case Loaded(report):
            return {
                "kind": "Loaded",
                "verified": report.verified,
                "bytes_done": report.bytes_done,
                "segments": report.segments,
                "segments_reread": report.segments_reread,
                "sources": [asdict(share) for share in report.sources],
                "stages_s": dict(report.stages_s),
            }
        case Skipped(reason):
            return {"kind": "Skipped", "reason": reason}
        case Failed(reason, mutated, blame):
            return {"kind": "Failed", "reason": reason, "mutated": mutated, "blame": blame}


class Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", "")
        return f"{record.relativeCreated / 1000:7.3f} {record.name} {record.getMessage()} {fields}"


def start_log() -> None:
    """What mx says goes to stderr, which a failed test shows."""
    handler = logging.StreamHandler()
    handler.setFormatter(Line())
    logging.getLogger("mx").addHandler(handler)
    logging.getLogger("mx").setLevel(logging.DEBUG)


def main() -> int:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    start_log()
    try:
        worker = Worker(Task(**json.loads(sys.argv[1])))
        signal.signal(signal.SIGTERM, lambda *_: worker.commands.put({"do": "close"}))
        threading.Thread(target=worker.listen, daemon=True).start()
        try:
            worker.run()
        finally:
            worker.close()
    except MxError as error:
        say("error", code=error.code.value, message=error.message)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
