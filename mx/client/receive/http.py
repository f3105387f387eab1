"""Ranges of files over HTTP, straight into a caller's memory: one connection, one thread."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from mx.core.cached import CachedFile, OpenedFiles
from mx.errors import ErrorCode, IntegrityError, MxError, PreconditionError, UnavailableError

_CODE_HEADER = "mx-error-code"
_MOST_ANSWER_BYTES = 2000

Fill = Callable[[memoryview], int]


class TicketError(PreconditionError):
    """The ticket is not, or no longer, known where it was shown."""


class BusyError(UnavailableError):
    """The server serves as many as it can: try again in a moment."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where an opened entry's files are served over HTTP."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class HttpReader:
    """Reads ranges by a ticket over one connection, which is made anew when it was idle too long.

    Every failure is an MxError: TicketError, BusyError, PreconditionError when the file is another
    one, IntegrityError when the server's own file is not in order, UnavailableError.
    """

    def __init__(self, door: Door, ticket: str, *, connect_s: float, silence_s: float) -> None:
        self._door = door
        self._ticket = ticket
        self._silence_s = silence_s
        self._connection = http.client.HTTPConnection(door.host, door.port, timeout=connect_s)

    def close(self) -> None:
        self._connection.close()

    def interrupt(self) -> None:
        """End a read that waits in another thread; it fails with UnavailableError."""
        if (connected := self._connection.sock) is not None:
            with suppress(OSError):  # not connected any more
                connected.shutdown(socket.SHUT_RDWR)

    def get(self, number: int, file: CachedFile, *, offset: int, length: int) -> Fill:
        """Ask for a range. What it answers fills a view with the bytes that follow, and says how many:
        all of it but at the range's end, UnavailableError when the connection breaks."""
        try:
            response = self._ask(number, offset, length)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._broken(file, error) from error
        self._require_range(response, file, offset, length)

        def fill(view: memoryview) -> int:
            try:
                count = response.readinto(view)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                raise self._broken(file, error) from error
            if not count and len(view):
                self._connection.close()
                raise self._broken(file, ConnectionResetError("it ended early"))
            return count

        return fill

    def _ask(self, number: int, offset: int, length: int) -> http.client.HTTPResponse:
        headers = {
            "Authorization": f"Bearer {self._ticket}",
            "Range": f"bytes={offset}-{offset + length - 1}",
        }
        fresh = self._connection.sock is None
        try:
            return self._try(number, headers)
        except (ConnectionError, http.client.RemoteDisconnected):
            if fresh:
                raise
            # The other side closes what was idle; that may cross with our request.
            self._connection.close()
            return self._try(number, headers)

    def _try(self, number: int, headers: dict[str, str]) -> http.client.HTTPResponse:
        connection = self._connection
        if connection.sock is None:
            self._connect()
        connection.request("GET", f"/files/{number}", headers=headers)
        return connection.getresponse()

    def _connect(self) -> None:
        self._connection.connect()
        if (connected := self._connection.sock) is not None:
            connected.settimeout(self._silence_s)

    def _require_range(
        self, response: http.client.HTTPResponse, file: CachedFile, offset: int, length: int
    ) -> None:
        if response.status not in (200, 206):
            raise self._refusal(response, file)
        etag = response.headers.get("ETag", "").strip('"')
        if file.xxh3 and etag and etag != file.xxh3:
            raise PreconditionError(f"{file.path} is another file at {self._door} by now")
        whole = response.status == 200
        begins = (offset, length) == (0, file.size_bytes) if whole else True
        asked = f"bytes {offset}-{offset + length - 1}/{file.size_bytes}"
        if not begins or (not whole and response.headers.get("Content-Range") != asked):
            raise PreconditionError(
                f"{self._door} answers with another range of {file.path} than was asked for"
            )
        if response.headers.get("Content-Length") != str(length):
            raise PreconditionError(f"{self._door} answers with another length of {file.path}")

    def _refusal(self, response: http.client.HTTPResponse, file: CachedFile) -> MxError:
        code = response.headers.get(_CODE_HEADER, "")
        try:
            said = response.read(_MOST_ANSWER_BYTES).decode("utf-8", "replace").strip()
        except (OSError, http.client.HTTPException):
            said = ""
        if not response.isclosed():
            self._connection.close()
        words = f"{file.path}: {self._door} answered {response.status}{f': {said}' if said else ''}"
        match response.status:
            case 401:
                return TicketError(words)
            case 404 | 416:
                return PreconditionError(words)
            case 503 if code == ErrorCode.EXHAUSTED:
                return BusyError(words)
            case 500 if code == ErrorCode.INTEGRITY:
                return IntegrityError(words)
        return UnavailableError(words)

    def _broken(self, file: CachedFile, error: Exception) -> UnavailableError:
        if isinstance(error, TimeoutError):
            reason = f"nothing came for {self._silence_s:g} s"
        else:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return UnavailableError(f"{file.path}: reading from {self._door} broke off: {reason}")


def find_door(
    opened: OpenedFiles, hosts: tuple[str, ...], *, connect_s: float, silence_s: float
) -> Door | None:
    """Where this ticket is known over HTTP: the first host that gives a byte for it; None for nowhere.

    ``hosts``: how we reach the server for gRPC, first. Behind one address there may be several servers,
    of which only the one that gave the ticket knows it; it names its own addresses.
    """
    if not opened.port:
        return None
    number = next((n for n, file in enumerate(opened.files) if file.size_bytes), None)
    for host in dict.fromkeys((*hosts, *opened.hosts)):
        door = Door(host, opened.port)
        if number is None:
            return door  # nothing to read
        reader = HttpReader(door, opened.ticket, connect_s=connect_s, silence_s=silence_s)
        try:
            reader.get(number, opened.files[number], offset=0, length=1)(memoryview(bytearray(1)))
        except (BusyError, IntegrityError):
            return door  # it knows the ticket; the rest is for the reader of that file to say
        except (UnavailableError, PreconditionError):
            continue
        finally:
            reader.close()
        return door
    return None
