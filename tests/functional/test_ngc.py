"""Models of NGC through a server process of their own: command line, published wire, and what goes wrong."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from mx.testing.fake_ngc import FakeNgc, Fault
from mx.testing.ngc_site import KEY, LEGACY_KEY, require_sdk, running, trusted
from mx.wire.v1 import model

MX = (sys.executable, "-m", "mx")
DEADLINE_S = 120
NGC = 1  # of the published ModelProvider
NAME = "acme/vision/models/tiny/1.0"
WEIGHTS = os.urandom(3 << 20)
FILES = {
    "config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "sub/tokenizer.json": b"[1]",
    "sub/tokenizer.model": b"m" * 1000,
    "README.md": b"left out",
}
KEPT = {path: data for path, data in FILES.items() if path != "README.md"}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ngc(authority: trustme.CA) -> Iterator[FakeNgc]:
    require_sdk()
    for site in running(authority):
        site.keys = {KEY, LEGACY_KEY}
        site.add(NAME, FILES)
        yield site


@pytest.fixture
def environ(ngc: FakeNgc, authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MX_", "MODEL_EXPRESS_", "NGC_"))
    }
    hosts = {"NGC_API_ENDPOINT": ngc.endpoint, "NGC_AUTH_ENDPOINT": ngc.auth, "NGC_API_KEY": KEY}
    return {**kept, **trusted(authority, tmp_path), **hosts, "HOME": str(tmp_path)}


@contextlib.contextmanager
def server(home: Path, environ: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*MX, "-f", "json", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("a") as log:
        process = subprocess.Popen(
            [*command, "--metrics-port", "0"],
            cwd=home,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], DEADLINE_S)
        line = process.stdout.readline() if ready else ""
        assert line, (home / "server.log").read_text()
        yield process, json.loads(line)["listen"]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def mx(home: Path, environ: dict[str, str], *args: str) -> tuple[int, Any, str]:
    ran = subprocess.run(
        [*MX, "-f", "json", *args],
        cwd=home, env=environ, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return ran.returncode, json.loads(ran.stdout or "null"), ran.stderr


def folder(home: Path) -> Path:
    return home / "cache" / "ngc" / NAME


def on_disk(home: Path) -> dict[str, bytes]:
    top = folder(home)
    files = (path for path in top.rglob("*") if path.is_file() and ".mx" not in path.parts)
    return {str(path.relative_to(top)): path.read_bytes() for path in files}


def test_a_download_by_any_spelling_is_one_entry(
    tmp_path: Path, ngc: FakeNgc, environ: dict[str, str]
) -> None:
    with server(tmp_path, environ) as (_, listen):
        at = ("--endpoint", listen)
        code, done, err = mx(tmp_path, environ, "model", "download", "ngc://acme/vision/tiny:1.0", *at)
        assert code == 0, err
        assert (done["model_name"], done["provider"], done["files"]) == (NAME, "ngc", len(KEPT))
        assert on_disk(tmp_path) == KEPT
        served = ngc.bytes_served
        for spelling in (NAME, "acme/vision/tiny/1.0", "ngc://acme/vision/models/tiny/1.0"):
            code, done, err = mx(tmp_path, environ, "model", "download", spelling, "-p", "ngc", *at)
            assert (code, done["model_name"]) == (0, NAME), err
        assert ngc.bytes_served == served, "an entry that is here asks nobody"
        code, listed, _ = mx(tmp_path, environ, "model", "list", *at)
        assert [(one["provider"], one["name"]) for one in listed["models"]] == [("ngc", NAME)]
        clear = ("model", "clear", "ngc://acme/vision/tiny:1.0", "--yes")
        code, cleared, err = mx(tmp_path, environ, *clear, *at)
        assert (code, cleared["success"]) == (0, True), err
        assert not folder(tmp_path).exists()


def test_the_published_wire(tmp_path: Path, ngc: FakeNgc, environ: dict[str, str]) -> None:
    older_key = environ | {"NGC_API_KEY": "", "NGC_CLI_API_KEY": LEGACY_KEY}
    with server(tmp_path, older_key) as (_, listen):  # noqa: SIM117  # one needs the other's address
        with grpc.insecure_channel(listen) as channel:
            stub = model.ModelServiceStub(channel)
            ask = model.ModelDownloadRequest(model_name="acme/vision/tiny:1.0", provider=NGC)
            updates = list(stub.EnsureModelDownloaded(ask, timeout=DEADLINE_S))
            assert updates[-1].status == model.DOWNLOADED, updates[-1].message
            assert {update.model_name for update in updates} == {NAME}
            wanted = model.ModelFilesRequest(model_name=NAME, provider=NGC)
            files = stub.ListModelFiles(wanted, timeout=DEADLINE_S).files
            assert {one.relative_path: one.size for one in files} == {p: len(d) for p, d in KEPT.items()}
            data: dict[str, bytes] = {}
            for chunk in stub.StreamModelFiles(wanted, timeout=DEADLINE_S):
                data[chunk.relative_path] = data.get(chunk.relative_path, b"") + chunk.data
            assert data == KEPT
            missing = model.ModelDownloadRequest(model_name="acme/nothing:1", provider=NGC)
            with pytest.raises(grpc.RpcError) as caught:
                list(stub.EnsureModelDownloaded(missing, timeout=DEADLINE_S))
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_key_in_the_file_of_ngcs_tools_and_no_key_at_all(
    tmp_path: Path, ngc: FakeNgc, environ: dict[str, str]
) -> None:
    with server(tmp_path, environ | {"NGC_API_KEY": ""}) as (_, listen):
        at = ("--strategy", "server-only", "--endpoint", listen)
        code, failed, _ = mx(tmp_path, environ, "model", "download", f"ngc://{NAME}", *at)
        assert (code, failed["success"]) == (5, False)
        assert "NGC_API_KEY" in json.dumps(failed)
        (tmp_path / ".ngc").mkdir()
        (tmp_path / ".ngc" / "config").write_text(f'{{"apikey": "{KEY}"}}')
        code, _, err = mx(tmp_path, environ, "model", "download", f"ngc://{NAME}", *at)
        assert code == 0, err
    assert KEY not in (tmp_path / "server.log").read_text()


def test_without_a_server_it_comes_into_the_folder_of_ngcs_own_tools(
    tmp_path: Path, ngc: FakeNgc, environ: dict[str, str]
) -> None:
    code, done, err = mx(tmp_path, environ, "model", "download", "ngc://acme/vision/tiny:1.0", "-s", "direct")
    assert (code, done["strategy"]) == (0, "direct"), err
    top = tmp_path / ".cache" / "ngc" / NAME
    assert {path: (top / path).read_bytes() for path in KEPT} == KEPT


def test_a_server_that_is_killed_half_way_resumes(
    tmp_path: Path, ngc: FakeNgc, environ: dict[str, str]
) -> None:
    weights = os.urandom(24 << 20)
    ngc.add(NAME, FILES | {"model.safetensors": weights})
    half = len(weights) // 2
    with server(tmp_path, environ) as (process, listen):
        gate = threading.Event()
        ngc.fail(Fault("storage:.*model.safetensors", cut_after=half, gate=gate))
        with grpc.insecure_channel(listen) as channel:
            stub = model.ModelServiceStub(channel)
            ask = model.ModelDownloadRequest(model_name=NAME, provider=NGC)
            updates = stub.EnsureModelDownloaded(ask, timeout=DEADLINE_S)
            deadline_s = time.monotonic() + DEADLINE_S
            while ngc.bytes_served < half and time.monotonic() < deadline_s:
                next(updates)
        process.send_signal(signal.SIGTERM)  # hands the claim back, and what came is noted
        process.wait(DEADLINE_S)
        gate.set()
    before = ngc.bytes_served
    with server(tmp_path, environ) as (_, listen):
        code, _, err = mx(tmp_path, environ, "model", "download", f"ngc://{NAME}", "--endpoint", listen)
        assert code == 0, err
    assert on_disk(tmp_path)["model.safetensors"] == weights
    # What was under way when the server ended may come again, and not much more.
    assert ngc.bytes_served - before < len(weights) * 0.75
    assert ngc.asked("storage:.*model.safetensors")[-1].range.startswith("bytes=")
