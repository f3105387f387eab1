"""Which models a worker without shared storage asks the server for, and which folders are its own."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mx.config import Settings, load_settings
from mx.core.model import EntryKey, ProviderName
from mx.engines.server_files import ServerFiles
from mx.errors import InvalidArgumentError, UnavailableError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def settings(tmp_path: Path, **environment: str) -> Settings:
    given = {
        "HOME": str(tmp_path),
        "MODEL_EXPRESS_CACHE_DIRECTORY": str(tmp_path / "cache"),
        "MODEL_EXPRESS_URL": "127.0.0.1:1",
        "MODEL_EXPRESS_NO_SHARED_STORAGE": "1",
        **environment,
    }
    return load_settings(scope="worker", environ={name: value for name, value in given.items() if value})


def files(tmp_path: Path) -> ServerFiles:
    found = ServerFiles.of(settings(tmp_path))
    assert found is not None
    return found


def test_nothing_is_asked_for_with_shared_storage_or_without_a_named_server(tmp_path: Path) -> None:
    assert ServerFiles.of(settings(tmp_path, MODEL_EXPRESS_NO_SHARED_STORAGE="0")) is None
    assert ServerFiles.of(settings(tmp_path, MODEL_EXPRESS_URL="")) is None


def test_a_path_is_left_to_the_engine(tmp_path: Path) -> None:
    assert files(tmp_path).folder(str(tmp_path), None) is None
    assert files(tmp_path).folder(f"file://{tmp_path}", None) is None


@pytest.mark.parametrize("name", ["../../etc", "a/b/c", "org/", ""])
def test_what_is_no_name_is_refused_before_anybody_is_asked(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgumentError):
        files(tmp_path).folder(name, None)


def test_a_server_that_is_away_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses for sure
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        away = ServerFiles.of(settings(tmp_path, MODEL_EXPRESS_URL=address, MODEL_EXPRESS_TIMEOUT="2"))
        assert away is not None
        with pytest.raises(UnavailableError, match=address):
            away.folder("org/model", None)


def test_only_snapshots_of_the_local_cache_are_its_own(tmp_path: Path) -> None:
    own, root = files(tmp_path), tmp_path / "cache"
    at = root / "models--org--my--model" / "snapshots" / COMMIT
    assert own.entry_at(str(at)) == EntryKey(ProviderName.HUGGING_FACE, "org/my--model", COMMIT)
    for other in (
        tmp_path / "elsewhere" / at.relative_to(root),
        at.with_name("main"),
        at.parent,
        root / "models--org--m" / "blobs" / COMMIT,
        Path("org/model"),
    ):
        assert own.entry_at(str(other)) is None, other
    assert not own.is_here(EntryKey(ProviderName.HUGGING_FACE, "org/model", COMMIT))
