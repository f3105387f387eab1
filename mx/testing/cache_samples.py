"""Small models with real digests, for tests of the cache: what a provider would list and send."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mx.core.cached import CachedEntry
from mx.core.model import EntryKey, ListedFile, Listing, ProviderName, is_weight_file
from mx.ports import EntryCache, Staging

COMMIT = "a" * 40
OTHER_COMMIT = "b" * 40

BASE: Mapping[str, bytes] = {
    "config.json": b'{"model_type": "sample"}',
    "empty.txt": b"",
    "model-00001.safetensors": bytes(range(256)) * 300,
    "model-00002.safetensors": bytes(reversed(range(256))) * 200,
    "nested/deep/tokenizer.json": b'{"tokens": []}' * 50,
}


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def git_sha1(data: bytes) -> str:
    header = b"blob %d\0" % len(data)
    return f"git-sha1:{hashlib.sha1(header + data, usedforsecurity=False).hexdigest()}"


def hub_digest(path: str, data: bytes) -> str:
    """As the Hugging Face hub lists it: sha256 of large files, git's own digest of small ones."""
    return sha256(data) if is_weight_file(path) else git_sha1(data)


@dataclass(frozen=True, slots=True)
class SampleModel:
    """A revision in one weight mode and its content; ``digest`` and ``etag`` are the provider's habits."""

    key: EntryKey
    content: Mapping[str, bytes] = field(default_factory=lambda: BASE)
    digest: Callable[[str, bytes], str] = hub_digest
    etag: str = ""

    @property
    def kept(self) -> dict[str, bytes]:
        return {p: d for p, d in sorted(self.content.items()) if self.key.weights or not is_weight_file(p)}

    @property
    def listing(self) -> Listing:
        files = (
            ListedFile(path, len(data), self.digest(path, data), self.etag)
            for path, data in self.kept.items()
        )
        return Listing(self.key, tuple(files))

    @property
    def total_bytes(self) -> int:
        return sum(len(data) for data in self.kept.values())

    def fetch(self, staging: Staging, *, piece_bytes: int = 1 << 15) -> int:
        """Bring and accept everything that is missing, as a provider would; the bytes brought."""
        brought = 0
        for missing in staging.missing:
            data = self.kept[missing.file.path][missing.offset :]
            with staging.path_for(missing.file).open("ab", buffering=0) as part:
                for start in range(0, len(data), piece_bytes):
                    brought += part.write(data[start : start + piece_bytes])
                    staging.checkpoint(missing.file)
            staging.accept(missing.file)
        return brought

    def download(self, cache: EntryCache, *, revision: str | None = None) -> CachedEntry:
        staging = cache.begin(self.listing)
        try:
            self.fetch(staging)
            return staging.publish(revision=revision, fence=lambda: True)
        finally:
            staging.close()


def hub_model(
    name: str = "org/name", *, commit: str = COMMIT, weights: bool = True, **changed: bytes
) -> SampleModel:
    """A Hugging Face model; ``changed`` replaces or adds files (``__`` in a name stands for a dot)."""
    content = {**BASE, **{path.replace("__", "."): data for path, data in changed.items()}}
    return SampleModel(EntryKey(ProviderName.HUGGING_FACE, name, commit, weights), content)


def bucket_model(
    name: str = "s3://bucket/team/model", *, weights: bool = True, etag: str = "v1", **changed: bytes
) -> SampleModel:
    """A model of a bucket: no commit, no digests, an ETag."""
    content = {**BASE, **{path.replace("__", "."): data for path, data in changed.items()}}
    key = EntryKey(ProviderName.S3, name, "", weights)
    return SampleModel(key, content, digest=lambda _path, _data: "", etag=etag)


def tree(root: Path) -> dict[str, str]:
    """Everything below a folder: links by target, files by content; times of records left out."""
    found: dict[str, str] = {}
    for folder, _names, files in os.walk(root):
        for name in files:
            path = Path(folder, name)
            found[str(path.relative_to(root))] = _shape(path)
        for name in _names:
            path = Path(folder, name)
            if path.is_symlink():
                found[str(path.relative_to(root))] = _shape(path)
    return found


def _shape(path: Path) -> str:
    if path.is_symlink():
        return f"link {os.readlink(path)}"
    data = path.read_bytes()
    if path.parent.parent.name == ".mx" and path.suffix == ".json":
        document = json.loads(data)
        for name in ("completed_at_ms", "made_view"):
            document.pop(name)
        for file in document["files"]:
            file.pop("mtime_ns")
        return json.dumps(document, sort_keys=True)
    return hashlib.sha256(data).hexdigest()
