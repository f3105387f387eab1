"""A conditional write over a few keys as one step: all conditions hold and all effects happen, or none.

Rules live in Python (``mx.core.transitions``); Redis only compares what was read with what is there
now. So there is one script, it knows nothing of JSON, and whoever is refused reads and decides anew.

In a cluster the keys of one call must share a slot. A change over several slots is then several
steps, in the order in which its keys were named, and ends at the first one refused: callers name
keys so that each beginning of the list leaves something that the next heartbeat or sweep mends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from redis.crc import key_slot

Argument = bytes | int
_Op = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """Lua with its digest; sent whole to a Redis that does not know it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


# Every operation names its key by its number. PUBLISH may be forbidden to this user: that is no reason
# to fail when everything else has happened.
CHANGE = Script("""
local i, n = 1, #ARGV
while i <= n do
  local op, key = ARGV[i], KEYS[tonumber(ARGV[i + 1])]
  local a, b = ARGV[i + 2], ARGV[i + 3]
  if op == 'is' then
    if redis.call('HGET', key, a) ~= b then return 0 end
    i = i + 4
  elseif op == 'no' then
    if redis.call('HEXISTS', key, a) == 1 then return 0 end
    i = i + 3
  elseif op == 'has' then
    if redis.call('HEXISTS', key, a) == 0 then return 0 end
    i = i + 3
  elseif op == 'len' then
    if redis.call('HLEN', key) ~= tonumber(a) then return 0 end
    i = i + 3
  elseif op == 'set' then
    redis.call('HSET', key, a, b)
    i = i + 4
  elseif op == 'del' then
    redis.call('HDEL', key, a)
    i = i + 3
  elseif op == 'drop' then
    redis.call('DEL', key)
    i = i + 2
  elseif op == 'ttl' then
    redis.call('PEXPIRE', key, a)
    i = i + 3
  elseif op == 'keep' then
    redis.call('PERSIST', key)
    i = i + 2
  elseif op == 'zadd' then
    redis.call('ZADD', key, a, b)
    i = i + 4
  elseif op == 'zrem' then
    redis.call('ZREM', key, a)
    i = i + 3
  elseif op == 'sadd' then
    redis.call('SADD', key, a)
    i = i + 3
  elseif op == 'srem' then
    redis.call('SREM', key, a)
    i = i + 3
  elseif op == 'say' then
    redis.pcall('PUBLISH', a, b)
    i = i + 4
  else
    return redis.error_reply('mx: unknown operation ' .. op)
  end
end
return 1
""")

# The clock of the node that holds a key: in a cluster every node has its own.
TIME = Script("return redis.call('TIME')")


class Change:
    """Conditions first, then effects, in the order of the calls. ``say`` goes with the key before it."""

    def __init__(self) -> None:
        self._keys: dict[bytes, int] = {}
        self._ops: list[tuple[bytes, _Op]] = []

    # Conditions

    def is_(self, key: bytes, name: bytes, value: bytes | None) -> Change:
        """The field holds this value; None: there is no such field."""
        return self._add(b"no", key, name) if value is None else self._add(b"is", key, name, value)

    def has(self, key: bytes, name: bytes) -> Change:
        return self._add(b"has", key, name)

    def len_(self, key: bytes, count: int) -> Change:
        return self._add(b"len", key, b"%d" % count)

    # Effects

    def set(self, key: bytes, name: bytes, value: bytes) -> Change:
        return self._add(b"set", key, name, value)

    def delete(self, key: bytes, name: bytes) -> Change:
        return self._add(b"del", key, name)

    def drop(self, key: bytes) -> Change:
        return self._add(b"drop", key)

    def expire(self, key: bytes, ttl_ms: int) -> Change:
        return self._add(b"ttl", key, b"%d" % ttl_ms)

    def keep(self, key: bytes) -> Change:
        """It expires no more."""
        return self._add(b"keep", key)

    def score(self, key: bytes, member: bytes, score: int) -> Change:
        return self._add(b"zadd", key, b"%d" % score, member)

    def unscore(self, key: bytes, member: bytes) -> Change:
        return self._add(b"zrem", key, member)

    def include(self, key: bytes, member: bytes) -> Change:
        return self._add(b"sadd", key, member)

    def exclude(self, key: bytes, member: bytes) -> Change:
        return self._add(b"srem", key, member)

    def say(self, channel: bytes, message: bytes) -> Change:
        last = self._ops[-1][0]
        return self._add(b"say", last, channel, message)

    def _add(self, op: bytes, key: bytes, *rest: bytes) -> Change:
        self._keys.setdefault(key, len(self._keys) + 1)
        self._ops.append((key, (op, *rest)))
        return self

    def calls(self, *, by_slot: bool) -> Sequence[tuple[tuple[bytes, ...], tuple[bytes, ...]]]:
        """Keys and arguments of each script call."""
        if not by_slot:
            return [_call(tuple(self._keys), self._ops)]
        slots: dict[int, list[bytes]] = {}
        for key in self._keys:
            slots.setdefault(key_slot(key), []).append(key)
        return [_call(tuple(keys), [op for op in self._ops if op[0] in keys]) for keys in slots.values()]


def _call(
    keys: tuple[bytes, ...], ops: Sequence[tuple[bytes, _Op]]
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    numbers = {key: b"%d" % (place + 1) for place, key in enumerate(keys)}
    arguments: list[bytes] = []
    for key, (op, *rest) in ops:
        arguments += (op, numbers[key], *rest)
    return keys, tuple(arguments)
