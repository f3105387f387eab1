"""The directory that models are kept in."""

from __future__ import annotations

from dataclasses import dataclass

from mx.core.doctor.finding import Finding, error, info, ok, warning
from mx.core.units import format_size

# Less than a small model needs.
_LITTLE_BYTES = 10 << 30
_LITTLE_PART = 0.05
_SHARED = ("nfs", "nfs4", "lustre", "gpfs", "ceph", "cifs", "smb3", "beegfs", "fuse.", "9p", "virtiofs")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFacts:
    """A cache root. ``failure`` says why nothing can be written; ``links`` why hard links can't be made
    (empty: they can); ``mounts`` are folders below it that lie on another file system."""

    whose: str  # "this machine's" or "the server's"
    path: str
    exists: bool
    failure: str = ""
    links: str = ""
    mounts: tuple[str, ...] = ()
    kind: str = ""  # of the file system, as the kernel calls it
    free_bytes: int = 0
    disk_bytes: int = 0
    free_inodes: int | None = None
    max_size_bytes: int | None = None
    min_free_bytes: int | None = None


def judge_cache(facts: CacheFacts) -> list[Finding]:
    name = f"{facts.whose} cache {facts.path}"
    if facts.failure:
        return [
            error(
                f"{name} can't be written: {facts.failure}",
                remedy="give this user the directory, or name another (cache.directory, --cache-path)",
            )
        ]
    lies = f" on {facts.kind}" if facts.kind else ""
    state = "" if facts.exists else ", not there yet"
    found = [ok(f"{name}{lies}{state}, can be written"), _space(facts), *_limits(facts)]
    if facts.links:
        found.append(
            info(
                f"{name} takes no hard links: {facts.links}",
                remedy="files of local models are copied then, and take their space twice",
            )
        )
    if facts.mounts:
        found.append(
            error(
                f"{name} has folders on other file systems: {', '.join(facts.mounts)}",
                remedy="a finished file appears by rename, which stays within one: mount the whole root",
            )
        )
    return found + _kind(facts, name)


def _space(facts: CacheFacts) -> Finding:
    text = f"{format_size(facts.free_bytes)} of {format_size(facts.disk_bytes)} are free for it"
    remedy = "mx cache evict makes room; mx cache stats shows what could go"
    if facts.free_inodes == 0:
        return error("no more files can be made there: the file system has no free inode", remedy=remedy)
    if facts.min_free_bytes is not None and facts.free_bytes < facts.min_free_bytes:
        return warning(
            f"{text}, less than cache.eviction.policy.min_free_space_bytes "
            f"({format_size(facts.min_free_bytes)})",
            remedy=remedy,
        )
    if facts.free_bytes < min(_LITTLE_BYTES, _LITTLE_PART * facts.disk_bytes):
        return warning(text, remedy=remedy)
    return ok(text)


def _limits(facts: CacheFacts) -> list[Finding]:
    limit = facts.max_size_bytes
    if limit is not None and facts.disk_bytes and limit > facts.disk_bytes:
        return [
            warning(
                f"cache.max_size_bytes ({format_size(limit)}) is more than the disk has "
                f"({format_size(facts.disk_bytes)})",
                remedy="lower it, or set cache.eviction.policy.min_free_space_bytes",
            )
        ]
    return []


def _kind(facts: CacheFacts, name: str) -> list[Finding]:
    if facts.kind in ("tmpfs", "ramfs"):
        return [
            warning(
                f"{name} lies in memory ({facts.kind}) and ends with the machine",
                remedy="mount a disk there; of no matter where that is meant",
            )
        ]
    if facts.kind == "overlay":
        return [
            info(f"{name} lies in the container's own layer and ends with it", remedy="mount a volume there")
        ]
    if facts.kind.startswith(_SHARED):
        return [info(f"{name} lies on a shared file system ({facts.kind}); mx needs none of its locks")]
    return []
