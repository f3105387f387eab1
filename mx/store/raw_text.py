"""Records as text for people: YAML, without secrets, long values that are no text as size and digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import Enum
from typing import Any

from mx.core.redact import MASK, is_secret_name, redact_text

_TEXT_MOST = 4096


def raw_yaml(value: Any) -> str:
    """A record as its backend holds it, in its own order."""
    import yaml  # only who asks for a record pays for it

    text = yaml.safe_dump(
        _plain(value), sort_keys=False, allow_unicode=True, default_flow_style=False, width=110
    )
    return redact_text(str(text))


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return _of_bytes(value)
        case Enum():
            return value.value
        case str():
            return value if len(value) <= _TEXT_MOST else _digest(value.encode("utf-8", "replace"))
        case Mapping():
            return {(text := str(_plain(name))): _masked(text, _plain(one)) for name, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case None | bool() | int() | float():
            return value
        case _:
            return str(value)


def _masked(name: str, value: Any) -> Any:
    """Numbers are no secrets: a claim's token says which claim it is."""
    secret = isinstance(value, str) and value and not value.isdigit() and is_secret_name(name)
    return MASK if secret else value


def _of_bytes(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _digest(data)
    return text if len(text) <= _TEXT_MOST and (text.isprintable() or "\n" in text) else _digest(data)


def _digest(data: bytes) -> str:
    return f"<{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:16]}>"
