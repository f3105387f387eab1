"""The two front doors: ask the server for the model, then bring its files here, or wait for who does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from dataclasses import replace
from typing import assert_never

from mx.client.grpc import GrpcClient
from mx.client.receive.bring import Bring, Lost
from mx.client.receive.rules import ReceiveRules
from mx.client.sync import SyncClient
from mx.core.cached import CachedEntry
from mx.core.model import EntryStatus, ModelRef, canonical_name, check_revision
from mx.core.progress import EnsureUpdate
from mx.errors import CancelledError, UnavailableError, error_of_code
from mx.providers.cache import DiskCache

_ROUNDS = 3  # a server that loses the model again and again has no room for it

Told = Callable[[EnsureUpdate], None]


async def receive(
    client: GrpcClient,
    ref: ModelRef,
    *,
    cache: DiskCache,
    weights: bool = True,
    force: bool = False,
    told: Told | None = None,
    rules: ReceiveRules = ReceiveRules(),  # a frozen value
) -> CachedEntry:
    """The complete entry in ``cache``; the server downloads the model first if it has to.

    ``weights`` False brings everything but weight files; a later call with them adds the rest.
    ``told`` hears how the server's download goes and then how the bytes come, in the loop's thread.
    A commit that is here already needs no server. Whatever came is kept when it fails or is
    cancelled, and the next call, by whichever process, goes on from there.

    Raises what the server says about the model (NotFoundError, …); UnavailableError when no byte came
    for ``rules.patience_s``; IntegrityError when a file came wrong twice; ExhaustedError when there is no
    room; and what another process of this machine met, when it was waited for.
    """
    loop = asyncio.get_running_loop()
    tell = told or _nobody
    ref = _checked(ref)
    blocking, stop = client.blocking(), threading.Event()

    def tell_soon(update: EnsureUpdate) -> None:
        loop.call_soon_threadsafe(tell, update)

    bring = Bring(
        blocking,
        ref,
        cache=cache,
        weights=weights,
        rules=rules,
        stop=stop,
        told=tell_soon,
    )
    with ThreadPoolExecutor(1, thread_name_prefix="mx-receive") as thread:
        try:
            found: CachedEntry | Lost | None = await loop.run_in_executor(thread, bring.pinned_here)
            for _ in range(_ROUNDS):
                if isinstance(found, CachedEntry):
                    return found
                last = await _ensured(client, ref, weights=weights, force=force, told=tell)
                found = await _to_its_end(loop.run_in_executor(thread, bring.entry, last), stop)
            return _end(found, ref)
        finally:
            blocking.close()


def receive_blocking(
    client: SyncClient,
    ref: ModelRef,
    *,
    cache: DiskCache,
    weights: bool = True,
    force: bool = False,
    told: Told | None = None,
    rules: ReceiveRules = ReceiveRules(),  # a frozen value
    stop: threading.Event | None = None,
) -> CachedEntry:
    """``receive`` for a thread. ``told`` is called in threads; ``stop`` set ends it with CancelledError,
    within seconds, while the server still downloads within ten."""
    tell, stop = told or _nobody, stop or threading.Event()
    ref = _checked(ref)
    bring = Bring(client, ref, cache=cache, weights=weights, rules=rules, stop=stop, told=tell)
    found: CachedEntry | Lost | None = bring.pinned_here()
    for _ in range(_ROUNDS):
        if isinstance(found, CachedEntry):
            return found
        last: EnsureUpdate | None = None
        with closing(client.ensure(ref, weights=weights, force=force)) as updates:
            for last in updates:
                if stop.is_set():
                    raise CancelledError(f"waiting for {ref} was stopped")
                if not last.is_last:
                    tell(_by_server(last))
        found = bring.entry(_require_done(last, ref))
    return _end(found, ref)


async def _ensured(
    client: GrpcClient, ref: ModelRef, *, weights: bool, force: bool, told: Told
) -> EnsureUpdate:
    last: EnsureUpdate | None = None
    async with aclosing(client.ensure(ref, weights=weights, force=force)) as updates:
        async for last in updates:
            if not last.is_last:
                told(_by_server(last))
    return _require_done(last, ref)


def _require_done(last: EnsureUpdate | None, ref: ModelRef) -> EnsureUpdate:
    if last is None or not last.is_last:
        raise UnavailableError(f"the server stopped telling about {ref}", remedy="ask again")
    if last.status is EntryStatus.ERROR:
        raise error_of_code(last.code, last.message)
    return last


def _end(found: CachedEntry | Lost | None, ref: ModelRef) -> CachedEntry:
    match found:
        case CachedEntry():
            return found
        case Lost(reason):
            raise UnavailableError(
                f"{ref}: the server did not keep the model until it was sent: {reason}",
                remedy="pin the model there, or give its cache more room",
            )
        case None:
            raise AssertionError("there is at least one round")
    assert_never(found)


async def _to_its_end(work: asyncio.Future[CachedEntry | Lost], stop: threading.Event) -> CachedEntry | Lost:
    """A caller that is cancelled leaves when nothing is written any more."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # looked at: it says that it was stopped
        raise


def _by_server(update: EnsureUpdate) -> EnsureUpdate:
    return replace(update, message=f"at the server: {update.message}")


def _checked(ref: ModelRef) -> ModelRef:
    name = canonical_name(ref.provider, ref.name)
    return ModelRef(ref.provider, name, check_revision(ref.provider, ref.revision))


def _nobody(_update: EnsureUpdate) -> None: ...
