"""The key for NGC: from the settings, else from the file that NGC's own tools keep it in."""

from __future__ import annotations

import configparser
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mx.errors import SettingsError

Key = Callable[[], str | None]

_MOST_BYTES = 1 << 20
_INI_NAMES = ("apikey", "api_key")
_JSON_NAMES = ("apikey", "api_key", "APIKey", "apiKey")


def read_key(key: str | None, path: Path | None) -> Key:
    """The key of the settings, else what the file holds at that moment; None where there is none.

    The file is INI or JSON; its first value that is not blank counts. Raises SettingsError, from the
    call, for a key that no header can carry.
    """

    def read() -> str | None:
        found, origin = (key or "").strip(), "NGC_API_KEY or NGC_CLI_API_KEY"
        if not found and path is not None:
            found, origin = _in_file(path), str(path)
        if found and not re.fullmatch(r"[\x21-\x7e]+", found):
            raise SettingsError((f"the key from {origin} holds characters that no key has",))
        return found or None

    return read


def _in_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return ""  # no file, or not ours to read: then there is no key, and that is what is told
    values = _in_json(text) if text.lstrip().startswith("{") else _in_ini(text)
    return next((value for value in values if value), "")


def _in_json(text: str) -> Iterator[str]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return
    for name in _JSON_NAMES:
        value = content.get(name) if isinstance(content, dict) else None
        if isinstance(value, str):
            yield value.strip()


def _in_ini(text: str) -> Iterator[str]:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    try:
        # Lines before the first section are one of their own: such files are about as well.
        parser.read_string(f"[mx]\n{text}")
    except configparser.Error:
        return
    for section in parser.sections():
        for name, value in parser.items(section):
            if name in _INI_NAMES and value is not None:
                yield value.strip().strip("\"'").strip()
