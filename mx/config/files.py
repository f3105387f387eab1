"""Read one file of settings: YAML or TOML, strictly. A file that is not perfect is an error."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mx.config.kinds import describe
from mx.errors import SettingsError

# A settings file is a few kilobytes; more is a mistake (a model, a device).
_MOST_BYTES = 4 * 1024 * 1024

# Files that nest for ever, and YAML's "billion laughs" (aliases of aliases), end here.
_MOST_DEPTH = 32
_MOST_KEYS = 20_000


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """What a file says, not yet checked against the known settings."""

    path: Path
    data: Mapping[str, object]
    lines: Mapping[str, int]

    def lookup(self, *keys: str) -> object:
        """The value at the first of ``keys`` that the file has; None otherwise."""
        for key in keys:
            node: object = self.data
            for name in key.split("."):
                node = node.get(name, None) if isinstance(node, Mapping) else None
            if node is not None:
                return node
        return None

    def where(self, key: str) -> str:
        """``file:PATH``, with the line of ``key`` where the format tells it."""
        line = self.lines.get(key)
        return f"file:{self.path}, line {line}" if line else f"file:{self.path}"


def read_settings_file(path: Path) -> SettingsFile:
    """The content of a file; TOML by the ending ``.toml``, YAML otherwise.

    Raises SettingsError for a file that can't be read, is no UTF-8, has a syntax error or a
    duplicate key, or whose content is no mapping. An empty file has no settings, which is fine.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise SettingsError((f"settings file {path} does not exist",)) from None
    except OSError as error:
        raise SettingsError((f"settings file {path} can't be read: {error.strerror or error}",)) from None
    if len(content) > _MOST_BYTES:
        raise SettingsError((f"settings file {path} is larger than 4 MiB; that is no settings file",))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError((f"settings file {path} is not UTF-8 text (line {line})",)) from None
    if path.suffix.lower() == ".toml":
        return SettingsFile(path, _read_toml(path, text), {})
    return _read_yaml(path, text)


def _read_toml(path: Path, text: str) -> Mapping[str, object]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = "it nests too deep" if isinstance(error, RecursionError) else error
        raise SettingsError((f"settings file {path} is not valid TOML: {reason}",)) from None


def _read_yaml(path: Path, text: str) -> SettingsFile:
    import yaml

    loader = None
    try:
        loader = _yaml_loader()(text)
        root = loader.get_single_node()
        if root is None:
            return SettingsFile(path, {}, {})
        survey = _Survey()
        survey.visit(root, "", depth=0)
        if survey.problems:
            raise SettingsError(tuple(f"settings file {path}: {problem}" for problem in survey.problems))
        data = loader.construct_document(root)
    except yaml.YAMLError as error:
        raise SettingsError((f"settings file {path} is not valid YAML: {_yaml_reason(error)}",)) from None
    except RecursionError:
        raise SettingsError((f"settings file {path} is not valid YAML: it nests too deep",)) from None
    except (ValueError, OverflowError) as error:
        raise SettingsError((f"settings file {path} is not valid YAML: {error}",)) from None
    finally:
        if loader is not None:
            loader.dispose()
    if data is None:
        return SettingsFile(path, {}, {})
    if not isinstance(data, dict):
        raise SettingsError(
            (f"settings file {path} holds {describe(data)} where sections such as 'server:' are expected",)
        )
    return SettingsFile(path, {str(key): value for key, value in data.items()}, survey.lines)


def _yaml_reason(error: Any) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    parts = (getattr(error, name, None) for name in ("context", "problem", "reason"))
    reason = ", ".join(part for part in parts if part) or "it can't be parsed"
    return f"{reason} (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else str(reason)


class _Survey:
    """Notes the line of each key, and each key that is written twice: YAML would keep the last one."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self.problems: list[str] = []
        self._visited = 0

    def visit(self, node: Any, prefix: str, *, depth: int) -> None:
        """Look at a node and all below it, through aliases as well."""
        import yaml

        self._visited += 1
        if depth > _MOST_DEPTH:
            raise RecursionError
        if self._visited > _MOST_KEYS:
            raise ValueError("it has too many keys or aliases")
        if isinstance(node, yaml.SequenceNode):
            for place, item in enumerate(node.value):
                self.visit(item, f"{prefix}[{place}]", depth=depth + 1)
        elif isinstance(node, yaml.MappingNode):
            self._mapping(node, prefix, depth=depth)

    def _mapping(self, node: Any, prefix: str, *, depth: int) -> None:
        import yaml

        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(f"line {line}: a key must be a word")
                continue
            key = f"{prefix}.{key_node.value}" if prefix else key_node.value
            if key in first:
                self.problems.append(f"line {line}: {key} is written twice, first in line {first[key]}")
            first.setdefault(key, line)
            self.lines.setdefault(key, line)
            self.visit(value_node, key, depth=depth + 1)


def _yaml_loader() -> Any:
    """YAML with the plain scalars of version 1.2, as the Rust server reads it.

    PyYAML speaks 1.1, where ``off`` is false (so ``mode: off`` would be no text), ``1:30`` is 90
    and ``010`` is 8.
    """
    import re

    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, list[tuple[str, Any]]] = {}  # noqa: RUF012  PyYAML's own shape

    resolvers = (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("null", r"~|null|Null|NULL|", "~nN\0"),
        ("int", r"[-+]?[0-9]+", "-+0123456789"),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+0123456789."),
        ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    )
    for tag, pattern, first in resolvers:
        Loader.add_implicit_resolver(
            f"tag:yaml.org,2002:{tag}",
            re.compile(rf"^(?:{pattern})$"),
            [char if char != "\0" else "" for char in first],
        )
    Loader.add_constructor("tag:yaml.org,2002:int", _yaml_int)
    Loader.add_constructor("tag:yaml.org,2002:float", _yaml_float)
    return Loader


def _yaml_int(loader: Any, node: Any) -> int:
    return int(loader.construct_scalar(node))


def _yaml_float(loader: Any, node: Any) -> float:
    return float(loader.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan"))
