"""A name for the cache's directory, kept in it: servers that share it agree on it, by whatever path.

It lies in ``.locks``, the one folder in which tools of the hub don't look for models.
"""

from __future__ import annotations

import re
import uuid
from contextlib import suppress

from mx.providers.cache.tree import Folder, fresh_name

FOLDER, FILE = ".locks", ".mx-cache-id"
_SOUND = re.compile(rb"[0-9a-f]{32}\n")


def identity(root: Folder) -> str:
    """The name; a new one where there is none or where it makes no sense."""
    found = None
    folder = root.find(FOLDER)
    if folder is not None:
        with folder:
            found = _read(folder)
    if found is None:
        with root.child(FOLDER, create=True) as folder:
            _make(folder)
            found = _read(folder)
    if found is None:
        raise OSError(f"{FILE} can't be read back")
    return found


def _read(folder: Folder) -> str | None:
    data = folder.read(FILE, most_bytes=64)
    return data[:-1].decode() if data is not None and _SOUND.fullmatch(data) else None


def _make(folder: Folder) -> None:
    temporary = fresh_name(".id")
    folder.write(temporary, f"{uuid.uuid4().hex}\n".encode())
    try:
        nonsense = folder.lstat(FILE) is not None and _read(folder) is None
        with suppress(FileExistsError):  # somebody was faster
            # Where links don't exist the last one wins; nobody keeps the name in memory.
            if nonsense or not folder.link(temporary, folder, FILE):
                folder.rename(temporary, folder, FILE)
    finally:
        folder.unlink(temporary)
    folder.sync()
