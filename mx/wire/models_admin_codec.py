"""Messages of ``mx.admin.v1`` about cached models ⇄ ``core`` values; the rules of ``codec`` hold here too."""

from __future__ import annotations

from collections.abc import Iterable

from mx.core.cache_view import CacheListing, ListedEntry
from mx.core.cached import CachedFile, OpenedFiles
from mx.core.eviction import (
    EvictionGoal,
    EvictionPlan,
    EvictionRun,
    EvictionStep,
    KeepLimits,
    Shrink,
    Survivor,
    Victim,
)
from mx.core.model import EntryKey, EntryStatus, ModelRef, Pin, ProviderName
from mx.core.progress import EnsureUpdate
from mx.errors import ErrorCode, InvalidArgumentError
from mx.wire.codec import build
from mx.wire.v1 import admin


def decode_provider(name: str) -> ProviderName:
    try:
        return ProviderName(name)
    except ValueError:
        known = ", ".join(ProviderName)
        raise InvalidArgumentError(f"there is no provider {name[:80]!r}; there are {known}") from None


def encode_key(key: EntryKey) -> admin.EntryKey:
    return build(
        admin.EntryKey, provider=key.provider.value, name=key.name, commit=key.commit, weights=key.weights
    )


def decode_key(message: admin.EntryKey) -> EntryKey:
    return EntryKey(decode_provider(message.provider), message.name, message.commit, message.weights)


# ---- ensure ----------------------------------------------------------------------------------


def encode_ensure(ref: ModelRef, *, weights: bool, force: bool) -> admin.EnsureModelRequest:
    return build(
        admin.EnsureModelRequest,
        provider=ref.provider.value,
        name=ref.name,
        revision=ref.revision,
        ignore_weights=not weights,
        force=force,
    )


def decode_ensure(message: admin.EnsureModelRequest) -> ModelRef:
    revision = message.revision if message.HasField("revision") else None
    return ModelRef(decode_provider(message.provider), message.name, revision)


def encode_progress(update: EnsureUpdate) -> admin.EnsureProgress:
    return build(
        admin.EnsureProgress,
        key=encode_key(update.key),
        status=update.status.value,
        message=update.message,
        bytes_done=max(0, update.bytes_done),
        bytes_total=update.bytes_total,
        files_done=update.files_done,
        files_total=update.files_total,
        rate=update.rate,
        eta_s=update.eta_s,
        code="" if update.code is None else update.code.value,
    )


def decode_progress(message: admin.EnsureProgress) -> EnsureUpdate:
    known = message.code in {code.value for code in ErrorCode}
    return EnsureUpdate(
        decode_key(message.key),
        _status(message.status),
        message.message,
        bytes_done=message.bytes_done,
        bytes_total=message.bytes_total,
        files_done=message.files_done,
        files_total=message.files_total,
        rate=message.rate if message.HasField("rate") else None,
        eta_s=message.eta_s if message.HasField("eta_s") else None,
        code=ErrorCode(message.code) if known else None,
    )


# ---- files -----------------------------------------------------------------------------------


def encode_opened(
    key: EntryKey,
    files: Iterable[CachedFile],
    *,
    ticket: str,
    life_s: float,
    port: int,
    hosts: Iterable[str],
) -> admin.OpenModelFilesResponse:
    served = [
        build(admin.ServedFile, path=file.path, size=file.size_bytes, digest=file.digest, xxh3=file.xxh3)
        for file in files
    ]
    return build(
        admin.OpenModelFilesResponse,
        key=encode_key(key),
        files=served,
        ticket=ticket,
        life_s=life_s,
        http_port=port,
        hosts=hosts,
    )


def decode_opened(message: admin.OpenModelFilesResponse) -> OpenedFiles:
    return OpenedFiles(
        key=decode_key(message.key),
        files=tuple(CachedFile(m.path, m.size, m.digest, m.xxh3) for m in message.files),
        ticket=message.ticket,
        life_s=message.life_s,
        port=message.http_port,
        hosts=tuple(message.hosts),
    )


# ---- listing and pins ------------------------------------------------------------------------


def encode_listing(listing: CacheListing) -> admin.ListModelsResponse:
    return build(
        admin.ListModelsResponse,
        entries=map(encode_entry, listing.entries),
        used_bytes=listing.used_bytes,
        free_bytes=listing.free_bytes,
        disk_bytes=listing.disk_bytes,
        max_size_bytes=listing.max_size_bytes,
        now_ms=listing.now_ms,
    )


def decode_listing(message: admin.ListModelsResponse) -> CacheListing:
    return CacheListing(
        entries=tuple(map(decode_entry, message.entries)),
        used_bytes=message.used_bytes,
        free_bytes=message.free_bytes,
        disk_bytes=message.disk_bytes,
        max_size_bytes=message.max_size_bytes if message.HasField("max_size_bytes") else None,
        now_ms=message.now_ms,
    )


def encode_pin(pin: Pin | None) -> admin.Pin | None:
    return None if pin is None else build(admin.Pin, until_ms=pin.until_ms, reason=pin.reason)


def decode_pin(message: admin.Pin) -> Pin:
    return Pin(message.until_ms if message.HasField("until_ms") else None, message.reason)


def encode_entry(entry: ListedEntry) -> admin.ModelEntry:
    return build(
        admin.ModelEntry,
        key=encode_key(entry.key),
        status=entry.status.value,
        created_at_ms=entry.created_at_ms,
        last_used_at_ms=entry.last_used_at_ms,
        message=entry.message,
        bytes_total=entry.bytes_total,
        bytes_done=max(0, entry.bytes_done),
        files=entry.files,
        disk_bytes=entry.disk_bytes,
        own_bytes=entry.own_bytes,
        owner=entry.owner,
        pin=encode_pin(entry.pin),
        readers=entry.readers,
        requested_revision=entry.requested_revision,
        retry_at_ms=entry.retry_at_ms,
    )


def decode_entry(message: admin.ModelEntry) -> ListedEntry:
    return ListedEntry(
        key=decode_key(message.key),
        status=_status(message.status),
        created_at_ms=message.created_at_ms,
        last_used_at_ms=message.last_used_at_ms,
        message=message.message,
        bytes_total=message.bytes_total,
        bytes_done=message.bytes_done,
        files=message.files,
        disk_bytes=message.disk_bytes,
        own_bytes=message.own_bytes,
        owner=message.owner,
        pin=decode_pin(message.pin) if message.HasField("pin") else None,
        readers=tuple(message.readers),
        requested_revision=message.requested_revision,
        retry_at_ms=message.retry_at_ms,
    )


def _status(text: str) -> EntryStatus:
    """One that a later release added counts as work under way."""
    return EntryStatus(text) if text in tuple(EntryStatus) else EntryStatus.DOWNLOADING


# ---- eviction --------------------------------------------------------------------------------


def encode_goal(goal: KeepLimits | Shrink) -> admin.PlanEvictionRequest:
    if isinstance(goal, KeepLimits):
        return admin.PlanEvictionRequest()
    keys = None if goal.keys is None else admin.EntryKeys(keys=map(encode_key, goal.keys))
    return build(admin.PlanEvictionRequest, to_bytes=goal.to_bytes, unused_for_s=goal.unused_for_s, keys=keys)


def decode_goal(message: admin.PlanEvictionRequest) -> EvictionGoal:
    """What the limits demand when nothing is said: an empty request must not mean everything."""
    goal = Shrink(
        to_bytes=message.to_bytes if message.HasField("to_bytes") else None,
        unused_for_s=message.unused_for_s if message.HasField("unused_for_s") else None,
        keys=frozenset(map(decode_key, message.keys.keys)) if message.HasField("keys") else None,
    )
    return KeepLimits() if goal == Shrink() else goal


def encode_plan(plan: EvictionPlan) -> admin.EvictionPlan:
    return build(
        admin.EvictionPlan,
        victims=[_judged(one.key, one.bytes, one.reason) for one in plan.victims],
        survivors=[_judged(one.key, one.bytes, one.reason) for one in plan.survivors],
        bytes_freed=plan.bytes_freed,
        target_bytes=plan.target_bytes,
        met=plan.met,
    )


def decode_plan(message: admin.EvictionPlan) -> EvictionPlan:
    return EvictionPlan(
        victims=tuple(Victim(decode_key(m.key), m.bytes, m.reason) for m in message.victims),
        survivors=tuple(Survivor(decode_key(m.key), m.bytes, m.reason) for m in message.survivors),
        bytes_freed=message.bytes_freed,
        target_bytes=message.target_bytes,
        met=message.met,
    )


def encode_run(run: EvictionRun) -> admin.EvictionRun:
    return build(
        admin.EvictionRun,
        run_id=run.run_id,
        trigger=run.trigger,
        plan=encode_plan(run.plan),
        bytes_freed=max(0, run.bytes_freed),
        started_at_ms=run.started_at_ms,
        finished_at_ms=run.finished_at_ms,
        stayed=[_judged(key, 0, reason) for key, reason in run.failed],
    )


def decode_run(message: admin.EvictionRun) -> EvictionRun:
    return EvictionRun(
        message.run_id,
        message.started_at_ms,
        message.trigger,
        decode_plan(message.plan),
        message.bytes_freed,
        message.finished_at_ms,
        tuple((decode_key(one.key), one.reason) for one in message.stayed),
    )


def encode_step(step: EvictionStep) -> admin.EvictionStep:
    return build(
        admin.EvictionStep,
        key=encode_key(step.key),
        bytes=max(0, step.bytes_gained),
        stayed=step.stayed,
        done=step.done,
        total=step.total,
    )


def decode_step(message: admin.EvictionStep) -> EvictionStep:
    return EvictionStep(decode_key(message.key), message.bytes, message.stayed, message.done, message.total)


def _judged(key: EntryKey, size: int, reason: str) -> admin.Judged:
    return build(admin.Judged, key=encode_key(key), bytes=size, reason=reason)
