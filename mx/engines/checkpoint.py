"""Which weights a local checkpoint folder holds, told from the bytes and not from the path.

Two hosts with the same files get the same digest wherever the files lie; two fine-tunes of one
model, equal in names and sizes, do not. Reads headers and small samples, never a whole file.
Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mx.errors import InvalidArgumentError, NotFoundError, PreconditionError

# Tried in this order; the first kind that is present is what an engine loads.
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_CONFIG_FILES = ("config.json", "params.json", "quantize_config.json", "hf_quant_config.json")
_SAMPLE_BYTES = 256
# Bounds the cost on network storage: 4096 reads of one page, 16 at a time.
_MAX_SAMPLES = 4096
_READERS = 16
_MAX_HEADER_BYTES = 100 << 20

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class CheckpointName:
    """A model's name and commit, told from a path; ``commit`` is empty when the path has none."""

    name: str
    commit: str


def name_of(model: str) -> CheckpointName:
    """Name for ``model`` as an engine holds it: a hub id, a cache snapshot, or any folder.

    ``…/models--org--name/snapshots/<commit>`` gives org/name and the commit; another folder gives
    its last part, so that hosts with different mount points still agree.
    """
    path = Path(model)
    if not path.is_dir():
        return CheckpointName(model, "")
    parts = path.absolute().parts
    if len(parts) >= 3 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
        commit = parts[-1] if _COMMIT.fullmatch(parts[-1]) else ""
        return CheckpointName(parts[-3].removeprefix("models--").replace("--", "/", 1), commit)
    return CheckpointName(path.absolute().name or model, "")


def which_weights(model: str, *, label: str, commit: str, asked: str) -> tuple[str, str]:
    """(revision, digest of the folder) of ``model``: exactly one of them is set.

    ``label`` is the operator's own name for these weights and wins; ``commit`` is what the hub
    library resolved, ``asked`` the revision that the user named, which counts only as a full commit.
    Raises PreconditionError when nothing tells the weights apart from those of another day.
    """
    if label:
        return label, ""
    known = name_of(model)
    if known.commit:
        return known.commit, ""
    if Path(model).is_dir():
        return "", checkpoint_digest(Path(model))
    for candidate in (commit, asked):
        if _COMMIT.fullmatch(candidate):
            return candidate, ""
    raise PreconditionError(
        f"the commit of {model} is not known", remedy="set MX_MODEL_REVISION, or --revision to a commit"
    )


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Files of the first weight format that the folder holds, by name."""
    for suffix in _WEIGHT_SUFFIXES:
        found = sorted(
            (path for path in folder.iterdir() if path.suffix == suffix), key=lambda path: path.name
        )
        if found:
            return tuple(found)
    return ()


def checkpoint_digest(folder: Path) -> str:
    """32 hex digits over configuration, names, sizes, safetensors headers and samples of every tensor.

    A sample of 256 bytes is taken from the middle of each tensor (of evenly spread tensors above
    4096; evenly over the file for other formats). A change to a few single values may pass:
    give such a checkpoint its own MX_MODEL_REVISION.
    Raises NotFoundError without weights, InvalidArgumentError for a file that is no safetensors.
    """
    files = weight_files(folder)
    if not files:
        raise NotFoundError(
            f"no weights in {folder}", remedy=f"expected one of {', '.join(_WEIGHT_SUFFIXES)}"
        )
    digest = hashlib.blake2b(digest_size=16)
    for name in _CONFIG_FILES:
        if (folder / name).is_file():
            _feed(digest, name.encode(), (folder / name).read_bytes())
    per_file = max(1, _MAX_SAMPLES // len(files))
    with ThreadPoolExecutor(_READERS) as readers:
        for path in files:
            size = path.stat().st_size
            if path.suffix == ".safetensors":
                header, offsets = _safetensors_samples(path, size, limit=per_file)
            else:
                header, offsets = b"", spread(0, size, limit=min(per_file, 64))
            _feed(digest, path.name.encode(), str(size).encode(), header)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                for block in readers.map(lambda at, fd=descriptor: os.pread(fd, _SAMPLE_BYTES, at), offsets):
                    _feed(digest, block)
            finally:
                os.close(descriptor)
    return digest.hexdigest()


def spread(start: int, end: int, *, limit: int) -> list[int]:
    """At most ``limit`` offsets spread evenly over [start, end), each with room for a sample."""
    room = max(0, end - start - _SAMPLE_BYTES)
    count = max(1, min(limit, (end - start) // _SAMPLE_BYTES))
    return sorted({start + room * i // max(1, count - 1) for i in range(count)})


def sampled_ranges(path: Path, *, limit: int = _MAX_SAMPLES) -> list[tuple[int, int]]:
    """(offset, bytes) that the digest of one safetensors file reads besides its header."""
    _, offsets = _safetensors_samples(path, path.stat().st_size, limit=limit)
    return [(offset, _SAMPLE_BYTES) for offset in offsets]


def _safetensors_samples(path: Path, size: int, *, limit: int) -> tuple[bytes, list[int]]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
            raise InvalidArgumentError(f"{path} is not a safetensors file", remedy="download it again")
        header = file.read(length)
    base = 8 + length
    try:
        entries = [
            (int(entry["data_offsets"][0]), int(entry["data_offsets"][1]))
            for name, entry in json.loads(header).items()
            if name != "__metadata__"
        ]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise InvalidArgumentError(
            f"{path} has a broken safetensors header", remedy="download it again"
        ) from error
    if any(end < start or base + end > size for start, end in entries):
        raise InvalidArgumentError(f"{path} is shorter than its header says", remedy="download it again")
    step = -(-len(entries) // limit) if entries else 1
    middles = [
        base + max(start, (start + end - _SAMPLE_BYTES) // 2)
        for start, end in sorted(entries)[::step]
        if end > start
    ]
    return header, middles


def _feed(digest: hashlib.blake2b, *parts: bytes) -> None:
    for part in parts:  # lengths keep "ab","c" apart from "a","bc"
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
