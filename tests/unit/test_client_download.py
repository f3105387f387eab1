"""Which way a model is got: by the server, directly, or by the server as long as it can."""

from __future__ import annotations

import pytest

from mx.client.download import Strategy, Tell, Via, Wanted, may_work_directly, obtain
from mx.core.model import EntryKey, EntryStatus, ModelRef, ProviderName
from mx.core.progress import EnsureUpdate
from mx.errors import (
    CancelledError,
    ConflictError,
    DeadlineError,
    ExhaustedError,
    IntegrityError,
    InternalError,
    InvalidArgumentError,
    MxError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnavailableError,
)

REF = ModelRef(ProviderName.HUGGING_FACE, "org/model")
DONE = EnsureUpdate(EntryKey(REF.provider, REF.name, "a" * 40), EntryStatus.DOWNLOADED, "downloaded")


class Ways:
    """Two ways that end as they were told to, and what was tried."""

    def __init__(self, *, server: MxError | None = None, direct: MxError | None = None) -> None:
        self.tried: list[Via] = []
        self.reasons: list[MxError] = []
        self._ends = {Via.SERVER: server, Via.DIRECT: direct}

    async def _go(self, via: Via) -> EnsureUpdate:
        self.tried.append(via)
        if (error := self._ends[via]) is not None:
            raise error
        return DONE

    async def by_server(self, _wanted: Wanted, _tell: Tell) -> EnsureUpdate:
        return await self._go(Via.SERVER)

    async def directly(self, _wanted: Wanted, _tell: Tell) -> EnsureUpdate:
        return await self._go(Via.DIRECT)

    async def obtain(self, strategy: Strategy) -> Via:
        found = await obtain(
            Wanted(REF),
            strategy=strategy,
            by_server=self.by_server,
            directly=self.directly,
            tell=lambda _: None,
            fall_back=self.reasons.append,
        )
        assert (found.refused is None) == (not self.reasons)
        return found.via


async def test_each_strategy_takes_its_way() -> None:
    for strategy, tried in (
        (Strategy.SMART_FALLBACK, Via.SERVER),
        (Strategy.SERVER_ONLY, Via.SERVER),
        (Strategy.DIRECT, Via.DIRECT),
    ):
        ways = Ways()
        assert await ways.obtain(strategy) is tried
        assert ways.tried == [tried]


@pytest.mark.parametrize(
    "kind",
    [
        UnavailableError,
        DeadlineError,
        NotFoundError,
        PermissionDeniedError,
        UnauthenticatedError,
        IntegrityError,
        PreconditionError,
        InternalError,
    ],
)
async def test_what_may_work_from_here_is_tried_from_here(kind: type[MxError]) -> None:
    ways = Ways(server=kind("no"))
    assert await ways.obtain(Strategy.SMART_FALLBACK) is Via.DIRECT
    assert ways.tried == [Via.SERVER, Via.DIRECT]
    assert [error.message for error in ways.reasons] == ["no"]
    strict = Ways(server=kind("no"))
    with pytest.raises(kind):
        await strict.obtain(Strategy.SERVER_ONLY)
    assert strict.tried == [Via.SERVER]


@pytest.mark.parametrize("kind", [InvalidArgumentError, ConflictError, ExhaustedError, CancelledError])
async def test_what_is_as_wrong_from_here_is_told(kind: type[MxError]) -> None:
    assert not may_work_directly(kind("no"))
    ways = Ways(server=kind("no"))
    with pytest.raises(kind):
        await ways.obtain(Strategy.SMART_FALLBACK)
    assert ways.tried == [Via.SERVER]


async def test_the_failure_that_is_told_is_that_of_the_last_way() -> None:
    ways = Ways(server=UnavailableError("server"), direct=NotFoundError("hub"))
    with pytest.raises(NotFoundError, match="hub"):
        await ways.obtain(Strategy.SMART_FALLBACK)
    with pytest.raises(NotFoundError):
        await Ways(direct=NotFoundError("hub")).obtain(Strategy.DIRECT)
