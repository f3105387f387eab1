"""``model_express.model`` messages ⇄ ``core`` values, both ways; the rules of ``codec`` hold here too."""

from __future__ import annotations

from collections.abc import Iterable

from mx.core.cached import CachedFile, FilePiece
from mx.core.model import EntryKey, EntryStatus, ModelRef, ProviderName
from mx.core.progress import EnsureUpdate
from mx.errors import InvalidArgumentError
from mx.wire.codec import build
from mx.wire.v1 import model

_NUMBERS = {
    ProviderName.HUGGING_FACE: model.HUGGING_FACE,
    ProviderName.NGC: model.NGC,
    ProviderName.GCS: model.GCS,
    ProviderName.S3: model.S3,
}
_BY_NUMBER = {number: provider for provider, number in _NUMBERS.items()}
# Nothing but 0, 1 and 2: the published client raises on any other number.
_STATUS = {EntryStatus.DOWNLOADED: model.DOWNLOADED, EntryStatus.ERROR: model.ERROR}
_STATUS_BY_NUMBER = {number: status for status, number in _STATUS.items()}


def encode_provider(provider: ProviderName) -> int:
    """InvalidArgumentError for one that the published wire has no number for."""
    number = _NUMBERS.get(provider)
    if number is None:
        raise InvalidArgumentError(f"the published calls know no provider {provider}")
    return number


def decode_provider(number: int) -> ProviderName:
    """InvalidArgumentError for a number that no provider has."""
    provider = _BY_NUMBER.get(number)
    if provider is None:
        raise InvalidArgumentError(f"there is no provider with number {number}")
    return provider


def encode_download(ref: ModelRef, *, weights: bool) -> model.ModelDownloadRequest:
    return build(
        model.ModelDownloadRequest,
        model_name=ref.name,
        provider=encode_provider(ref.provider),
        ignore_weights=not weights,
        revision=ref.revision,
    )


def decode_ref(message: model.ModelDownloadRequest | model.ModelFilesRequest) -> ModelRef:
    """As it was asked for, not yet canonical; InvalidArgumentError for an unknown provider."""
    revision = message.revision if message.HasField("revision") else None
    return ModelRef(decode_provider(message.provider), message.model_name, revision)


def encode_update(update: EnsureUpdate) -> model.ModelStatusUpdate:
    return build(
        model.ModelStatusUpdate,
        model_name=update.key.name,
        status=_STATUS.get(update.status, model.DOWNLOADING),
        message=update.message or None,
        provider=encode_provider(update.key.provider),
        resolved_revision=update.key.commit or None,
    )


def decode_update(message: model.ModelStatusUpdate, *, weights: bool) -> EnsureUpdate:
    """What a published server tells: words only."""
    key = EntryKey(decode_provider(message.provider), message.model_name, message.resolved_revision, weights)
    status = _STATUS_BY_NUMBER.get(message.status, EntryStatus.DOWNLOADING)
    return EnsureUpdate(key, status, message.message)


def encode_files_request(
    ref: ModelRef, *, weights: bool, paths: tuple[str, ...] | None = None, chunk_bytes: int = 0
) -> model.ModelFilesRequest:
    """``paths`` None asks for every file."""
    selector = None if paths is None else build(model.ModelFileSelector, paths=paths)
    return build(
        model.ModelFilesRequest,
        model_name=ref.name,
        provider=encode_provider(ref.provider),
        chunk_size=chunk_bytes,
        file_selector=selector,
        ignore_weights=not weights,
        revision=ref.revision,
    )


def encode_file_list(key: EntryKey, files: Iterable[CachedFile]) -> model.ModelFileList:
    infos = [build(model.ModelFileInfo, relative_path=file.path, size=file.size_bytes) for file in files]
    return build(
        model.ModelFileList, model_name=key.name, files=infos, total_size=sum(info.size for info in infos)
    )


def decode_file_list(message: model.ModelFileList) -> tuple[CachedFile, ...]:
    return tuple(CachedFile(info.relative_path, info.size) for info in message.files)


def decode_piece(message: model.FileChunk) -> FilePiece:
    return FilePiece(
        message.relative_path, message.data, message.offset, message.total_size, message.commit_hash
    )
