"""Load: find the file, read the layers, merge, complete, check, build."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from mx.config.defaults import read_defaults
from mx.config.files import read_settings_file
from mx.config.home import HOME_FILE
from mx.config.kinds import Place
from mx.config.layers import (
    CONFIG_ENV,
    Finding,
    Found,
    Layer,
    default_layer,
    env_layer,
    file_layer,
    flag_layer,
    home_file_layer,
    merge,
)
from mx.config.options import DEFAULT, Origin, Scope
from mx.config.tree import TABLE, Settings
from mx.errors import SettingsError

SEARCH = (
    "model-express.yaml",
    "model-express.yml",
    "/etc/model-express/config.yaml",
    "/etc/model-express/config.yml",
)


def load_settings(
    *,
    flags: Mapping[str, object] | None = None,
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    scope: Scope = "server",
) -> Settings:
    """The settings in force: flag before environment before file before default.

    ``flags`` maps keys ("server.port") to values; None means not given. ``config_file`` is the
    file to read instead of the first one of the search list; MODEL_EXPRESS_CONFIG names one too.
    A worker reads a file only when one is named: its working directory is the engine's.

    Raises SettingsError with every problem of every layer. Nothing is ever replaced by a default.
    """
    environ = os.environ if environ is None else environ
    home = _home(environ)
    temp = _temp(environ)
    place = Place(cwd=(cwd or Path.cwd()).absolute(), home=home, temp=temp)
    finding = Finding()
    path = find_file(config_file, environ=environ, place=place, scope=scope)

    layers = [default_layer(read_defaults(), place=place)]
    home_file = home / HOME_FILE
    if scope == "client" and home_file.is_file():
        layers.append(_file(home_file, place=place, finding=finding, home=True))
    if path is not None:
        layers.append(_file(path, place=place, finding=finding))
    layers.append(env_layer(environ, scope=scope, place=place, finding=finding))
    layers.append(flag_layer(flags or {}, place=place, finding=finding))

    found = merge(layers)
    complete(found, scope=scope, place=place, finding=finding)
    check(found, scope=scope, finding=finding)
    if finding.problems:
        raise SettingsError(
            tuple(finding.problems),
            remedy="`mx config generate` writes a file with every key and its default",
        )
    return _build(found, scope=scope, config_file=path, home=home, notices=tuple(finding.notices))


def _home(environ: Mapping[str, str]) -> Path:
    """HOME, else what the machine knows of this user, else /, as container runtimes have it."""
    if environ.get("HOME"):
        return Path(environ["HOME"])
    try:
        return Path.home()
    except RuntimeError:  # a container's user without a name
        return Path("/")


def _temp(environ: Mapping[str, str]) -> Path:
    """The folder for temporary files. Only its name is wanted here: where nothing can be written, too."""
    try:
        return Path(environ.get("TMPDIR") or tempfile.gettempdir())
    except FileNotFoundError:
        return Path("/tmp")  # noqa: S108  # named, not used


def find_file(
    config_file: Path | None, *, environ: Mapping[str, str], place: Place, scope: Scope
) -> Path | None:
    """The file to read: the named one, else the first of the search list that exists."""
    named = str(config_file) if config_file is not None else environ.get(CONFIG_ENV, "").strip()
    if named:
        return place.home / named[2:] if named.startswith("~/") else place.cwd / named
    if scope == "worker":
        return None
    # os.path.lexists: a dangling link is a mistake to report, not an absent file.
    return next((place.cwd / name for name in SEARCH if os.path.lexists(place.cwd / name)), None)


def _file(path: Path, *, place: Place, finding: Finding, home: bool = False) -> Layer:
    try:
        source = read_settings_file(path)
    except SettingsError as error:
        finding.problems.extend(error.problems)
        return {}
    read = home_file_layer if home else file_layer
    return read(source, place=place, finding=finding)


def complete(found: dict[str, Found], *, scope: Scope, place: Place, finding: Finding) -> None:
    """Fill in what follows from other values, in place."""
    _complete_redis(found)
    if found["logging.structured"].value:
        found["logging.format"] = Found("json", found["logging.structured"].origin)
    if scope == "client":
        if not found["logging.level"].origin.explicit:
            found["logging.level"] = Found("warn", DEFAULT)
        # What `mx model init` writes names the server for commands about models only by its key.
        if not found["connection.endpoint"].origin.explicit:
            found["connection.endpoint"] = found["cache.server_endpoint"]

    hub = "providers.huggingface"
    _default(found, f"{hub}.home", place.home / ".cache" / "huggingface")
    hub_home = found[f"{hub}.home"]
    assert isinstance(hub_home.value, Path)
    _default(found, f"{hub}.hub_cache", hub_home.value / "hub", hub_home.origin)
    _default(found, f"{hub}.token_path", hub_home.value / "token", hub_home.origin)
    _default(found, "worker.artifacts.bundle_root", place.temp / "modelexpress-artifacts")
    if scope == "worker" and not found["worker.topology"].value:
        _read_topology(found, finding=finding)


def _default(found: dict[str, Found], key: str, value: object, origin: Origin = DEFAULT) -> None:
    if found[key].value is None:
        found[key] = Found(value, origin)


def _complete_redis(found: dict[str, Found]) -> None:
    """Make the URL from host and port where the host is from a higher layer, or no URL was given."""
    url, host, port = (found[f"redis.{name}"] for name in ("url", "host", "port"))
    if host.value is not None and host.origin.rank > url.origin.rank:
        name, origin = str(host.value), host.origin
    elif port.origin.explicit and not url.origin.explicit:
        name, origin = "localhost", port.origin
    else:
        return
    shown = f"[{name}]" if ":" in name else name
    found["redis.url"] = Found(f"redis://{shown}:{port.value}", origin)


def _read_topology(found: dict[str, Found], *, finding: Finding) -> None:
    """One file per level below the mount path, as the pod's platform writes them."""
    folder = found["worker.topology_mount_path"].value
    levels = found["worker.topology_levels"].value
    assert isinstance(folder, Path)
    assert isinstance(levels, tuple)
    read: dict[str, str] = {}
    for level in levels:
        if "/" in level or level in (".", ".."):
            continue
        try:
            text = (folder / level).read_text(encoding="utf-8").strip()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            finding.notices.append(f"topology level {level} can't be read from {folder / level}: {error}")
            continue
        if text:
            read[level] = text
    if read:
        found["worker.topology"] = Found(read, Origin("file", str(folder)))


def check(found: Mapping[str, Found], *, scope: Scope, finding: Finding) -> None:
    """Rules that join several settings, and the choices that a default makes for the reader."""

    def value(key: str) -> Any:
        return found[key].value

    def at(*keys: str) -> str:
        return "; ".join(f"{key} is from {found[key].origin}" for key in keys)

    if scope != "server":
        return
    ttl, timeout = "sources.status_ttl_s", "sources.heartbeat_timeout_s"
    if value(ttl) <= value(timeout):
        finding.problems.append(
            f"{ttl} ({value(ttl):g} s) must be longer than {timeout} ({value(timeout):g} s), or live sources "
            f"vanish [{at(ttl, timeout)}]"
        )
    high, low = (f"cache.eviction.policy.{mark}_water" for mark in ("high", "low"))
    if value(low) > value(high):
        finding.problems.append(
            f"{low} ({value(low):g}) must not be above {high} ({value(high):g}) [{at(low, high)}]"
        )
    if value("server.metrics_port") == value("server.port"):
        finding.problems.append(
            f"server.metrics_port and server.port are both {value('server.port')} "
            f"[{at('server.metrics_port', 'server.port')}]"
        )
    if value("security.mode") == "enforce":
        for key in ("security.token_audiences", "security.allowed_service_accounts"):
            if not value(key):
                finding.problems.append(
                    f"{key} is empty; security.mode enforce needs at least one [{at(key)}]"
                )
    if finding.problems:
        return
    if not found["metadata.backend"].origin.explicit:
        finding.notices.append(
            f"metadata.backend is not set: sources and models are kept in SQLite at {value('database.path')}"
        )
    needs_redis = "redis" in (value("metadata.backend"), value("database.backend"))
    if needs_redis and not found["redis.url"].origin.explicit:
        finding.notices.append(f"redis.url is not set: {value('redis.url')} is used")


def _build(
    found: Mapping[str, Found],
    *,
    scope: Scope,
    config_file: Path | None,
    home: Path,
    notices: tuple[str, ...],
) -> Settings:
    by_path = {one.path: found[one.key].value for one in TABLE}
    origins = {name: found[one.key].origin for one in TABLE for name in (one.key, one.path)}

    def make(owner: type, prefix: str) -> Any:
        hints = get_type_hints(owner)
        members: dict[str, Any] = {}
        for member in dataclasses.fields(owner):
            path = f"{prefix}{member.name}"
            if member.metadata.get("is_section"):
                members[member.name] = make(hints[member.name], f"{path}.")
            elif path in by_path:
                members[member.name] = by_path[path]
        if owner is Settings:
            members |= {
                "scope": scope,
                "config_file": config_file,
                "home": home,
                "origins": origins,
                "notices": notices,
            }
        return owner(**members)

    settings = make(Settings, "")
    assert isinstance(settings, Settings)
    return settings
