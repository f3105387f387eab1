"""Models as people name them on a command line, and updates of a download on stderr."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum

from mx.cli.output import Output
from mx.core.cache_view import ListedEntry
from mx.core.model import ModelRef, ProviderName, canonical_name, check_revision
from mx.core.progress import EnsureUpdate
from mx.errors import MxError, NotFoundError, UsageError, error_of_code

# Told on a stderr that is no terminal, where a bar can't be drawn over.
_LINE_EVERY_S = 10.0
_BAR = 20


class ProviderChoice(StrEnum):
    HUGGING_FACE = "hugging-face"
    NGC = "ngc"
    GCS = "gcs"
    S3 = "s3"
    LOCAL = "local"


_PREFIXES = {
    "gs": ProviderName.GCS,
    "s3": ProviderName.S3,
    "ngc": ProviderName.NGC,
    "file": ProviderName.LOCAL,
}


def model_ref(name: str, provider: ProviderChoice | None, revision: str | None) -> ModelRef:
    """What is meant, in its canonical spelling: an address decides by its prefix, then ``provider``.

    Raises InvalidArgumentError for what can't be a model's name.
    """
    scheme, separator, _ = name.partition("://")
    chosen = _PREFIXES.get(scheme.lower()) if separator else None
    chosen = chosen or ProviderName(provider.value if provider else ProviderName.HUGGING_FACE)
    if chosen is ProviderName.LOCAL and not separator:
        name = os.path.abspath(name)
    return ModelRef(chosen, canonical_name(chosen, name), check_revision(chosen, revision))


def entries_of(wanted: str, entries: Sequence[ListedEntry]) -> list[ListedEntry]:
    """Entries of ``NAME`` or ``NAME@COMMIT`` (its beginning will do). NotFoundError, UsageError."""
    name, _, commit = wanted.partition("@")
    found = [one for one in entries if one.key.name == name and one.key.commit.startswith(commit)]
    if not found:
        raise NotFoundError(f"{wanted} is not in the cache", remedy="`mx cache list` shows what is")
    providers = {one.key.provider for one in found}
    if len(providers) > 1:
        raise UsageError(f"{wanted} is there from several providers: {', '.join(sorted(providers))}")
    return found


def error_of(update: EnsureUpdate) -> MxError:
    """A failed download as the error that it would have been here."""
    return error_of_code(update.code, f"{update.key}: {update.message}")


class DownloadTalk:
    """Tells how a download goes: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._told_s = float("-inf")

    def tell(self, update: EnsureUpdate, *, now_s: float) -> None:
        text = update.message or "downloading"
        if update.bytes_total:
            part = min(1.0, update.bytes_done / update.bytes_total)
            full = round(part * _BAR)
            text = f"[{'#' * full}{'-' * (_BAR - full)}] {text}"
        if not self._out.draw(text) and now_s - self._told_s >= _LINE_EVERY_S:
            self._told_s = now_s
            self._out.say(f"{update.key}: {update.message or 'downloading'}")

    def end(self) -> None:
        self._out.draw("")
