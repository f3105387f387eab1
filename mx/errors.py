"""The error tree of mx. Standard library only; every layer may import it.

    MxError                      code, message, remedy
    ├── UsageError               the command line or the call was wrong            exit 2
    ├── SettingsError            settings are wrong: every problem, one per line   exit 1
    ├── InvalidArgumentError     a value from outside is malformed                 exit 1
    ├── NotFoundError            the named thing does not exist                    exit 3
    ├── UnavailableError         a server, store, provider or peer can't be reached exit 4
    ├── PermissionDeniedError    known, but not allowed                            exit 5
    ├── UnauthenticatedError     no or a wrong credential                          exit 5
    ├── ConflictError            in use, pinned, owned by another, already there   exit 6
    ├── PreconditionError        right request, wrong state or wrong peer          exit 6
    ├── IntegrityError           bytes are not what they should be                 exit 7
    ├── DeadlineError            took longer than its bound                        exit 8
    ├── ExhaustedError           a limit was met: disk, streams, message size      exit 1
    ├── CancelledError           ended because its caller went away                exit 130
    └── InternalError            a defect in mx: please report                     exit 1

Each library error is translated into one of these once, at the adapter that called
the library. ``wire/status.py`` maps ``code`` to gRPC, ``cli`` maps ``exit_code``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class ErrorCode(StrEnum):
    """Stable names; they appear in JSON output and in gRPC error details."""

    USAGE = "usage"
    SETTINGS = "settings"
    INVALID_ARGUMENT = "invalid_argument"
    NOT_FOUND = "not_found"
    UNAVAILABLE = "unavailable"
    PERMISSION_DENIED = "permission_denied"
    UNAUTHENTICATED = "unauthenticated"
    CONFLICT = "conflict"
    PRECONDITION = "failed_precondition"
    INTEGRITY = "integrity"
    DEADLINE = "deadline"
    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"
    INTERNAL = "internal"


class MxError(Exception):
    """A failure that mx understands.

    ``message`` says what happened and to which model, source or key.
    ``remedy`` says what the reader can do about it; empty when there is nothing to say.
    Neither may hold a secret.
    """

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class UsageError(MxError):
    code = ErrorCode.USAGE
    exit_code = 2


class SettingsError(MxError):
    """Settings that can't be used. ``problems`` holds every one of them, each a full sentence."""

    code = ErrorCode.SETTINGS

    def __init__(self, problems: tuple[str, ...], *, remedy: str = "") -> None:
        super().__init__("\n".join(problems), remedy=remedy)
        self.problems = problems


class InvalidArgumentError(MxError):
    code = ErrorCode.INVALID_ARGUMENT


class NotFoundError(MxError):
    code = ErrorCode.NOT_FOUND
    exit_code = 3


class UnavailableError(MxError):
    code = ErrorCode.UNAVAILABLE
    exit_code = 4


class PermissionDeniedError(MxError):
    code = ErrorCode.PERMISSION_DENIED
    exit_code = 5


class UnauthenticatedError(MxError):
    code = ErrorCode.UNAUTHENTICATED
    exit_code = 5


class ConflictError(MxError):
    code = ErrorCode.CONFLICT
    exit_code = 6


class PreconditionError(MxError):
    code = ErrorCode.PRECONDITION
    exit_code = 6


class IntegrityError(MxError):
    code = ErrorCode.INTEGRITY
    exit_code = 7


class DeadlineError(MxError):
    code = ErrorCode.DEADLINE
    exit_code = 8


class ExhaustedError(MxError):
    code = ErrorCode.EXHAUSTED


class CancelledError(MxError):
    code = ErrorCode.CANCELLED
    exit_code = 130


class InternalError(MxError):
    code = ErrorCode.INTERNAL


def error_of_code(code: str | None, message: str) -> MxError:
    """A failure that was told by its code, as the error it would have been here; see ErrorCode."""
    kinds: list[type[MxError]] = [kind for kind in MxError.__subclasses__() if kind is not SettingsError]
    return next((kind for kind in kinds if kind.code == code), InternalError)(message)
