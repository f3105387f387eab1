"""Every change that the UI can make: its equal on the command line, its plan, its verb.

``Desk`` is the only place that carries one out, so read-only holds here and not in what keys are shown.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from mx.client.base import Client
from mx.core.cache_view import ListedEntry
from mx.core.eviction import EvictionPlan, KeepLimits, Shrink, Survivor
from mx.core.fleet import Fleet
from mx.core.model import (
    EntryKey,
    EntryStatus,
    ModelRef,
    Pin,
    ProviderName,
    canonical_name,
    check_revision,
    provider_of,
)
from mx.core.progress import describe
from mx.core.server_state import Reaped
from mx.core.source import SourceStatus, SourceSummary
from mx.core.units import format_size, format_size_exact
from mx.core.verification import EntryVerified, OnFault, Outcome, VerifyProgress
from mx.errors import (
    ConflictError,
    IntegrityError,
    MxError,
    NotFoundError,
    PermissionDeniedError,
    error_of_code,
)
from mx.tui.previews import Preview, of_plan, of_reaping, of_removal, of_sources

P = TypeVar("P")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Generic[P]):
    """One change, ready to go.

    ``equal`` is the same on the command line. ``plan`` asks what it would do, changing nothing;
    ``preview`` shows the answer to a person, and ``run`` carries it out and says what came of it.
    ``seen`` holds once the feed tells of it. ``asks``: a person must agree first.
    """

    title: str
    equal: str
    asks: bool
    plan: Callable[[Client], Awaitable[P]]
    preview: Callable[[P], Preview] | None
    run: Callable[[Client, P, Tell], Awaitable[str]]
    seen: Callable[[Fleet], bool]


class Desk:
    """Carries commands out for one endpoint, or refuses them."""

    def __init__(self, client: Client, *, read_only: bool, why: str = "") -> None:
        self._client = client
        self._read_only = read_only
        self._why = why or "mx tui was started with --read-only"

    def check(self, title: str) -> None:
        """PermissionDeniedError where nothing may be changed."""
        if self._read_only:
            raise PermissionDeniedError(
                f"{title}: refused, this is read-only",
                remedy=f"{self._why}; connect with the rights to change",
            )

    async def plan(self, command: Command[P]) -> P:
        self.check(command.title)
        return await command.plan(self._client)

    async def run(self, command: Command[P], planned: P, tell: Tell) -> str:
        self.check(command.title)
        return await command.run(self._client, planned, tell)


async def _nothing(_: Client) -> None:
    return None


# ---- the cache


def ref_of(text: str) -> ModelRef:
    """What ``NAME`` or ``NAME@REVISION`` means: an address or a path says its provider, else Hugging Face.

    Raises InvalidArgumentError.
    """
    name, revision = text.strip(), None
    if "://" not in name and not name.startswith("/"):
        name, _, revision = name.partition("@")
    chosen = provider_of(name) or (ProviderName.LOCAL if name.startswith("/") else ProviderName.HUGGING_FACE)
    return ModelRef(chosen, canonical_name(chosen, name), check_revision(chosen, revision or None))


def target_of(key: EntryKey) -> str:
    """An entry as the command line takes it."""
    return shlex.quote(f"{key.name}@{key.commit[:12]}" if key.commit else key.name)


def _targets(keys: Sequence[EntryKey]) -> str:
    return " ".join(dict.fromkeys(target_of(key) for key in keys))


def _count(entries: int) -> str:
    return "1 entry" if entries == 1 else f"{entries} entries"


def _named(keys: Sequence[EntryKey]) -> str:
    return str(keys[0]) if len(keys) == 1 else f"{len(keys)} entries"


def ensure(ref: ModelRef) -> Command[None]:
    async def run(client: Client, _: None, tell: Tell) -> str:
        async with aclosing(client.ensure(ref)) as updates:
            async for update in updates:
                if update.status is EntryStatus.ERROR:
                    raise error_of_code(update.code, f"{ref}: {update.message}")
                tell(f"{ref}: {describe(update) or update.message}")
        return f"{ref} is there, whole and verified"

    def seen(fleet: Fleet) -> bool:
        return any(
            key.name == ref.name and entry.status is EntryStatus.DOWNLOADED
            for key, entry in fleet.entries.items()
        )

    revision = f" --revision {shlex.quote(ref.revision)}" if ref.revision else ""
    equal = f"mx model download {shlex.quote(ref.name)}{revision}"
    return Command(
        title=f"ensure {ref}", equal=equal, asks=False, plan=_nothing, preview=None, run=run, seen=seen
    )


def evict(goal: KeepLimits | Shrink) -> Command[EvictionPlan]:
    """By policy, down to a size, or chosen entries; what is pinned, read or new stays."""
    keys = tuple(goal.keys or ()) if isinstance(goal, Shrink) else ()
    to = goal.to_bytes if isinstance(goal, Shrink) else None

    async def run(client: Client, plan: EvictionPlan, tell: Tell) -> str:
        total = len(plan.victims)
        done = await client.run_eviction(plan, told=lambda step: tell(f"evicting, {step.done} of {total}"))
        if done.failed:
            stayed = "; ".join(f"{key}: {reason}" for key, reason in done.failed[:3])
            raise ConflictError(
                f"{format_size(done.bytes_freed)} freed, {len(done.failed)} of {total} stayed: {stayed}",
                remedy="plan again to see what holds them",
            )
        return f"{_count(total)} evicted, {format_size(done.bytes_freed)} freed"

    what = _named(keys) if keys else "what the limits demand" if to is None else f"down to {format_size(to)}"
    size = "" if to is None else f" --to {format_size_exact(to)}"
    return Command(
        title=f"evict {what}",
        equal=f"mx cache evict{size}{' ' if keys else ''}{_targets(keys)}",
        asks=True,
        plan=lambda client: client.plan_eviction(goal),
        preview=lambda plan: of_plan(plan, title=f"Evict {what}", verb="evict", about=frozenset(keys)),
        run=run,
        seen=lambda fleet: all(key not in fleet.entries for key in keys),
    )


def pin(keys: Sequence[EntryKey], *, reason: str) -> Command[None]:
    return _pinning(keys, Pin(None, reason), "pin", f" --reason {shlex.quote(reason)}" if reason else "")


def unpin(keys: Sequence[EntryKey]) -> Command[None]:
    return _pinning(keys, None, "unpin", "")


def _pinning(keys: Sequence[EntryKey], wanted: Pin | None, verb: str, options: str) -> Command[None]:
    async def run(client: Client, _: None, tell: Tell) -> str:
        for key in keys:
            await client.pin_model(key, wanted)
        return f"{_named(keys)} {verb}ned"

    def seen(fleet: Fleet) -> bool:
        return all(
            (entry.pin is not None) == (wanted is not None)
            for key in keys
            if (entry := fleet.entries.get(key)) is not None
        )

    equal = "; ".join(f"mx cache {verb} {target}{options}" for target in dict.fromkeys(map(target_of, keys)))
    return Command(
        title=f"{verb} {_named(keys)}",
        equal=equal,
        asks=False,
        plan=_nothing,
        preview=None,
        run=run,
        seen=seen,
    )


def verify(keys: Sequence[EntryKey]) -> Command[None]:
    async def run(client: Client, _: None, tell: Tell) -> str:
        done: list[EntryVerified] = []
        async with aclosing(client.verify_models(keys, on_fault=OnFault.QUARANTINE)) as steps:
            async for step in steps:
                match step:
                    case VerifyProgress():
                        share = 100 * step.bytes_done // max(1, step.bytes_total)
                        tell(f"verifying {step.key}: {share} % of {format_size(step.bytes_total)}")
                    case EntryVerified():
                        done.append(step)
        bad = [one for one in done if one.outcome in (Outcome.DAMAGED, Outcome.QUARANTINED)]
        if bad:
            faults = [f"{one.key}: {fault.path}: {fault.kind}" for one in bad for fault in one.faults]
            raise IntegrityError(
                f"{len(bad)} of {len(done)} entries are damaged: {'; '.join(faults[:3])}",
                remedy=f"`mx cache verify --repair {_targets([one.key for one in bad])}` fetches them again",
            )
        read = sum(one.bytes_read for one in done)
        return f"{_named(keys)} sound: {format_size(read)} read, every digest as recorded"

    return Command(
        title=f"verify {_named(keys)}",
        equal=f"mx cache verify {_targets(keys)}",
        asks=False,
        plan=_nothing,
        preview=None,
        run=run,
        seen=lambda _: True,
    )


@dataclass(frozen=True, slots=True)
class Removal:
    """A plan over several entries, as one; each part is one call of the client.

    ``guarded`` would stay if nobody insisted: what is pinned.
    """

    parts: tuple[EvictionPlan, ...]
    guarded: tuple[Survivor, ...] = ()

    @property
    def whole(self) -> EvictionPlan:
        """A revision of which something must stay, stays: the server removes both or neither."""
        going = [part for part in self.parts if not part.survivors]
        staying = [part for part in self.parts if part.survivors]
        spared = [
            Survivor(v.key, v.bytes, "its revision stays whole") for part in staying for v in part.victims
        ]
        return EvictionPlan(
            victims=tuple(victim for part in going for victim in part.victims),
            survivors=(*(one for part in staying for one in part.survivors), *spared),
            bytes_freed=sum(part.bytes_freed for part in going),
            target_bytes=sum(part.target_bytes for part in self.parts),
            met=all(part.met for part in self.parts),
        )


def delete(entries: Sequence[ListedEntry]) -> Command[Removal]:
    """Because a person says so: pinned ones too, after their name was typed."""
    keys = [entry.key for entry in entries]
    commits = list(dict.fromkeys((key.provider, key.name, key.commit) for key in keys))

    async def plan(client: Client) -> Removal:
        # What the server says now counts, not what this screen has been told so far.
        parts: list[EvictionPlan] = []
        guarded: list[Survivor] = []
        for provider, name, commit in commits:
            ask = partial(client.plan_removal, provider=provider, name=name, commit=commit or None)
            parts.append(await ask(force=True))
            guarded += (await ask(force=False)).survivors
        return Removal(tuple(parts), tuple(guarded))

    async def run(client: Client, planned: Removal, tell: Tell) -> str:
        going = list(dict.fromkeys((v.key.provider, v.key.name, v.key.commit) for v in planned.whole.victims))
        freed = gone = 0
        for provider, name, commit in going:
            tell(f"deleting {name}")
            removed = await client.remove_model(provider, name, commit=commit or None, force=True)
            freed += removed.bytes_freed
            gone += len(removed.keys)
        return f"{_count(gone)} deleted, {format_size(freed)} freed"

    return Command(
        title=f"delete {_named(keys)}",
        equal="; ".join(_clear(entry) for entry in entries),
        asks=True,
        plan=plan,
        preview=lambda planned: of_removal(planned.whole, planned.guarded),
        run=run,
        seen=lambda fleet: all(key not in fleet.entries for key in keys),
    )


def _clear(entry: ListedEntry) -> str:
    revision = f" --revision {entry.key.commit}" if entry.key.commit else ""
    return f"mx model clear {shlex.quote(entry.key.name)}{revision}{' --force' if entry.pin else ''}"


# ---- sources


def withdraw(fleet: Fleet, rows: Sequence[SourceSummary]) -> Command[None]:
    async def run(client: Client, _: None, tell: Tell) -> str:
        known = [await client.withdraw(row.key) for row in rows]
        _require_known(rows, known)
        return f"{_workers(rows)} withdrawn"

    return Command(
        title=f"withdraw {_workers(rows)}",
        equal="; ".join(f"mx source withdraw {row.source_id} {row.worker_id}" for row in rows),
        asks=True,
        plan=_nothing,
        preview=lambda _: of_sources(fleet, rows, title="Withdraw: the record goes at once", verb="withdraw"),
        run=run,
        seen=lambda now: all(row.key not in now.sources for row in rows),
    )


def mark_stale(fleet: Fleet, rows: Sequence[SourceSummary]) -> Command[None]:
    async def run(client: Client, _: None, tell: Tell) -> str:
        known = [await client.mark_stale(row.key) for row in rows]
        _require_known(rows, known)
        return f"{_workers(rows)} marked stale, until the next heartbeat"

    def seen(now: Fleet) -> bool:
        return all(
            source.status == SourceStatus.STALE
            for row in rows
            if (source := now.sources.get(row.key)) is not None
        )

    title = "Mark stale: no target picks it until its next heartbeat"
    return Command(
        title=f"mark stale {_workers(rows)}",
        equal="; ".join(f"mx source stale {row.source_id} {row.worker_id}" for row in rows),
        asks=True,
        plan=_nothing,
        preview=lambda _: of_sources(fleet, rows, title=title, verb="mark stale"),
        run=run,
        seen=seen,
    )


def reap() -> Command[Reaped]:
    async def run(client: Client, _: Reaped, tell: Tell) -> str:
        done = await client.reap_sources()
        return f"{len(done.removed)} records removed, {len(done.marked)} marked stale, of {done.seen}"

    return Command(
        title="reap dead sources",
        equal="mx source reap",
        asks=True,
        plan=lambda client: client.reap_sources(dry_run=True),
        preview=of_reaping,
        run=run,
        seen=lambda _: True,
    )


def _workers(rows: Sequence[SourceSummary]) -> str:
    return f"{rows[0].worker_id} rank {rows[0].worker_rank}" if len(rows) == 1 else f"{len(rows)} workers"


def _require_known(rows: Sequence[SourceSummary], known: Sequence[bool]) -> None:
    unknown = [row.worker_id for row, found in zip(rows, known, strict=True) if not found]
    if unknown:
        raise NotFoundError(f"the server has no record of {', '.join(unknown)}", remedy="it left in between")


def words_of(error: MxError) -> str:
    return f"{error.message}\n→ {error.remedy}" if error.remedy else error.message
