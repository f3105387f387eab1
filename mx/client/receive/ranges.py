"""A round over HTTP: several connections, each reading one span after another."""

from __future__ import annotations

import threading
import time

from mx.client.receive.http import BusyError, Door, Fill, HttpReader
from mx.client.receive.landing import Halt, Landing, Landings
from mx.client.receive.plan import MIB, Span, SpanPlan
from mx.client.receive.rules import ReceiveRules
from mx.core.cached import CachedFile, OpenedFiles

_BUFFER_BYTES = MIB


class RangeRound:
    """``work`` is for as many threads as there are connections; it returns when nothing is left to take."""

    def __init__(
        self,
        opened: OpenedFiles,
        door: Door,
        plan: SpanPlan,
        landings: Landings,
        halt: Halt,
        *,
        rules: ReceiveRules,
    ) -> None:
        self._ticket = opened.ticket
        self._files = {file.path: (number, file) for number, file in enumerate(opened.files)}
        self._door = door
        self._plan = plan
        self._landings = landings
        self._halt = halt
        self._rules = rules
        self._lock = threading.Lock()

    def work(self) -> None:
        reader = HttpReader(
            self._door, self._ticket, connect_s=self._rules.connect_s, silence_s=self._rules.silence_s
        )
        self._halt.on_end(reader.interrupt)
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        try:
            while (span := self._take()) is not None:
                landing = self._landings.of(span.file)
                if span.length:
                    self._read(reader, span, landing, buffer)
                if landing.offset == span.end == span.file.size_bytes:
                    self._landings.finish(span.file)
                with self._lock:
                    self._plan.done(span)
        finally:
            reader.close()

    def _take(self) -> Span | None:
        self._halt.check()
        with self._lock:
            return self._plan.take()

    def _read(self, reader: HttpReader, span: Span, landing: Landing, buffer: memoryview) -> None:
        """A span into its file; what comes before its turn is kept in memory until then."""
        number, file = self._files[span.file.path]
        fill = self._get(reader, number, file, span)
        ahead = memoryview(b"")
        held = at = 0
        while at < span.length:
            self._halt.check()
            if landing.offset == span.offset + at:
                if held:
                    landing.append(ahead[:held])
                    at, held = at + held, 0
                if at < span.length:
                    count = fill(buffer[: min(len(buffer), span.length - at)])
                    landing.append(buffer[:count])
                    at += count
            elif at + held < span.length:
                ahead = ahead or memoryview(bytearray(span.length))
                held += fill(ahead[held : min(held + _BUFFER_BYTES, span.length - at)])
            else:
                self._landings.wait_turn(landing, span.offset + at)

    def _get(self, reader: HttpReader, number: int, file: CachedFile, span: Span) -> Fill:
        """Ask for it, again while the server has too much to do."""
        give_up_s = time.monotonic() + self._rules.patience_s
        while True:
            try:
                return reader.get(number, file, offset=span.offset, length=span.length)
            except BusyError:
                if time.monotonic() >= give_up_s:
                    raise
            self._halt.wait(0.3 + 0.7 * self._rules.jitter())
            self._halt.check()
