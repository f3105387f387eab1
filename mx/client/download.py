"""Getting a model by way of the server, without it, or whichever works."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from mx.client.base import Client
from mx.core.model import EntryStatus, ModelRef
from mx.core.progress import EnsureUpdate
from mx.errors import (
    DeadlineError,
    IntegrityError,
    InternalError,
    MxError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnavailableError,
    error_of_code,
)


class Strategy(StrEnum):
    SMART_FALLBACK = "smart-fallback"
    SERVER_ONLY = "server-only"
    DIRECT = "direct"


class Via(StrEnum):
    SERVER = "server"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Wanted:
    """``force`` skips the back-off after a failure."""

    ref: ModelRef
    weights: bool = True
    force: bool = False


@dataclass(frozen=True, slots=True)
class Obtained:
    """The last update, and where the model is now; ``refused`` says why the server did not do it."""

    update: EnsureUpdate
    via: Via
    refused: MxError | None = None


Tell = Callable[[EnsureUpdate], None]
Way = Callable[[Wanted, Tell], Awaitable[EnsureUpdate]]


async def obtain(
    wanted: Wanted,
    *,
    strategy: Strategy,
    by_server: Way,
    directly: Way,
    tell: Tell,
    fall_back: Callable[[MxError], None],
) -> Obtained:
    """The model, by one of two ways.

    ``tell`` hears updates, ``fall_back`` the reason once the server is given up. Raises the MxError
    of the way that was taken last.
    """
    refused: MxError | None = None
    if strategy is not Strategy.DIRECT:
        try:
            return Obtained(await by_server(wanted, tell), Via.SERVER)
        except MxError as error:
            if strategy is Strategy.SERVER_ONLY or not may_work_directly(error):
                raise
            refused = error
            fall_back(error)
    return Obtained(await directly(wanted, tell), Via.DIRECT, refused)


async def follow(client: Client, wanted: Wanted, tell: Tell) -> EnsureUpdate:
    """Ensure through one client to its end; a failed download is the error that it would be here."""
    updates = client.ensure(wanted.ref, weights=wanted.weights, force=wanted.force)
    async with aclosing(updates):
        async for update in updates:
            if not update.is_last:
                tell(update)
            elif update.status is EntryStatus.DOWNLOADED:
                return update
            else:
                named = update.message.startswith(update.key.name)
                about = "" if named else f"{update.key}: "
                raise error_of_code(update.code, f"{about}{update.message}")
    raise UnavailableError(f"nothing more was heard of {wanted.ref}", remedy="ask again")


def may_work_directly(error: MxError) -> bool:
    """Whether what the server can't may still work from here: it is away, or its provider refused it.

    Not so for a wrong name, a model in use, or a full disk.
    """
    return isinstance(
        error,
        UnavailableError
        | DeadlineError
        | NotFoundError
        | PermissionDeniedError
        | UnauthenticatedError
        | IntegrityError
        | PreconditionError
        | InternalError,  # also what a published server's failure without a code becomes
    )
