"""Recordings of a feed: one JSON object a line, so that an incident can be looked at later.

The first line of each session is a header, every other one an update with the seconds since that
header. Sessions may be appended to one file; a line that a crash cut short ends its session.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from mx import __version__
from mx.core.feed import FeedUpdate
from mx.core.feed_json import to_json, update_from_json
from mx.errors import IntegrityError, MxError, NotFoundError, PreconditionError, UnavailableError

FORMAT = 1
_MARK = "mx_recording"


@dataclass(frozen=True, slots=True)
class Recorded:
    """An update, and when it came: seconds since the recording began, without the time between sessions."""

    at_s: float
    update: FeedUpdate


class Recorder:
    """Writes updates to a file. Use it as a context manager.

    Every method raises UnavailableError when the disk refuses; PreconditionError for a file that is
    there and no recording.
    """

    def __init__(
        self,
        path: Path,
        *,
        now_s: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._path = path
        self._now_s = now_s
        try:
            if path.exists() and path.stat().st_size:
                next(_lines(path), None)  # that it is one of ours
            self._file: BinaryIO = path.open("a+b")
            self._end_torn_line()
        except OSError as error:
            raise _refused(path, error) from error
        self._began_s = now_s()
        self._line({_MARK: FORMAT, "mx_version": __version__, "started_at_ms": now_ms()})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, update: FeedUpdate) -> None:
        self._line({"at_s": round(self._now_s() - self._began_s, 3), "update": to_json(update)})

    def close(self) -> None:
        self._file.close()

    def _end_torn_line(self) -> None:
        if self._file.seek(0, os.SEEK_END):
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

    def _line(self, data: object) -> None:
        try:
            self._file.write(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise _refused(self._path, error) from error


async def recorded(
    updates: AsyncGenerator[FeedUpdate, None],
    recorder: Recorder,
    *,
    failed: Callable[[MxError], None],
) -> AsyncIterator[FeedUpdate]:
    """The updates as they come, each written down. A disk that refuses ends the recording, not the feed."""
    writes = True
    async with aclosing(updates):
        async for update in updates:
            if writes:
                try:
                    recorder.write(update)
                except MxError as error:
                    writes = False
                    failed(error)
            yield update


def read_recording(path: Path) -> Iterator[Recorded]:
    """The updates of a recording, of all its sessions one after the other.

    NotFoundError, PreconditionError for another kind of file or a newer format, IntegrityError for a
    line in the middle that can't be read. Blocking.
    """
    began_s = at_s = 0.0
    for number, data in _lines(path):
        if _MARK in data:
            began_s = at_s
            continue
        try:
            at_s = began_s + max(0.0, float(data["at_s"]))
            yield Recorded(at_s, update_from_json(data["update"]))
        except (KeyError, TypeError, ValueError, IntegrityError) as error:
            raise IntegrityError(f"{path}, line {number} is no update of a recording: {error}") from None


def require_recording(path: Path) -> None:
    """Raise what reading its first update would raise, without making anything of it; PreconditionError
    where there is none."""
    if not any(_MARK not in data for _, data in _lines(path)):
        raise PreconditionError(f"{path} holds no update", remedy="it was ended before a server answered")


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line with its number; one that was cut short is left out where a session may end."""
    torn: int | None = None
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    data = json.loads(line)
                except ValueError:
                    data = None
                if number == 1 and not (isinstance(data, dict) and _MARK in data):
                    raise PreconditionError(f"{path} is no recording of mx")
                if not isinstance(data, dict):
                    if torn is not None:
                        raise IntegrityError(f"{path}, line {torn} is damaged")
                    torn = number
                    continue
                if torn is not None and _MARK not in data:
                    raise IntegrityError(f"{path}, line {torn} is damaged")
                torn = None
                if isinstance(format_ := data.get(_MARK), int) and format_ > FORMAT:
                    raise PreconditionError(
                        f"{path} was recorded in format {format_}; this version reads up to {FORMAT}",
                        remedy="use a newer mx",
                    )
                yield number, data
    except FileNotFoundError:
        raise NotFoundError(f"there is no recording {path}") from None
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(f"recording {path}: {error.strerror or error}", remedy="name another file")
