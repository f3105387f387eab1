"""What a client says about cached models; see ``operations``.

A published server has EnsureModelDownloaded, ListModelFiles and DeleteModel only; what needs more is
NotOfferedError there.
"""

from __future__ import annotations

from typing import Any

from mx.client.operations import ADMIN, MODEL, Call, Operation
from mx.client.retry import ONCE
from mx.core.cache_view import CacheListing, Removed
from mx.core.cached import CachedFile, OpenedFiles
from mx.core.eviction import EvictionPlan, EvictionRun, KeepLimits, Shrink
from mx.core.model import EntryKey, ModelRef, Pin, ProviderName
from mx.core.progress import EnsureUpdate
from mx.wire import model_codec
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


def remove_model(provider: ProviderName, name: str, *, commit: str | None, force: bool) -> Operation[Removed]:
    request = build(admin.RemoveModelRequest, provider=provider.value, name=name, commit=commit, force=force)
    reply: admin.RemoveModelResponse = yield Call(ADMIN, "RemoveModel", request)
    return Removed(tuple(map(codec.decode_key, reply.removed)), reply.bytes_freed)


def pin_model(key: EntryKey, pin: Pin | None) -> Operation[None]:
    request = build(admin.PinModelRequest, key=codec.encode_key(key), pin=codec.encode_pin(pin))
    yield Call(ADMIN, "PinModel", request)


def plan_eviction(goal: KeepLimits | Shrink) -> Operation[EvictionPlan]:
    reply: admin.PlanEvictionResponse = yield Call(ADMIN, "PlanEviction", codec.encode_goal(goal))
    return codec.decode_plan(reply.plan)


def run_eviction(plan: EvictionPlan) -> Operation[EvictionRun]:
    request = admin.RunEvictionRequest(plan=codec.encode_plan(plan))
    reply: admin.RunEvictionResponse = yield Call(ADMIN, "RunEviction", request)
    return codec.decode_run(reply)
