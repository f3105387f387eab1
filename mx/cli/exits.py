"""Exit codes of ``mx``, and failures as the user sees them. The codes are a contract: add, never renumber."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from mx.errors import ErrorCode, InternalError, MxError, SettingsError


class ExitCode(IntEnum):
    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    DENIED = 5
    CONFLICT = 6
    INTEGRITY = 7
    TIMEOUT = 8
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANING: Mapping[ExitCode, str] = MappingProxyType(
    {
        ExitCode.OK: "done",
        ExitCode.FAILURE: "failed; or the settings are wrong; or the server is there but can't serve",
        ExitCode.USAGE: "the command line is wrong",
        ExitCode.NOT_FOUND: "the named thing does not exist",
        ExitCode.UNREACHABLE: "a server, store, provider or peer can't be reached",
        ExitCode.DENIED: "no or a wrong credential, or not allowed",
        ExitCode.CONFLICT: "in use, pinned, owned by another, or in the wrong state",
        ExitCode.INTEGRITY: "bytes are not what they should be",
        ExitCode.TIMEOUT: "took longer than `--timeout`",
        ExitCode.INTERRUPTED: "Ctrl-C",
        ExitCode.BROKEN_PIPE: "the reader of stdout went away (as `head` does)",
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What to tell about a failed run: ``problems`` are full sentences, at least one."""

    code: str
    exit_code: int
    problems: tuple[str, ...]
    remedy: str

    def document(self) -> dict[str, object]:
        """The one JSON document of a failed run."""
        return {
            "success": False,
            "error": "\n".join(self.problems),
            "code": self.code,
            "remedy": self.remedy,
            "exit_code": self.exit_code,
        }


def failure_of(error: BaseException) -> Failure:
    """Translate any exception that reached the edge of the process."""
    error = single_error(error)
    if isinstance(error, SettingsError):
        return Failure(error.code, error.exit_code, error.problems or (error.message,), error.remedy)
    if isinstance(error, MxError):
        return Failure(error.code, error.exit_code, (error.message,), error.remedy)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Failure(
        ErrorCode.INTERNAL,
        InternalError.exit_code,
        (f"unexpected {text}",),
        "this is a defect in mx; run again with MX_DEBUG=1 to see where, and report it",
    )


def single_error(error: BaseException) -> BaseException:
    """A task group wraps what its tasks raise; one error alone is shown as itself."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def wants_traceback(error: BaseException, *, verbosity: int) -> bool:
    """Tracebacks are for defects only, and only on request."""
    if isinstance(single_error(error), MxError):
        return False
    return verbosity >= 3 or os.environ.get("MX_DEBUG", "") not in ("", "0")
