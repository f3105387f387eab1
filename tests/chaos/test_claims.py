"""24 processes claim, die and take over on one SQLite file; then their history is put on trial.

An answer that a process got holds in real time: what ended before something else began also came
before it in the file. What a dead process had begun may have happened or not. See claimants.py.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import secrets
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import claimants
import pytest

from mx.core.model import EntryStatus
from mx.core.transitions import Ready, Won
from mx.store.sqlite import SqliteModelStore

PROCESSES = 24
SECONDS = 60 if os.environ.get("MX_SLOW") == "1" else 15
ROOT = Path(__file__).parents[2]
ENDS = ("finish", "release", "delete by token")


@dataclass(frozen=True)
class Op:
    """One call. ``ok`` is None, and ``end`` never, when its process died before the answer."""

    what: str
    key: str
    begin: float
    end: float = math.inf
    ok: bool | None = None
    token: int | None = None
    expires: int | None = None
    at: int = 0
    status: str = ""


@dataclass
class History:
    ops: list[Op] = field(default_factory=list)
    unavailable: list[str] = field(default_factory=list)

    def select(self, *what: str, ok: bool | None = True) -> list[Op]:
        return [op for op in self.ops if op.what in what and op.ok is ok]


def read_history(logs: Path) -> History:
    history = History()
    for log in sorted(logs.iterdir()):
        open_: dict[int, Op] = {}
        for line in _lines(log):
            if "unavailable" in line:
                history.unavailable.append(line["unavailable"])
            elif "begin" in line:
                known = {name: line[name] for name in ("token", "at", "status") if name in line}
                open_[line["begin"]] = Op(line["what"], line["key"], line["time"], **known)
            else:
                begun = open_.pop(line["end"])
                history.ops.append(
                    replace(
                        begun,
                        end=line["time"],
                        ok=line["ok"],
                        token=line.get("token", begun.token),
                        expires=line.get("expires"),
                    )
                )
        history.ops += open_.values()
    return history


def _lines(log: Path) -> Iterator[dict[str, Any]]:
    for line in log.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):  # the last one may be cut
            yield json.loads(line)


def by_key(ops: Iterable[Op]) -> dict[str, list[Op]]:
    found: dict[str, list[Op]] = defaultdict(list)
    for op in ops:
        found[op.key].append(op)
    return found


# ---- the charges; each returns what is wrong -----------------------------------------------------------


def tokens_that_do_not_grow(history: History) -> list[str]:
    wrong: list[str] = []
    wins = sorted(history.select("claim"), key=lambda op: op.token or 0)
    wrong += [f"token {token} was given {n} times" for token, n in _count(wins).items() if n > 1]
    latest: Op | None = None  # the one of the smaller tokens that began last
    for win in wins:
        if latest is not None and win.end < latest.begin:
            wrong.append(f"{win} came before {latest}")
        if latest is None or win.begin > latest.begin:
            latest = win
    return wrong


def late_owners_that_were_heard(history: History) -> list[str]:
    """A claim's owner was answered yes after somebody else had won."""
    wins = by_key(history.select("claim"))
    wrong = []
    for op in history.select("refresh", *ENDS):
        later = [w for w in wins[op.key] if (w.token or 0) > (op.token or 0) and w.end < op.begin]
        wrong += [f"{op} though {win}" for win in later[:1]]
    return wrong


def claims_that_ended_twice(history: History) -> list[str]:
    return [f"token {token} ended {n} times" for token, n in _count(history.select(*ENDS)).items() if n > 1]


def double_owners(history: History) -> list[str]:
    """A claim was won while its last owner neither had ended it nor let it expire."""
    given = {op.token for op in history.select("claim")}
    wrong = []
    for key, wins in by_key(history.select("claim")).items():
        ops = [op for op in history.ops if op.key == key]
        wins.sort(key=lambda op: op.token or 0)
        for before, after in itertools.pairwise(wins):
            if after.at < _expiry(before, after, ops) and not _may_have_ended(before, after, ops, given):
                wrong.append(f"{after} though {before}")
    return wrong


def _expiry(before: Op, after: Op, ops: list[Op]) -> int:
    """When the claim was to end by all its owner had been told before the next one asked."""
    told = [
        op.expires or 0
        for op in ops
        if op.what == "refresh" and op.ok and op.token == before.token and op.end < after.begin
    ]
    return max([before.expires or 0, *told])


def _may_have_ended(before: Op, after: Op, ops: list[Op], given: set[int | None]) -> bool:
    for op in ops:
        if op.ok is False or op.begin > after.end:
            continue
        if op.what in ENDS and op.token == before.token:
            return True
        if op.what == "delete" and op.end > before.begin:
            return True
    # A process that died before it heard of its claim may have had one in between, and ended it.
    unheard = any(number not in given for number in range((before.token or 0) + 1, after.token or 0))
    return unheard and any(op.what == "claim" and op.ok is None and op.end > before.begin for op in ops)


def _count(ops: list[Op]) -> Counter[int | None]:
    return Counter(op.token for op in ops)


def takeovers(history: History) -> int:
    """Claims won from an owner who had said nothing any more."""
    ended = {op.token for op in history.ops if op.what in ENDS and op.ok is not False}
    return sum(
        before.token not in ended
        for wins in by_key(history.select("claim")).values()
        for before in sorted(wins, key=lambda op: op.token or 0)[:-1]
    )


# ---- the court can tell right from wrong ---------------------------------------------------------------

_WIN = Op("claim", "k", begin=10, end=11, ok=True, token=1, at=10, expires=40)
_NEXT = replace(_WIN, begin=50, end=51, token=2, at=50, expires=80)
_FINISH = Op("finish", "k", begin=20, end=21, ok=True, token=1)


@pytest.mark.parametrize(
    ("charge", "right", "wrong"),
    [
        (tokens_that_do_not_grow, [_WIN, _NEXT], [_WIN, replace(_NEXT, token=1)]),
        (tokens_that_do_not_grow, [_WIN, _NEXT], [replace(_WIN, token=3), _NEXT]),
        (late_owners_that_were_heard, [_WIN, _NEXT, _FINISH], [_WIN, _NEXT, replace(_FINISH, begin=52)]),
        (claims_that_ended_twice, [_WIN, _FINISH], [_WIN, _FINISH, replace(_FINISH, what="release")]),
        (double_owners, [_WIN, _NEXT], [_WIN, replace(_NEXT, at=39)]),
        (double_owners, [_WIN, replace(_NEXT, at=39), _FINISH], [_WIN, replace(_NEXT, at=39)]),
        (
            double_owners,
            [_WIN, replace(_NEXT, token=3, at=39), Op("claim", "k", begin=12)],
            [_WIN, replace(_NEXT, token=2, at=39), Op("claim", "k", begin=12)],
        ),
        (
            double_owners,
            [_WIN, _NEXT, Op("refresh", "k", begin=30, end=31, ok=True, token=1, expires=49)],
            [_WIN, _NEXT, Op("refresh", "k", begin=30, end=31, ok=True, token=1, expires=60)],
        ),
    ],
)
def test_the_trial_finds_the_guilty_and_spares_the_others(
    charge: Any, right: list[Op], wrong: list[Op]
) -> None:
    assert charge(History(right)) == []
    assert charge(History(wrong)) != []


# ---- the trial -----------------------------------------------------------------------------------------


async def test_claims_are_exclusive_over_processes_that_die(tmp_path: Path) -> None:
    database, logs = tmp_path / "models.db", tmp_path / "logs"
    logs.mkdir()
    seed = os.environ.get("MX_CHAOS_SEED") or secrets.token_hex(4)
    command = [sys.executable, claimants.__file__, database, logs, PROCESSES, SECONDS, seed]
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=SECONDS + 120,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr[-2000:]}"
    history = read_history(logs)
    for charge in (
        tokens_that_do_not_grow,
        late_owners_that_were_heard,
        claims_that_ended_twice,
        double_owners,
    ):
        assert charge(history) == [], f"seed {seed}"
    assert len(history.unavailable) < len(history.ops) / 100, history.unavailable[:3]

    # It was no walk in the park.
    seen = {
        "killed by the nursery": json.loads(done.stdout)["killed"],
        "won": len(history.select("claim")),
        "taken over": takeovers(history),
        "late and refused": len(history.select("refresh", "finish", ok=False)),
        "died in a call": len([op for op in history.ops if op.ok is None]),
        "removed": len(history.select("delete", "delete by token")),
    }
    print(seen)
    assert min(seen.values()) >= 10, str(seen)
    await no_entry_is_lost_or_stuck(database, history)


async def no_entry_is_lost_or_stuck(database: Path, history: History) -> None:
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    store = await SqliteModelStore.open(database)
    try:
        records = {record.key.name: record for record in await store.list_models()}
        stable = {key.name for key in claimants.STABLE}
        assert {op.key for op in history.select("claim")} & stable <= set(records)
        for name, status in last_words(history).items():
            assert records[name].status == status, f"{name}: {records[name]}"
        now_ms = time.monotonic_ns() // 1_000_000 + 60_000
        newest = max(op.token or 0 for op in history.select("claim"))
        for key in claimants.STABLE:
            answer = await store.claim(key, owner="heir", lease_s=1, now_ms=now_ms, force=True)
            assert isinstance(answer, Won | Ready)
            if isinstance(answer, Won):
                assert answer.claim.token > newest
                assert await store.release(key, answer.claim, now_ms=now_ms)
    finally:
        await store.close()


def last_words(history: History) -> dict[str, EntryStatus]:
    """What must be in the file: the end of a key's newest claim, if nothing may have come after."""
    found = {}
    for key, ops in by_key(history.ops).items():
        changes = [op for op in ops if op.ok is not False and op.what != "refresh"]
        last = max(changes, key=lambda op: op.begin)
        overlapping = [op for op in changes if op is not last and op.end > last.begin]
        if last.what == "finish" and last.ok and not overlapping:
            found[key] = EntryStatus(last.status)
    return found
