"""What the loader does when there is no server, no peer, a lying peer, or a wrong option."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_support import READY_S, Server, once, once_command, once_environment, wait_until


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, Any] = json.loads(lines[0].removeprefix("ANSWER "))
    return found


def loaded(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "] weights of " in line]
    assert len(lines) == 1, done.stdout[-3000:] + done.stderr[-3000:]
    return lines[0]


def test_without_a_server_the_disk_serves_and_one_line_says_why(tiny_model: Path) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8001)) == 0:
            pytest.skip("something listens on the default port 8001")
    done = once(tiny_model, environment={})
    assert answer(done)["token_ids"]
    line = loaded(done)
    assert "from disk" in line
    assert "no mx server at localhost:8001" in line
    others = [row for row in (done.stdout + done.stderr).splitlines() if "mx server" in row and row != line]
    assert others == [], "said once"


def test_with_a_dead_server_the_disk_serves_and_the_line_names_it(tiny_model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses for sure
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = once(tiny_model, environment={"MODEL_EXPRESS_URL": address})
    assert answer(done)["token_ids"]
    assert "from disk" in loaded(done)
    assert address in loaded(done)


@contextlib.contextmanager
def source(
    server: Server, model: Path, extra: str, *flags: str
) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """A running source, and what it answered."""
    with subprocess.Popen(
        once_command(model, extra, "--hold", *flags),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=once_environment({"MODEL_EXPRESS_URL": server.address}),
    ) as process:
        try:
            expected = json.loads(_read_to(process, "ANSWER ").removeprefix("ANSWER "))
            wait_until(lambda: len(server.ready_workers()) == 1, timeout_s=10, what="the source is listed")
            yield process, expected
        finally:
            process.kill()


def test_a_source_whose_memory_changed_is_not_believed(server: Server, model: Path) -> None:
    """One flipped byte after the digests: found, the model is built again, the disk serves, same answer."""
    environment = {"MODEL_EXPRESS_URL": server.address}
    with source(server, model, "{}") as (process, expected):
        good = once(model, '{"publish": false}', environment=environment)
        assert "from peer" in loaded(good)
        assert answer(good) == expected
        assert len(server.ready_workers()) == 1, "publish false: not listed"

        assert process.stdin is not None
        process.stdin.write("flip\n")
        process.stdin.flush()
        _read_to(process, "FLIPPED")
        bad = once(model, '{"publish": false}', environment=environment)
        assert "from disk" in loaded(bad)
        assert "building it again" in bad.stdout + bad.stderr
        assert answer(bad) == expected
    failed = next(row for row in server.transfers() if row["state"] == "failed")
    assert failed["segments_reread"] >= 1


def test_the_processed_form_is_pulled_into_a_processed_model(
    server: Server, model: Path, hollow: Callable[[Path], Path]
) -> None:
    """The way of devices, on a CPU whose kernels do not pack: post-process nothing, then read."""
    import torch

    if torch.cpu._is_amx_tile_supported():
        pytest.skip("AMX kernels pack weights")
    form = '{"form": "processed"}'
    with source(server, model, form, "--unpacked") as (_, expected):
        done = once(hollow(model), form, "--unpacked", environment={"MODEL_EXPRESS_URL": server.address})
        assert "from peer" in loaded(done)
        assert answer(done) == expected


def test_the_processed_form_is_refused_on_cpus(tiny_model: Path) -> None:
    done = once(tiny_model, '{"form": "processed"}', environment={})
    assert answer(done)["token_ids"]
    assert "out of sight" in loaded(done)


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ('{"form": "cooked"}', "use auto, loaded or processed"),
        ('{"pull": "yes"}', "use true or false"),
        ('{"no_such_option": 1}', "no_such_option"),
    ],
)
def test_a_wrong_option_is_refused_by_name(tiny_model: Path, extra: str, says: str) -> None:
    done = once(tiny_model, extra, environment={})
    assert done.returncode != 0
    assert says in done.stdout + done.stderr


def _read_to(process: subprocess.Popen[str], start: str) -> str:
    assert process.stdout is not None
    seen: list[str] = []
    for line in process.stdout:
        if line.startswith(start):
            return line
        seen.append(line)
    raise AssertionError(f"{start} never came:\n{''.join(seen[-40:])}")


def test_every_symbol_of_vllm_is_there() -> None:
    """A vLLM release that moves one of them fails here, by name."""
    code = (
        "import importlib, json\n"
        "from mx.engines.vllm import internals\n"
        "found = {}\n"
        "for symbol in (*internals.SYMBOLS, *internals.OPTIONAL_SYMBOLS):\n"
        "    module, _, name = symbol.partition(':')\n"
        "    found[symbol] = hasattr(importlib.import_module(module), name)\n"
        "print('FOUND', json.dumps(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=READY_S, check=False
    )
    line = next(row for row in done.stdout.splitlines() if row.startswith("FOUND "))
    found: dict[str, bool] = json.loads(line.removeprefix("FOUND "))
    assert len(found) > 10
    assert [symbol for symbol, there in found.items() if not there] == []


def test_the_name_mx_is_never_taken_from_another_plugin() -> None:
    code = (
        "from vllm.model_executor import model_loader\n"
        "from vllm.model_executor.model_loader.default_loader import DefaultModelLoader\n"
        "import mx.engines.vllm as plugin\n"
        "plugin.register(); plugin.register()\n"
        "mine = model_loader._LOAD_FORMAT_TO_MODEL_LOADER['mx']\n"
        "assert mine.__module__ == 'mx.engines.vllm.loader'\n"
        "class Other(DefaultModelLoader): pass\n"
        "model_loader._LOAD_FORMAT_TO_MODEL_LOADER['mx'] = Other\n"
        "try:\n"
        "    plugin.register()\n"
        "except Exception as error:\n"
        "    print('REFUSED', type(error).__name__, error)\n"
        "assert model_loader._LOAD_FORMAT_TO_MODEL_LOADER['mx'] is Other\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=READY_S, check=False
    )
    assert "REFUSED ConflictError" in done.stdout, done.stderr[-2000:]
    assert "MX_REGISTER_LOADERS=0" in done.stdout
