"""Figures on their way to whoever keeps them; those that are worth an event are told to the feed too."""

from __future__ import annotations

from collections.abc import Callable

from mx.core.counts import Count, EvictionDone
from mx.ports import NoTally, Tally


class FeedTally:
    """``mx.ports.Tally`` that passes everything on. ``heard`` is set once there is a feed; it is called
    from the event loop, as runs of eviction are counted there."""

    def __init__(self, inner: Tally | None) -> None:
        self._inner = inner or NoTally()
        self.heard: Callable[[Count], None] | None = None

    def add(self, count: Count) -> None:
        self._inner.add(count)
        if isinstance(count, EvictionDone) and self.heard is not None:
            self.heard(count)
