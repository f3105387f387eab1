"""Files that hold secrets, and who may read them."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from mx.config import Settings, setting_rows
from mx.config.tree import TABLE
from mx.core.doctor.settings import SecretFile
from mx.core.redact import MASK

# Kubernetes mounts these readable for all in the pod, on purpose.
_MOUNTED = Path("/var/run/secrets")


def secret_files(loaded: Mapping[str, Settings]) -> list[SecretFile]:
    """Those that are there: tokens and keys by their setting, and settings files with a secret inside."""
    found: dict[Path, SecretFile] = {}
    for settings in loaded.values():
        for what, path in (*_named(settings), *_settings_files(settings)):
            if path not in found and (mode := _mode(path)) is not None:
                found[path] = SecretFile(what, str(path), mode)
    return list(found.values())


def _named(settings: Settings) -> Iterator[tuple[str, Path]]:
    if (token := settings.providers.huggingface.token_path) is not None:
        yield "Hugging Face's token", token
    yield "NGC's key file", settings.ngc_config_path()
    if (key := settings.redis.key_file) is not None:
        yield "the key of Redis's client certificate", key
    if not settings.client.auth_token_path.is_relative_to(_MOUNTED):
        yield "the token for the server", settings.client.auth_token_path


def _settings_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    secret = {one.key for one in TABLE if one.secret}
    for row in setting_rows(settings):
        if row.key in secret and row.origin.kind == "file" and MASK in str(row.value):
            yield f"a settings file with {row.key}", Path(row.origin.name)


def _mode(path: Path) -> int | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else None
