"""Where bytes of several readers meet: each file in order, checked when it is whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from mx.core.model import ListedFile
from mx.errors import CancelledError, IntegrityError, MxError, UnavailableError
from mx.providers.cache import DiskStaging
from mx.providers.cache.part import DiskPart


class WrongBytesError(IntegrityError):
    """A file came whole and is not what was listed; it was thrown away."""

    def __init__(self, file: ListedFile, error: IntegrityError) -> None:
        super().__init__(error.message, remedy=error.remedy)
        self.file = file


class Halt:
    """The end of a round for all its threads: the first failure, or that somebody asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._ends: list[Callable[[], None]] = []
        self.failure: MxError | None = None

    def fail(self, error: MxError) -> None:
        """Later failures say nothing: they follow from the first."""
        with self._lock:
            if self._event.is_set():
                return
            self.failure = error
            self._event.set()
            ends = tuple(self._ends)
        for end in ends:
            end()

    def on_end(self, end: Callable[[], None]) -> None:
        """Call it when the round fails; at once if it has."""
        with self._lock:
            if not self._event.is_set():
                self._ends.append(end)
                return
        end()

    @property
    def halted(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep, but not beyond the end; True when it has come."""
        return self._event.wait(seconds)

    def check(self) -> None:
        """Raises what ended the round."""
        if self._event.is_set():
            raise self.failure or CancelledError("the round was ended")


class Landing:
    """One file. ``append`` is for whoever has the bytes at ``offset``; others wait for their turn."""

    def __init__(self, part: DiskPart, *, turns: threading.Condition, arrived: Callable[[int], None]) -> None:
        self._part = part
        self._turns = turns
        self._arrived = arrived

    @property
    def offset(self) -> int:
        return self._part.offset

    @property
    def whole(self) -> bool:
        return self._part.missing_bytes == 0

    def append(self, data: memoryview) -> None:
        self._part.append(data)
        self._arrived(len(data))
        with self._turns:
            self._turns.notify_all()

    def close(self) -> None:
        self._part.close()


@dataclass(slots=True)
class _Slot:
    file: ListedFile
    landing: Landing | None = None
    opening: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        if self.landing is not None:
            self.landing.close()


class Landings:
    """The files of one round that are being filled. ``arrived`` hears of bytes, ``accepted`` of files."""

    def __init__(
        self,
        staging: DiskStaging,
        halt: Halt,
        *,
        arrived: Callable[[int], None],
        accepted: Callable[[], None],
    ) -> None:
        self._staging = staging
        self._halt = halt
        self._arrived = arrived
        self._accepted = accepted
        self._turns = threading.Condition()
        self._lock = threading.Lock()
        self._slots: dict[str, _Slot] = {}
        halt.on_end(self._wake)

    def of(self, file: ListedFile) -> Landing:
        """The same for everybody. Bytes that are there already are read once, by whoever comes first."""
        with self._lock:
            slot = self._slots.setdefault(file.path, _Slot(file))
        with slot.opening:
            if slot.landing is None:
                part = self._staging.open_part(file)
                slot.landing = Landing(part, turns=self._turns, arrived=self._arrived)
            return slot.landing

    def wait_turn(self, landing: Landing, offset: int) -> None:
        """Until the file ends at ``offset``; raises what ended the round meanwhile."""
        with self._turns:
            self._turns.wait_for(lambda: landing.offset >= offset or self._halt.halted)
        self._halt.check()
        if landing.offset > offset:  # the plan is not of this part: the next round has a new one
            raise UnavailableError(f"a file ends at {landing.offset} where {offset} was expected")

    def finish(self, file: ListedFile) -> None:
        """The file is whole: check it and let it in; WrongBytesError."""
        with self._lock:
            slot = self._slots.pop(file.path)
        slot.close()
        try:
            self._staging.accept(file)
        except IntegrityError as error:
            self._arrived(-file.size_bytes)
            raise WrongBytesError(file, error) from error
        self._accepted()

    def growing(self) -> tuple[tuple[ListedFile, int], ...]:
        """Files that are open at this moment, and where they end."""
        with self._lock:
            slots = tuple(self._slots.values())
        return tuple((slot.file, slot.landing.offset) for slot in slots if slot.landing is not None)

    def close(self) -> None:
        """No thread of the round may be left."""
        with self._lock:
            slots, self._slots = self._slots, {}
        for slot in slots.values():
            slot.close()

    def _wake(self) -> None:
        with self._turns:
            self._turns.notify_all()
