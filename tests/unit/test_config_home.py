"""The file of ``mx model init``: whole or not at all, and nobody else's members are lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from mx.config import HOME_FILE, load_settings, write_home_file
from mx.errors import SettingsError


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    odd = '/a "b": #c/ä'
    path = write_home_file(tmp_path, {"local_path": odd, "server_endpoint": "http://h:1"})
    assert path == tmp_path / HOME_FILE
    write_home_file(tmp_path, {"server_endpoint": "http://h:2"})
    found = load_settings(environ={"HOME": str(tmp_path)}, cwd=tmp_path, scope="client")
    assert found.cache.local_path == Path(odd)
    assert found.client.endpoint == "http://h:2"
    assert [one.name for one in path.parent.iterdir()] == ["config.yaml"], "nothing temporary is left"


@pytest.mark.parametrize(
    ("before", "members", "says"),
    [
        ("", {"server_endpoint": "http://"}, "server_endpoint"),
        ("", {"colour": "red"}, "unknown key"),
        ("local_pth: /x\n", {"local_path": "/y"}, "local_pth"),
        ("{", {"local_path": "/y"}, "not valid YAML"),
    ],
)
def test_a_wrong_member_changes_nothing(
    tmp_path: Path, before: str, members: dict[str, object], says: str
) -> None:
    path = tmp_path / HOME_FILE
    path.parent.mkdir()
    path.write_text(before)
    with pytest.raises(SettingsError, match=says):
        write_home_file(tmp_path, members)
    assert path.read_text() == before


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".model-express").write_text("a file")
    with pytest.raises(SettingsError, match="can't be written"):
        write_home_file(tmp_path, {"local_path": "/x"})
