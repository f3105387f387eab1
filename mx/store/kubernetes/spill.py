"""The parts of a source that do not fit its object: tensor descriptors, and a blob that is very large.

They are written before the status that names them, and owned by the object, so that they go with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mx.core.source import NixlMetadata, SourceEntry, TensorSource
from mx.core.tensors import TensorDescriptor
from mx.errors import UnavailableError
from mx.store.kubernetes import configmaps
from mx.store.kubernetes.api import Api, Object
from mx.store.kubernetes.names import API_VERSION, RANK_LABEL, SOURCE_LABEL, SOURCES, tensors_name
from mx.store.kubernetes.source_objects import (
    Spilled,
    decode_entry,
    ranks_of,
    spilled_blob,
    spilled_tensors,
)
from mx.store.published import UnreadableError

# In an object, base64 included; etcd takes 1.5 MiB, and the object holds more than the blob.
_BLOB_MAX: Final = 600_000


@dataclass(frozen=True, slots=True)
class Spill:
    api: Api
    blob_max: int = _BLOB_MAX

    async def write(self, entry: SourceEntry, found: Object) -> tuple[Spilled, Spilled]:
        """ConfigMaps for descriptors and blob, where they are needed; what the status has to name."""
        worker = entry.worker
        name = tensors_name(found["metadata"]["name"], worker.worker_rank)
        bodies: list[Object] = []
        tensors = blob = Spilled()
        labels = {SOURCE_LABEL: entry.source_id, RANK_LABEL: str(worker.worker_rank)}
        owner = _owner(found)
        if isinstance(worker.payload, TensorSource) and worker.payload.tensors:
            parts = configmaps.pack_tensors(worker.payload.tensors)
            tensors = Spilled(configmaps.part_names(name, len(parts)), configmaps.digest_of(parts))
            for part_name, part in zip(tensors.names, parts, strict=True):
                data = {configmaps.TENSORS_KEY: part}
                bodies.append(configmaps.config_map(part_name, labels=labels, data=data, owner=owner))
        backend = worker.backend_metadata
        if isinstance(backend, NixlMetadata) and len(backend.blob) > self.blob_max:
            chunks = configmaps.pack_bytes(backend.blob)
            blob = Spilled(configmaps.part_names(f"{name}-blob", len(chunks)), configmaps.digest_of(chunks))
            for part_name, chunk in zip(blob.names, chunks, strict=True):
                binary = {configmaps.BLOB_KEY: chunk}
                bodies.append(configmaps.config_map(part_name, labels=labels, binary=binary, owner=owner))
        await configmaps.write(self.api, bodies)
        return tensors, blob

    async def forget(self, before: Object, *, keep: Object) -> None:
        """Remove the ConfigMaps that an earlier publication named and this one does not."""
        old, new = _names(before), _names(keep)
        await configmaps.delete(self.api, [name for name in old if name not in new])

    async def decode(self, found: Object, rank: int) -> SourceEntry | None:
        """The full record; None when its parts are not those that the object names (published just now)."""
        part = ranks_of(found)[rank]
        tensors, blob = spilled_tensors(part), spilled_blob(part)
        try:
            descriptors: tuple[TensorDescriptor, ...] = ()
            if tensors.names:
                maps = await configmaps.read_all(self.api, tensors.names)
                texts = [configmaps.data_of(one, configmaps.TENSORS_KEY) for one in maps]
                if tensors.digest and configmaps.digest_of(texts) != tensors.digest:
                    return None
                descriptors = configmaps.unpack_tensors(texts)
            content: bytes | None = None
            if blob.names:
                maps = await configmaps.read_all(self.api, blob.names)
                chunks = [configmaps.binary_of(one, configmaps.BLOB_KEY) for one in maps]
                if configmaps.digest_of(chunks) != blob.digest:
                    return None
                content = b"".join(chunks)
            return decode_entry(found, rank, tensors=descriptors, blob=content)
        except (ValueError, UnreadableError) as error:
            raise UnavailableError(
                f"{found['metadata']['name']} holds what mx can't read: {error}",
                remedy="kubectl delete it; its worker publishes again",
            ) from error


def _names(part: Object) -> tuple[str, ...]:
    return (*spilled_tensors(part).names, *spilled_blob(part).names)


def _owner(found: Object) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": SOURCES.kind,
        "name": found["metadata"]["name"],
        "uid": found["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
