"""How much at once and how patiently a model is received."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mx.client.receive.plan import SpanRules
from mx.config import Settings


def usual_connections() -> int:
    """Each needs a core while it receives, writes and hashes; beyond eight the disk is met."""
    return max(2, min(8, os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class ReceiveRules:
    """``connections`` to the server at once. A receiver gives up after ``patience_s`` without a byte.

    ``silence_s`` bounds one read, ``connect_s`` one attempt to connect. While another process of this
    cache directory receives the entry, it is looked at every ``poll_s``, and replaced when it gives no
    sign of life for ``lease_s``; it gives one every ``beat_s``. Bytes are synced to the disk every
    ``sync_bytes``, so that the last sync is short. ``http`` False streams over gRPC only.
    """

    connections: int = field(default_factory=usual_connections)
    patience_s: float = 120.0
    silence_s: float = 30.0
    connect_s: float = 3.0
    poll_s: float = 0.5
    beat_s: float = 5.0
    lease_s: float = 60.0
    report_s: float = 0.5
    sync_bytes: int = 128 << 20
    first_pause_s: float = 0.25
    pause_max_s: float = 5.0
    stream_chunk_bytes: int = 2 << 20
    http: bool = True
    spans: SpanRules = field(default_factory=SpanRules)
    jitter: Callable[[], float] = random.random

    @classmethod
    def of(cls, settings: Settings) -> ReceiveRules:
        """As the settings have it."""
        wanted = settings.cache
        rules = cls(
            connections=wanted.receive_connections or usual_connections(),
            patience_s=wanted.receive_timeout_s,
        )
        # Its default is what published servers are asked for; ours is faster.
        chosen = settings.explicit("cache.transfer_chunk_size")
        return replace(rules, stream_chunk_bytes=wanted.transfer_chunk_bytes) if chosen else rules
