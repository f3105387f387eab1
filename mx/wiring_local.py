"""A cache of this machine without a server: the services that ``--embedded`` and direct downloads use.

Nothing runs beside the caller and nothing is evicted by itself: it is a person's own directory, often
shared with Hugging Face's tools. Limits hold where somebody set them. Records lie in the cache, so
that pins and last uses outlive a command and several commands share one download; where they can't
lie there, the disk is looked at anew each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mx.core.cache_view import EntryDetail, ShownFile
from mx.core.cached import CachedFile
from mx.core.eviction import EvictionPolicy
from mx.core.model import EntryKey, ProviderName
from mx.errors import MxError, PermissionDeniedError, UnavailableError
from mx.logs import event_log
from mx.ports import Clock, EntryCache, StoreView
from mx.services.feed_service import FeedService
from mx.services.feed_tally import FeedTally
from mx.services.inspection import Inspection
from mx.services.sources import SourcesService
from mx.services.transfers import TransfersService
from mx.wiring import (
    Services,
    SystemClock,
    client_root,
    eviction_policy,
    model_services,
    open_client_cache,
    owner_name,
    setting_rows_of,
)

if TYPE_CHECKING:
    from mx.config import Settings
    from mx.store.passing_models import PassingModelStore
    from mx.store.sqlite import SqliteModelStore

log = event_log(__name__)

_RECORDS = ".mx-records.db"


@dataclass(frozen=True, slots=True)
class LocalServices:
    """Services over a directory of this machine. ``records`` says where its records are kept."""

    services: Services
    root: Path
    records: str


@asynccontextmanager
async def open_local(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[LocalServices]:
    """Open the client's cache directory, made if it is not there, and bring its records up to date.

    Raises PreconditionError, PermissionDeniedError or UnavailableError for a directory that can't be
    used, IntegrityError for records that are damaged.
    """
    from mx.providers.registry import open_providers
    from mx.store.memory import MemorySourceStore
    from mx.store.memory_events import MemoryEventStore
    from mx.store.memory_models import MemoryModelStore
    from mx.store.memory_view import MemoryView

    clock = clock or SystemClock()
    cache = await asyncio.to_thread(_open_caches, settings)
    store, records = await _open_records(settings, cache.root)
    providers = open_providers(_with_own_rights(settings))
    owner = owner_name(settings)
    counted = FeedTally(None)
    models, eviction = model_services(
        settings,
        store,
        cache,
        providers,
        clock,
        owner=owner,
        policy=_own_limits(settings),
        evicts=False,
        tally=counted,
    )

    sources = MemorySourceStore()
    transfers = TransfersService(clock)
    events = MemoryEventStore()
    feed = FeedService(
        sources=sources,
        models_store=store,
        models=models,
        eviction=eviction,
        transfers=transfers,
        cache=cache,
        events=events,
        clock=clock,
        name="embedded",
        owner=owner,
        always=False,
    )
    counted.heard = feed.counted
    try:
        async with models, feed:
            (await models.reconcile()).write_to(log)
            services = Services(
                sources=SourcesService(
                    sources,
                    clock,
                    heartbeat_timeout_s=settings.sources.heartbeat_timeout_s,
                    gc_timeout_s=settings.sources.gc_timeout_s,
                ),
                transfers=transfers,
                store=sources,
                store_backend="memory",
                models_store=store,
                models=models,
                eviction=eviction,
                cache=cache,
                clock=clock,
                feed=feed,
                inspection=Inspection(MemoryView(sources, MemoryModelStore()), _view_of(store)),
                setting_rows=setting_rows_of(settings),
            )
            yield LocalServices(services, cache.root, records)
    finally:
        try:
            await providers.close()
        finally:
            await store.close()


def find_here(settings: Settings, key: EntryKey, *, told: EntryDetail | None) -> Path | None:
    """The folder of a server's entry if this machine sees it: below its own root, or at the server's path.

    ``told`` is what the server says of the entry, None when it says nothing. A folder of the same name
    with other files is not it. Blocking.
    """
    with suppress(MxError):
        root, _ = client_root(settings, key.provider)
        entry = open_client_cache(settings, key.provider).entry(key) if root.is_dir() else None
        if entry is not None and (told is None or _sizes(entry.files) == _sizes(told.files)):
            return entry.root
    if told is not None and told.root:
        folder = Path(told.root)
        try:
            if all((folder / file.path).stat().st_size == file.size_bytes for file in told.files):
                return folder
        except OSError:
            return None
    return None


def _sizes(files: Iterable[CachedFile | ShownFile]) -> set[tuple[str, int]]:
    return {(file.path, file.size_bytes) for file in files}


def _open_caches(settings: Settings) -> EntryCache:
    from mx.providers.cache.split import SplitCache

    main = open_client_cache(settings, ProviderName.HUGGING_FACE)
    if client_root(settings, ProviderName.NGC)[1] is None:
        return main
    return SplitCache(main, {ProviderName.NGC: open_client_cache(settings, ProviderName.NGC)})


async def _open_records(settings: Settings, root: Path) -> tuple[PassingModelStore | SqliteModelStore, str]:
    """The store, and where it is in words.

    A database that somebody named, that of the server whose cache this is, or one in the cache.
    """
    from mx.store.passing_models import PassingModelStore
    from mx.store.sqlite import Database, SqliteModelStore
    from mx.store.sqlite.place import network_file_system
    from mx.store.whereabouts import FOLDER, note_path, read_note

    note = read_note(root)
    if settings.explicit("database.path"):
        path = settings.database.path
    elif note is not None and not note.is_gone:
        try:
            if note.is_here and note.backend == "sqlite":
                return SqliteModelStore(await Database.open(Path(note.path))), note.path
        except (PermissionDeniedError, UnavailableError) as error:
            log.warn("records of the server can't be opened", error=str(error))  # noqa: G010  # an EventLog
        remedy = f"ask that server, without --embedded; if it is gone for good, remove {note_path(root)}"
        return PassingModelStore(owner=str(note), remedy=remedy), f"{note}; not read here"
    else:
        path = root / FOLDER / _RECORDS
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            why = f"its records can't be kept in {root}: {error.strerror or error}"
            return PassingModelStore(why=why, remedy=_NAME_ONE), f"nowhere: {why}"
        if kind := network_file_system(path.parent):
            why = f"records can't be kept on {kind}, which several machines share"
            return PassingModelStore(why=why, remedy=_NAME_ONE), f"nowhere: {why}"
    try:
        return SqliteModelStore(await Database.open(path)), str(path)
    except (PermissionDeniedError, UnavailableError) as error:
        why = f"its records can't be kept: {error.message}"
        return PassingModelStore(why=why, remedy=_NAME_ONE), f"nowhere: {why}"


def _view_of(store: PassingModelStore | SqliteModelStore) -> StoreView:
    from mx.store.memory import MemorySourceStore
    from mx.store.memory_view import MemoryView
    from mx.store.sqlite import SqliteModelStore, SqliteView

    if isinstance(store, SqliteModelStore):
        return SqliteView(store.database)
    return MemoryView(MemorySourceStore(), store)


_NAME_ONE = "MODEL_EXPRESS_DATABASE_PATH names a file on a local disk for them"


def _own_limits(settings: Settings) -> EvictionPolicy:
    """Limits that somebody set, and no others: a server's defaults are none for a person's own files."""
    everything = eviction_policy(settings)
    chosen = settings.cache.eviction.policy
    below = "cache.eviction.policy"
    return replace(
        everything,
        unused_threshold_s=(
            chosen.unused_threshold_s if settings.explicit(f"{below}.unused_threshold") else None
        ),
        grace_s=chosen.grace_time_s if settings.explicit(f"{below}.grace_time") else 0.0,
    )


def _with_own_rights(settings: Settings) -> Settings:
    """Roots of local models restrict who calls a server; here the caller reads what it may read anyway."""
    local = replace(settings.providers.local, roots=(Path("/"),))
    return replace(settings, providers=replace(settings.providers, local=local))
