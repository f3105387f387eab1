"""One setting, described: its key, where it may come from, and what it may be.

The table of all settings is not a list beside the settings but the settings themselves: each
field of the dataclasses in ``tree`` carries an ``Option`` in its metadata, and ``collect`` walks
them. So a setting can't exist without its environment names, nor a name without its setting.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_type_hints

from mx.config.addresses import UrlText
from mx.config.kinds import Kind

Scope = Literal["server", "client", "worker"]
SCOPES: tuple[Scope, ...] = ("server", "client", "worker")
ENV_PREFIX = "MODEL_EXPRESS_"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from. Prints as ``default``, ``file:PATH``, ``env:NAME`` or ``flag``."""

    kind: Literal["default", "file", "env", "flag"]
    name: str = ""

    @property
    def explicit(self) -> bool:
        """Whether somebody asked for the value."""
        return self.kind != "default"

    @property
    def rank(self) -> int:
        """Place in the order of precedence; higher wins."""
        return ("default", "file", "env", "flag").index(self.kind)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name and self.kind in ("file", "env") else self.kind


DEFAULT = Origin("default")
FLAG = Origin("flag")


@dataclass(frozen=True)
class Option:
    """One setting.

    ``env`` are names of equal right, the first set one wins and a notice tells of a second that
    differs; ``fallback_env`` come after them without a notice (they belong to other programs, or
    are second by contract); ``inverse_env`` mean the opposite; ``legacy_env`` work with one line
    that names the present name.
    """

    key: str
    path: str
    kind: Kind
    env: tuple[str, ...] = ()
    fallback_env: tuple[str, ...] = ()
    inverse_env: tuple[str, ...] = ()
    legacy_env: tuple[str, ...] = ()
    flag: str = ""
    scopes: tuple[Scope, ...] = SCOPES
    secret: bool = False
    env_only: bool = False

    @cached_property
    def nested_env(self) -> tuple[str, ...]:
        """The names made from the key: ``MODEL_EXPRESS_SERVER__PORT`` and ``MODEL_EXPRESS_SERVER_PORT``."""
        names = [ENV_PREFIX + self.key.upper().replace(".", mark) for mark in ("__", "_")]
        if self.path != self.key:
            names.append(ENV_PREFIX + self.path.upper().replace(".", "__"))
        return tuple(name for name in names if name not in self.named_env)

    @property
    def named_env(self) -> tuple[str, ...]:
        """Names with a place of their own in the documents, best first."""
        return (*self.env, *self.inverse_env, *self.fallback_env, *self.legacy_env)

    @property
    def section(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def leaf(self) -> str:
        return self.key.rpartition(".")[2]


def option(
    kind: Kind,
    *,
    key: str = "",
    env: tuple[str, ...] = (),
    fallback_env: tuple[str, ...] = (),
    inverse_env: tuple[str, ...] = (),
    legacy_env: tuple[str, ...] = (),
    flag: str = "",
    scopes: tuple[Scope, ...] = SCOPES,
    secret: bool = False,
    env_only: bool = False,
) -> Any:
    """A dataclass field that is a setting. ``key`` is its name in files where that differs."""
    described = {
        "kind": kind,
        "env": env,
        "fallback_env": fallback_env,
        "inverse_env": inverse_env,
        "legacy_env": legacy_env,
        "flag": flag,
        "scopes": scopes,
        "secret": secret,
        "env_only": env_only,
    }
    # A secret never shows in repr(settings), which ends up in logs and test output.
    shows = not secret and not isinstance(kind, UrlText)
    return dataclasses.field(repr=shows, metadata={"key": key, "option": described})


def section(name: str = "") -> Any:
    """A dataclass field that is a group of settings; ``name`` is its name in files when that differs."""
    return dataclasses.field(metadata={"section": name, "is_section": True})


def collect(owner: type, *, key: str = "", path: str = "") -> Iterator[Option]:
    """Every setting below ``owner``, in the order of its fields."""
    hints = get_type_hints(owner)
    for found in dataclasses.fields(owner):
        if found.metadata.get("is_section"):
            below = found.metadata["section"] or found.name
            yield from collect(hints[found.name], key=f"{key}{below}.", path=f"{path}{found.name}.")
        elif "option" in found.metadata:
            name = found.metadata["key"] or found.name
            yield Option(key=f"{key}{name}", path=f"{path}{found.name}", **found.metadata["option"])
