"""Models: what a person asks for, what it is pinned to, which files it has, and its record.

Names and canonical spellings follow the wire contract, section 6.1; entry keys and record
members the storage contract, section 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

from mx.errors import InvalidArgumentError


class ProviderName(StrEnum):
    """Where original files come from. ``local`` has no number on the published wire."""

    HUGGING_FACE = "hugging-face"
    NGC = "ngc"
    GCS = "gcs"
    S3 = "s3"
    LOCAL = "local"


# Suffixes that make a file a weight file; case-sensitive (wire contract, section 6.1).
WEIGHT_SUFFIXES = (".bin", ".safetensors", ".h5", ".msgpack", ".ckpt.index", ".iop", ".gas")

_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_weight_file(path: str) -> bool:
    return path.endswith(WEIGHT_SUFFIXES)


# Images and the model card are for people; hidden files and folders belong to tools (git, download
# caches, our own bookkeeping). Storage contract, section 7.
_LEFT_OUT_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".ico", ".bmp", ".tiff", ".tif")


def is_kept_file(path: str, *, weights: bool = True) -> bool:
    """Whether a file at the provider belongs in an entry of that weight mode."""
    *_, name = parts = path.split("/")
    if name == "README.md" or name.lower().endswith(_LEFT_OUT_SUFFIXES):
        return False
    return (weights or not is_weight_file(path)) and not any(part.startswith(".") for part in parts)


def is_commit(text: str) -> bool:
    """A full lower-case Hugging Face commit."""
    return _COMMIT.fullmatch(text) is not None


_SCHEMES = {
    "gs": ProviderName.GCS,
    "s3": ProviderName.S3,
    "ngc": ProviderName.NGC,
    "file": ProviderName.LOCAL,
}


def provider_of(name: str) -> ProviderName | None:
    """The provider that an address names by its scheme; None for a name without one."""
    scheme, separator, _ = name.partition("://")
    return _SCHEMES.get(scheme.lower()) if separator else None


@dataclass(frozen=True, slots=True)
class ModelRef:
    """What was asked for. ``revision`` is a branch, tag or commit, or None for the default."""

    provider: ProviderName
    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


@dataclass(frozen=True, slots=True)
class EntryKey:
    """One cached revision in one weight mode; the unit of claims, records and eviction.

    ``commit`` is the immutable answer of the provider ("" where a provider has none).
    ``weights`` False: everything but weight files.
    """

    provider: ProviderName
    name: str
    commit: str
    weights: bool = True

    def __str__(self) -> str:
        commit = f"@{self.commit[:12]}" if self.commit else ""
        return f"{self.name}{commit}{'' if self.weights else ' (metadata)'}"


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file at the provider. ``digest`` is ``algorithm:hex`` when the provider names one that is a
    digest of the content (sha256, git-sha1, md5, crc64nvme, crc32c, crc32); ``etag`` is what a ranged read
    must match.

    ``xxh3`` (128 bits, hex) comes from a cache that computed it and ``digest``, a cryptographic one,
    over the same bytes: then it is what is checked, and ``digest`` is taken from there.
    """

    path: str
    size_bytes: int
    digest: str = ""
    etag: str = ""
    xxh3: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """All files to keep of one commit in the weight mode of ``key``, sorted by path."""

    key: EntryKey
    files: tuple[ListedFile, ...]

    @property
    def total_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class EntryStatus(StrEnum):
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    ERROR = "error"
    EVICTING = "evicting"


@dataclass(frozen=True, slots=True)
class Claim:
    """Exclusive right to download: ``token`` grows with every claim of a key and fences the publish."""

    owner: str
    token: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Pin:
    """Keeps an entry: ``until_ms`` None is for ever (hard), a time makes it soft."""

    until_ms: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReadLease:
    """Somebody reads the entry until ``expires_at_ms`` at the latest."""

    lease_id: str
    holder: str
    expires_at_ms: int


# Message of a record that an older registry left and that nobody has compared with the disk yet.
TO_BE_VERIFIED = "known from an older release: its files are to be verified"


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """What the store knows of one entry. Times are Unix milliseconds by the store's clock.

    ``bytes_on_disk`` counts blocks as the disk does; ``attempts`` and ``retry_at_ms`` belong to ERROR.
    """

    key: EntryKey
    status: EntryStatus
    created_at_ms: int
    last_used_at_ms: int
    message: str = ""
    claim: Claim | None = None
    bytes_total: int = 0
    bytes_done: int = 0
    files: int = 0
    bytes_on_disk: int = 0
    attempts: int = 0
    retry_at_ms: int = 0
    pin: Pin | None = None
    leases: tuple[ReadLease, ...] = ()
    requested_revision: str = ""


def _storable(text: str) -> bool:
    """Whether a disk, a store and the wire can hold it: JSON may bring half a surrogate pair."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def canonical_name(provider: ProviderName, name: str) -> str:
    """The one spelling of a model name; InvalidArgumentError says what is wrong with it."""
    unprintable = any(ord(c) < 0x20 or c == "\x7f" for c in name) or not _storable(name)
    if not name or len(name) > 1024 or unprintable:
        raise InvalidArgumentError(f"model name {name[:80]!r} is empty, too long or holds control characters")
    match provider:
        case ProviderName.HUGGING_FACE:
            return _hugging_face(name)
        case ProviderName.NGC:
            return _ngc(name)
        case ProviderName.S3:
            return _bucket(name, "s3")
        case ProviderName.GCS:
            return _bucket(name, "gs")
        case ProviderName.LOCAL:
            return _local(name)


def check_revision(provider: ProviderName, revision: str | None) -> str | None:
    """The revision as it is; InvalidArgumentError for one that is unsafe or has no meaning there."""
    if revision is None:
        return None
    if provider is not ProviderName.HUGGING_FACE:
        raise InvalidArgumentError(f"{provider} models have no revisions, and {revision!r} was given")
    parts = revision.split("/")
    if (
        not revision
        or not _storable(revision)
        or len(revision.encode()) > 255
        or revision.startswith("/")
        or "\\" in revision
        or any(part in ("", ".", "..") for part in parts)
        or any(ord(c) < 0x21 or c == "\x7f" for c in revision)
    ):
        raise InvalidArgumentError(f"revision {revision[:80]!r} is empty, absolute or holds unsafe parts")
    return revision.lower() if _COMMIT.fullmatch(revision.lower()) else revision


_HF_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")


def _hugging_face(name: str) -> str:
    parts = name.split("/")
    if len(parts) > 2 or not all(_HF_PART.fullmatch(p) and ".." not in p and "--" not in p for p in parts):
        raise InvalidArgumentError(f"{name[:80]!r} is no Hugging Face model name; write org/name or name")
    return name


_NGC_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


def _ngc(name: str) -> str:
    """org/[team/]models/name/version whatever the spelling, so that one artifact has one key."""
    text = name.removeprefix("ngc://")
    head, colon, version = text.partition(":")
    parts = [*head.split("/"), *([version] if colon else [])]
    if not all(_NGC_PART.fullmatch(part) and ".." not in part for part in parts):
        raise InvalidArgumentError(f"{name[:80]!r} is no NGC model name; write org/team/name:version")
    match parts, bool(colon):
        case ([org, model, release], _):
            return f"{org}/models/{model}/{release}"
        case ([org, "models", model, release], False):
            return f"{org}/models/{model}/{release}"
        case ([org, team, model, release], _):
            return f"{org}/{team}/models/{model}/{release}"
        case ([org, team, kind, model, release], False):
            return f"{org}/{team}/{kind}/{model}/{release}"
    raise InvalidArgumentError(f"{name[:80]!r} is no NGC model name; write org/team/name:version")


# It becomes part of a host name: anything else could make an address of another host.
_BUCKET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,220}[A-Za-z0-9])?")


def _bucket(name: str, scheme: str) -> str:
    head, sep, rest = name.partition("://")
    if not sep or head.lower() != scheme:
        raise InvalidArgumentError(f"{name[:80]!r} is no {scheme}:// address")
    parts = rest.rstrip("/").split("/")
    if len(parts) < 2 or any(
        p in ("", ".", "..") or "\\" in p or re.fullmatch(r"[A-Za-z]:", p) for p in parts
    ):
        raise InvalidArgumentError(f"{name[:80]!r} needs a bucket and a prefix without empty, . or .. parts")
    if not _BUCKET.fullmatch(parts[0]):
        raise InvalidArgumentError(f"{parts[0][:80]!r} is no name of a bucket")
    return f"{scheme}://{'/'.join(parts)}"


def _local(name: str) -> str:
    try:
        text = unquote(name.removeprefix("file://"), errors="strict") if name.startswith("file://") else name
    except UnicodeDecodeError:
        raise InvalidArgumentError(
            f"{name[:80]!r} is no address of a file: its escapes are no UTF-8"
        ) from None
    parts = text.split("/")
    if (
        not text.startswith("/")
        or any(part in (".", "..") for part in parts)
        or "\\" in text
        or any(ord(c) < 0x20 or c == "\x7f" for c in text)
    ):
        raise InvalidArgumentError(f"{name[:80]!r} is no absolute path without . or .. parts")
    return "/" + "/".join(part for part in parts if part)


def safe_relative_path(path: str) -> str:
    """A path from outside as it is; InvalidArgumentError when it could leave its directory."""
    parts = path.split("/")
    if (
        not path
        or len(path) > 4096
        or "\\" in path
        or "\0" in path
        or not _storable(path)
        or any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)
        or re.fullmatch(r"[A-Za-z]:", parts[0])
    ):
        raise InvalidArgumentError(f"path {path[:80]!r} is absolute or holds unsafe parts")
    return path
