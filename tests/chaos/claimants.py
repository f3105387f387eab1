"""Processes that claim models in one SQLite file, die at any moment and take over from the dead.

claimants.py DATABASE LOG_FOLDER PROCESSES SECONDS SEED

The nursery keeps so many processes alive and kills them at random; each also kills itself now and
then in the middle of its work, or sleeps until its claim has expired and goes on as if nothing
had happened. Everything a process does is a line in its log before it is done, and another one
with the answer: lines are written at once, so that they outlive the process.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mx.core.model import Claim, EntryKey, EntryStatus, ModelRecord
from mx.core.transitions import BackingOff, Held, Ready, Won
from mx.errors import UnavailableError
from mx.store.sqlite import SqliteModelStore
from mx.testing.samples import model_key

T = TypeVar("T")

LEASE_S = 0.3
STABLE = tuple(model_key(f"org/stable-{number}") for number in range(6))
DELETED = tuple(model_key(f"org/deleted-{number}") for number in range(2))
KILLS_PER_S = 15.0


def now_ms() -> int:
    """One clock for all processes of a machine, which nobody sets."""
    return time.monotonic_ns() // 1_000_000


class Claimant:
    """One process's life."""

    def __init__(self, store: SqliteModelStore, log: int, owner: str, random_: random.Random) -> None:
        self._store = store
        self._log = log
        self._owner = owner
        self._random = random_
        self._count = 0

    async def live(self, end: float) -> None:
        while time.monotonic() < end:
            try:
                await self._step(self._random.choice((*STABLE, *DELETED)))
            except UnavailableError as error:
                self._write({"unavailable": str(error)})

    async def _step(self, key: EntryKey) -> None:
        force = self._chance(0.5)
        match await self._take(key, force=force):
            case Won(record=record, claim=claim):
                await self._work(key, claim, record.bytes_done)
            case Ready(record=record):
                await self._use(key, record)
            case Held() | BackingOff():
                if key in DELETED and self._chance(0.02):
                    await self._do("delete", key, self._store.delete(key))
                await asyncio.sleep(self._random.uniform(0, 0.04))

    async def _take(self, key: EntryKey, *, force: bool) -> Won | Held | Ready | BackingOff:
        at = now_ms()
        begun = self._begin("claim", key, at=at)
        self._perhaps_die_in_it()
        answer = await self._store.claim(key, owner=self._owner, lease_s=LEASE_S, now_ms=at, force=force)
        if isinstance(answer, Won):
            self._end(begun, ok=True, token=answer.claim.token, expires=answer.claim.expires_at_ms)
        else:
            self._end(begun, ok=False)
        return answer

    async def _work(self, key: EntryKey, claim: Claim, done: int) -> None:
        for part in range(self._random.randrange(5)):
            await self._pause()
            renewed = await self._do(
                "refresh",
                key,
                self._store.refresh(
                    key,
                    claim,
                    lease_s=LEASE_S,
                    now_ms=now_ms(),
                    bytes_done=done + part + 1,
                    bytes_total=9,
                    files=1,
                ),
                claim,
            )
            if renewed is None:
                return
            claim = renewed
        await self._pause()
        if self._chance(0.1):
            await self._do("release", key, self._store.release(key, claim, now_ms=now_ms()), claim)
        else:
            await self._finish(key, claim, EntryStatus.ERROR if self._chance(0.3) else EntryStatus.DOWNLOADED)

    async def _finish(self, key: EntryKey, claim: Claim, status: EntryStatus) -> None:
        call = self._store.finish(
            key,
            claim,
            status=status,
            message="",
            bytes_on_disk=4096,
            files=1,
            retry_at_ms=now_ms() + 50,
            now_ms=now_ms(),
        )
        await self._do("finish", key, call, claim, status=status)

    async def _use(self, key: EntryKey, record: ModelRecord) -> None:
        if self._chance(0.3):
            await self._store.touch([key], now_ms=now_ms())
        elif self._chance(0.3):
            gone = replace(record, status=EntryStatus.ERROR, message="files are gone")
            await self._do("put", key, self._store.put(gone, observed=record))
        elif self._chance(0.5):
            await self._evict(key, record)
        else:
            await asyncio.sleep(self._random.uniform(0, 0.04))

    async def _evict(self, key: EntryKey, record: ModelRecord) -> None:
        at = now_ms()
        begun = self._begin("claim", key, at=at)
        claim = await self._store.mark_evicting(
            key, observed=record, now_ms=at, owner=self._owner, lease_s=LEASE_S
        )
        if claim is None:
            self._end(begun, ok=False)
            return
        self._end(begun, ok=True, token=claim.token, expires=claim.expires_at_ms)
        await self._pause()
        if key in DELETED:
            await self._do("delete by token", key, self._store.delete(key, token=claim.token), claim)
        else:
            await self._finish(key, claim, EntryStatus.ERROR)

    async def _pause(self) -> None:
        """Work, die, or sleep through the own claim."""
        if self._chance(0.04):
            os.kill(os.getpid(), signal.SIGKILL)
        late = self._chance(0.08)
        await asyncio.sleep(LEASE_S * 1.5 if late else self._random.uniform(0, 0.05))

    def _perhaps_die_in_it(self) -> None:
        """The loop is free while the store's thread writes: that is when this strikes."""
        if self._chance(0.02):
            loop = asyncio.get_running_loop()
            loop.call_later(self._random.uniform(0, 0.004), os.kill, os.getpid(), signal.SIGKILL)

    async def _do(
        self, what: str, key: EntryKey, call: Awaitable[T], claim: Claim | None = None, **more: object
    ) -> T:
        begun = self._begin(what, key, token=claim.token if claim else None, **more)
        self._perhaps_die_in_it()
        answer = await call
        self._end(begun, ok=bool(answer), expires=getattr(answer, "expires_at_ms", None))
        return answer

    def _begin(self, what: str, key: EntryKey, **more: object) -> int:
        self._count += 1
        self._write(
            {"begin": self._count, "what": what, "key": key.name, "time": time.monotonic_ns(), **more}
        )
        return self._count

    def _end(self, begun: int, **more: object) -> None:
        self._write({"end": begun, "time": time.monotonic_ns(), **more})

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._log, json.dumps(line).encode() + b"\n")

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability


async def claimant(database: Path, log: Path, seed: str, end: float) -> None:
    store = await SqliteModelStore.open(database)
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        await Claimant(store, descriptor, log.stem, random.Random(seed)).live(end)
    finally:
        await store.close()


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def nursery(database: Path, logs: Path, processes: int, seconds: float, seed: str) -> None:
    """Forks, for a new interpreter per death would leave no time for anything else."""
    draw = random.Random(seed)
    end = time.monotonic() + seconds
    next_kill = time.monotonic() + 1
    born = killed = 0
    alive: set[int] = set()
    while alive or time.monotonic() < end:
        while len(alive) < processes and time.monotonic() < end:
            born += 1
            child = os.fork()
            if child == 0:
                die_with_parent()
                status = 1
                try:
                    asyncio.run(claimant(database, logs / f"{born:05}.jsonl", f"{seed}-{born}", end))
                    status = 0
                finally:
                    sys.stderr.flush()
                    os._exit(status)
            alive.add(child)
        if time.monotonic() > next_kill and time.monotonic() < end:
            next_kill += draw.expovariate(KILLS_PER_S)
            os.kill(draw.choice(sorted(alive)), signal.SIGKILL)
            killed += 1
        child, status = os.waitpid(-1, os.WNOHANG) if alive else (0, 0)
        if child == 0:
            time.sleep(0.002)
            continue
        alive.discard(child)
        if status not in (0, signal.SIGKILL):
            sys.exit(f"a process ended with status {status}")
    print(json.dumps({"born": born, "killed": killed}), flush=True)


if __name__ == "__main__":
    die_with_parent()
    nursery(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
