"""Rubbish over a real connection: the server answers every request, and never with a defect."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import running

from mx.server.app import SERVICE_NAMES
from mx.store.sqlite import SqliteSourceStore
from mx.wire.runtime import POOL
from mx.wire.v1 import admin, p2p

# Codes that say what is wrong with the request, beside OK.
CLEAR = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}
METHODS = [
    f"/{service.full_name}/{method.name}"
    for name in SERVICE_NAMES
    if not name.startswith("grpc.")
    for service in [POOL.FindServiceByName(name)]
    for method in service.methods
]


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """A server over SQLite in a thread of its own: hypothesis and its examples are not asynchronous."""
    database = tmp_path_factory.mktemp("rubbish") / "models.db"
    started: threading.Event = threading.Event()
    shared: dict[str, Any] = {}

    thread = threading.Thread(target=lambda: asyncio.run(_serve(database, started, shared)))
    thread.start()
    assert started.wait(20)
    try:
        with grpc.insecure_channel(shared["listen"]) as channel:
            yield channel
    finally:
        shared["loop"].call_soon_threadsafe(shared["stop"].set)
        thread.join(20)
    assert not thread.is_alive()


async def _serve(database: Path, started: threading.Event, shared: dict[str, Any]) -> None:
    store = await SqliteSourceStore.open(database)
    try:
        async with running(store) as mx:
            shared |= {
                "listen": mx.server.listen,
                "loop": asyncio.get_running_loop(),
                "stop": asyncio.Event(),
            }
            started.set()
            await shared["stop"].wait()
    finally:
        await store.close()


# Answered for as long as somebody listens.
ENDLESS = {f"/{admin.AdminService_NAME}/Watch"}


def ask(channel: grpc.Channel, method: str, data: bytes) -> grpc.StatusCode:
    """How it was answered; OK for the first answer of an endless one."""
    if method in ENDLESS:
        answers = channel.unary_stream(method)(data, timeout=20)
        try:
            next(answers)
        except grpc.RpcError as error:
            return error.code()
        answers.cancel()
        return grpc.StatusCode.OK
    call = channel.unary_unary(method).future(data, timeout=20)
    return call.code()


def messages(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Any message of this type, with extreme numbers and texts."""
    return st.builds(kind, **{f.name: _field(f) for f in kind.DESCRIPTOR.fields})


_INTEGERS = {"uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1), "int64": (-(2**63), 2**63 - 1)}
_TEXT = st.sampled_from(["", "w", "m", "a/b:c", "*", "%", "'; --", "\x00", "é名", "x" * 3000]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=8
)


def _field(field: Any) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return st.dictionaries(_TEXT, _TEXT, max_size=2)
    one = _scalar(field)
    if field.is_repeated:
        return st.lists(one, max_size=2)
    return st.none() | one if field.has_presence else one


def _scalar(field: Any) -> st.SearchStrategy[Any]:
    match field.type:
        case field.TYPE_MESSAGE:
            kind = next(
                getattr(module, field.message_type.name)
                for module in (p2p, admin)
                if module.DESCRIPTOR.name == field.message_type.file.name
            )
            return messages(kind)
        case field.TYPE_STRING:
            return _TEXT
        case field.TYPE_BYTES:
            return st.binary(max_size=20)
        case field.TYPE_BOOL:
            return st.booleans()
        case field.TYPE_FLOAT | field.TYPE_DOUBLE:
            return st.floats(width=32)
        case field.TYPE_ENUM:
            return st.integers(0, 5) | st.integers(-(2**31), 2**31 - 1)
        case field.TYPE_UINT32:
            return st.integers(0, 3) | st.integers(*_INTEGERS["uint32"])
        case field.TYPE_UINT64:
            return st.integers(0, 3) | st.integers(*_INTEGERS["uint64"])
        case _:
            return st.integers(*_INTEGERS["int64"])


_QUIET = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@_QUIET
@given(method=st.sampled_from(METHODS), data=st.binary(max_size=100))
def test_random_bytes(channel: grpc.Channel, method: str, data: bytes) -> None:
    assert ask(channel, method, data) in CLEAR | {grpc.StatusCode.OK}


@_QUIET
@given(
    request=st.one_of(
        messages(p2p.PublishMetadataRequest),
        messages(p2p.ListSourcesRequest),
        messages(p2p.GetMetadataRequest),
        messages(p2p.UpdateStatusRequest),
    )
)
def test_published_calls_answer_any_message_in_band(channel: grpc.Channel, request: Message) -> None:
    method = request.DESCRIPTOR.name.removesuffix("Request")
    assert ask(channel, f"/{p2p.P2pService_NAME}/{method}", request.SerializeToString()) is grpc.StatusCode.OK


@_QUIET
@given(
    request=st.one_of(
        messages(admin.AnnouncePeerRequest),
        messages(admin.FindPeersRequest),
        messages(admin.ListSourceRowsRequest),
        messages(admin.GetSourceRequest),
        messages(admin.WithdrawSourceRequest),
        messages(admin.ReportTransferRequest),
        messages(admin.ListTransfersRequest),
    )
)
def test_admin_calls_answer_any_message_clearly(channel: grpc.Channel, request: Message) -> None:
    method = request.DESCRIPTOR.name.removesuffix("Request")
    code = ask(channel, f"/{admin.AdminService_NAME}/{method}", request.SerializeToString())
    assert code in CLEAR | {grpc.StatusCode.OK}


def test_it_still_answers_afterwards(channel: grpc.Channel) -> None:
    for method in METHODS:
        assert ask(channel, method, b"") in CLEAR | {grpc.StatusCode.OK}
