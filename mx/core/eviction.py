"""What goes and what stays when the cache needs room: a pure plan over records, sizes and a policy.

Victims go in LRU order, and no more of them than the limits demand. Pins, read leases, running
downloads and the grace time protect. A file that several entries share counts as freed only with
the last of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from mx.core.cached import CacheUsage, EntryUsage
from mx.core.model import EntryKey, EntryStatus, ModelRecord
from mx.core.transitions import is_claimed, is_pinned, live_leases
from mx.core.units import format_age, format_size


@dataclass(frozen=True, slots=True)
class EvictionPolicy:
    """Limits of the cache; None is no limit.

    ``high_water`` and ``low_water`` are fractions of the size that ``max_size_bytes`` and
    ``min_free_space_bytes`` leave: above the first eviction begins, at the second it ends.
    ``grace_s`` protects what was used that recently.
    """

    unused_threshold_s: float | None = None
    max_models: int | None = None
    max_size_bytes: int | None = None
    min_free_space_bytes: int | None = None
    high_water: float = 1.0
    low_water: float = 0.9
    grace_s: float = 0.0


@dataclass(frozen=True, slots=True)
class KeepLimits:
    """Whatever the policy's limits demand."""


@dataclass(frozen=True, slots=True)
class MakeRoom:
    """So much that ``need_bytes`` more fit below the limits; water marks play no part."""

    need_bytes: int


@dataclass(frozen=True, slots=True)
class Shrink:
    """What a person asked for: down to ``to_bytes`` in total, or everything that is chosen.

    ``unused_for_s`` and ``keys`` narrow what may go; None narrows nothing.
    """

    to_bytes: int | None = None
    unused_for_s: float | None = None
    keys: frozenset[EntryKey] | None = None


@dataclass(frozen=True, slots=True)
class EvictionStep:
    """One entry of a run is done with: ``bytes_gained``, or ``stayed`` says why it is still there."""

    key: EntryKey
    bytes_gained: int
    stayed: str
    done: int
    total: int


EvictionGoal = KeepLimits | MakeRoom | Shrink


@dataclass(frozen=True, slots=True)
class Victim:
    """``bytes`` is what the disk gains: files shared with a survivor count nothing."""

    key: EntryKey
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Survivor:
    key: EntryKey
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class EvictionPlan:
    """Victims in the order they go. ``target_bytes`` is what was to be freed; ``met`` whether that works."""

    victims: tuple[Victim, ...]
    survivors: tuple[Survivor, ...]
    bytes_freed: int
    target_bytes: int
    met: bool


@dataclass(frozen=True, slots=True)
class EvictionRun:
    """The record of one run: when, why, what went, what was refused at the last moment."""

    run_id: str
    started_at_ms: int
    trigger: str  # interval | room | command | removal
    plan: EvictionPlan
    bytes_freed: int
    finished_at_ms: int
    failed: tuple[tuple[EntryKey, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Capacity:
    """Most bytes the cache may hold now, and the sentence that names the limit."""

    bytes: int
    limit: str


def capacity(usage: CacheUsage, policy: EvictionPolicy) -> Capacity:
    """The tighter one of the size limit and of what the disk leaves above its free-space limit.

    Without limits: what the disk can take.
    """
    reserve_bytes = policy.min_free_space_bytes or 0
    disk_bytes = max(0, usage.used_bytes + usage.free_bytes - reserve_bytes)
    if policy.max_size_bytes is not None and policy.max_size_bytes <= disk_bytes:
        return Capacity(policy.max_size_bytes, f"max_size_bytes is {format_size(policy.max_size_bytes)}")
    if reserve_bytes:
        return Capacity(disk_bytes, f"min_free_space_bytes is {format_size(reserve_bytes)}")
    return Capacity(disk_bytes, f"the disk has {format_size(usage.free_bytes)} free")


def plan(
    records: Iterable[ModelRecord],
    *,
    usage: CacheUsage,
    policy: EvictionPolicy,
    now_ms: int,
    goal: EvictionGoal = KeepLimits(),  # a frozen value
) -> EvictionPlan:
    """What to evict for ``goal``. Entries whose removal was interrupted always go, and first.

    Where the goal can't be met the plan has everything that may go for it, and ``met`` is False.
    """
    ordered = sorted(records, key=_lru)
    kept: dict[EntryKey, str] = {}
    evictable: list[ModelRecord] = []
    draft = _Draft(usage.entries)
    for record in ordered:
        if _is_interrupted(record, now_ms):
            draft.take(record.key, "its eviction was interrupted")
        elif reason := protection(record, now_ms=now_ms, grace_s=policy.grace_s):
            kept[record.key] = reason
        else:
            evictable.append(record)
    target_bytes = _target_bytes(usage, policy, goal)
    match goal:
        case KeepLimits():
            models_met = _take_by_age_and_count(draft, ordered, evictable, policy, now_ms)
            why = f"over its limit: {capacity(usage, policy).limit}"
            draft.take_until(target_bytes, evictable, now_ms, why)
        case MakeRoom():
            models_met = True
            draft.take_until(target_bytes, evictable, now_ms, "makes room for a download")
        case Shrink():
            models_met = True
            chosen = [record for record in evictable if _is_chosen(record, goal, now_ms)]
            wanted = target_bytes if goal.to_bytes is not None else None
            draft.take_until(wanted, chosen, now_ms, "asked for")
    for record in ordered:
        if record.key not in draft.taken and record.key not in kept:
            kept[record.key] = _spared(record, now_ms)
    return EvictionPlan(
        victims=draft.victims(),
        survivors=tuple(
            Survivor(key, usage.entries.get(key, _NOTHING).total_bytes, why) for key, why in kept.items()
        ),
        bytes_freed=draft.freed_bytes,
        target_bytes=target_bytes,
        met=draft.freed_bytes >= target_bytes and models_met,
    )


def plan_removal(
    records: Iterable[ModelRecord], *, usage: CacheUsage, now_ms: int, force: bool = False
) -> EvictionPlan:
    """What goes and what stays when a person takes these entries away, unused or not.

    Work under way, readers and (unless ``force``) pins keep an entry; failed and unfinished downloads
    go too. ``target_bytes`` is what all of them would free.
    """
    gone, wanted = _Draft(usage.entries), _Draft(usage.entries)
    kept: list[Survivor] = []
    for record in sorted(records, key=_lru):
        wanted.take(record.key, "")
        reason = _at_work(record, now_ms) or _held(record, now_ms, pins=not force)
        if reason:
            size = usage.entries.get(record.key, _NOTHING).total_bytes
            kept.append(Survivor(record.key, size, reason))
        else:
            gone.take(record.key, "asked for")
    return EvictionPlan(
        victims=gone.victims(),
        survivors=tuple(kept),
        bytes_freed=gone.freed_bytes,
        target_bytes=wanted.freed_bytes,
        met=not kept,
    )


def protection(record: ModelRecord, *, now_ms: int, grace_s: float) -> str:
    """Why a record may not be a victim; empty when it may."""
    if reason := _at_work(record, now_ms):
        return reason
    match record.status:
        case EntryStatus.DOWNLOADING:
            return "an unfinished download"
        case EntryStatus.ERROR:
            return "a failed download"
        case _:
            pass
    if reason := _held(record, now_ms, pins=True):
        return reason
    if max(0, now_ms - record.last_used_at_ms) < grace_s * 1000:
        return f"used {_span(record.last_used_at_ms, now_ms)} ago, within the grace time"
    return ""


def _at_work(record: ModelRecord, now_ms: int) -> str:
    if record.claim is None or not is_claimed(record, now_ms=now_ms):
        return ""
    work = "removed" if record.status is EntryStatus.EVICTING else "downloaded"
    return f"being {work} by {record.claim.owner}"


def _held(record: ModelRecord, now_ms: int, *, pins: bool) -> str:
    if pins and is_pinned(record, now_ms=now_ms) and (pin := record.pin) is not None:
        span = "" if pin.until_ms is None else f" for {_span(now_ms, pin.until_ms)}"
        return f"pinned{span}{_because(pin.reason)}"
    for lease in live_leases(record.leases, now_ms=now_ms):
        return f"read by {lease.holder}, for {_span(now_ms, lease.expires_at_ms)} at most"
    return ""


_NOTHING = EntryUsage()


@dataclass(slots=True)
class _Draft:
    """Victims so far, and which shared files still have a user among the rest."""

    usage: Mapping[EntryKey, EntryUsage]
    taken: dict[EntryKey, int] = field(default_factory=dict)
    reasons: dict[EntryKey, str] = field(default_factory=dict)
    freed_bytes: int = 0
    users: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.users.update(name for entry in self.usage.values() for name, _ in entry.shared)

    def victims(self) -> tuple[Victim, ...]:
        return tuple(Victim(key, size, self.reasons[key]) for key, size in self.taken.items())

    def take(self, key: EntryKey, reason: str) -> None:
        entry = self.usage.get(key, _NOTHING)
        gained = entry.own_bytes
        for name, size in entry.shared:
            self.users[name] -= 1
            if not self.users[name]:
                gained += size
        self.taken[key] = gained
        self.reasons[key] = reason
        self.freed_bytes += gained

    def take_until(
        self, target_bytes: int | None, candidates: Sequence[ModelRecord], now_ms: int, reason: str
    ) -> None:
        """Take in the order given until so much is freed (None: all); put back what freed nothing."""
        mine: list[EntryKey] = []
        for record in candidates:
            if target_bytes is not None and self.freed_bytes >= target_bytes:
                break
            if record.key not in self.taken:
                self.take(record.key, f"unused for {_span(record.last_used_at_ms, now_ms)}; {reason}")
                mine.append(record.key)
        if target_bytes is None:
            return
        for key in mine:
            if not self.taken[key] and self._frees_nothing(key):
                self._put_back(key)

    def _frees_nothing(self, key: EntryKey) -> bool:
        """Whether survivors use every file of it. One that shares with later victims is needed for them."""
        entry = self.usage.get(key, _NOTHING)
        return all(self.users[name] for name, _ in entry.shared)

    def _put_back(self, key: EntryKey) -> None:
        for name, _ in self.usage.get(key, _NOTHING).shared:
            self.users[name] += 1
        del self.taken[key], self.reasons[key]


def _target_bytes(usage: CacheUsage, policy: EvictionPolicy, goal: EvictionGoal) -> int:
    match goal:
        case KeepLimits():
            if policy.max_size_bytes is None and policy.min_free_space_bytes is None:
                return 0
            most_bytes = capacity(usage, policy).bytes
            if usage.used_bytes <= most_bytes * policy.high_water:
                return 0
            return max(0, usage.used_bytes - int(most_bytes * policy.low_water))
        case MakeRoom():
            return max(0, usage.used_bytes + goal.need_bytes - capacity(usage, policy).bytes)
        case Shrink():
            return 0 if goal.to_bytes is None else max(0, usage.used_bytes - goal.to_bytes)


def _take_by_age_and_count(
    draft: _Draft,
    ordered: Sequence[ModelRecord],
    evictable: Sequence[ModelRecord],
    policy: EvictionPolicy,
    now_ms: int,
) -> bool:
    """Take what was unused for too long, then whole models beyond the limit; whether that limit is met."""
    if policy.unused_threshold_s is not None:
        for record in evictable:
            if now_ms - record.last_used_at_ms <= policy.unused_threshold_s * 1000:
                break
            age = _span(record.last_used_at_ms, now_ms)
            limit = format_age(policy.unused_threshold_s)
            draft.take(record.key, f"unused for {age}, limit {limit}")
    if policy.max_models is None:
        return True
    # A model counts until the last of its entries is gone, and one that must stay keeps it counted.
    free = {record.key for record in evictable}
    models: dict[tuple[str, str], list[ModelRecord]] = {}
    for record in reversed(ordered):
        if record.status is EntryStatus.DOWNLOADED and record.key not in draft.taken:
            models.setdefault((record.key.provider, record.key.name), []).append(record)
    excess = len(models) - policy.max_models
    for entries in reversed(models.values()):  # by the last use of their newest entry, oldest first
        if excess <= 0:
            break
        if all(record.key in free for record in entries):
            for record in reversed(entries):
                draft.take(record.key, f"least recently used, limit {policy.max_models} models")
            excess -= 1
    return excess <= 0


def _is_chosen(record: ModelRecord, goal: Shrink, now_ms: int) -> bool:
    if goal.keys is not None and record.key not in goal.keys:
        return False
    return goal.unused_for_s is None or now_ms - record.last_used_at_ms > goal.unused_for_s * 1000


def _is_interrupted(record: ModelRecord, now_ms: int) -> bool:
    return record.status is EntryStatus.EVICTING and not is_claimed(record, now_ms=now_ms)


def _lru(record: ModelRecord) -> tuple[int, str, str, str, bool]:
    key = record.key
    return record.last_used_at_ms, key.provider, key.name, key.commit, key.weights


def _spared(record: ModelRecord, now_ms: int) -> str:
    return f"used {_span(record.last_used_at_ms, now_ms)} ago; it need not go"


def _span(from_ms: int, to_ms: int) -> str:
    # Two units are shown: cut what is not, and thousands of entries share a few texts.
    seconds = (to_ms - from_ms) // 1000
    shown = 3600 if seconds >= 86_400 else 60 if seconds >= 3600 else 1
    return _age(seconds - seconds % shown)


@lru_cache(maxsize=4096)
def _age(seconds: int) -> str:
    return format_age(seconds)


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""
