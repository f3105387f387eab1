"""What does not fit an object: ConfigMaps, in parts below the size that one may have.

Parts are called ``name``, ``name-1``, ``name-2``. Whoever names them keeps a digest of what they hold
beside the names, and so notices parts that belong to another moment.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from mx.core.tensors import TensorDescriptor
from mx.errors import UnavailableError
from mx.store.kubernetes.api import Answer, Api, Object
from mx.store.kubernetes.names import CONFIG_MAPS
from mx.store.published import dump_tensors, parse_tensors

# A ConfigMap holds 1 MiB, base64 takes a third, and its metadata want room too.
PART_BYTES: Final = 900_000
TENSORS_KEY: Final = "tensors.json"
BLOB_KEY: Final = "blob"


def part_names(name: str, count: int) -> tuple[str, ...]:
    return tuple(name if number == 0 else f"{name}-{number}" for number in range(count))


def config_map(
    name: str,
    *,
    labels: Mapping[str, str],
    data: Mapping[str, str] | None = None,
    binary: Mapping[str, bytes] | None = None,
    annotations: Mapping[str, str] | None = None,
    owner: Object | None = None,
) -> Object:
    metadata: Object = {"name": name, "labels": dict(labels)}
    if annotations:
        metadata["annotations"] = dict(annotations)
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    body: Object = {"apiVersion": "v1", "kind": CONFIG_MAPS.kind, "metadata": metadata}
    if data is not None:
        body["data"] = dict(data)
    if binary is not None:
        body["binaryData"] = {key: base64.b64encode(value).decode() for key, value in binary.items()}
    return body


async def write(api: Api, bodies: Iterable[Object]) -> None:
    """Create or replace."""
    await asyncio.gather(*(_write(api, body) for body in bodies))


async def _write(api: Api, body: Object) -> None:
    name = body["metadata"]["name"]
    while True:
        try:
            await api.create(CONFIG_MAPS, body)
        except Answer as answer:
            if not answer.is_conflict:
                raise answer.error from answer
        else:
            return
        patch = [
            {"op": "add", "path": "/data", "value": body.get("data", {})},
            {"op": "add", "path": "/binaryData", "value": body.get("binaryData", {})},
            *(
                {"op": "add", "path": f"/metadata/{member}", "value": value}
                for member, value in body["metadata"].items()
                if member != "name"
            ),
        ]
        try:
            await api.patch(CONFIG_MAPS, name, patch, status=False)
        except Answer as answer:
            if not answer.is_missing:
                raise answer.error from answer
        else:
            return


async def delete(api: Api, names: Iterable[str]) -> None:
    await asyncio.gather(*(api.delete(CONFIG_MAPS, name) for name in names))


async def read_all(api: Api, names: Sequence[str]) -> list[Object]:
    """UnavailableError when one is not there: whoever wrote it has to write it again."""
    found = await asyncio.gather(*(api.read(CONFIG_MAPS, name) for name in names))
    for name, one in zip(names, found, strict=True):
        if one is None:
            raise UnavailableError(
                f"ConfigMap {name} in namespace {api.namespace} is gone",
                remedy="it comes back when the worker publishes again; restart the worker to hasten that",
            )
    return [one for one in found if one is not None]


# --- tensor descriptors -------------------------------------------------------------------------------
def pack_tensors(tensors: Iterable[TensorDescriptor], *, part_bytes: int = PART_BYTES) -> list[str]:
    """JSON arrays, each below ``part_bytes``; numbers of 64 bits as decimal strings."""
    parts: list[list[str]] = [[]]
    size = 2
    for members in dump_tensors(tuple(tensors)):
        text = json.dumps(members, ensure_ascii=False, separators=(",", ":"))
        length = len(text.encode("utf-8", "surrogatepass")) + 1
        if parts[-1] and size + length > part_bytes:
            parts.append([])
            size = 2
        parts[-1].append(text)
        size += length
    return [f"[{','.join(part)}]" for part in parts]


def unpack_tensors(parts: Iterable[str]) -> tuple[TensorDescriptor, ...]:
    """UnreadableError or ValueError for what is no list of them."""
    return tuple(tensor for part in parts for tensor in parse_tensors(json.loads(part)))


def pack_bytes(content: bytes, *, part_bytes: int = PART_BYTES) -> list[bytes]:
    step = part_bytes // 4 * 3
    return [content[begin : begin + step] for begin in range(0, len(content), step)] or [b""]


def digest_of(parts: Iterable[str | bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def data_of(found: Object, key: str) -> str:
    return str((found.get("data") or {}).get(key, ""))


def binary_of(found: Object, key: str) -> bytes:
    return base64.b64decode((found.get("binaryData") or {}).get(key, ""))
