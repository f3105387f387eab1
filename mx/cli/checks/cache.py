"""The directories that models are kept in, as the kernel sees them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mx.cli.checks.site import Site
from mx.config import Settings
from mx.core.doctor.cache import CacheFacts


@dataclass(frozen=True, slots=True)
class Mount:
    point: Path
    kind: str


def look_at_caches(site: Site, loaded: Mapping[str, Settings]) -> list[CacheFacts]:
    """This machine's cache, and the one of a server here where a setting names it or it exists."""
    found: dict[Path, CacheFacts] = {}
    mounts = read_mounts(site.root)
    if (client := loaded.get("client")) is not None:
        root = client.client_cache_root("huggingface")
        found[root.absolute()] = cache_facts("this machine's", root, mounts)
    if (server := loaded.get("server")) is not None:
        root = server.cache.directory
        if server.explicit("cache.directory") or root.is_dir():
            policy = server.cache.eviction.policy
            found[root.absolute()] = replace(
                found.get(root.absolute()) or cache_facts("the server's", root, mounts),
                max_size_bytes=server.cache.max_size_bytes,
                min_free_bytes=policy.min_free_space_bytes,
            )
    return list(found.values())


def cache_facts(whose: str, root: Path, mounts: list[Mount]) -> CacheFacts:
    """Facts of one root. Makes a file in it, links it, and removes both."""
    exists = os.path.lexists(root)
    place = root if exists else next(parent for parent in root.absolute().parents if parent.exists())
    facts = CacheFacts(whose=whose, path=str(root), exists=exists)
    try:
        facts = _mounted(_space(facts, place), place.resolve(), mounts)
        return replace(facts, links=_try_links(place) if exists else _try_access(place))
    except OSError as error:
        return replace(facts, failure=error.strerror or str(error))


def _space(facts: CacheFacts, place: Path) -> CacheFacts:
    usage, system = shutil.disk_usage(place), os.statvfs(place)
    return replace(
        facts,
        free_bytes=usage.free,
        disk_bytes=usage.total,
        # Some file systems make inodes as they need them and say that there are none at all.
        free_inodes=system.f_favail if system.f_files else None,
    )


def _mounted(facts: CacheFacts, place: Path, mounts: list[Mount]) -> CacheFacts:
    holding = [mount for mount in mounts if place == mount.point or mount.point in place.parents]
    kind = max(holding, key=lambda mount: len(mount.point.parts)).kind if holding else ""
    below = tuple(str(mount.point) for mount in mounts if place in mount.point.parents)
    return replace(facts, kind=kind, mounts=below)


def _try_links(root: Path) -> str:
    """Why no hard link can be made there; "" when it can. Raises OSError when no file can."""
    handle, name = tempfile.mkstemp(prefix=".mx-doctor-", dir=root)
    os.close(handle)
    try:
        os.link(name, f"{name}.link")
    except OSError as error:
        return error.strerror or str(error)
    finally:
        for path in (name, f"{name}.link"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    return ""


def _try_access(parent: Path) -> str:
    """Nothing is made for a look; whether the root could be is asked of its parent."""
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(0, f"{parent} belongs to another, and the directory is not there")
    return ""


def read_mounts(root: Path) -> list[Mount]:
    """Mounts in their order, later ones over earlier ones; [] where the kernel does not tell."""
    try:
        text = (root / "proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return []
    rows = [line.split(" ") for line in text.splitlines()]
    return [Mount(Path(_unescaped(row[1])), row[2]) for row in rows if len(row) >= 3]


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
