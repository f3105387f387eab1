"""The completion record of an entry: written last, and the only thing that makes an entry an entry.

``<model folder>/.mx/complete/<commit>.{full,meta}.json``. What it says is checked against the disk
whenever it is read: each file there, regular, with the recorded size, and linked where others look.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mx.core.cached import CachedEntry, CachedFile
from mx.core.model import EntryKey, ProviderName, canonical_name, safe_relative_path
from mx.errors import InvalidArgumentError, UnavailableError
from mx.providers.cache.layout import (
    BOOKS,
    COMPLETE,
    folder_of,
    has_view,
    is_slot,
    label,
    view_of,
    view_target,
)
from mx.providers.cache.tree import Folder, Folders

_MOST_BYTES = 64 << 20  # a record of 100,000 files has about 40 MB
_VERSION = 1


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """One file as ingested. ``source`` is the provider's digest, ``mtime_ns`` betrays later writes."""

    path: str
    size_bytes: int
    digest: str
    xxh3: str
    slot: str
    mtime_ns: int
    source: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True)
class CompletionRecord:
    """``made_view``: the publish created the snapshot folder, nobody else had it before."""

    key: EntryKey
    files: tuple[RecordedFile, ...]
    completed_at_ms: int
    made_view: bool = False

    def to_json(self) -> bytes:
        document = {
            "version": _VERSION,
            "provider": self.key.provider.value,
            "name": self.key.name,
            "commit": self.key.commit,
            "weights": self.key.weights,
            "completed_at_ms": self.completed_at_ms,
            "made_view": self.made_view,
            "files": [
                {
                    "path": file.path,
                    "size": file.size_bytes,
                    "digest": file.digest,
                    "xxh3": file.xxh3,
                    "slot": file.slot,
                    "mtime_ns": file.mtime_ns,
                    "source": file.source,
                    "etag": file.etag,
                }
                for file in self.files
            ],
        }
        return json.dumps(document, separators=(",", ":")).encode() + b"\n"

    def entry(self, root: Path) -> CachedEntry:
        model = folder_of(self.key)
        blocks = "/".join(model)
        folder = root.joinpath(*model)
        if has_view(self.key.provider):
            folder = folder.joinpath(*view_of(self.key.commit))
        files = tuple(
            CachedFile(
                f.path,
                f.size_bytes,
                f.digest,
                f.xxh3,
                block=f"{blocks}/{f.slot}",
                etag=f.etag,
                mtime_ns=f.mtime_ns,
            )
            for f in self.files
        )
        return CachedEntry(self.key, folder, files, self.completed_at_ms)


def parse_record(data: bytes) -> CompletionRecord | None:
    """None for anything that this mx did not write so: a record from outside is no promise."""
    try:
        document: Any = json.loads(data)
        if document["version"] != _VERSION:
            return None
        provider = ProviderName(document["provider"])
        key = EntryKey(
            provider,
            canonical_name(provider, _text(document["name"])),
            _text(document["commit"]),
            _flag(document["weights"]),
        )
        folder_of(key)
        files = tuple(_parse_file(provider, item) for item in document["files"])
        made_view = _flag(document["made_view"])
        completed_at_ms = _number(document["completed_at_ms"])
    except (ValueError, KeyError, TypeError, RecursionError, InvalidArgumentError):
        return None
    return CompletionRecord(key, files, completed_at_ms, made_view)


def _parse_file(provider: ProviderName, item: Any) -> RecordedFile:
    file = RecordedFile(
        path=safe_relative_path(_text(item["path"])),
        size_bytes=_number(item["size"]),
        digest=_text(item["digest"]),
        xxh3=_text(item["xxh3"]),
        slot=_text(item["slot"]),
        mtime_ns=_number(item["mtime_ns"]),
        source=_text(item["source"]),
        etag=_text(item["etag"]),
    )
    if not is_slot(provider, file.slot, file.path):
        raise ValueError(file.slot)
    return file


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(value)
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def read_record(model: Folder, key: EntryKey, *, place: str = COMPLETE) -> CompletionRecord | None:
    """The record of a key in a model's folder; None when there is none, or it speaks of another."""
    folder = model.find(BOOKS, place)
    if folder is None:
        return None
    with folder:
        data = folder.read(f"{label(key)}.json", most_bytes=_MOST_BYTES)
    record = None if data is None else parse_record(data)
    return record if record is not None and record.key == key else None


def records_in(model: Folder, *, place: str = COMPLETE) -> Iterator[CompletionRecord]:
    """Every readable record of a model's folder that lies where its key says."""
    folder = model.find(BOOKS, place)
    if folder is None:
        return
    with folder:
        for name in folder.names():
            if name.startswith(".") or not name.endswith(".json"):
                continue
            data = folder.read(name, most_bytes=_MOST_BYTES)
            record = None if data is None else parse_record(data)
            if record is not None and f"{label(record.key)}.json" == name:
                yield record


def missing_files(model: Folder, record: CompletionRecord) -> list[RecordedFile]:
    """Files of a record that are gone, have another size or another kind, or lost their link."""
    viewed = has_view(record.key.provider)
    view = model.find(*view_of(record.key.commit)) if viewed else None
    if viewed and view is None:
        return list(record.files)
    try:
        with Folders(model) as slots, Folders(view or model) as links:
            return [
                file
                for file in record.files
                if not _slot_there(slots, file) or (viewed and not _link_there(links, file))
            ]
    finally:
        if view is not None:
            view.close()


def _slot_there(slots: Folders, file: RecordedFile) -> bool:
    found = slots.regular(file.slot)
    return found is not None and found.st_size == file.size_bytes


def _link_there(links: Folders, file: RecordedFile) -> bool:
    folder, name = links.of(file.path)
    if folder is None:
        return False
    target = folder.readlink(name)
    if target is not None:
        return target == view_target(file.path, file.slot)
    # A second name for the same bytes, where the file system has no symbolic links.
    found = folder.regular(name)
    return found is not None and found.st_size == file.size_bytes


def complete_record(model: Folder, key: EntryKey) -> CompletionRecord | None:
    """The record of an entry whose every file is there."""
    record = read_record(model, key)
    return record if record is not None and not missing_files(model, record) else None


def whole(data: bytes) -> bytes:
    """The bytes of a record, refused when they would be too large to be read again."""
    if len(data) > _MOST_BYTES:
        raise UnavailableError("the completion record of this model would be larger than 64 MiB")
    return data
