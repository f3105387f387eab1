"""Which bytes are asked for next: a pure plan over the files that are missing. Not safe for threads.

One reader per file as long as there are files enough: its bytes are appended as they come. Once
there are more readers than files, the largest rest gets helpers. They read ahead of the place
where the file ends so far and keep what they read in memory until its turn comes, so their spans are
short. Spans shrink towards the end, so that all readers finish at about the same time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mx.core.cached import MissingFile
from mx.core.model import ListedFile

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class SpanRules:
    """A span's bytes: at least and at most, and at most for a helper, who keeps them in memory."""

    least_bytes: int = 16 * MIB
    most_bytes: int = 256 * MIB
    helper_bytes: int = 32 * MIB
    per_reader: int = 4  # spans that a reader still has before it when it begins one


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of one file; ``length`` 0 for a file of which nothing is left to fetch."""

    file: ListedFile
    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(slots=True)
class _Rest:
    file: ListedFile
    next: int
    readers: int = 0

    @property
    def left(self) -> int:
        return self.file.size_bytes - self.next


class SpanPlan:
    """Hands out every missing byte once, those of a file in order."""

    def __init__(
        self, missing: Iterable[MissingFile], *, readers: int, rules: SpanRules = SpanRules()
    ) -> None:
        self._rules = rules
        self._readers = readers
        # The largest first: it is the one that everything waits for in the end.
        rests = sorted((_Rest(m.file, m.offset) for m in missing), key=lambda rest: rest.left, reverse=True)
        self._rests = {rest.file.path: rest for rest in rests}
        self._left = sum(rest.left for rest in rests)

    def take(self) -> Span | None:
        """The next span, None when all are handed out. Tell ``done`` when it was read."""
        rest = self._choose()
        if rest is None:
            return None
        rules = self._rules
        length = max(rules.least_bytes, self._left // (self._readers * rules.per_reader))
        # A long span at the front of a file would keep its helpers waiting for their turn.
        alone = not rest.readers and len(self._rests) >= self._readers
        length = min(length, rules.most_bytes if alone else rules.helper_bytes)
        if rest.left - length < rules.least_bytes // 2:
            length = rest.left  # no crumbs
        span = Span(rest.file, rest.next, min(length, rest.left))
        rest.next += span.length
        rest.readers += 1
        self._left -= span.length
        return span

    def done(self, span: Span) -> None:
        rest = self._rests[span.file.path]
        rest.readers -= 1
        if not rest.left and not rest.readers:
            del self._rests[span.file.path]

    def _choose(self) -> _Rest | None:
        fresh = next((rest for rest in self._rests.values() if not rest.readers), None)
        if fresh is not None:
            return fresh
        most = max(self._rests.values(), key=lambda rest: rest.left, default=None)
        return most if most is not None and most.left else None
