"""From files, environment and flags to one layer each, and from layers to one answer per key.

Each layer is checked by itself, so a wrong value is reported even where a higher layer hides it.
Dynaconf merges the layers: they are nested mappings whose leaves are ``Found`` values, opaque to
it, so none of its text conversions (``@jinja``, ``@format``, list joining) can touch a value.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mx.config import foreign
from mx.config.addresses import UrlText
from mx.config.defaults import Defaults
from mx.config.files import SettingsFile
from mx.config.kinds import Place, describe
from mx.config.options import DEFAULT, ENV_PREFIX, FLAG, Option, Origin, Scope
from mx.config.tree import BY_KEY, TABLE
from mx.core.redact import MASK, is_secret_name, redact_text

CONFIG_ENV = "MODEL_EXPRESS_CONFIG"

# Members of ~/.model-express/config.yaml, which `model init` writes.
HOME_FILE_KEYS = {
    "local_path": "cache.local_path",
    "server_endpoint": "cache.server_endpoint",
    "timeout_secs": "connection.timeout_secs",
    "shared_storage": "cache.shared_storage",
    "transfer_chunk_size": "cache.transfer_chunk_size",
}

_SECTIONS = frozenset(
    ".".join(parts[:depth])
    for name in BY_KEY
    for parts in (name.split("."),)
    for depth in range(1, len(parts))
)
# An environment name given before "MX_" must be very near to count as a slip of ours.
_NEAR_ENV = 0.85


@dataclass(frozen=True, slots=True)
class Found:
    """A checked value, and where it was."""

    value: object
    origin: Origin


@dataclass(slots=True)
class Finding:
    """What reading collects besides values: everything wrong, and everything worth a line."""

    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


Layer = dict[str, Found]


def default_layer(defaults: Defaults, *, place: Place) -> Layer:
    """The values of ``settings.toml``; a wrong one is a defect of ours and raises ValueError."""
    flat = dict(_leaves(defaults.values, ""))
    return {one.key: Found(one.kind.parse(flat[one.key], place), DEFAULT) for one in TABLE}


def _leaves(data: Mapping[str, object], prefix: str) -> Iterable[tuple[str, object]]:
    for name, value in data.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and key not in BY_KEY:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value


def file_layer(source: SettingsFile, *, place: Place, finding: Finding, migrating: bool = False) -> Layer:
    """The settings of one file. Keys that don't belong are problems, or left alone when ``migrating``."""
    layer: Layer = {}
    written: dict[str, str] = {}

    def walk(data: Mapping[str, object], prefix: str) -> None:
        for name, value in data.items():
            key = f"{prefix}{name}"
            option = BY_KEY.get(key)
            if option is not None:
                take(key, option, value)
            elif key in _SECTIONS:
                if isinstance(value, Mapping):
                    walk(value, f"{key}.")
                elif value is not None:
                    finding.problems.append(
                        f"{key}: found {describe(value)} where a section is expected; allowed: a mapping "
                        f"with {_members(key)} [{source.where(key)}]"
                    )
            elif not prefix and (name in foreign.SECTIONS or foreign.is_foreign_env(name)):
                finding.notices.append(f"{name} in {source.path} is known but has no effect in mx")
            elif not migrating:
                finding.problems.append(unknown_key(key, where=source.where(key)))

    def take(key: str, option: Option, value: object) -> None:
        if option.key in written:
            finding.problems.append(
                f"{option.key}: set twice, as {written[option.key]} and as {key} [{source.where(key)}]"
            )
        elif option.env_only:
            if not migrating:
                finding.problems.append(
                    f"{key}: not read from files; set {option.env[0]} instead [{source.where(key)}]"
                )
        else:
            written[option.key] = key
            _read(option, value, Origin("file", str(source.path)), source.where(key), layer, place, finding)

    walk(source.data, "")
    return layer


def is_known_key(key: str) -> Literal["setting", "env_only", "section"] | None:
    """What a key of a file is."""
    option = BY_KEY.get(key)
    if option is not None:
        return "env_only" if option.env_only else "setting"
    return "section" if key in _SECTIONS else None


def home_file_layer(source: SettingsFile, *, place: Place, finding: Finding) -> Layer:
    """The flat file of `model init`, by its five members."""
    layer: Layer = {}
    for name, value in source.data.items():
        key = HOME_FILE_KEYS.get(name)
        if key is None:
            finding.problems.append(
                f"{name}: unknown key{_nearest(name, HOME_FILE_KEYS)}; allowed: "
                f"{', '.join(HOME_FILE_KEYS)} [{source.where(name)}]"
            )
        elif value is not None:
            _read(
                BY_KEY[key],
                value,
                Origin("file", str(source.path)),
                source.where(name),
                layer,
                place,
                finding,
            )
    return layer


def env_layer(environ: Mapping[str, str], *, scope: Scope, place: Place, finding: Finding) -> Layer:
    """What the environment says. An empty variable counts as not set."""
    layer: Layer = {}
    links: set[str] = set()
    for option in TABLE:
        set_names = [name for name in env_names(option, scope=scope) if environ.get(name, "").strip()]
        links.update(name for name in set_names if foreign.is_service_link(name, environ[name].strip()))
        names = [name for name in set_names if name not in links]
        if not names:
            continue
        name, *others = names
        value = environ[name]
        where = Origin("env", name)
        _read(option, value, where, str(where), layer, place, finding, inverse=name in option.inverse_env)
        if name in option.legacy_env:
            finding.notices.append(f"{name} is deprecated; set {option.env[0]} instead")
        finding.notices.extend(
            f"{other} is ignored because {name} is set as well, to another value"
            for other in others
            if other not in option.fallback_env and environ[other].strip() != value.strip()
        )
    finding.notices.extend(
        f"{name} is ignored: Kubernetes set it for a Service; enableServiceLinks: false removes it"
        for name in sorted(links)
    )
    _report_strangers(environ, finding)
    return layer


def env_names(option: Option, *, scope: Scope) -> tuple[str, ...]:
    """The variables that this setting is read from in a scope, best first."""
    return (*(option.named_env if scope in option.scopes else ()), *option.nested_env)


# MX_DEBUG is the command line's own switch for tracebacks.
_KNOWN_ENV = frozenset(
    {CONFIG_ENV, "MX_DEBUG", *(name for one in TABLE for name in (*one.named_env, *one.nested_env))}
)
# Suggestions name what the documents name.
_SPELLINGS = sorted({name for one in TABLE for name in (*one.named_env, *one.nested_env[:1])})


def _report_strangers(environ: Mapping[str, str], finding: Finding) -> None:
    """Variables with our prefixes that are no setting: a slip would otherwise go unseen."""
    for name in sorted(environ):
        if name in _KNOWN_ENV or not environ[name].strip():
            continue
        if foreign.is_foreign_env(name):
            finding.notices.append(f"{name} is set and has no effect in mx")
        elif name.startswith(ENV_PREFIX) and "__" in name:
            key = name.removeprefix(ENV_PREFIX).lower().replace("__", ".")
            finding.problems.append(unknown_key(key, where=f"env:{name}"))
        elif name.startswith((ENV_PREFIX, "MX_")) and not foreign.looks_like_service_link(name):
            near = difflib.get_close_matches(name, _SPELLINGS, n=1, cutoff=_NEAR_ENV)
            if near or name.startswith(ENV_PREFIX):
                hint = f"; did you mean {near[0]}?" if near else ""
                finding.notices.append(f"{name} is set, but mx has no such setting{hint}")


def flag_layer(flags: Mapping[str, object], *, place: Place, finding: Finding) -> Layer:
    """Values of flags by key; None means that the flag was not given."""
    layer: Layer = {}
    for key, value in flags.items():
        option = BY_KEY.get(key)
        if option is None:
            finding.problems.append(unknown_key(key, where="flag"))
        elif value is not None:
            _read(option, value, FLAG, option.flag.split(" ")[0].rstrip(",") or "flag", layer, place, finding)
    return layer


def _read(
    option: Option,
    raw: object,
    origin: Origin,
    where: str,
    layer: Layer,
    place: Place,
    finding: Finding,
    *,
    inverse: bool = False,
) -> None:
    try:
        value = option.kind.parse(raw, place)
    except ValueError as error:
        if option.key == "worker.source_selector" and isinstance(raw, str):
            # By contract: a fleet may be told a newer name before every worker knows it.
            finding.notices.append(
                f"{option.key}: {raw!r} is unknown, random is used; allowed: {option.kind.allowed} [{where}]"
            )
            layer[option.key] = Found("random", origin)
            return
        finding.problems.append(
            f"{option.key}: {shown(option, raw)} {error}; allowed: {option.kind.allowed} [{where}]"
        )
    else:
        layer[option.key] = Found(not value if inverse else value, origin)


def shown(option: Option, raw: object) -> str:
    """A raw value for an error: short, and without secrets."""
    if option.secret or isinstance(option.kind, UrlText) or is_secret_name(option.leaf):
        return f"the value ({MASK})"
    if isinstance(raw, (Mapping, list)):
        return "the value"
    text = redact_text(repr(str(raw) if isinstance(raw, Path) else raw))
    return text if len(text) <= 80 else f"{text[:77]}…"


def unknown_key(key: str, *, where: str) -> str:
    """The sentence about a key that is no setting: its nearest neighbour, and what its section holds."""
    section = key.rpartition(".")[0]
    members = f"; allowed in {section}: {_members(section)}" if section in _SECTIONS else ""
    if not members:
        members = f"; known sections: {', '.join(sorted(name for name in _SECTIONS if '.' not in name))}"
    return f"{key}: unknown key{_nearest(key, BY_KEY)}{members} [{where}]"


def _members(section: str) -> str:
    names = [
        name.removeprefix(f"{section}.") for name in (*BY_KEY, *_SECTIONS) if name.startswith(f"{section}.")
    ]
    return ", ".join(dict.fromkeys(name for name in names if "." not in name))


def _nearest(key: str, known: Iterable[str]) -> str:
    names = [*known, *_SECTIONS]
    near = difflib.get_close_matches(key.lower(), names, n=1, cutoff=0.6)
    if not near:
        leaf = key.lower().rpartition(".")[2]
        leaves = {name.rpartition(".")[2]: name for name in reversed(names)}
        near = [leaves[one] for one in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.7)]
    return f"; nearest known key: {near[0]}" if near else ""


def merge(layers: Iterable[Layer]) -> dict[str, Found]:
    """One value per key; later layers win."""
    from dynaconf.base import Settings as DynaconfSettings

    # No loaders: Dynaconf would read DYNACONF_* variables and files of its own choosing.
    store = DynaconfSettings(dynaconf_skip_loaders=True, dynaconf_skip_validators=True)
    for layer in layers:
        store.update(_nest(layer), merge=True, validate=False, tomlfy=False)
    merged: dict[str, Found] = {}
    for one in TABLE:
        found = store.get(one.key, dotted_lookup=True)
        assert isinstance(found, Found), one.key
        merged[one.key] = found
    return merged


def _nest(layer: Layer) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, found in layer.items():
        *sections, leaf = key.split(".")
        node = tree
        for name in sections:
            node = node.setdefault(name, {})
        node[leaf] = found
    return tree
