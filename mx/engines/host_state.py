"""Numbers that a model keeps on the host and that its weights decide (scales, flags), as one more tensor.

Tensors alone do not make a pulled model equal: loading also sets plain attributes, such as the
scale of an FP8 KV cache as a float. What differs between a freshly built module and the loaded
one is packed into a tensor of fixed size, travels with the rest, and is set on the target.
Generic over torch modules: knows no engine and no attribute by name.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from mx.engines.write_guard import fingerprint
from mx.errors import IntegrityError, PreconditionError


@dataclass(frozen=True, slots=True)
class HostTensor:
    """A small tensor in host memory of a model that lies on a device. ``data`` None: too large to carry."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | None
    fingerprint: int = 0


Scalar = float | int | bool | str | HostTensor | None
ScalarMap = Mapping[str, Scalar]

CAPACITY_BYTES: Final = 256 * 1024
_VERSION: Final = 1
_MAX_DEPTH: Final = 3
_SEPARATOR: Final = "/"
# Integers from here on are addresses, handles or ids of this process, never facts about weights.
_MAX_INTEGER: Final = 1 << 31
_MAX_TEXT: Final = 256
_MAX_TENSOR_BYTES: Final = 4096
_INTERNALS: Final = frozenset(vars(torch.nn.Module()))
_ABSENT: Final = object()


def snapshot(
    model: torch.nn.Module, *, device_type: str, skip_packages: Sequence[str] = ()
) -> dict[str, Scalar]:
    """Plain values in the attributes of every module, and of the objects modules hold, by path.

    Host tensors in attributes count as well when the model lies on another ``device_type``: there
    they are not listed for transfer. Objects whose class lives below one of ``skip_packages``
    (shared configuration) are left out.
    """
    found: dict[str, Scalar] = {}
    walk = _Walk(tuple(skip_packages), tensors=device_type != "cpu")
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute not in _INTERNALS:
                for path, scalar in walk.values(value, (name, attribute)):
                    found[_SEPARATOR.join(path)] = scalar
    return found


def changed(before: ScalarMap, after: ScalarMap) -> dict[str, Scalar]:
    """What ``after`` has and ``before`` had not, or had with another value."""
    return {path: value for path, value in after.items() if not _same(before.get(path, _ABSENT), value)}


def pack(changes: ScalarMap) -> bytes:
    """``changes`` in exactly CAPACITY_BYTES. Raises PreconditionError when they need more."""
    for path, value in changes.items():
        if isinstance(value, HostTensor) and value.data is None:
            raise PreconditionError(
                f"loading changes the host tensor {path} of shape {value.shape}: too large to carry"
            )
    values = {path: _to_json(value) for path, value in changes.items()}
    text = json.dumps({"version": _VERSION, "set": values}, separators=(",", ":"), sort_keys=True)
    body = zlib.compress(text.encode())
    if len(body) + 8 > CAPACITY_BYTES:
        raise PreconditionError(
            f"the model keeps {len(changes)} changed values on the host, {len(body)} bytes packed: "
            f"more than {CAPACITY_BYTES} can't be transferred"
        )
    return (len(body).to_bytes(8, "little") + body).ljust(CAPACITY_BYTES, b"\0")


def unpack(blob: bytes) -> dict[str, Scalar]:
    """Reverse of ``pack``. Raises IntegrityError for anything else."""
    length = int.from_bytes(blob[:8], "little")
    try:
        if not 0 < length <= len(blob) - 8:
            raise ValueError("length")
        body = zlib.decompressobj().decompress(blob[8 : 8 + length], 64 << 20)
        document = json.loads(body)
        if document["version"] != _VERSION:
            raise ValueError("version")
        values = {str(path): _from_json(value) for path, value in document["set"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
        raise IntegrityError(
            "the source's host state can't be read", remedy="load from another source"
        ) from error
    return values


def apply(model: torch.nn.Module, values: ScalarMap) -> int:
    """Set ``values`` on ``model``; how many differed. Raises IntegrityError when a path leads nowhere."""
    modules = dict(model.named_modules())
    count = 0
    for path, value in values.items():
        module_name, *steps = path.split(_SEPARATOR)
        holder: object = modules.get(module_name)
        for step in steps[:-1]:
            holder = _child(holder, step)
        if holder is None or not steps:
            raise IntegrityError(f"the source sets {path}, which this model does not have")
        held = _child(holder, steps[-1])
        if _same(held, value):
            continue
        if isinstance(value, HostTensor):
            _fill(held, path, value)
        else:
            _assign(holder, steps[-1], value)
        count += 1
    return count


class _Walk:
    """Finds values below objects; shared objects are walked once."""

    def __init__(self, skip: tuple[str, ...], *, tensors: bool) -> None:
        self._skip = skip
        self._tensors = tensors
        self._visited: set[int] = set()

    def values(self, value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Scalar]]:
        if isinstance(value, torch.Tensor):
            if self._tensors and value.device.type == "cpu":
                yield path, _host_tensor(value)
        elif value is None or isinstance(value, bool | float):
            yield path, value
        elif isinstance(value, int):
            if abs(value) < _MAX_INTEGER:
                yield path, int(value)
        elif isinstance(value, str):
            if len(value) <= _MAX_TEXT:
                yield path, value
        elif len(path) <= _MAX_DEPTH + 1 and id(value) not in self._visited:
            self._visited.add(id(value))
            for key, child in self._children(value):
                if _SEPARATOR not in key:
                    yield from self.values(child, (*path, key))

    def _children(self, value: object) -> list[tuple[str, object]]:
        if isinstance(value, torch.nn.Module | type):
            return []
        package = type(value).__module__
        if any(package == name or package.startswith(f"{name}.") for name in self._skip):
            return []
        if isinstance(value, dict):
            return [(key, child) for key, child in list(value.items()) if isinstance(key, str)]
        attributes = getattr(value, "__dict__", None)
        if package == "builtins" or not isinstance(attributes, dict):
            return []
        return [(key, child) for key, child in list(attributes.items()) if not key.startswith("__")]


def _host_tensor(tensor: torch.Tensor) -> HostTensor:
    tensor = tensor.detach().contiguous()
    raw = tensor.reshape(-1).view(torch.uint8)
    small = raw.numel() <= _MAX_TENSOR_BYTES
    return HostTensor(
        dtype=str(tensor.dtype),
        shape=tuple(tensor.shape),
        data=bytes(raw.tolist()) if small else None,
        fingerprint=0 if small else fingerprint(raw),
    )


def _to_json(value: Scalar) -> object:
    if not isinstance(value, HostTensor):
        return value
    return {"dtype": value.dtype, "shape": value.shape, "data": base64.b64encode(value.data or b"").decode()}


def _from_json(value: Any) -> Scalar:
    if isinstance(value, dict):
        return HostTensor(
            str(value["dtype"]), tuple(map(int, value["shape"])), base64.b64decode(value["data"])
        )
    if not isinstance(value, float | int | str | None):
        raise ValueError("value")
    return value


def _fill(target: object, path: str, value: HostTensor) -> None:
    if (
        not isinstance(target, torch.Tensor)
        or (str(target.dtype), tuple(target.shape)) != (value.dtype, value.shape)
        or len(value.data or b"") != target.nbytes
    ):
        raise IntegrityError(f"the source sets the host tensor {path}, which this model has in another shape")
    if value.data:
        source = torch.frombuffer(bytearray(value.data), dtype=target.dtype).reshape(target.shape)
        target.data.copy_(source)


def _child(holder: object, key: str) -> object:
    if isinstance(holder, dict):
        return holder.get(key)
    return vars(holder).get(key) if hasattr(holder, "__dict__") else None


def _assign(holder: object, key: str, value: Scalar) -> None:
    if isinstance(holder, dict):
        holder[key] = value
    else:
        setattr(holder, key, value)


def _same(left: object, right: object) -> bool:
    return type(left) is type(right) and (left == right or (left != left and right != right))
