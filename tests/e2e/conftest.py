"""Runs with a real vLLM: ``make test-vllm``. Skipped, with the reason, where there is none."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from e2e_support import ROOT, Server

sys.path.insert(0, str(ROOT / "scripts"))

from vllm_model import NoModelError, smollm2, tiny

HAVE_VLLM = importlib.util.find_spec("vllm") is not None


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            if not HAVE_VLLM:
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed here: make test-vllm"))


def _model(make: Callable[[], Path]) -> Path:
    try:
        return make()
    except NoModelError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def model() -> Path:
    return _model(smollm2)


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    return _model(tiny)


@pytest.fixture(scope="session")
def hollow(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A copy of a model in another folder whose weights are zero wherever the identity does not look.

    An engine that loads it from disk talks nonsense; one that talks sense got its weights elsewhere.
    """

    def make(model: Path) -> Path:
        from mx.engines.checkpoint import checkpoint_digest, sampled_ranges

        copy = tmp_path_factory.mktemp("hollow") / model.name
        shutil.copytree(model, copy)
        for path in copy.glob("*.safetensors"):
            data = path.read_bytes()
            begin = 8 + int.from_bytes(data[:8], "little")
            emptied = bytearray(data[:begin]) + bytes(len(data) - begin)
            for offset, size in sampled_ranges(path):
                emptied[offset : offset + size] = data[offset : offset + size]
            path.write_bytes(emptied)
        assert checkpoint_digest(copy) == checkpoint_digest(model)
        return copy

    return make


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    running.start()
    yield running
    running.stop()
