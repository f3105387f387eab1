"""What the shell offers where a name is typed: asked of the server, quickly or not at all.

Silent: a server that is away, slow or denies gives no names and no words.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from mx.cli.options import Invocation
from mx.core.source import SourceFilter

if TYPE_CHECKING:
    from mx.client.base import Client

# A person waits for it at the tabulator key.
_DEADLINE_S = 1.0
# Shells evaluate what they are offered; a name from a stranger stays a name.
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:+-]*")


def models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of models in the cache."""

    async def ask(client: Client) -> Iterable[str]:
        return (one.key.name for one in (await client.list_models()).entries)

    return _names(ctx, incomplete, ask)


def sources(ctx: typer.Context, incomplete: str) -> list[str]:
    """Source ids, and the names of their models."""

    async def ask(client: Client) -> Iterable[str]:
        rows = await client.list_sources(SourceFilter())
        return (name for row in rows for name in (row.source_id, row.model_name))

    return _names(ctx, incomplete, ask)


def transfers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of the last transfers."""

    async def ask(client: Client) -> Iterable[str]:
        return (one.transfer_id for one in await client.list_transfers())

    return _names(ctx, incomplete, ask)


def _names(
    ctx: typer.Context, incomplete: str, ask: Callable[[Client], Awaitable[Iterable[str]]]
) -> list[str]:
    run = ctx.find_root().obj
    # Opening a cache of this machine makes its directory: too much for a key.
    if not isinstance(run, Invocation) or run.embedded:
        return []
    try:
        found = asyncio.run(_asked(run, ask))
    except Exception:  # noqa: BLE001  # the edge of the process: a shell shows words of ours as if they were names
        return []
    return sorted({name for name in found if name.startswith(incomplete) and _SAFE.fullmatch(name)})


async def _asked(run: Invocation, ask: Callable[[Client], Awaitable[Iterable[str]]]) -> Iterable[str]:
    settings = run.settings()
    bounded = replace(settings.client, timeout_s=_DEADLINE_S, max_retries=0)
    client = run.connect(replace(settings, client=bounded))
    try:
        async with asyncio.timeout(_DEADLINE_S):
            return await ask(client)
    finally:
        await client.close()
