"""Files that a provider lists: checked together before anybody believes them."""

from __future__ import annotations

from collections.abc import Iterable

from mx.core.model import ListedFile
from mx.errors import IntegrityError


def gather(files: Iterable[ListedFile], *, into: dict[str, ListedFile], what: str) -> None:
    """Add files by path; IntegrityError when one is there already and is another one."""
    for file in files:
        if into.setdefault(file.path, file) != file:
            raise IntegrityError(f"{what}: {file.path} is listed twice, with different content")


def require_tree(files: Iterable[str], what: str) -> None:
    """No path is both a file and a folder; a disk could not hold that."""
    paths = set(files)
    for path in paths:
        for index, char in enumerate(path):
            if char == "/" and path[:index] in paths:
                raise IntegrityError(f"{what}: {path[:index]} is listed as a file and as a folder")
