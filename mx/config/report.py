"""Settings for people and programs: every key, its value, its origin; secrets masked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from mx.config.addresses import UrlText
from mx.config.kinds import ServiceAccount
from mx.config.options import Option, Origin
from mx.config.tree import TABLE, Settings
from mx.core.redact import MASK, redact_text


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as it is shown.

    ``value`` is what mx uses, as a plain JSON value: seconds, bytes, paths as text. ``text`` is
    the same in the form that files take. Both are masked.
    """

    key: str
    value: object
    text: str
    origin: Origin


def setting_rows(settings: Settings) -> tuple[SettingRow, ...]:
    """Every setting, in the order of the documents."""
    return tuple(_row(one, settings) for one in TABLE)


def validate_report(settings: Settings) -> str:
    """The configuration in force, for `--validate-config` and `config show`: key, value, origin."""
    rows = setting_rows(settings)
    lines = [
        f"settings file: {settings.config_file or 'none found'}",
        *_columns((row.key, row.text, str(row.origin)) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def value_of(settings: Settings, option: Option) -> object:
    """The value of one setting, unmasked."""
    return reduce(getattr, option.path.split("."), settings)


def _row(option: Option, settings: Settings) -> SettingRow:
    value = value_of(settings, option)
    origin = settings.origins[option.key]
    if option.secret and value is not None:
        # A URL keeps its address: that is what the reader came to check.
        masked = mask_url(str(value)) if "://" in str(value) else MASK
        return SettingRow(option.key, masked, masked, origin)
    if isinstance(option.kind, UrlText):
        url = mask_url(str(value)) if "://" in str(value) else str(value)
        return SettingRow(option.key, url, _text(url), origin)
    plain = _masked(_plain(value))
    rendered = _masked(option.kind.render(value))
    return SettingRow(option.key, plain, _text(rendered), origin)


def mask_url(url: str) -> str:
    """A URL without its password. The password ends at the last @, whatever it holds."""
    scheme, _, rest = url.partition("://")
    account, at, address = rest.rpartition("@")
    if at:
        user, colon, _ = account.partition(":")
        return redact_text(f"{scheme}://{user if colon else MASK}{f':{MASK}' if colon else ''}@{address}")
    return redact_text(url)


def _plain(value: object) -> object:
    match value:
        case Path():
            return str(value)
        case ServiceAccount():
            return {"namespace": value.namespace, "service_account": value.name}
        case tuple():
            return [_plain(one) for one in value]
        case dict():
            return {str(name): _plain(one) for name, one in value.items()}
        case _:
            return value


def _masked(value: object) -> object:
    match value:
        case str():
            return redact_text(value)
        case list():
            return [_masked(one) for one in value]
        case dict():
            return {name: _masked(one) for name, one in value.items()}
        case _:
            return value


def _text(value: object) -> str:
    match value:
        case None:
            return "none"
        case "":
            return '""'
        case str():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)


def _columns(rows: Iterable[tuple[str, str, str]]) -> Iterable[str]:
    rows = list(rows)
    width = max(len(row[0]) for row in rows)
    # Long values (lists, paths) would push every origin off the screen.
    value_width = min(44, max(len(row[1]) for row in rows))
    for key, text, origin in rows:
        yield f"{key:<{width}}  {text:<{value_width}}  {origin}"
