"""A TCP proxy that can be told to misbehave: cut, refuse, slow down, or go silent without closing.

Runs in a thread of its own, so that tests and the processes they start can use it alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 1 << 16


class TcpProxy:
    """In front of one address of loopback. Faults hold for connections old and new until they are lifted.

    ``delay_s`` is added to each chunk, in both directions. ``bytes_up`` and ``bytes_down`` count what
    was passed on.
    """

    def __init__(self, port: int, *, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self.port = 0
        self.delay_s = 0.0
        self.bytes_up = 0
        self.bytes_down = 0
        self.accepted = 0
        self._refusing = False
        self._silent = False
        self._cut_after: int | None = None
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._started = threading.Event()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="tcp proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(30), "the proxy did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        def stop() -> None:
            assert self._stop is not None
            self._stop.set()

        self._loop.call_soon_threadsafe(stop)
        self._thread.join(30)

    def cut(self) -> None:
        """End every connection of this moment; new ones are welcome."""
        self._call(self._close_all)

    def refuse(self) -> None:
        """End every connection, and every new one as soon as it is made."""
        self._refusing = True
        self.cut()

    def hush(self) -> None:
        """Pass nothing on any more and close nothing: as when a host vanishes."""
        self._silent = True

    def cut_answers_after(self, count: int) -> None:
        """Let so many more bytes of answers pass, then cut: what was asked has happened, unheard."""
        self._cut_after = count

    def heal(self) -> None:
        """No fault any more. Connections that went silent are ended: their bytes are lost."""
        self._refusing, self.delay_s, self._cut_after = False, 0.0, None
        if self._silent:
            self._silent = False
            self.cut()

    def _call(self, what: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(30), "the proxy hangs"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        self._close_all()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        try:
            if self._refusing:
                return
            there, to_there = await asyncio.open_connection(*self._target)
            self._writers.add(to_there)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._pump(reader, to_there, up=True))
                    tasks.create_task(self._pump(there, writer, up=False))
            finally:
                self._end(to_there)
        except* (OSError, _Cut):
            pass
        finally:
            self._end(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self._silent:
                continue
            if not up and self._cut_after is not None:
                data, cut = data[: self._cut_after], len(data) >= self._cut_after
                self._cut_after = None if cut else self._cut_after - len(data)
            else:
                cut = False
            if up:
                self.bytes_up += len(data)
            else:
                self.bytes_down += len(data)
            writer.write(data)
            await writer.drain()
            if cut:
                break
        raise _Cut

    def _close_all(self) -> None:
        for writer in tuple(self._writers):
            self._end(writer)

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        with contextlib.suppress(Exception):  # closed already, one way or another
            writer.transport.abort()


class _Cut(Exception):  # noqa: N818  # no error: how a pump ends
    """One side has ended, or was told to."""
