"""Listings from outside: which paths are taken over, and which are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mx.core.model import EntryKey, ListedFile, is_kept_file, safe_relative_path
from mx.errors import IntegrityError, InvalidArgumentError, NotFoundError, PreconditionError

_MOST_OBJECTS = 100_000  # more would also be more than a completion record holds


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a bucket lists. ``etag`` is what a later read must find unchanged; ``encoding`` how its bytes
    are packed, where listings tell."""

    key: str
    size_bytes: int
    etag: str
    digest: str = ""
    encoding: str = ""


def bucket_and_prefix(name: str) -> tuple[str, str]:
    """Of a canonical name, ``s3://bucket/prefix``; the prefix ends with its slash."""
    bucket, _, prefix = name.partition("://")[2].partition("/")
    return bucket, f"{prefix}/"


async def whole_listing(
    key: EntryKey, pages: AsyncIterator[tuple[Sequence[StoredObject], str | None]]
) -> list[StoredObject]:
    """The objects of all pages, each of which names the next one; IntegrityError when it does not end."""
    objects: list[StoredObject] = []
    seen: set[str] = set()
    async for page, following in pages:
        objects += page
        if len(objects) > _MOST_OBJECTS:
            raise IntegrityError(
                f"{key} holds more than {_MOST_OBJECTS} objects", remedy="name the folder of one model"
            )
        if following in seen:
            raise IntegrityError(f"{key}: the store's listing goes round in circles")
        if following is not None:
            seen.add(following)
    return objects


def require_model(name: str, objects: Iterable[StoredObject]) -> None:
    """NotFoundError unless there is anything below the prefix, besides the marker of an empty folder."""
    bucket, prefix = bucket_and_prefix(name)
    if all(one.key == prefix for one in objects):
        raise NotFoundError(
            f"{name}: the bucket {bucket} holds nothing below {prefix}",
            remedy="check the name; a model is a folder, named without its files",
        )


def gone(key: EntryKey, path: str) -> PreconditionError:
    """A listed object that is not there any more."""
    return PreconditionError(
        f"{key}: {path} changed since it was listed: it is gone",
        remedy="ask again: it is then listed anew",
    )


def objects_below(
    key: EntryKey, objects: Iterable[StoredObject], *, prefix: str
) -> Iterator[tuple[str, StoredObject]]:
    """The paths to keep and what lies there. IntegrityError for a key that can't be a file on a disk.

    Folder markers (empty, with a slash at the end, as consoles make them) are no files.
    """
    kept: dict[str, StoredObject] = {}
    for one in objects:
        if not one.key.startswith(prefix):
            raise IntegrityError(f"{key}: the store listed {one.key[:80]!r}, which lies elsewhere")
        if one.key.endswith("/") and one.size_bytes == 0:
            continue
        path = _safe_path(key, one.key.removeprefix(prefix))
        if not is_kept_file(path, weights=key.weights):
            continue
        if kept.setdefault(path, one) is not one:
            raise IntegrityError(f"{key}: {path} is listed twice")
    require_tree(kept, str(key))
    yield from sorted(kept.items())


def _safe_path(key: EntryKey, path: str) -> str:
    try:
        if any(ord(char) < 0x20 or char == "\x7f" for char in path):
            raise InvalidArgumentError(f"path {path[:80]!r} holds control characters")
        return safe_relative_path(path)
    except InvalidArgumentError as error:
        raise IntegrityError(
            f"{key} can't be kept on a disk: {error.message}", remedy="rename or remove that object"
        ) from None


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
