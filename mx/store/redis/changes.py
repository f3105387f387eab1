"""Changes told over a channel that our own scripts write, in the same step as the change.

Pub/sub forgets what nobody hears, so whoever (re)connects is told that anything may have changed. Where
this user may not subscribe, that is repeated every few seconds. Changes of other servers are found by
the sweep, which tells them here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import NoReturn

from redis.asyncio.client import PubSub

from mx.core.model import EntryKey
from mx.core.source import WorkerKey
from mx.logs import event_log
from mx.store.redis.change import Change
from mx.store.redis.failures import LIBRARY_ERRORS, closed, translate
from mx.store.redis.keys import CHANGES, parse_model_key, parse_worker_member, worker_member
from mx.store.redis.link import Link

log = event_log(__name__)

_SOURCE, _MODEL = b"s", b"m"
_SLOW_POLL_S = 5.0  # also the time in which a connection that hangs is found out
_FIRST_PAUSE_S = 0.1


def source_changed(change: Change, link: Link, key: WorkerKey) -> Change:
    return change.say(_channel(link), _SOURCE + worker_member(key))


def model_changed(change: Change, link: Link, main: bytes) -> Change:
    return change.say(_channel(link), _MODEL + main)


async def watch_sources(link: Link, tell: Callable[[WorkerKey | None], None]) -> NoReturn:
    def heard(message: bytes | None) -> None:
        if message is None:
            tell(None)
        elif message.startswith(_SOURCE):
            with contextlib.suppress(ValueError):  # not ours
                tell(parse_worker_member(message[1:]))

    await _watch(link, heard)


async def watch_models(link: Link, tell: Callable[[EntryKey | None], None]) -> NoReturn:
    def heard(message: bytes | None) -> None:
        if message is None:
            tell(None)
        elif message.startswith(_MODEL) and (key := parse_model_key(message[1:])) is not None:
            tell(key)

    await _watch(link, heard)


def _channel(link: Link) -> bytes:
    """Channels know no databases, so its number is part of the name."""
    return b"%s%d" % (CHANGES, link.db)


async def _watch(link: Link, heard: Callable[[bytes | None], None]) -> NoReturn:
    pause_s, told = _FIRST_PAUSE_S, False
    while not link.closed:
        try:
            async with contextlib.aclosing(link.client.pubsub()) as pubsub:
                await pubsub.subscribe(_channel(link))
                pause_s, told = _FIRST_PAUSE_S, False
                await _listen(link, pubsub, heard)
        except LIBRARY_ERRORS as error:
            if not told:
                told = True
                reason = str(translate(error, link.where))
                log.info("changes are looked for every few seconds", reason=reason)
        if not link.closed:
            heard(None)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _SLOW_POLL_S)
    raise closed(link.where)


async def _listen(link: Link, pubsub: PubSub, heard: Callable[[bytes | None], None]) -> None:
    """Until the connection is lost or the link closed."""
    asked_s = heard_s = time.monotonic()
    while not link.closed:
        message = await pubsub.get_message(timeout=0.5)
        now_s = time.monotonic()
        if message is not None:
            heard_s = now_s
            if message["type"] == "subscribe":
                heard(None)
            elif message["type"] == "message":
                heard(message["data"])
        elif now_s - heard_s > 2 * _SLOW_POLL_S:
            return  # not even the answer to a ping came
        if now_s - max(asked_s, heard_s) > _SLOW_POLL_S:
            asked_s = now_s
            await pubsub.ping()
