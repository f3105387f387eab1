"""What every ``mx.ports.Duties`` must do, as a test class to inherit from.

class TestMyDuties(DutiesContract):
    @pytest.fixture
    async def duties(self): ...           # nothing held yet; closed afterwards
    @pytest.fixture
    async def beside(self, duties): ...   # another one on the same duties, where there can be
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mx.errors import UnavailableError
from mx.ports import Duties

NOW = 1_700_000_000_000
LEASE_S = 30.0
EXPIRED = NOW + 30_000


async def take(duties: Duties, owner: str, *, duty: str = "reap", now_ms: int = NOW) -> bool:
    return await duties.take(duty, owner=owner, lease_s=LEASE_S, now_ms=now_ms)


class DutiesContract:
    """Inherit, and provide the fixture ``duties``."""

    @pytest.fixture
    async def duties(self) -> Any:
        raise NotImplementedError("a contract suite needs duties to run against")

    @pytest.fixture
    async def beside(self, duties: Duties) -> Duties:
        return duties

    async def test_the_first_has_it_until_the_lease_ends(self, duties: Duties, beside: Duties) -> None:
        assert await take(duties, "a")
        assert not await take(beside, "b", now_ms=EXPIRED - 1)
        assert await take(beside, "b", now_ms=EXPIRED)
        assert not await take(duties, "a", now_ms=EXPIRED)

    async def test_the_owner_extends_its_lease(self, duties: Duties, beside: Duties) -> None:
        assert await take(duties, "a")
        assert await take(duties, "a", now_ms=NOW + 20_000)
        assert not await take(beside, "b", now_ms=NOW + 49_999)
        assert await take(beside, "b", now_ms=NOW + 50_000)

    async def test_duties_are_taken_apart(self, duties: Duties, beside: Duties) -> None:
        names = ("reap", "evict a/b", "evict a", "\x00:é")
        for duty in names:
            assert await take(duties, "a", duty=duty)
            assert not await take(beside, "b", duty=duty)

    async def test_of_many_at_once_one_has_it(self, duties: Duties, beside: Duties) -> None:
        answers = await asyncio.gather(
            *(take((duties, beside)[number % 2], f"o{number}") for number in range(32))
        )
        assert sum(answers) == 1

    async def test_only_its_owner_gives_it_up(self, duties: Duties, beside: Duties) -> None:
        assert await take(duties, "a")
        await beside.give_up("reap", owner="b")
        await beside.give_up("other", owner="a")
        assert not await take(beside, "b")
        await duties.give_up("reap", owner="a")
        assert await take(beside, "b")

    async def test_when_closed_everything_is_refused(self, duties: Duties) -> None:
        assert await take(duties, "a")
        await duties.close()
        await duties.close()
        with pytest.raises(UnavailableError):
            await take(duties, "a")
        with pytest.raises(UnavailableError):
            await duties.give_up("reap", owner="a")
