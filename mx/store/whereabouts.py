"""A note in a cache's directory that says which store has its records.

For who opens the directory without its server: pins and readers that only the server knows must not
be overlooked. It lies in ``.locks``, the one folder in which the hub's own tools don't look for models.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = ".locks"
_NOTE = ".mx-records.json"
_MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """``path`` is the file of an SQLite store; ``pid`` is the server's, on ``host``."""

    backend: str
    host: str
    pid: int
    path: str = ""

    @property
    def is_here(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def is_gone(self) -> bool:
        """Records in the memory of a process of this machine that has ended, or a file that was removed."""
        if not self.is_here:
            return False
        if self.backend == "sqlite":
            return not os.path.exists(self.path)
        return self.backend == "memory" and not _runs(self.pid)

    def __str__(self) -> str:
        where = f" {self.path}" if self.path else ""
        return f"{self.backend}{where}, of an mx server on {self.host}"


def note_path(root: Path) -> Path:
    return root / FOLDER / _NOTE


def leave_note(root: Path, *, backend: str, path: Path | None) -> None:
    """Say that this process's server has the records. Never fails: a read-only cache needs no note."""
    file = "" if path is None else str(path.absolute())
    note = Whereabouts(backend, socket.gethostname(), os.getpid(), file)
    target = note_path(root)
    temporary = target.with_name(f".mx-{uuid.uuid4().hex}")
    with suppress(OSError):
        target.parent.mkdir(exist_ok=True)
        temporary.write_text(json.dumps(asdict(note)) + "\n", encoding="utf-8")
        os.replace(temporary, target)


def read_note(root: Path) -> Whereabouts | None:
    """None where there is no note, or none that makes sense."""
    try:
        with note_path(root).open("rb") as file:
            found = json.loads(file.read(_MOST_BYTES))
        backend, host, pid, path = (found[name] for name in ("backend", "host", "pid", "path"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not (isinstance(backend, str) and isinstance(host, str) and isinstance(path, str)):
        return None
    return Whereabouts(backend, host, pid, path) if isinstance(pid, int) and pid > 0 else None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
