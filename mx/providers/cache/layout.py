"""Where an entry lies below the root (storage contract, section 7). Pure: names in, names out.

A *slot* is where the bytes of a file lie, relative to the model's folder: ``blobs/<digest>`` for
Hugging Face, the file's own path elsewhere. A *view* is the tree of relative links into the blobs
that other tools read; only Hugging Face has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from mx.core.model import EntryKey, ListedFile, ProviderName, is_weight_file, safe_relative_path
from mx.errors import InvalidArgumentError

BOOKS = ".mx"  # our bookkeeping, in every model's folder
# Records of entries; of deletes under way; of entries that lost a file and wait for it. Then
# downloads under way, and what is about to be deleted.
COMPLETE, REMOVING, CONDEMNED, STAGE, TRASH = "complete", "removing", "condemned", "stage", "trash"
PLAIN_ROOTS = {
    ProviderName.NGC: "ngc",
    ProviderName.GCS: "gcs",
    ProviderName.S3: "s3",
    ProviderName.LOCAL: "local",
}
DEFAULT_REVISION = "main"

_COMMIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_BLOB = re.compile(r"blobs/(?:[0-9a-f]{40}|[0-9a-f]{64})")
_VIEW_TARGET = re.compile(r"(?:\.\./){2,}(blobs/[^/\0]+)")


def has_view(provider: ProviderName) -> bool:
    return provider is ProviderName.HUGGING_FACE


def folder_of(key: EntryKey) -> tuple[str, ...]:
    """The model's folder as parts below the root; InvalidArgumentError for a name that can't be one."""
    if key.commit and not _COMMIT.fullmatch(key.commit):
        raise InvalidArgumentError(f"commit {key.commit[:80]!r} of {key.name[:80]} can't name a folder")
    return model_folder(key.provider, key.name)


def model_folder(provider: ProviderName, name: str) -> tuple[str, ...]:
    if provider is ProviderName.HUGGING_FACE:
        parts: tuple[str, ...] = ("models--" + name.replace("/", "--"),)
    else:
        text = name.partition("://")[2] if provider in (ProviderName.S3, ProviderName.GCS) else name
        parts = (PLAIN_ROOTS[provider], *text.strip("/").split("/"))
    _check(safe_relative_path("/".join(parts)))
    return parts


def key_at(parts: tuple[str, ...]) -> EntryKey | None:
    """A key (commit and weight mode left open) of the model whose folder this is."""
    if len(parts) == 1 and parts[0].startswith("models--"):
        name = parts[0].removeprefix("models--").replace("--", "/")
        return EntryKey(ProviderName.HUGGING_FACE, name, "")
    for provider, root in PLAIN_ROOTS.items():
        if len(parts) > 1 and parts[0] == root:
            rest = "/".join(parts[1:])
            prefix = {ProviderName.S3: "s3://", ProviderName.GCS: "gs://", ProviderName.LOCAL: "/"}
            return EntryKey(provider, prefix.get(provider, "") + rest, "")
    return None


def label(key: EntryKey) -> str:
    """One commit in one weight mode, as a file name."""
    return f"{key.commit or '-'}.{'full' if key.weights else 'meta'}"


def staged_key(parts: tuple[str, ...], stage: str) -> EntryKey | None:
    """Whose download a folder below ``stage`` is, in the model's folder with these parts."""
    model = key_at(parts)
    commit, _, mode = stage.rpartition(".")[0].rpartition(".")
    if model is None or mode not in ("full", "meta") or not commit:
        return None
    return replace(model, commit="" if commit == "-" else commit, weights=mode == "full")


def slot_of(provider: ProviderName, path: str, digest: str) -> str:
    """``digest`` is the cryptographic one, ``algorithm:hex``."""
    return f"blobs/{digest.partition(':')[2]}" if has_view(provider) else path


def is_slot(provider: ProviderName, slot: str, path: str) -> bool:
    return bool(_BLOB.fullmatch(slot)) if has_view(provider) else slot == path


def view_of(commit: str) -> tuple[str, ...]:
    return ("snapshots", commit)


def view_target(path: str, slot: str) -> str:
    """The link at ``snapshots/<commit>/<path>``: relative, so that the cache can be moved."""
    return "../" * (path.count("/") + 2) + slot


def slot_behind(target: str) -> str | None:
    """The blob a link of a snapshot leads to; None for a link to anywhere else."""
    found = _VIEW_TARGET.fullmatch(target)
    return found.group(1) if found else None


def kept_files(key: EntryKey, files: Iterable[ListedFile]) -> tuple[ListedFile, ...]:
    """The listing in the key's weight mode, sorted; InvalidArgumentError for unsafe or clashing paths."""
    kept = sorted((f for f in files if key.weights or not is_weight_file(f.path)), key=lambda f: f.path)
    seen: set[str] = set()
    for file in kept:
        _check(safe_relative_path(file.path))
        if file.path in seen:
            raise InvalidArgumentError(f"{key}: the listing names {file.path!r} twice")
        if file.size_bytes < 0:
            raise InvalidArgumentError(f"{key}: {file.path!r} has the size {file.size_bytes}")
        seen.add(file.path)
    for path in seen:
        parts = path.split("/")
        for length in range(1, len(parts)):
            if "/".join(parts[:length]) in seen:
                raise InvalidArgumentError(
                    f"{key}: {'/'.join(parts[:length])!r} is listed as a file and as a folder"
                )
    return tuple(kept)


def _check(path: str) -> str:
    if any(part == BOOKS or part.startswith(".mx-") for part in path.split("/")):
        raise InvalidArgumentError(f"path {path[:80]!r} uses a name that is kept for the cache's own files")
    return path
