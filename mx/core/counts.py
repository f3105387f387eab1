"""What services count: values for whoever keeps the figures (metrics). One happens, one is told.

They carry what a figure may be split by and nothing else; texts for people are in the logs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mx.core.model import EntryKey
from mx.errors import ErrorCode


class CacheAnswer(StrEnum):
    """What a caller that wanted a model met."""

    HIT = "hit"  # it was there
    MISS = "miss"  # this caller's wish began the download
    WAIT = "wait"  # somebody downloads it already, here or elsewhere
    REFUSED = "refused"  # the last download failed a moment ago


@dataclass(frozen=True, slots=True)
class ModelWanted:
    key: EntryKey
    answer: CacheAnswer


@dataclass(frozen=True, slots=True)
class ClaimWon:
    """``taken_over``: its owner had died, or was silent for longer than its lease."""

    key: EntryKey
    taken_over: bool


@dataclass(frozen=True, slots=True)
class ClaimLost:
    """Deleted or taken over while this process downloaded."""

    key: EntryKey


@dataclass(frozen=True, slots=True)
class DownloadStarted:
    """``resumed``: bytes of an earlier attempt were there."""

    key: EntryKey
    resumed: bool


@dataclass(frozen=True, slots=True)
class DownloadEnded:
    """``code`` None is done; a stopped one is CANCELLED, one whose claim was lost CONFLICT."""

    key: EntryKey
    seconds: float
    code: ErrorCode | None


@dataclass(frozen=True, slots=True)
class BytesFetched:
    """From the provider; what came twice counts twice. May be told from any thread."""

    key: EntryKey
    count: int


@dataclass(frozen=True, slots=True)
class EvictionDone:
    trigger: str  # interval | room | command
    evicted: int
    failed: int
    bytes_freed: int
    met: bool


@dataclass(frozen=True, slots=True)
class ModelsRemoved:
    """Because a person said so."""

    entries: int
    bytes_freed: int


@dataclass(frozen=True, slots=True)
class CacheReconciled:
    """What of records and disk did not fit together, and was mended (or ``failed`` to be)."""

    adopted: int
    without_files: int
    removals_finished: int
    failed: int
    bytes_cleaned: int


@dataclass(frozen=True, slots=True)
class OlderSettled:
    """Records of an older registry: whole entries now, or lacking files, or without any."""

    verified: int
    unfinished: int
    without_files: int


@dataclass(frozen=True, slots=True)
class SourcesReaped:
    marked_stale: int
    removed: int


Count = (
    ModelWanted
    | ClaimWon
    | ClaimLost
    | DownloadStarted
    | DownloadEnded
    | BytesFetched
    | EvictionDone
    | ModelsRemoved
    | CacheReconciled
    | OlderSettled
    | SourcesReaped
)
