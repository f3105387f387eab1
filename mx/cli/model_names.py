"""Models as people name them on a command line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum

from mx.core.cache_view import ListedEntry
from mx.core.model import ModelRef, ProviderName, canonical_name, check_revision, provider_of
from mx.errors import InvalidArgumentError, NotFoundError, UsageError


class ProviderChoice(StrEnum):
    HUGGING_FACE = "hugging-face"
    NGC = "ngc"
    GCS = "gcs"
    S3 = "s3"
    LOCAL = "local"


def model_ref(name: str, provider: ProviderChoice | None, revision: str | None) -> ModelRef:
    """What is meant, in its canonical spelling: an address or a path decides by itself, then ``provider``.

    Raises InvalidArgumentError for what can't be a model's name.
    """
    chosen = _by_spelling(name) or ProviderName(provider.value if provider else ProviderName.HUGGING_FACE)
    if chosen is ProviderName.LOCAL and "://" not in name:
        name = os.path.abspath(os.path.expanduser(name))
    return ModelRef(chosen, canonical_name(chosen, name), check_revision(chosen, revision))


def _by_spelling(name: str) -> ProviderName | None:
    if "://" in name:
        return provider_of(name)
    return ProviderName.LOCAL if name.startswith(("/", "./", "../", "~/")) else None


def entries_of(wanted: str, entries: Sequence[ListedEntry]) -> list[ListedEntry]:
    """Entries of ``NAME`` or ``NAME@COMMIT`` (its beginning will do). NotFoundError, UsageError."""
    name, _, commit = wanted.rpartition("@")
    found = _fitting(wanted, "", entries) or (_fitting(name, commit, entries) if name else [])
    if not found:
        near = difflib.get_close_matches(wanted, {one.key.name for one in entries}, n=1, cutoff=0.5)
        nearest = f"the nearest is {near[0]}; " if near else ""
        raise NotFoundError(f"{wanted} is not in the cache", remedy=f"{nearest}`mx cache list` shows what is")
    providers = {one.key.provider for one in found}
    if len(providers) > 1:
        raise UsageError(
            f"{wanted} is there from several providers: {', '.join(sorted(providers))}",
            remedy="name it as an address: ngc://…, s3://…, gs://…",
        )
    return found


def _fitting(name: str, commit: str, entries: Sequence[ListedEntry]) -> list[ListedEntry]:
    names = {name}
    with suppress(InvalidArgumentError):
        # Without a scheme only NGC's names have a spelling beside the canonical one.
        names.add(model_ref(name, None if _by_spelling(name) else ProviderChoice.NGC, None).name)
    return [one for one in entries if one.key.name in names and one.key.commit.startswith(commit)]
