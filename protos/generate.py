"""Write ``mx/wire/v1`` from the ``.proto`` files beside this script.

    python protos/generate.py            write
    python protos/generate.py --check    exit 1 if what is checked in differs

For each file: a ``.py`` with the serialized descriptor and its classes from mx's private pool,
and a ``.pyi`` with the types. Both are made from the descriptor alone, so the text doesn't
depend on the version of the compiler. Needs ``grpcio-tools``.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from grpc_tools import protoc  # type: ignore[import-untyped]

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "mx" / "wire" / "v1"
PACKAGE = "mx.wire.v1"
# Name in the descriptor → module. The published files carry no directory in their name.
MODULES = {
    "api.proto": "api",
    "health.proto": "health",
    "model.proto": "model",
    "p2p.proto": "p2p",
    "mx/admin/v1/admin.proto": "admin",
    "mx/peer/v1/peer.proto": "peer",
}
PACKAGES = {
    "model_express.api": "api",
    "model_express.health": "health",
    "model_express.model": "model",
    "model_express.p2p": "p2p",
    "mx.admin.v1": "admin",
    "mx.peer.v1": "peer",
}
SCALARS = {
    FieldDescriptorProto.TYPE_STRING: "str",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_DOUBLE: "float",
    FieldDescriptorProto.TYPE_FLOAT: "float",
    # Open enums: a number without a name is carried like any other.
    FieldDescriptorProto.TYPE_ENUM: "int",
    FieldDescriptorProto.TYPE_UINT32: "int",
    FieldDescriptorProto.TYPE_UINT64: "int",
    FieldDescriptorProto.TYPE_INT32: "int",
    FieldDescriptorProto.TYPE_INT64: "int",
}
HEAD = "# Written by protos/generate.py from {name}; do not edit.\n"


def compile_protos() -> dict[str, FileDescriptorProto]:
    """Descriptors by name, as protoc's Python generator would embed them."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "set.bin"
        include = resources.files("grpc_tools") / "_proto"
        arguments = ["protoc", f"-I{HERE / 'model_express'}", f"-I{HERE}", f"-I{include}"]
        if protoc.main([*arguments, f"--descriptor_set_out={out}", *MODULES]) != 0:
            raise SystemExit("protoc failed; its own message is above")
        found = FileDescriptorSet.FromString(out.read_bytes())
    files = {file.name: file for file in found.file}
    for file in files.values():
        for message in _messages(file.message_type):
            for field in message.field:
                # Only descriptor sets spell these out; embedded descriptors leave them to be derived.
                field.ClearField("json_name")
    return files


def _messages(messages: Iterable[DescriptorProto]) -> Iterator[DescriptorProto]:
    for message in messages:
        yield message
        yield from _messages(message.nested_type)


def write_runtime(file: FileDescriptorProto) -> str:
    """Text of the ``.py`` module."""
    lines = [HEAD.format(name=file.name) + "from __future__ import annotations\n"]
    lines += [f"import {PACKAGE}.{MODULES[name]}" for name in file.dependency]
    lines.append("from mx.wire.runtime import add_file, message, service_handler, stub_class\n")
    raw = file.SerializeToString(deterministic=True)
    lines.append("DESCRIPTOR = add_file(")
    lines += [f"    {raw[start : start + 64]!r}" for start in range(0, len(raw), 64)]
    lines.append(")\n")
    for enum in file.enum_type:
        lines += [f"{value.name} = {value.number}" for value in enum.value] + [""]
    lines += [f'{m.name} = message(DESCRIPTOR, "{m.name}")' for m in file.message_type]
    for service in file.service:
        name = service.name
        lines += ["", f'{name}_NAME = DESCRIPTOR.services_by_name["{name}"].full_name']
        lines += [f'{name}Stub = stub_class(DESCRIPTOR, "{name}")', f"{name}AsyncStub = {name}Stub"]
        lines += ["", "", f"def {name}_handler(implementation):"]
        lines += [f'    return service_handler(DESCRIPTOR, "{name}", implementation)', ""]
    return "\n".join(lines).rstrip() + "\n"


def write_types(file: FileDescriptorProto) -> str:
    """Text of the ``.pyi`` module."""
    lines = ["DESCRIPTOR: FileDescriptor", ""]
    for enum in file.enum_type:
        lines += [f"{value.name}: Final[int]" for value in enum.value] + [""]
    for message in file.message_type:
        lines += [*_message_types(file, message), ""]
    for service in file.service:
        lines += [*_service_types(file, service), ""]
    body = "\n".join(lines).rstrip() + "\n"
    return "\n".join([HEAD.format(name=file.name), *_type_imports(file, body), "", body])


# Only the names that a module uses are imported.
TYPE_IMPORTS = {
    "collections.abc": ("AsyncIterator", "Iterable", "Iterator", "Mapping"),
    "typing": ("Any", "Final", "Literal", "Protocol", "overload", "type_check_only"),
    "google.protobuf.descriptor": ("FileDescriptor",),
    "google.protobuf.internal.containers": (
        "RepeatedCompositeFieldContainer",
        "RepeatedScalarFieldContainer",
        "ScalarMap",
    ),
    "google.protobuf.message": ("Message",),
}


def _type_imports(file: FileDescriptorProto, body: str) -> Iterator[str]:
    yield "import grpc"
    yield "import grpc.aio"
    for module, names in TYPE_IMPORTS.items():
        if used := [name for name in names if re.search(rf"\b{name}\b", body)]:
            yield f"from {module} import {', '.join(used)}"
    for name in file.dependency:
        yield f"import {PACKAGE}.{MODULES[name]}"


def _reference(file: FileDescriptorProto, full_name: str) -> str:
    """How a module names a message type: bare when it is its own."""
    package, _, name = full_name.removeprefix(".").rpartition(".")
    return name if package == file.package else f"{PACKAGE}.{PACKAGES[package]}.{name}"


def _field_types(
    file: FileDescriptorProto, message: DescriptorProto, field: FieldDescriptorProto
) -> tuple[str, str]:
    """Type of the attribute and of the constructor's argument."""
    is_message = field.type == FieldDescriptorProto.TYPE_MESSAGE
    entry = next(
        (n for n in message.nested_type if field.type_name.endswith(f".{message.name}.{n.name}")), None
    )
    if entry is not None and entry.options.map_entry:
        key, value = (SCALARS[f.type] for f in entry.field)
        return f"ScalarMap[{key}, {value}]", f"Mapping[{key}, {value}]"
    item = _reference(file, field.type_name) if is_message else SCALARS[field.type]
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        kind = "RepeatedCompositeFieldContainer" if is_message else "RepeatedScalarFieldContainer"
        return f"{kind}[{item}]", f"Iterable[{item}]"
    return item, item


def _message_types(file: FileDescriptorProto, message: DescriptorProto) -> Iterator[str]:
    yield f"class {message.name}(Message):"
    if message.field:
        yield "    def __init__(\n        self,\n        *,"
        for field in message.field:
            yield f"        {field.name}: {_field_types(file, message, field)[1]} | None = ...,"
        yield "    ) -> None: ..."
    else:
        yield "    def __init__(self) -> None: ..."
    present: list[str] = []
    for field in message.field:
        attribute = _field_types(file, message, field)[0]
        single = field.label != FieldDescriptorProto.LABEL_REPEATED
        is_message = field.type == FieldDescriptorProto.TYPE_MESSAGE
        if single and is_message:
            yield f"    @property\n    def {field.name}(self) -> {attribute}: ..."
        elif single:
            yield f"    {field.name}: {attribute}"
        else:
            yield f"    @property\n    def {field.name}(self) -> {attribute}: ..."
        if single and (is_message or field.HasField("oneof_index")):
            present.append(field.name)
    oneofs = [
        (oneof.name, [f.name for f in message.field if f.HasField("oneof_index") and f.oneof_index == index])
        for index, oneof in enumerate(message.oneof_decl)
        if not oneof.name.startswith("_")
    ]
    for name in [*present, *(name for name, _ in oneofs)]:
        if len(present) + len(oneofs) > 1:
            yield "    @overload"
        yield f'    def HasField(self, field_name: Literal["{name}"]) -> bool: ...'
    for name, members in oneofs:
        if len(oneofs) > 1:
            yield "    @overload"
        choice = ", ".join(f'"{member}"' for member in members)
        yield f'    def WhichOneof(self, oneof_group: Literal["{name}"]) -> Literal[{choice}] | None: ...'


def _service_types(file: FileDescriptorProto, service: ServiceDescriptorProto) -> Iterator[str]:
    name = service.name
    yield f"{name}_NAME: Final[str]\n"
    for prefix, suffix in (("grpc.", ""), ("grpc.aio.", "Async")):
        yield f"class {name}{suffix}Stub:"
        yield f"    def __init__(self, channel: {prefix}Channel) -> None: ..."
        for method in service.method:
            kind = _camel(method) + "MultiCallable"
            types = f"{_reference(file, method.input_type)}, {_reference(file, method.output_type)}"
            yield f"    {method.name}: {prefix}{kind}[{types}]"
        yield ""
    for suffix in ("", "Async"):
        yield "@type_check_only"
        yield f"class {name}{suffix}Servicer(Protocol):"
        for method in service.method:
            yield from _servicer_method(file, method, is_async=bool(suffix))
        yield ""
    yield f"def {name}_handler("
    yield f"    implementation: {name}Servicer | {name}AsyncServicer,"
    yield ") -> grpc.GenericRpcHandler[Any, Any]: ..."


def _camel(method: MethodDescriptorProto) -> str:
    return ("Stream" if method.client_streaming else "Unary") + (
        "Stream" if method.server_streaming else "Unary"
    )


def _servicer_method(
    file: FileDescriptorProto, method: MethodDescriptorProto, *, is_async: bool
) -> Iterator[str]:
    request, reply = _reference(file, method.input_type), _reference(file, method.output_type)
    if method.client_streaming:
        raise SystemExit(f"{method.name}: client streams need types in protos/generate.py first")
    if method.server_streaming:
        reply = f"AsyncIterator[{reply}]" if is_async else f"Iterator[{reply}]"
    aio_context = f"grpc.aio.ServicerContext[{request}, {_reference(file, method.output_type)}]"
    context = aio_context if is_async else "grpc.ServicerContext"
    define = "async def" if is_async and not method.server_streaming else "def"
    yield f"    {define} {method.name}(self, request: {request}, context: {context}, /) -> {reply}: ..."


def generate() -> dict[str, str]:
    """Text by file name."""
    texts: dict[str, str] = {}
    for name, file in compile_protos().items():
        texts[f"{MODULES[name]}.py"] = write_runtime(file)
        texts[f"{MODULES[name]}.pyi"] = write_types(file)
    return texts


def main() -> int:
    check = "--check" in sys.argv[1:]
    texts = generate()
    known = {path.name for path in TARGET.glob("*.py*")} - {"__init__.py"}
    stale = sorted(known - texts.keys())
    changed = [n for n, t in texts.items() if not (TARGET / n).is_file() or (TARGET / n).read_text() != t]
    if check:
        for name in [*changed, *stale]:
            sys.stderr.write(
                f"mx/wire/v1/{name} does not agree with protos/; run python protos/generate.py\n"
            )
        return 1 if changed or stale else 0
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in changed:
        (TARGET / name).write_text(texts[name])
    for name in stale:
        (TARGET / name).unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
