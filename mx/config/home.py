"""The command line's own file, ``~/.model-express/config.yaml``: five flat members, written by a command."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mx.config.files import SettingsFile, read_settings_file
from mx.config.kinds import Place
from mx.config.layers import HOME_FILE_KEYS, Finding, home_file_layer
from mx.errors import SettingsError

HOME_FILE = ".model-express/config.yaml"
_HEAD = (
    "# Of mx's command line, below the environment and below a settings file. `mx model init` writes it.\n"
)


def write_home_file(home: Path, members: Mapping[str, object]) -> Path:
    """Set these members and keep the others; the file's path.

    Whole or not at all. Raises SettingsError for a member that is unknown or has a wrong value, here
    or already in the file, and when the file can't be written.
    """
    path = home / HOME_FILE
    kept = read_settings_file(path).data if path.is_file() else {}
    merged = {**kept, **members}
    finding = Finding()
    place = Place(cwd=Path.cwd(), home=home, temp=Path(tempfile.gettempdir()))
    home_file_layer(SettingsFile(path, merged, {}), place=place, finding=finding)
    if finding.problems:
        raise SettingsError(
            tuple(finding.problems), remedy=f"{path} was left as it is; correct it or remove it"
        )
    lines = [f"{name}: {json.dumps(merged[name])}\n" for name in HOME_FILE_KEYS if name in merged]
    try:
        _replace(path, _HEAD + "".join(lines))
    except OSError as error:
        raise SettingsError((f"{path} can't be written: {error.strerror or error}",)) from error
    return path


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=".config-")
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
