"""What a download has reached, one JSON line per step, so that the next owner can go on from there.

A line is written after what it speaks of is on the disk. A torn or lost line costs bytes to be
fetched again, never a wrong byte taken for a right one.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mx.core.model import ListedFile
from mx.providers.cache.tree import Folder

JOURNAL = "journal.jsonl"
_MOST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Writer:
    """A process, told apart from all others: ``space`` is its process namespace, ``start`` when it began."""

    boot: str
    space: str
    pid: int
    start: str

    @classmethod
    def this(cls) -> Writer:
        pid = os.getpid()
        return cls(_boot(), _space(), pid, _start(pid))

    def surely_dead(self) -> bool:
        """Only a process of our own namespace can be known to be dead."""
        if not self.boot or not self.space or (self.boot, self.space) != (_boot(), _space()):
            return False
        return _start(self.pid) != self.start

    def same_memory(self) -> bool:
        """Its unsynced bytes are in the page cache that we read from."""
        return bool(self.boot) and self.boot == _boot()


@dataclass(frozen=True, slots=True)
class Held:
    """A file that is whole and verified; ``mtime_ns`` of it at that moment."""

    digest: str
    xxh3: str
    mtime_ns: int


@dataclass(slots=True)
class Reached:
    """The journal's last word on one file."""

    listed: ListedFile
    mark_bytes: int = 0
    mark_xxh3: str = ""
    held: Held | None = None


@dataclass(slots=True)
class Story:
    """A journal as read. ``writer`` None: the last one let go, or none is known."""

    writer: Writer | None = None
    stage: str = ""
    released: bool = False
    failure: tuple[str, str] | None = None  # why it let go: code and words
    files: dict[str, Reached] = field(default_factory=dict)


class Journal:
    """Appends; safe to be used from several threads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    @classmethod
    def open(cls, stage: Folder) -> Journal:
        stage.step("open journal")
        return cls(stage.open(JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND))

    def owned(self, writer: Writer, *, stage: str) -> None:
        self._append(
            {
                "boot": writer.boot,
                "space": writer.space,
                "pid": writer.pid,
                "start": writer.start,
                "stage": stage,
            },
            kind="owner",
        )

    def released(self, *, stage: str) -> None:
        """``stage`` is the folder's name at ``owned``: one who was taken over releases nothing."""
        self._append(stage, kind="released")

    def beat(self) -> None:
        """The owner lives: whoever waits for it sees the time of the journal move."""
        with self._lock:
            if self._fd >= 0:
                os.utime(self._fd)

    def failed(self, code: str, message: str, *, stage: str) -> None:
        self._append({"stage": stage, "code": code, "message": message}, kind="failed")

    def begun(self, files: Iterable[ListedFile]) -> None:
        lines = [{"begun": _listed_json(file)} for file in files]
        self._write(b"".join(_line(line) for line in lines))

    def marked(self, path: str, *, at: int, xxh3: str) -> None:
        self._append({"path": path, "at": at, "xxh3": xxh3}, kind="mark")

    def held(self, path: str, held: Held) -> None:
        self._append(
            {"path": path, "digest": held.digest, "xxh3": held.xxh3, "mtime_ns": held.mtime_ns}, kind="held"
        )

    def dropped(self, path: str) -> None:
        self._append({"path": path}, kind="dropped")

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _append(self, value: object, *, kind: str) -> None:
        self._write(_line({kind: value}))

    def _write(self, data: bytes) -> None:
        with self._lock:
            while data and self._fd >= 0:
                data = data[os.write(self._fd, data) :]


def read_story(stage: Folder) -> Story:
    """Everything the journal says; lines that say nothing are passed over."""
    story = Story()
    data = stage.read(JOURNAL, most_bytes=_MOST_BYTES) or b""
    for line in data.splitlines():
        try:
            document = json.loads(line)
            if isinstance(document, dict):
                for kind, value in document.items():
                    _apply(story, kind, value)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return story


def _apply(story: Story, kind: str, value: Any) -> None:
    match kind:
        case "owner":
            story.writer = Writer(
                str(value["boot"]), str(value["space"]), int(value["pid"]), str(value["start"])
            )
            story.stage, story.released, story.failure = str(value["stage"]), False, None
        case "released":
            story.released = story.released or value == story.stage
        case "failed":
            if value["stage"] == story.stage:
                story.failure = (str(value["code"]), str(value["message"]))
        case "begun":
            listed = ListedFile(
                str(value["path"]),
                int(value["size"]),
                str(value["digest"]),
                str(value["etag"]),
                str(value.get("xxh3", "")),
            )
            known = story.files.get(listed.path)
            if known is None or known.listed != listed:
                story.files[listed.path] = Reached(listed)
        case "mark":
            reached = story.files[value["path"]]
            reached.mark_bytes, reached.mark_xxh3 = int(value["at"]), str(value["xxh3"])
        case "held":
            story.files[value["path"]].held = Held(
                str(value["digest"]), str(value["xxh3"]), int(value["mtime_ns"])
            )
        case "dropped":
            reached = story.files[value["path"]]
            story.files[value["path"]] = Reached(reached.listed)


def _listed_json(file: ListedFile) -> dict[str, object]:
    document: dict[str, object] = {
        "path": file.path,
        "size": file.size_bytes,
        "digest": file.digest,
        "etag": file.etag,
    }
    return document | {"xxh3": file.xxh3} if file.xxh3 else document


def _line(value: object) -> bytes:
    # A line break first: a torn last line of a dead owner must not swallow this one.
    return b"\n" + json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _boot() -> str:
    return _system_text(Path("/proc/sys/kernel/random/boot_id"))


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _start(pid: int) -> str:
    """When a process began, in clock ticks since boot; empty when there is none."""
    text = _system_text(Path(f"/proc/{pid}/stat"))
    # The name in parentheses may hold blanks; the state Z is a process that no longer runs.
    fields = text.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in ("Z", "X") else ""


def _system_text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
