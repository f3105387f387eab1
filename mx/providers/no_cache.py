"""The cache of a server whose directory can't be used: everything else goes on, models say why not."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NoReturn

from mx.core.cached import CachedEntry, CacheUsage, VerifyReport
from mx.core.model import EntryKey, Listing, ProviderName
from mx.errors import MxError, UnavailableError
from mx.ports import Staging


class NoCache:
    """``mx.ports.EntryCache`` that refuses with the reason the directory was refused for."""

    def __init__(self, root: Path, error: MxError) -> None:
        self._root = root
        self._message, self._remedy = error.message, error.remedy

    @property
    def root(self) -> Path:
        return self._root

    def entry(self, key: EntryKey) -> CachedEntry | None:
        self._refuse()

    def resolve(self, provider: ProviderName, name: str, revision: str | None) -> str | None:
        self._refuse()

    def commits(self, provider: ProviderName, name: str) -> tuple[str, ...]:
        self._refuse()

    def point(self, key: EntryKey, revision: str | None) -> None:
        self._refuse()

    def open_file(self, entry: CachedEntry, path: str) -> int:
        self._refuse()

    def verify(self, key: EntryKey, *, progress: Callable[[int], None] | None = None) -> VerifyReport:
        self._refuse()

    def condemn(self, key: EntryKey, paths: Collection[str]) -> tuple[EntryKey, ...]:
        self._refuse()

    def begin(self, listing: Listing) -> Staging:
        self._refuse()

    def remove(self, key: EntryKey, *, moved: Callable[[], None] | None = None) -> int:
        self._refuse()

    def scan(self) -> tuple[CachedEntry, ...]:
        self._refuse()

    def recorded(self) -> tuple[EntryKey, ...]:
        self._refuse()

    def usage(self) -> CacheUsage:
        self._refuse()

    def clean_abandoned(self, *, older_than_s: float) -> int:
        self._refuse()

    def identity(self) -> str:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UnavailableError(self._message, remedy=self._remedy)
