"""Logging of mx: events with fields, in three looks, without secrets.

    log = event_log(__name__)
    log.info("source published", source_id=source_id, worker=worker_id, tensors=len(tensors))

    with log_context(request_id=new_request_id()):
        ...  # every event in here carries request_id

``setup_logs`` is called once per process, by its edge (server, CLI, engine plugin). Standard
library only, and never the root logger of a process that is not ours.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import secrets as randomness
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TextIO

from mx.core.redact import MASK, is_secret_name, redact_text
from mx.errors import SettingsError

TRACE = 5
LEVELS: Mapping[str, int] = MappingProxyType(
    {
        "trace": TRACE,
        "debug": logging.DEBUG,
        "info": logging.INFO,
        "warn": logging.WARNING,
        "error": logging.ERROR,
    }
)
_LEVEL_NAMES = {number: name for name, number in LEVELS.items()}
_OWN_MEMBERS = frozenset({"time", "level", "logger", "event", "error"})

_context: ContextVar[Mapping[str, object]] = ContextVar("mx_log_context", default=MappingProxyType({}))


class LogOptions(Protocol):
    """What ``setup_logs`` needs to know; ``settings.logging`` has this shape."""

    @property
    def level(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def file(self) -> Path | None: ...
    @property
    def structured(self) -> bool: ...
    @property
    def quiet(self) -> bool: ...


class EventLog:
    """Writes events: a constant sentence, and what varies as fields."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def trace(self, event: str, /, **fields: object) -> None:
        self._write(TRACE, event, fields)

    def debug(self, event: str, /, **fields: object) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        self._write(logging.INFO, event, fields)

    def warn(self, event: str, /, **fields: object) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """An error with the traceback of the exception being handled: for defects only."""
        self._write(logging.ERROR, event, fields, exc_info=True)

    def enabled(self, level: str) -> bool:
        """Whether an event of this level would be written; for fields that cost something."""
        return self._logger.isEnabledFor(LEVELS[level])

    def _write(self, level: int, event: str, fields: Mapping[str, object], *, exc_info: bool = False) -> None:
        # Stack level 3: the line of the caller of info(), not ours.
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, exc_info=exc_info, extra={"fields": fields}, stacklevel=3)


def event_log(name: str) -> EventLog:
    """The event log of a module; pass ``__name__``."""
    return EventLog(logging.getLogger(name))


@contextlib.contextmanager
def log_context(**fields: object) -> Iterator[None]:
    """Add fields to every event written in this task and in tasks started from it."""
    token = _context.set(MappingProxyType({**_context.get(), **fields}))
    try:
        yield
    finally:
        _context.reset(token)


def new_request_id() -> str:
    """A short random id for one request, 16 hex digits."""
    return randomness.token_hex(8)


def setup_logs(
    options: LogOptions,
    *,
    stream: TextIO | None = None,
    secrets: Collection[str] = (),
    libraries: bool = True,
    colour: bool | None = None,
) -> None:
    """Send the events of mx where the settings say; a second call replaces the first.

    ``stream`` is used where no file is set (standard error if None). ``secrets`` are texts that must
    never appear. ``libraries`` also takes warnings of other packages over, which only a process
    of our own may do. ``colour`` None means: where the stream is a terminal.
    Raises SettingsError when the file can't be opened.
    """
    handler = _handler(options.file, stream)
    where = stream or sys.stderr
    coloured = (options.file is None and where.isatty()) if colour is None else colour
    look = "json" if options.structured else options.format
    handler.setFormatter(_formatter(look, known=frozenset(secrets), coloured=coloured))

    logging.addLevelName(TRACE, "TRACE")
    ours, root = logging.getLogger("mx"), logging.getLogger()
    for logger in (ours, root):
        _take_away(logger)
    ours.addHandler(handler)
    ours.setLevel(logging.ERROR if options.quiet else LEVELS[options.level])
    ours.propagate = False
    if libraries:
        root.addHandler(handler)
        root.setLevel(logging.ERROR if options.quiet else logging.WARNING)


def _take_away(logger: logging.Logger) -> None:
    """Remove what an earlier call put there, and nothing else."""
    for old in [one for one in logger.handlers if isinstance(one, (_StreamHandler, _FileHandler))]:
        logger.removeHandler(old)
        old.close()


class _StreamHandler(logging.StreamHandler[TextIO]):
    """A reader that went away (``| head``) is no reason to print a traceback per event."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        if not isinstance(sys.exception(), (BrokenPipeError, ValueError)):
            super().handleError(record)


class _FileHandler(logging.handlers.WatchedFileHandler):
    """Watched: logrotate may move the file away under us."""


def _handler(file: Path | None, stream: TextIO | None) -> logging.Handler:
    if file is None:
        return _StreamHandler(stream or sys.stderr)
    try:
        return _FileHandler(file, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError((f"logging.file: {file} can't be written: {reason}",)) from None


def _formatter(look: str, *, known: frozenset[str], coloured: bool) -> logging.Formatter:
    match look:
        case "json":
            return JsonFormatter(known)
        case "compact":
            return CompactFormatter(known)
        case "pretty":
            return PrettyFormatter(known, coloured=coloured)
    raise ValueError(f"log format {look!r} is not one of json, compact, pretty")


class _EventFormatter(logging.Formatter):
    """What the three looks share: fields collected, secrets gone."""

    def __init__(self, known: frozenset[str]) -> None:
        super().__init__()
        self._known = known

    def event(self, record: logging.LogRecord) -> str:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # a library's format string that does not fit its arguments
            message = f"{record.msg} {record.args}"
        return redact_text(message, known=self._known)

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        """Context first, then the event's own; a field named like a secret is masked."""
        own = getattr(record, "fields", None)
        merged = {**_context.get(), **(own if isinstance(own, Mapping) else {})}
        return {str(name): self._clean(str(name), value) for name, value in merged.items()}

    def traceback(self, record: logging.LogRecord) -> str:
        if not record.exc_info:
            return ""
        return redact_text(self.formatException(record.exc_info), known=self._known)

    def _clean(self, name: str, value: object) -> object:
        if is_secret_name(name):
            return MASK if value else value
        match value:
            case None | bool() | int():
                return value
            case float():
                # JSON has no NaN and no infinity.
                return value if value == value and abs(value) != float("inf") else str(value)
            case Mapping():
                return {str(key): self._clean(str(key), one) for key, one in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._clean("", one) for one in value]
            case _:
                return redact_text(_as_text(value), known=self._known)


def _as_text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  # a field that can't be shown must not lose the event
        return f"<{type(value).__name__}>"


class JsonFormatter(_EventFormatter):
    """One JSON object per line: time, level, logger, event, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": _level_name(record),
            "logger": record.name,
            "event": self.event(record),
        }
        for name, value in self.fields(record).items():
            line[f"{name}_" if name in _OWN_MEMBERS and name != "error" else name] = value
        if traceback := self.traceback(record):
            line["traceback"] = traceback
        return json.dumps(line, ensure_ascii=False, default=str)


class PrettyFormatter(_EventFormatter):
    """For people: local time, level, event, fields."""

    _COLOURS = MappingProxyType(
        {"warn": "\x1b[33m", "error": "\x1b[31m", "debug": "\x1b[2m", "trace": "\x1b[2m"}
    )

    def __init__(self, known: frozenset[str], *, coloured: bool = False) -> None:
        super().__init__(known)
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = _level_name(record)
        mark = f"{level.upper():<5}"
        if self._coloured and level in self._COLOURS:
            mark = f"{self._COLOURS[level]}{mark}\x1b[0m"
        place = record.name.removeprefix("mx.")
        head = f"{clock}.{int(record.msecs):03d} {mark} {place:<18} {_one_line(self.event(record))}"
        return _with_traceback(f"{head}{_pairs(self.fields(record))}", self.traceback(record))


class CompactFormatter(_EventFormatter):
    """The shortest line that still says when, how bad and what; UTC."""

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        head = f"{clock} {_level_name(record)[0].upper()} {_one_line(self.event(record))}"
        return _with_traceback(f"{head}{_pairs(self.fields(record))}", self.traceback(record))


def _level_name(record: logging.LogRecord) -> str:
    return _LEVEL_NAMES.get(record.levelno) or record.levelname.lower()


def _pairs(fields: Mapping[str, object]) -> str:
    return "".join(f" {name}={_value(value)}" for name, value in fields.items())


def _value(value: object) -> str:
    """A value that can't be taken for the next field, nor for the next line."""
    if (
        isinstance(value, str)
        and value
        and not any(char in value for char in " =\"'")
        and value.isprintable()
    ):
        return value
    return json.dumps(value, ensure_ascii=not (isinstance(value, str) and value.isprintable()), default=str)


def _one_line(text: str) -> str:
    """Text from outside can't end the line, move the cursor or colour the terminal."""
    return (
        text
        if text.isprintable()
        else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    )


def _with_traceback(line: str, traceback: str) -> str:
    # Tabs and line ends are a traceback's own; other control characters are somebody else's.
    body = "\n".join("  " + _one_line(one) for one in traceback.splitlines())
    return f"{line}\n{body}" if body else line
