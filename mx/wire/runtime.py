"""A private descriptor pool, and what the generated modules need from it.

The published ``modelexpress`` package registers ``p2p.proto`` and ``model_express.p2p.*`` in
protobuf's default pool. A second registration raises TypeError there, so mx keeps a pool of
its own: both packages live in one process and write the same bytes.

Only public protobuf API is used and no generated code is version-checked, so one set of files
serves protobuf 6.33 and 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

if TYPE_CHECKING:
    import grpc
    from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
    from google.protobuf.message import Message

POOL: DescriptorPool = DescriptorPool()


def add_file(serialized: bytes) -> FileDescriptor:
    """Register one serialized FileDescriptorProto; the files it imports must be there already."""
    # protobuf's own text stubs still say None here.
    return POOL.AddSerializedFile(serialized)  # type: ignore[func-returns-value,return-value,unused-ignore]


def message(file: FileDescriptor, name: str) -> type[Message]:
    """The class of a top-level message."""
    return GetMessageClass(file.message_types_by_name[name])


def method_path(method: MethodDescriptor) -> str:
    """``/package.Service/Method``, as it travels in the ``:path`` header."""
    return f"/{method.containing_service.full_name}/{method.name}"


def stub_class(file: FileDescriptor, name: str) -> type[Any]:
    """A class whose instances hold one callable for each method; for sync and aio channels alike."""
    service = file.services_by_name[name]

    def connect(self: Any, channel: Any) -> None:
        for method in service.methods:
            setattr(self, method.name, _multi_callable(channel, method))

    return type(f"{name}Stub", (), {"__init__": connect, "__doc__": f"Client of {service.full_name}."})


def service_handler(
    file: FileDescriptor, name: str, implementation: object
) -> grpc.GenericRpcHandler[Any, Any]:
    """Handler for ``server.add_generic_rpc_handlers``; works with sync and aio servers.

    Raises TypeError when ``implementation`` lacks a method: nothing is left UNIMPLEMENTED by oversight.
    """
    import grpc  # here, so that the messages alone can be used without grpc

    service: ServiceDescriptor = file.services_by_name[name]
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in service.methods:
        behavior = getattr(implementation, method.name, None)
        if behavior is None:
            raise TypeError(f"{type(implementation).__name__} lacks {service.full_name}.{method.name}")
        handlers[method.name] = _method_handler(grpc, method, behavior)
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _kind(method: MethodDescriptor) -> str:
    request = "stream" if method.client_streaming else "unary"
    return f"{request}_{'stream' if method.server_streaming else 'unary'}"


def _multi_callable(channel: Any, method: MethodDescriptor) -> Any:
    return getattr(channel, _kind(method))(
        method_path(method),
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )


def _method_handler(grpc: Any, method: MethodDescriptor, behavior: Any) -> Any:
    return getattr(grpc, f"{_kind(method)}_rpc_method_handler")(
        behavior,
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=_serialized,
    )


def _serialized(reply: Message | bytes) -> bytes:
    """A service may answer with bytes that are a message already."""
    return reply if isinstance(reply, bytes) else reply.SerializeToString()
