"""Records as text for people: YAML, without secrets, long values as size and digest, JSON as what it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from mx.core.redact import MASK, is_secret_name, redact_text

_TEXT_MOST = 4096
_LIST_MOST = 64
_SHOWN = 200


def raw_yaml(value: Any) -> str:
    """A record as its backend holds it, in its own order."""
    import yaml  # only who asks for a record pays for it

    try:
        text = yaml.safe_dump(
            _plain(value), sort_keys=False, allow_unicode=True, default_flow_style=False, width=110
        )
    except RecursionError:  # JSON that somebody left there
        return "<nested too deeply to be shown>\n"
    return redact_text(str(text))


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return _of_bytes(value)
        case Enum():
            return value.value
        case str():
            return _of_text(value)
        case Mapping():
            return {(text := str(_plain(name))): _masked(text, _plain(one)) for name, one in value.items()}
        case list() | tuple() if len(value) > _LIST_MOST:
            text = json.dumps(_plain(list(value[:_LIST_MOST])), default=str)
            return f"<{len(value)} items, beginning with {text[:_SHOWN]}…>"
        case list() | tuple():
            return [_plain(one) for one in value]
        case _ if is_dataclass(value):
            return _plain({one.name: getattr(value, one.name) for one in fields(value)})
        case None | bool() | int() | float():
            return value
        case _:
            return str(value)


def _masked(name: str, value: Any) -> Any:
    """Numbers are no secrets: a claim's token says which claim it is."""
    secret = isinstance(value, str) and value and not value.isdigit() and is_secret_name(name)
    return MASK if secret else value


def _of_bytes(data: bytes) -> Any:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _digest(data)
    return _of_text(text) if text.isprintable() or "\n" in text else _digest(data)


def _of_text(text: str) -> Any:
    if text.startswith("{"):
        try:
            return _plain(json.loads(text))
        except ValueError:
            pass  # it only looks like that
    return text if len(text) <= _TEXT_MOST else _digest(text.encode("utf-8", "replace"))


def _digest(data: bytes) -> str:
    return f"<{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:16]}>"
