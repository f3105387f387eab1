"""gRPC channels from a target to other workers, and calls on them with errors translated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

import grpc

from mx.transfer.peer import MESSAGE_LIMIT_BYTES
from mx.wire import status

T = TypeVar("T")


class HeldChannel:
    """A channel that is closed on the way out unless somebody keeps it."""

    def __init__(self, endpoint: str) -> None:
        self.channel = grpc.insecure_channel(
            endpoint,
            options=[
                ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._kept = False

    def keep(self) -> grpc.Channel:
        self._kept = True
        return self.channel

    def __enter__(self) -> HeldChannel:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            with contextlib.suppress(ValueError):
                self.channel.close()


def call(name: str, target: str, work: Callable[[], T]) -> T:
    """The answer of one call; its failure as an MxError that names call and target."""
    try:
        return work()
    except grpc.RpcError as error:
        raise status.from_rpc_error(error, call=name, target=target) from error
