"""MxError ⇄ gRPC status.

A status carries the message as its details and, as trailing metadata, ``mx-error-code`` (a name
of ErrorCode) and ``mx-remedy`` (percent-encoded UTF-8). A peer that isn't mx sends neither: its
status code alone decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

import grpc

from mx.errors import (
    CancelledError,
    ConflictError,
    DeadlineError,
    ErrorCode,
    ExhaustedError,
    IntegrityError,
    InternalError,
    InvalidArgumentError,
    MxError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    SettingsError,
    UnauthenticatedError,
    UnavailableError,
    UsageError,
)

# Pairs of key and value; the concrete type differs between sync and aio calls.
MetadataItems = Iterable[Any]

CODE_KEY = "mx-error-code"
REMEDY_KEY = "mx-remedy"

_TO_GRPC: Mapping[ErrorCode, grpc.StatusCode] = {
    ErrorCode.USAGE: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.SETTINGS: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    ErrorCode.CONFLICT: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.INTEGRITY: grpc.StatusCode.DATA_LOSS,
    ErrorCode.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    ErrorCode.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.CANCELLED: grpc.StatusCode.CANCELLED,
    ErrorCode.INTERNAL: grpc.StatusCode.INTERNAL,
}

_FROM_GRPC: Mapping[grpc.StatusCode, type[MxError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.ALREADY_EXISTS: ConflictError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.UNIMPLEMENTED: PreconditionError,
    grpc.StatusCode.DATA_LOSS: IntegrityError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExhaustedError,
    grpc.StatusCode.CANCELLED: CancelledError,
}

_KINDS: tuple[type[MxError], ...] = (*_FROM_GRPC.values(), UsageError, InternalError)
_BY_CODE: Mapping[str, type[MxError]] = {kind.code: kind for kind in _KINDS}

# gRPC limits all metadata of a reply to 8 KiB, and percent-encodes: three bytes for one.
_MAX_DETAILS_BYTES = 1536
_MAX_REMEDY_BYTES = 512
# Printable ASCII travels as it is.
_SAFE = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) != "%")


def to_status(error: MxError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Status code, details and trailing metadata; long texts are cut to what a reply can hold."""
    trailing = [(CODE_KEY, error.code.value)]
    if error.remedy:
        trailing.append((REMEDY_KEY, quote(_cut(error.remedy, _MAX_REMEDY_BYTES), safe=_SAFE)))
    return _TO_GRPC[error.code], _cut(error.message, _MAX_DETAILS_BYTES), tuple(trailing)


def from_status(
    code: grpc.StatusCode, details: str | None, trailing: MetadataItems | None, *, call: str, target: str
) -> MxError:
    """The error behind a status. ``call`` and ``target`` name what was asked of whom."""
    found = _first_values(trailing)
    kind = _BY_CODE.get(found.get(CODE_KEY, ""))
    if kind is not None:
        return kind(details or f"{call} failed on {target}", remedy=unquote(found.get(REMEDY_KEY, "")))
    if found.get(CODE_KEY) == ErrorCode.SETTINGS:
        return SettingsError((details or f"{call} failed on {target}",))
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return UnavailableError(
                f"can't reach {target}: {_reason(details)}",
                remedy="check the address, and that the server runs and can be reached from here",
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineError(f"{target} did not answer {call} in time")
        case grpc.StatusCode.UNIMPLEMENTED:
            return PreconditionError(f"{target} does not offer {call}")
        case grpc.StatusCode.CANCELLED:
            return CancelledError(f"{call} on {target} was cancelled")
    return _FROM_GRPC.get(code, InternalError)(f"{call} on {target} failed: {_reason(details)}")


def from_rpc_error(error: grpc.RpcError, *, call: str, target: str) -> MxError:
    """The MxError of a failed call, for sync and aio channels alike."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return InternalError(f"{call} on {target} failed: {error}")
    return from_status(error.code(), error.details(), error.trailing_metadata(), call=call, target=target)


def _first_values(trailing: MetadataItems | None) -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in trailing or ():
        if isinstance(value, str):
            values.setdefault(key, value)
    return values


def _reason(details: str | None) -> str:
    """The part of gRPC's text that a person can use."""
    text = (details or "no reason given").strip()
    for mark in ("last error: ", "remote host: ", "connect: "):
        _, found, rest = text.rpartition(mark)
        if found:
            text = rest
    return text.removeprefix("UNKNOWN: ").removeprefix("UNAVAILABLE: ")


def _cut(text: str, limit: int) -> str:
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return raw.decode()
    return raw[: limit - 3].decode("utf-8", "ignore") + "…"
