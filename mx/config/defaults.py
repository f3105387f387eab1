"""The defaults: ``settings.toml``, beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mx.errors import InternalError

_PACKAGE = Path(__file__).resolve().parent.parent
_SECTION = re.compile(r"\[([A-Za-z0-9_.]+)\]\s*")
_KEY = re.compile(r"([A-Za-z0-9_]+)\s*=")


@dataclass(frozen=True, slots=True)
class Defaults:
    """``values`` as the file nests them; ``comments`` by dotted key."""

    path: Path
    values: Mapping[str, object]
    comments: Mapping[str, str]


def defaults_path() -> Path:
    """Where ``settings.toml`` is. Raises InternalError when the installation lacks it."""
    # The checkout first: an old build may have left a copy inside the package.
    for path in (_PACKAGE.parent / "settings.toml", _PACKAGE / "settings.toml"):
        # A stranger's settings.toml in site-packages is no checkout's.
        if path.is_file() and (path.parent == _PACKAGE or (_PACKAGE.parent / "pyproject.toml").is_file()):
            return path
    raise InternalError(
        f"settings.toml is missing from the installation at {_PACKAGE}",
        remedy="install modelexpress-mx again",
    )


@lru_cache(maxsize=1)
def read_defaults() -> Defaults:
    """The defaults and the sentence that explains each of them."""
    path = defaults_path()
    text = path.read_text(encoding="utf-8")
    return Defaults(path, tomllib.loads(text), _comments(text))


def _comments(text: str) -> dict[str, str]:
    """Comment lines directly above a key belong to it; an empty line ends them."""
    found: dict[str, str] = {}
    section = ""
    pending: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            pending.append(line.removeprefix("#").strip())
            continue
        if header := _SECTION.fullmatch(line):
            section = header[1]
        elif (key := _KEY.match(line)) and pending:
            found[f"{section}.{key[1]}"] = " ".join(pending)
        pending = []
    return found
