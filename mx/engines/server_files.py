"""The mx server's cache as an engine's source of files, where the two share no storage.

Files come into this machine's own cache, verified, and stay there. Everything but the weights comes
first, so that an engine can build its model; weights come when no peer has them. Knows no engine.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from mx.client.receive import ReceiveRules, receive_blocking
from mx.client.sync import SyncClient
from mx.client.token import TokenFile
from mx.config import Settings
from mx.core.cached import CachedEntry
from mx.core.model import (
    EntryKey,
    ModelRef,
    ProviderName,
    canonical_name,
    check_revision,
    is_commit,
    provider_of,
)
from mx.core.progress import EnsureUpdate
from mx.core.units import format_size
from mx.providers.cache import DiskCache
from mx.wire.roles import WORKER
from mx.wiring import open_client_cache

log = logging.getLogger(__name__)

# A download of hours must be seen to go on; more lines than this would drown the engine's own.
_TELL_EVERY_S = 10.0


class ServerFiles:
    """Models of the server that settings name, in the local cache that settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def of(cls, settings: Settings) -> ServerFiles | None:
        """None where storage is shared, or nobody said which server it is."""
        if settings.cache.shared_storage or not settings.explicit("worker.server_address"):
            return None
        return cls(settings)

    def folder(self, model: str, revision: str | None) -> Path | None:
        """A local folder that an engine can build ``model`` from; None when ``model`` is a path already.

        It lacks the weights where a commit tells them apart without; models of providers that have no
        commits come whole. Raises an MxError when the server can't deliver, and for no model's name.
        """
        provider = provider_of(model) or ProviderName.HUGGING_FACE
        if provider is ProviderName.LOCAL or os.path.exists(model):
            return None
        has_commits = provider is ProviderName.HUGGING_FACE
        asked = check_revision(provider, revision) if has_commits else None
        return self._receive(
            ModelRef(provider, canonical_name(provider, model), asked), weights=not has_commits
        ).root

    def entry_at(self, folder: str) -> EntryKey | None:
        """The whole entry that lies at ``folder`` of the local cache, or will; None for other folders."""
        path = Path(os.path.abspath(folder))
        root = self._settings.client_cache_root("huggingface")
        if not path.is_relative_to(os.path.abspath(root)) or path.parent.name != "snapshots":
            return None
        name = path.parent.parent.name
        if not name.startswith("models--") or not is_commit(path.name):
            return None
        name = name.removeprefix("models--").replace("--", "/", 1)
        return EntryKey(ProviderName.HUGGING_FACE, name, path.name)

    def is_here(self, key: EntryKey) -> bool:
        """Whether the entry is complete in the local cache."""
        return self._cache(key.provider).entry(key) is not None

    def fetch(self, key: EntryKey) -> CachedEntry:
        """The entry, received unless it is here. Raises an MxError when the server can't deliver."""
        return self._receive(ModelRef(key.provider, key.name, key.commit or None), weights=key.weights)

    def _receive(self, ref: ModelRef, *, weights: bool) -> CachedEntry:
        settings = self._settings
        token = TokenFile(settings.client.auth_token_path, ttl_s=settings.client.auth_token_ttl_s)
        with SyncClient(
            settings.worker.server_address, timeout_s=settings.client.timeout_s, token=token, role=WORKER
        ) as client:
            return receive_blocking(
                client,
                ref,
                cache=self._cache(ref.provider),
                weights=weights,
                told=_Talk(ref).tell,
                rules=ReceiveRules.of(settings),
            )

    def _cache(self, provider: ProviderName) -> DiskCache:
        return open_client_cache(self._settings, provider)


class _Talk:
    """A line now and then about files on their way."""

    def __init__(self, ref: ModelRef) -> None:
        self._ref = ref
        self._told_s = time.monotonic()

    def tell(self, update: EnsureUpdate) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= _TELL_EVERY_S and not update.is_last:
            self._told_s = now_s
            log.info(
                "waiting for files of %s: %s of %s, %s",
                self._ref,
                format_size(update.bytes_done),
                format_size(update.bytes_total),
                update.message,
            )
