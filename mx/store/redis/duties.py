"""``mx.ports.Duties`` over Redis: one small hash per duty, outside what published servers look at."""

from __future__ import annotations

from mx.store.redis.change import Change
from mx.store.redis.keys import duty_key
from mx.store.redis.link import Link

_OWNER, _UNTIL = b"owner", b"expires_at_ms"
_KEPT_MS = 3_600_000  # beyond the lease: then nobody cares any more


class RedisDuties:
    def __init__(self, link: Link) -> None:
        self._link = link

    async def take(self, duty: str, *, owner: str, lease_s: float, now_ms: int) -> bool:
        key, lease_ms = duty_key(duty), round(lease_s * 1000)
        holder, until = await self._link.call("HMGET", key, _OWNER, _UNTIL)
        if holder is not None and holder != owner.encode() and int(until or 0) > now_ms:
            return False
        change = Change().is_(key, _OWNER, holder).is_(key, _UNTIL, until)
        change.set(key, _OWNER, owner.encode()).set(key, _UNTIL, b"%d" % (now_ms + lease_ms))
        if await self._link.change(change.expire(key, lease_ms + _KEPT_MS)):
            return True
        # Somebody was faster; or it was us, and the answer was lost.
        return bool(await self._link.call("HGET", key, _OWNER) == owner.encode())

    async def give_up(self, duty: str, *, owner: str) -> None:
        key = duty_key(duty)
        await self._link.change(Change().is_(key, _OWNER, owner.encode()).drop(key))

    async def close(self) -> None:
        await self._link.close()
