"""``mx doctor`` as a person runs it: with a server, without one, with one that hangs."""

from __future__ import annotations

import socket
from pathlib import Path

from cli_user import User
from running import running


async def test_a_server_is_looked_at(tmp_path: Path) -> None:
    import asyncio

    user = User(tmp_path)
    async with running() as up:
        ran = await asyncio.to_thread(
            user.mx, "doctor", "--only", "server", "-e", up.server.listen, "-f", "json"
        )
    texts = {one["text"]: one["level"] for one in ran.json["checks"][0]["findings"]}
    assert texts["the server can serve"] == "ok"
    assert any("the memory store of" in text and level == "ok" for text, level in texts.items())
    # The clock of these services stands still, far from ours.
    assert any("clock" in text and level == "warning" for text, level in texts.items())
    assert (ran.code, ran.json["ok"]) == (0, True)


def test_everything_without_a_server(tmp_path: Path) -> None:
    ran = User(tmp_path).mx("doctor")
    assert "Traceback" not in ran.out + ran.err
    for check in ("settings", "server", "cache", "devices", "limits", "nixl", "ucx", "vllm", "python"):
        assert f"\n{check} " in f"\n{ran.out}", ran
    assert "no server at http://localhost:8001, where nobody named one" in ran.out


def test_a_named_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    ran = User(tmp_path).mx("doctor", "--only", "server", "-e", "127.0.0.1:1")
    assert ran.code == 1
    assert "→" in ran.out


def test_a_server_that_says_nothing_does_not_hold_the_doctor(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        ran = User(tmp_path).mx(
            "doctor", "--only", "server", "-e", f"127.0.0.1:{port}", "-t", "2", "-f", "json"
        )
    assert ran.code == 1
    assert ran.json["checks"][0]["findings"][0]["level"] == "error"


def test_ucx_that_can_not_start_is_an_error_in_ucxs_words(tmp_path: Path) -> None:
    import pytest

    pytest.importorskip("nixl")
    user = User(tmp_path, variables={"UCX_TLS": "rc"})
    ran = user.mx("doctor", "--only", "nixl", "-f", "json")
    finding = ran.json["checks"][0]["findings"][0]
    if Path("/sys/class/infiniband").exists():
        pytest.skip("with an RDMA card it can start")
    assert ran.code == 1
    assert "no usable transports" in finding["text"]
    assert finding["remedy"]
