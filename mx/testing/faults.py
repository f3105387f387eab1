"""What can go wrong with an answer over HTTP, on demand; for stand-ins of providers."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request whose ``host:path`` (``hub:/api/…``, ``storage:/objects/…``) matches
    ``where``; ``times`` None is always."""

    where: str
    times: int | None = 1
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut_after: int | None = None  # bytes of the body, then the connection breaks
    shorten_by: int = 0  # a whole answer, Content-Length and all, of a shorter file
    corrupt: bool = False  # the last byte of the file is another one
    etag: str | None = None
    gate: threading.Event | None = None  # wait here: before the body, or after ``cut_after`` bytes
    ignore_range: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    host: str  # hub | storage; the method where there is one host only
    method: str
    path: str
    authorization: str
    range: str
    headers: Mapping[str, str] = field(default_factory=dict)  # by names in lower case


class Faults:
    """The faults of one stand-in, and the requests that it got."""

    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self._faults: list[tuple[Fault, list[int]]] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """From now on; of several that match, the oldest with times left acts."""
        with self._lock:
            self._faults.append((fault, [0]))

    def mend(self) -> None:
        """No more faults; whoever waits at a gate goes on."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault, _ in faults:
            if fault.gate is not None:
                fault.gate.set()

    def asked(self, where: str) -> list[Asked]:
        """The requests so far whose ``host:path`` matches."""
        with self._lock:
            return [one for one in self.requests if re.search(where, f"{one.host}:{one.path}")]

    def take(self, asked: Asked) -> Fault | None:
        """Note a request; what happens to it."""
        with self._lock:
            self.requests.append(asked)
            for fault, used in self._faults:
                left = fault.times is None or used[0] < fault.times
                if left and re.search(fault.where, f"{asked.host}:{asked.path}"):
                    used[0] += 1
                    return fault
        return None
