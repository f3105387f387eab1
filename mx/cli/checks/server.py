"""What the server answers, how fast, and what time it is there."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

import mx
from mx.cli.checks.site import Site
from mx.core.doctor.server import ServerFacts
from mx.core.feed import FleetSnapshot
from mx.errors import MxError, PreconditionError

if TYPE_CHECKING:
    from mx.client.base import Client
    from mx.config import Settings

# The first call also connects; the others are what calls cost.
_CALLS = 4
_TIMEOUT_S = 5.0


def ask_server(site: Site, settings: Settings) -> ServerFacts:
    """Never raises MxError: not to be reached is what a doctor has to tell."""
    client = settings.client
    bounded = replace(client, timeout_s=min(client.timeout_s, _TIMEOUT_S), max_retries=0)
    facts = ServerFacts(
        endpoint=client.endpoint, named=settings.explicit("connection.endpoint"), own_version=mx.__version__
    )
    try:
        return asyncio.run(_ask(site, replace(settings, client=bounded), facts))
    except MxError as error:
        return replace(facts, failure=error)


async def _ask(site: Site, settings: Settings, facts: ServerFacts) -> ServerFacts:
    client = site.run.connect(settings)
    try:
        latencies = []
        for _ in range(_CALLS):
            begin = time.perf_counter()
            health = await client.health()
            latencies.append((time.perf_counter() - begin) * 1000)
        facts = replace(
            facts, latencies_ms=tuple(latencies[1:]), version=health.version, health=health.status
        )
        try:
            status = await client.status()
        except PreconditionError:  # a published server
            return facts
        facts = replace(facts, status=status)
        try:
            ahead_s, within_s = await _clock(site, client)
            facts = replace(facts, ahead_s=ahead_s, ahead_within_s=within_s)
            return replace(facts, backends=await client.backend_states())
        except PreconditionError:  # an older mx
            return facts
    finally:
        await client.close()


async def _clock(site: Site, client: Client) -> tuple[float | None, float]:
    """How far the server's clock is ahead of ours, and within what: a snapshot carries its time."""
    begin = site.run.now()
    async with aclosing(client.watch()) as updates:
        async for update in updates:
            end = site.run.now()
            if isinstance(update, FleetSnapshot):
                return update.now_ms / 1000 - (begin + end) / 2, (end - begin) / 2
            break
    return None, 0.0
