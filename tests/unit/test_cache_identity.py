"""The name of a cache's directory: one for all who share it, another for every other."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from mx.errors import MxError
from mx.providers.cache import open_cache
from mx.providers.cache.identity import FILE, FOLDER


def test_it_stays_and_does_not_depend_on_the_path(tmp_path: Path) -> None:
    name = open_cache(tmp_path / "cache").identity()
    os.symlink(tmp_path / "cache", tmp_path / "other path")
    assert open_cache(tmp_path / "other path").identity() == name
    (tmp_path / "cache").rename(tmp_path / "moved")
    assert open_cache(tmp_path / "moved").identity() == name
    assert open_cache(tmp_path / "cache").identity() != name


def test_all_who_ask_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        names = list(threads.map(lambda _: open_cache(tmp_path).identity(), range(64)))
    assert len(set(names)) == 1
    assert os.listdir(tmp_path / FOLDER) == [FILE]


@pytest.mark.parametrize("content", [b"", b"../../etc", b"a" * 32, b"\xff" * 33, b"0" * 1000])
def test_nonsense_is_replaced(tmp_path: Path, content: bytes) -> None:
    cache = open_cache(tmp_path)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / FILE).write_bytes(content)
    assert len(cache.identity()) == 32
    assert cache.identity() == cache.identity()


def test_what_is_no_file_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / FOLDER / FILE).mkdir(parents=True)
    with pytest.raises(MxError):
        open_cache(tmp_path).identity()
    assert (tmp_path / FOLDER / FILE).is_dir()


def test_tools_of_the_hub_do_not_mind_it(tmp_path: Path) -> None:
    open_cache(tmp_path).identity()
    assert scan_cache_dir(tmp_path).warnings == []
