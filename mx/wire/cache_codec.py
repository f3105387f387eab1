"""Messages of ``mx.admin.v1`` about the cache as a whole, one entry and its files ⇄ ``core`` values."""

from __future__ import annotations

from mx.core.cache_view import CacheStats, EntryDetail, KindStats, ShownFile
from mx.core.cached import FaultKind, FileFault
from mx.core.eviction import EvictionPolicy
from mx.core.model import Claim, EntryKey, ReadLease
from mx.core.verification import EntryVerified, OnFault, Outcome, VerifyProgress, VerifyStep
from mx.errors import InvalidArgumentError
from mx.wire.codec import build
from mx.wire.models_admin_codec import (
    decode_entry,
    decode_key,
    decode_run,
    encode_entry,
    encode_key,
    encode_run,
)
from mx.wire.v1 import admin

# ---- one entry -------------------------------------------------------------------------------


def encode_detail(detail: EntryDetail) -> admin.ShowModelResponse:
    claim = detail.claim
    return build(
        admin.ShowModelResponse,
        entry=encode_entry(detail.listed),
        root=detail.root,
        completed_at_ms=detail.completed_at_ms,
        files=[
            admin.ShownFile(
                path=file.path,
                size=file.size_bytes,
                digest=file.digest,
                xxh3=file.xxh3,
                block=file.block,
                users=file.users,
            )
            for file in detail.files
        ],
        shares_with=map(encode_key, detail.shares_with),
        owner="" if claim is None else claim.owner,
        claim_expires_at_ms=0 if claim is None else claim.expires_at_ms,
        claim_token=0 if claim is None else claim.token,
        leases=[
            admin.ReadLease(lease_id=lease.lease_id, holder=lease.holder, expires_at_ms=lease.expires_at_ms)
            for lease in detail.leases
        ],
        attempts=detail.attempts,
    )


def decode_detail(message: admin.ShowModelResponse) -> EntryDetail:
    claim = Claim(message.owner, message.claim_token, message.claim_expires_at_ms)
    return EntryDetail(
        listed=decode_entry(message.entry),
        root=message.root,
        completed_at_ms=message.completed_at_ms,
        files=tuple(
            ShownFile(file.path, file.size, file.digest, file.xxh3, file.block, file.users)
            for file in message.files
        ),
        shares_with=tuple(map(decode_key, message.shares_with)),
        claim=claim if message.owner else None,
        leases=tuple(ReadLease(one.lease_id, one.holder, one.expires_at_ms) for one in message.leases),
        attempts=message.attempts,
    )


# ---- verify ----------------------------------------------------------------------------------


def encode_verify(keys: tuple[EntryKey, ...] | None, on_fault: OnFault) -> admin.VerifyModelsRequest:
    wanted = None if keys is None else admin.EntryKeys(keys=map(encode_key, keys))
    return build(admin.VerifyModelsRequest, keys=wanted, on_fault=on_fault.value)


def decode_verify(message: admin.VerifyModelsRequest) -> tuple[tuple[EntryKey, ...] | None, OnFault]:
    keys = tuple(map(decode_key, message.keys.keys)) if message.HasField("keys") else None
    try:
        return keys, OnFault(message.on_fault or OnFault.REPORT)
    except ValueError:
        raise InvalidArgumentError(
            f"on_fault is {message.on_fault[:80]!r}; there are {', '.join(OnFault)}"
        ) from None


def encode_verify_step(step: VerifyStep) -> admin.VerifyUpdate:
    match step:
        case VerifyProgress():
            progress = build(
                admin.VerifyProgress,
                key=encode_key(step.key),
                bytes_done=step.bytes_done,
                bytes_total=step.bytes_total,
                entries_done=step.entries_done,
                entries_total=step.entries_total,
                rate=step.rate,
                eta_s=step.eta_s,
                note=step.note,
            )
            return admin.VerifyUpdate(progress=progress)
        case EntryVerified():
            return admin.VerifyUpdate(entry=_encode_verified(step))


def _encode_verified(done: EntryVerified) -> admin.EntryVerified:
    return build(
        admin.EntryVerified,
        key=encode_key(done.key),
        outcome=done.outcome.value,
        files=done.files,
        bytes_read=done.bytes_read,
        faults=[
            admin.FileFault(path=fault.path, kind=fault.kind.value, detail=fault.detail)
            for fault in done.faults
        ],
        extras=done.extras,
        detail=done.detail,
        withdrawn=map(encode_key, done.withdrawn),
    )


def decode_verify_step(message: admin.VerifyUpdate) -> VerifyStep:
    if not message.HasField("entry"):
        progress = message.progress
        return VerifyProgress(
            decode_key(progress.key),
            progress.bytes_done,
            progress.bytes_total,
            progress.entries_done,
            progress.entries_total,
            rate=progress.rate if progress.HasField("rate") else None,
            eta_s=progress.eta_s if progress.HasField("eta_s") else None,
            note=progress.note,
        )
    entry = message.entry
    # A word that a later release added is no proof of soundness.
    known = entry.outcome in tuple(Outcome)
    return EntryVerified(
        decode_key(entry.key),
        Outcome(entry.outcome) if known else Outcome.DAMAGED,
        entry.files,
        entry.bytes_read,
        tuple(FileFault(one.path, _kind(one.kind), one.detail) for one in entry.faults),
        tuple(entry.extras),
        entry.detail,
        tuple(map(decode_key, entry.withdrawn)),
    )


def _kind(text: str) -> FaultKind:
    return FaultKind(text) if text in tuple(FaultKind) else FaultKind.UNREADABLE


# ---- the cache in short ----------------------------------------------------------------------


def encode_stats(stats: CacheStats) -> admin.GetCacheStatsResponse:
    policy = stats.policy
    limits = build(
        admin.CacheLimits,
        enabled=stats.eviction_enabled,
        max_size_bytes=policy.max_size_bytes,
        min_free_space_bytes=policy.min_free_space_bytes,
        max_models=policy.max_models,
        unused_threshold_s=policy.unused_threshold_s,
        high_water=policy.high_water,
        low_water=policy.low_water,
        grace_s=policy.grace_s,
    )
    return build(
        admin.GetCacheStatsResponse,
        root=stats.root,
        kinds=[
            admin.KindStats(
                kind=one.kind,
                total=one.total,
                active=one.active,
                bytes=one.bytes,
                reclaimable_bytes=one.reclaimable_bytes,
            )
            for one in stats.kinds
        ],
        used_bytes=stats.used_bytes,
        free_bytes=stats.free_bytes,
        disk_bytes=stats.disk_bytes,
        limits=limits,
        next_run_at_ms=stats.next_run_at_ms,
        runs=map(encode_run, stats.runs),
        now_ms=stats.now_ms,
    )


def decode_stats(message: admin.GetCacheStatsResponse) -> CacheStats:
    limits = message.limits
    policy = EvictionPolicy(
        unused_threshold_s=limits.unused_threshold_s if limits.HasField("unused_threshold_s") else None,
        max_models=limits.max_models if limits.HasField("max_models") else None,
        max_size_bytes=limits.max_size_bytes if limits.HasField("max_size_bytes") else None,
        min_free_space_bytes=(
            limits.min_free_space_bytes if limits.HasField("min_free_space_bytes") else None
        ),
        high_water=limits.high_water,
        low_water=limits.low_water,
        grace_s=limits.grace_s,
    )
    return CacheStats(
        root=message.root,
        kinds=tuple(
            KindStats(one.kind, one.total, one.active, one.bytes, one.reclaimable_bytes)
            for one in message.kinds
        ),
        used_bytes=message.used_bytes,
        free_bytes=message.free_bytes,
        disk_bytes=message.disk_bytes,
        policy=policy,
        eviction_enabled=limits.enabled,
        next_run_at_ms=message.next_run_at_ms if message.HasField("next_run_at_ms") else None,
        runs=tuple(map(decode_run, message.runs)),
        now_ms=message.now_ms,
    )
