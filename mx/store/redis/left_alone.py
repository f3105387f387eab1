"""Values of others that we can't read: said once, never touched."""

from __future__ import annotations

from mx.logs import event_log

log = event_log(__name__)

_MOST = 1_000  # lines of one process: a Redis full of rubbish must not fill the log


class LeftAlone:
    """What was said already."""

    def __init__(self) -> None:
        self._said: set[tuple[bytes, str]] = set()

    def note(self, key: bytes, part: str, reason: Exception | str) -> None:
        if (key, part) in self._said or len(self._said) >= _MOST:
            return
        self._said.add((key, part))
        log.warn(  # noqa: G010  # an EventLog
            "value in Redis can't be read and is left alone",
            key=key.decode(errors="replace"),
            part=part,
            reason=str(reason),
        )
