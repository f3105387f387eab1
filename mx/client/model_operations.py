"""What a client says about cached models; see ``operations``.

A published server has EnsureModelDownloaded, ListModelFiles and DeleteModel only; what needs more is
NotOfferedError there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mx.client.operations import ADMIN, MODEL, WALK_S, Call, Operation
from mx.client.retry import ONCE
from mx.core.cache_view import CacheListing, CacheStats, EntryDetail, Removed
from mx.core.cached import CachedFile, OpenedFiles
from mx.core.eviction import EvictionPlan, EvictionRun, EvictionStep, KeepLimits, Shrink
from mx.core.model import EntryKey, ModelRef, Pin, ProviderName
from mx.core.progress import EnsureUpdate
from mx.core.verification import OnFault
from mx.wire import cache_codec, model_codec
from mx.wire import models_admin_codec as codec
from mx.wire.codec import build
from mx.wire.v1 import admin, model


def ensure(ref: ModelRef, *, weights: bool, force: bool) -> Call:
    """A stream for ``read_update``."""
    return Call(ADMIN, "EnsureModel", codec.encode_ensure(ref, weights=weights, force=force))


def ensure_published(ref: ModelRef, *, weights: bool) -> Call:
    """A stream for ``read_update``: words without numbers. InvalidArgumentError for local models."""
    return Call(MODEL, "EnsureModelDownloaded", model_codec.encode_download(ref, weights=weights))


def read_update(message: Any, *, weights: bool) -> EnsureUpdate:
    if isinstance(message, admin.EnsureProgress):
        return codec.decode_progress(message)
    return model_codec.decode_update(message, weights=weights)


def list_files(ref: ModelRef, *, weights: bool) -> Operation[tuple[CachedFile, ...]]:
    request = model_codec.encode_files_request(ref, weights=weights)
    reply: model.ModelFileList = yield Call(MODEL, "ListModelFiles", request)
    return model_codec.decode_file_list(reply)


def open_files(key: EntryKey, holder: str) -> Operation[OpenedFiles]:
    request = build(admin.OpenModelFilesRequest, key=codec.encode_key(key), holder=holder)
    reply: admin.OpenModelFilesResponse = yield Call(ADMIN, "OpenModelFiles", request)
    return codec.decode_opened(reply)


def renew_files(ticket: str) -> Operation[None]:
    yield Call(ADMIN, "RenewModelFiles", build(admin.RenewModelFilesRequest, ticket=ticket))


def close_files(ticket: str) -> Operation[None]:
    yield Call(ADMIN, "CloseModelFiles", build(admin.CloseModelFilesRequest, ticket=ticket), ONCE)


def stream_files(ref: ModelRef, *, paths: tuple[str, ...], chunk_bytes: int) -> Call:
    """A stream of FileChunk. InvalidArgumentError for local models: the published call has none."""
    request = model_codec.encode_files_request(ref, weights=True, paths=paths, chunk_bytes=chunk_bytes)
    return Call(MODEL, "StreamModelFiles", request)


def delete_model(provider: ProviderName, name: str) -> Operation[str]:
    number = model_codec.encode_provider(provider)
    request = build(model.DeleteModelRequest, model_name=name, provider=number)
    reply: model.DeleteModelResponse = yield Call(MODEL, "DeleteModel", request)
    return reply.message


def list_models(provider: ProviderName | None, name: str | None) -> Operation[CacheListing]:
    request = build(
        admin.ListModelsRequest, provider="" if provider is None else provider.value, name=name or ""
    )
    reply: admin.ListModelsResponse = yield Call(ADMIN, "ListModels", request)
    return codec.decode_listing(reply)


def show_model(key: EntryKey) -> Operation[EntryDetail]:
    request = admin.ShowModelRequest(key=codec.encode_key(key))
    reply: admin.ShowModelResponse = yield Call(ADMIN, "ShowModel", request)
    return cache_codec.decode_detail(reply)


def remove_model(provider: ProviderName, name: str, *, commit: str | None, force: bool) -> Call:
    """A stream for ``read_removal``."""
    request = build(admin.RemoveModelRequest, provider=provider.value, name=name, commit=commit, force=force)
    return Call(ADMIN, "RemoveModel", request)


def read_removal(update: admin.RemoveModelUpdate) -> Removed | None:
    """None while it goes on."""
    return Removed(tuple(map(codec.decode_key, update.removed)), update.bytes_freed) if update.done else None


def plan_removal(
    provider: ProviderName | None, name: str | None, *, commit: str | None, force: bool
) -> Operation[EvictionPlan]:
    request = build(
        admin.PlanRemovalRequest,
        provider="" if provider is None else provider.value,
        name=name or "",
        commit=commit,
        force=force,
    )
    reply: admin.PlanRemovalResponse = yield Call(ADMIN, "PlanRemoval", request, least_s=WALK_S)
    return codec.decode_plan(reply.plan)


def pin_model(key: EntryKey, pin: Pin | None) -> Operation[None]:
    request = build(admin.PinModelRequest, key=codec.encode_key(key), pin=codec.encode_pin(pin))
    yield Call(ADMIN, "PinModel", request)


def plan_eviction(goal: KeepLimits | Shrink) -> Operation[EvictionPlan]:
    reply: admin.PlanEvictionResponse = yield Call(
        ADMIN, "PlanEviction", codec.encode_goal(goal), least_s=WALK_S
    )
    return codec.decode_plan(reply.plan)


def run_eviction(plan: EvictionPlan) -> Call:
    """A stream for ``read_run``."""
    return Call(ADMIN, "RunEviction", admin.RunEvictionRequest(plan=codec.encode_plan(plan)))


def read_run(
    update: admin.RunEvictionUpdate, told: Callable[[EvictionStep], None] | None
) -> EvictionRun | None:
    """None while it goes on."""
    if update.HasField("step") and told is not None:
        told(codec.decode_step(update.step))
    return codec.decode_run(update.run) if update.HasField("run") else None


def verify_models(keys: Sequence[EntryKey] | None, on_fault: OnFault) -> Call:
    """A stream for ``cache_codec.decode_verify_step``."""
    wanted = None if keys is None else tuple(keys)
    return Call(ADMIN, "VerifyModels", cache_codec.encode_verify(wanted, on_fault))


def cache_stats(runs: int) -> Operation[CacheStats]:
    request = build(admin.GetCacheStatsRequest, runs=runs)
    reply: admin.GetCacheStatsResponse = yield Call(ADMIN, "GetCacheStats", request, least_s=WALK_S)
    return cache_codec.decode_stats(reply)
