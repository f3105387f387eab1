"""One cache over two directories: NGC's tools keep their models apart unless somebody names one root."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from mx.core.cached import CachedEntry, CacheUsage, VerifyReport
from mx.core.model import EntryKey, Listing, ProviderName
from mx.ports import EntryCache, Staging


class SplitCache:
    """``mx.ports.EntryCache``: models of ``aside`` lie in its own cache, all others in ``main``.

    ``root`` and the sizes of the disk are those of ``main``.
    """

    def __init__(self, main: EntryCache, aside: dict[ProviderName, EntryCache]) -> None:
        self._main = main
        self._aside = aside
        self._all = (main, *aside.values())

    @property
    def root(self) -> Path:
        return self._main.root

    def entry(self, key: EntryKey) -> CachedEntry | None:
        return self._of(key.provider).entry(key)

    def resolve(self, provider: ProviderName, name: str, revision: str | None) -> str | None:
        return self._of(provider).resolve(provider, name, revision)

    def commits(self, provider: ProviderName, name: str) -> tuple[str, ...]:
        return self._of(provider).commits(provider, name)

    def point(self, key: EntryKey, revision: str | None) -> None:
        self._of(key.provider).point(key, revision)

    def open_file(self, entry: CachedEntry, path: str) -> int:
        return self._of(entry.key.provider).open_file(entry, path)

    def verify(self, key: EntryKey, *, progress: Callable[[int], None] | None = None) -> VerifyReport:
        return self._of(key.provider).verify(key, progress=progress)

    def condemn(self, key: EntryKey, paths: Collection[str]) -> tuple[EntryKey, ...]:
        return self._of(key.provider).condemn(key, paths)

    def begin(self, listing: Listing) -> Staging:
        return self._of(listing.key.provider).begin(listing)

    def remove(self, key: EntryKey, *, moved: Callable[[], None] | None = None) -> int:
        return self._of(key.provider).remove(key, moved=moved)

    def scan(self) -> tuple[CachedEntry, ...]:
        return tuple(entry for cache in self._all for entry in cache.scan())

    def recorded(self) -> tuple[EntryKey, ...]:
        return tuple(key for cache in self._all for key in cache.recorded())

    def usage(self) -> CacheUsage:
        found = [cache.usage() for cache in self._all]
        return CacheUsage(
            used_bytes=sum(one.used_bytes for one in found),
            free_bytes=found[0].free_bytes,
            disk_bytes=found[0].disk_bytes,
            entries={key: size for one in found for key, size in one.entries.items()},
        )

    def identity(self) -> str:
        return self._main.identity()

    def clean_abandoned(self, *, older_than_s: float) -> int:
        return sum(cache.clean_abandoned(older_than_s=older_than_s) for cache in self._all)

    def _of(self, provider: ProviderName) -> EntryCache:
        return self._aside.get(provider, self._main)
