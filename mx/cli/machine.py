"""What a machine keeps and whom it asks: ``mx model status`` and ``mx model init``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from mx.cli.options import Invocation
from mx.client.base import Client
from mx.core.cache_view import CacheListing
from mx.core.model import EntryStatus
from mx.core.units import format_size
from mx.errors import MxError, PermissionDeniedError, PreconditionError, UnavailableError

# Whether a server is there is beside the point of what an embedded look shows.
_ANSWER_S = 3.0


@dataclass(frozen=True, slots=True)
class Look:
    """What was found; ``failure`` when the cache that was asked for could not be looked at."""

    endpoint: str
    storage_path: str | None
    server_available: bool
    listing: CacheListing | None = None
    failure: MxError | None = None

    def document(self) -> dict[str, object]:
        listing = self.listing
        sizes = {"total_models": 0, "total_size": format_size(0)} if listing is None else totals(listing)
        return {
            "storage_path": self.storage_path,
            "server_endpoint": self.endpoint,
            **sizes,
            "storage_accessible": listing is not None,
            "server_available": self.server_available,
            "used_bytes": 0 if listing is None else listing.used_bytes,
            "free_bytes": 0 if listing is None else listing.free_bytes,
            "max_size_bytes": None if listing is None else listing.max_size_bytes,
        }

    def fields(self) -> list[tuple[str, str]]:
        pairs = [
            ("server", f"{self.endpoint}{'' if self.server_available else ', which can not be reached'}"),
            ("cache", self.storage_path or ""),
        ]
        if self.listing is not None:
            listing = self.listing
            limit = "" if listing.max_size_bytes is None else f" of {format_size(listing.max_size_bytes)}"
            pairs += [
                ("models", str(totals(listing)["total_models"])),
                ("size", f"{format_size(listing.used_bytes)}{limit}"),
                ("disk", f"{format_size(listing.free_bytes)} free of {format_size(listing.disk_bytes)}"),
            ]
        return pairs


def totals(listing: CacheListing) -> dict[str, object]:
    """The two members that several documents begin with."""
    ready = {
        (entry.key.provider, entry.key.name)
        for entry in listing.entries
        if entry.status is EntryStatus.DOWNLOADED
    }
    return {"total_models": len(ready), "total_size": format_size(listing.used_bytes)}


async def look(run: Invocation, client: Client) -> Look:
    """Ask the server, or the embedded services and then the server whether it is there."""
    endpoint = run.settings().client.endpoint
    available = await _answers(run) if run.embedded else False
    try:
        listing = await client.list_models()
        available = available or not run.embedded
    except PreconditionError as error:  # a published server: it is there, and tells nothing of its cache
        return Look(endpoint, None, not run.embedded, failure=error)
    except MxError as error:
        return Look(endpoint, None, available, failure=error)
    try:
        path = (await client.cache_stats(runs=0)).root
    except MxError as error:
        return Look(endpoint, None, available, listing, failure=error)
    return Look(endpoint, path, available, listing)


async def _answers(run: Invocation) -> bool:
    server = run.connect(run.settings())
    try:
        async with asyncio.timeout(_ANSWER_S):
            await server.health()
    except (MxError, TimeoutError):
        return False
    finally:
        await server.close()
    return True


def write_init(run: Invocation, storage_path: Path | None, server_endpoint: str | None) -> dict[str, str]:
    """Write the file; what it names now. Raises SettingsError for what can't be a value.

    Without anything given, what is in force now is written, so that the file is there to be edited.
    """
    from mx.config import write_home_file

    settings = run.settings()
    root = (storage_path or settings.client_cache_root("huggingface")).expanduser().absolute()
    endpoint = server_endpoint if server_endpoint is not None else settings.client.endpoint
    everything = storage_path is None and server_endpoint is None
    members: dict[str, object] = {}
    if storage_path is not None or everything:
        members["local_path"] = str(root)
    if server_endpoint is not None or everything:
        members["server_endpoint"] = endpoint
    path = write_home_file(settings.home, members)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise PermissionDeniedError(f"{root} can't be made: {error.strerror}") from error
    except OSError as error:
        raise UnavailableError(f"{root} can't be made: {error.strerror}") from error
    return {"storage_path": str(root), "server_endpoint": endpoint, "config_file": str(path)}
