"""Verifying entries: how far it is, and what came out for each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mx.core.cached import FileFault
from mx.core.model import EntryKey


class OnFault(StrEnum):
    """What is done about files with wrong bytes.

    ``quarantine`` throws them away, and the entry is served to nobody until they came again;
    ``repair`` fetches them again as well.
    """

    REPORT = "report"
    QUARANTINE = "quarantine"
    REPAIR = "repair"


class Outcome(StrEnum):
    SOUND = "sound"
    DAMAGED = "damaged"  # and left as it is
    QUARANTINED = "quarantined"
    REPAIRED = "repaired"
    GONE = "gone"  # removed while it was verified


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """Bytes and entries of the whole run so far; ``note`` says what goes on beside reading."""

    key: EntryKey
    bytes_done: int
    bytes_total: int
    entries_done: int
    entries_total: int
    rate: float | None = None
    eta_s: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class EntryVerified:
    """One entry is done. ``extras`` are files beside it that nobody recorded.

    ``detail`` says why it could not be repaired; ``withdrawn`` are other entries that used the files.
    """

    key: EntryKey
    outcome: Outcome
    files: int
    bytes_read: int
    faults: tuple[FileFault, ...] = ()
    extras: tuple[str, ...] = ()
    detail: str = ""
    withdrawn: tuple[EntryKey, ...] = ()


VerifyStep = VerifyProgress | EntryVerified
