"""When a process that draws collects garbage: not before its first frame, and not while somebody types.

Looking through a whole fleet and what Textual keeps of its screens takes 20 ms, which is felt at a key.
"""

from __future__ import annotations

import gc

_YOUNG, _MIDDLE = 700, 10  # Python's own
_ROUNDS = 50  # middle collections until a full one comes even under a key; Python's own are 10
_IDLE_ROUNDS = 3


class Garbage:
    """The collector of this process; made before the modules that draw are loaded."""

    def __init__(self) -> None:
        gc.disable()  # a tenth of the time to the first frame; nothing of what is made until then goes again
        gc.set_threshold(_YOUNG, _MIDDLE, _ROUNDS)

    def settled(self) -> None:
        """Much was made that stays: collections pass over it from now on."""
        if gc.isenabled():
            gc.collect()
        gc.freeze()
        gc.enable()

    def idle(self) -> None:
        """Nobody waits for a key to be answered."""
        if gc.get_count()[2] >= _IDLE_ROUNDS:
            gc.collect()
