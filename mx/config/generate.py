"""Write a settings file: every key, its explanation, its environment name, its value.

Values are written as they would be read again, so a generated file changes nothing. Migration
takes the values of an older file over; what mx does not know is kept as comments.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mx.config.defaults import read_defaults
from mx.config.files import SettingsFile, read_settings_file
from mx.config.kinds import PathText, Place
from mx.config.layers import Finding, file_layer, is_known_key
from mx.config.options import Option
from mx.config.tree import TABLE
from mx.core.redact import MASK, is_secret_name
from mx.errors import SettingsError

Form = Literal["yaml", "toml"]

# Sentences longer than this go on in the next comment line.
_WIDTH = 96
# Words that YAML of either version takes for something else than text.
_YAML_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null", "none", "~"})
# Not ".5", which is a number.
_YAML_PLAIN = re.compile(r"(?:[A-Za-z/_]|\./)[A-Za-z0-9_./+@-]*")


@dataclass(frozen=True, slots=True)
class Generated:
    """The text of a new file; ``unknown`` are the keys of the old one that became comments."""

    text: str
    unknown: tuple[str, ...] = ()


def generate(form: Form, *, migrate: Path | None = None) -> Generated:
    """A file with every setting; values from ``migrate`` where it has them, else the defaults.

    Raises SettingsError when the file to migrate can't be read or holds a wrong value.
    """
    values = {one.key: _default_of(one) for one in TABLE}
    unknown: dict[str, object] = {}
    if migrate is not None:
        source = read_settings_file(migrate)
        values |= _migrated(source)
        unknown = dict(_unknown(source.data, ""))
    writer = _yaml if form == "yaml" else _toml
    lines = [
        "# Settings of mx. What you delete here takes its default.",
        "# Order: flag, environment (the names in brackets), this file, default.",
        "# `mx config show` tells what is in force and why, `mx config validate` checks.",
        *writer(values),
        *_leftovers(unknown, form),
    ]
    return Generated("\n".join(lines) + "\n", tuple(unknown))


def diff(old: str, new: str, *, old_name: str, new_name: str) -> str:
    """A unified diff; empty when nothing differs."""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), fromfile=old_name, tofile=new_name
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _default_of(option: Option) -> object:
    """The default as files write it: as in settings.toml, an absent value as None."""
    node: object = read_defaults().values
    for name in option.key.split("."):
        assert isinstance(node, Mapping), option.key
        node = node[name]
    place = Place(cwd=Path("/"), home=Path("/"), temp=Path("/"))
    return None if option.kind.parse(node, place) is None else node


def _migrated(source: SettingsFile) -> dict[str, object]:
    """The values of a file, checked, in the form that files take today."""
    finding = Finding()
    # Relative paths stay as they are written: the place would make them absolute.
    place = Place(cwd=Path(), home=Path("~"), temp=Path())
    layer = file_layer(source, place=place, finding=finding, migrating=True)
    if finding.problems:
        raise SettingsError(tuple(finding.problems), remedy="correct the values, then migrate again")
    kept: dict[str, object] = {}
    for one in TABLE:
        if one.key in layer:
            value = layer[one.key].value
            raw = source.lookup(one.key, one.path)
            keep_raw = isinstance(one.kind, PathText) or (isinstance(value, Path) and isinstance(raw, str))
            kept[one.key] = raw if keep_raw else one.kind.render(value)
    return kept


def _unknown(data: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    """Keys that are no setting of a file, with their values; whole sections as one."""
    for name, value in data.items():
        key = f"{prefix}{name}"
        known = is_known_key(key)
        if known == "section" and isinstance(value, Mapping):
            yield from _unknown(value, f"{key}.")
        elif known is None or (known == "env_only" and value not in ("", None)):
            yield key, value


def _leftovers(unknown: Mapping[str, object], form: Form) -> Iterator[str]:
    if not unknown:
        return
    yield ""
    yield "# Kept from the file that was migrated; mx has no such settings:"
    for key, value in unknown.items():
        if is_secret_name(key.rpartition(".")[2]):
            yield f"#   {key}: {MASK}  (a secret; set it in the environment)"
        else:
            shown = json.dumps(value, ensure_ascii=False, default=str)
            yield f"#   {key}{': ' if form == 'yaml' else ' = '}{shown}"


def _yaml(values: Mapping[str, object]) -> Iterator[str]:
    opened: list[str] = []
    for option in TABLE:
        sections = option.section.split(".")
        for depth, name in enumerate(sections):
            if opened[: depth + 1] != sections[: depth + 1]:
                if depth == 0:
                    yield ""
                yield f"{'  ' * depth}{name}:"
        opened = sections
        indent = "  " * len(sections)
        yield from _comment(option, indent)
        if not option.env_only:
            yield f"{indent}{option.leaf}: {_yaml_value(values[option.key])}"


def _toml(values: Mapping[str, object]) -> Iterator[str]:
    opened = ""
    for option in TABLE:
        if option.section != opened:
            opened = option.section
            yield ""
            yield f"[{opened}]"
        yield from _comment(option, "")
        if not option.env_only:
            value = values[option.key]
            yield f"{option.leaf} = {_toml_value(value)}"


def _comment(option: Option, indent: str) -> Iterator[str]:
    text = read_defaults().comments[option.key]
    if option.env_only:
        text = f"{option.leaf}: {text} Not read from files; set {' or '.join(option.env)}."
    elif option.inverse_env:
        text += f" (the opposite: {', '.join(option.inverse_env)})"
    elif option.env:
        text += f" ({', '.join(option.env)})"
    line = ""
    for word in text.split():
        if line and len(indent) + len(line) + len(word) > _WIDTH:
            yield f"{indent}# {line}"
            line = ""
        line = f"{line} {word}".lstrip()
    yield f"{indent}# {line}"


def _yaml_value(value: object) -> str:
    if isinstance(value, str) and _YAML_PLAIN.fullmatch(value) and value.lower() not in _YAML_WORDS:
        return value
    return _quoted(value)


def _quoted(value: object) -> str:
    """JSON, which YAML and TOML read as it is, but for one character that TOML does not allow."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_value(value: object) -> str:
    match value:
        case None:
            return '""'
        case list():
            return f"[{', '.join(_toml_value(one) for one in value)}]"
        case dict():
            members = ", ".join(f"{_quoted(name)} = {_toml_value(one)}" for name, one in value.items())
            return f"{{{' ' + members + ' ' if members else ''}}}"
        case _:
            return _quoted(value)
