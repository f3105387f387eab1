"""A Hugging Face hub on loopback: what the hub answers for models, and faults on demand.

    with FakeHub() as hub:
        commit = hub.add("org/model", {"config.json": b"{}", "model.safetensors": weights})
        hub.fail(Fault("resolve/.*safetensors", cut_after=1000))
        ... HF_ENDPOINT=hub.endpoint ...

Weight files are "large": they lie with a storage server of another host name, behind a redirect
with a signed address, as at the real hub. Threads of its own, so blocking clients and other
processes can use it. ``requests`` and ``bytes_served`` say what it was asked for.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, unquote

from mx.core.model import is_weight_file
from mx.testing.faults import Asked, Fault, Faults


@dataclass(slots=True)
class _Repository:
    revisions: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: bool = False
    gated: bool = False


class FakeHub:
    """See the head of this module. ``page_size`` is the hub's number of entries in one listing."""

    def __init__(self, *, page_size: int = 1000) -> None:
        self.page_size = page_size
        self.bytes_served = 0
        self.tokens: set[str] = set()  # accounts; ``members`` may also read gated models
        self.members: set[str] = set()
        self._repositories: dict[str, _Repository] = {}
        self._objects: dict[str, bytes] = {}
        self._faults = Faults()
        self._lock = threading.Lock()
        self._servers = [_Server(self, "hub"), _Server(self, "storage")]
        self.endpoint = f"http://127.0.0.1:{self._servers[0].server_port}"
        self.storage = f"http://localhost:{self._servers[1].server_port}"

    def __enter__(self) -> FakeHub:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.01,), name="fake hub", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._faults.release()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add(
        self,
        name: str,
        files: Mapping[str, bytes],
        *,
        revision: str = "main",
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """A commit with exactly these files, and the revision that names it from now on."""
        commit = hashlib.sha1(
            repr(sorted((path, _sha256(data)) for path, data in files.items())).encode(),
            usedforsecurity=False,
        ).hexdigest()
        with self._lock:
            repository = self._repositories.setdefault(name, _Repository())
            repository.revisions[revision] = commit
            repository.commits[commit] = dict(files)
            repository.private, repository.gated = private, gated
            self._objects |= {_sha256(data): data for path, data in files.items() if is_weight_file(path)}
        return commit

    @property
    def requests(self) -> list[Asked]:
        return self._faults.requests

    def fail(self, fault: Fault) -> None:
        self._faults.add(fault)

    def mend(self) -> None:
        self._faults.mend()

    def asked(self, where: str) -> list[Asked]:
        """The requests so far whose ``host:path`` matches."""
        return self._faults.asked(where)

    def take_fault(self, asked: Asked) -> Fault | None:
        return self._faults.take(asked)

    def count(self, sent: int) -> None:
        with self._lock:
            self.bytes_served += sent

    def answer(self, asked: Asked) -> _Answer:
        """What there is to say without faults."""
        path, _, query = asked.path.partition("?")
        if asked.host == "storage":
            found = self._objects.get(path.removeprefix("/objects/"))
            if found is None or "X-Amz-Signature=" not in query:
                return _Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            return _Answer(200, found, {"ETag": '"storage-has-its-own"'})
        token = asked.authorization.removeprefix("Bearer ")
        if token and token not in self.tokens | self.members:
            return _refused(401, "", "Invalid credentials in Authorization header")
        if found_api := re.fullmatch(r"/api/models/(.+?)/(revision|tree)/([^/]+)", path):
            name, kind, revision = found_api.groups()
            return self._api(name, kind, unquote(revision), query, token)
        if found_model := re.fullmatch(r"/api/models/([^/]+(?:/[^/]+)?)", path):
            return self._api(found_model[1], "revision", "main", query, token)
        if found_file := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path):
            name, revision, file = found_file.groups()
            return self._file(name, unquote(revision), unquote(file), token)
        return _refused(404, "", "Sorry, we can't find the page you are looking for.")

    def _commit(self, name: str, revision: str, token: str) -> tuple[_Repository, str] | _Answer:
        repository = self._repositories.get(name)
        if repository is None or (repository.private and token not in self.members):
            # As at the hub: strangers can't tell missing from private.
            return _refused(404 if token else 401, "RepoNotFound", "Repository not found")
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            return _refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    def _api(self, name: str, kind: str, revision: str, query: str, token: str) -> _Answer:
        match self._commit(name, revision, token):
            case _Answer() as refused:
                return refused
            case repository, commit:
                files = sorted(repository.commits[commit].items())
        if kind == "revision":
            siblings = [{"rfilename": path} for path, _ in files]
            return _json({"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": []})
        at = int(parse_qs(query).get("cursor", ["0"])[0])
        folders = {path.rpartition("/")[0] for path, _ in files} - {""}
        entries: list[object] = [
            {"type": "directory", "oid": "0" * 40, "size": 0, "path": folder} for folder in sorted(folders)
        ]
        entries += [_entry(path, data) for path, data in files]
        answer = _json(entries[at : at + self.page_size])
        if at + self.page_size < len(entries):
            following = f"/api/models/{name}/tree/{commit}?recursive=true&cursor={at + self.page_size}"
            answer.headers["Link"] = f'<{self.endpoint}{following}>; rel="next"'
        return answer

    def _file(self, name: str, revision: str, path: str, token: str) -> _Answer:
        match self._commit(name, revision, token):
            case _Answer() as refused:
                return refused
            case repository, commit:
                data = repository.commits[commit].get(path)
        if repository.gated and token not in self.members:
            return _refused(403 if token else 401, "GatedRepo", "Access to this model is restricted.")
        if data is None:
            return _refused(404, "EntryNotFound", "Entry not found")
        if not is_weight_file(path):
            return _Answer(200, data, {"ETag": f'"{_git_sha1(data)}"', "X-Repo-Commit": commit})
        headers = {
            "ETag": f'"{_sha256(data)}"',
            "X-Repo-Commit": commit,
            "X-Linked-ETag": f'"{_sha256(data)}"',
            "X-Linked-Size": str(len(data)),
            "Location": f"{self.storage}/objects/{_sha256(data)}?X-Amz-Signature=s1gned",
        }
        return _Answer(302, b"", headers)


@dataclass(slots=True)
class _Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def _refused(status: int, code: str, message: str) -> _Answer:
    headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return _Answer(status, json.dumps({"error": message}).encode(), headers)


def _json(content: object) -> _Answer:
    return _Answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})


def _entry(path: str, data: bytes) -> dict[str, object]:
    if not is_weight_file(path):
        return {"type": "file", "oid": _git_sha1(data), "size": len(data), "path": path}
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{_sha256(data)}\nsize {len(data)}\n".encode()
    )
    large = {"oid": _sha256(data), "size": len(data), "pointerSize": len(pointer)}
    return {"type": "file", "oid": _git_sha1(pointer), "size": len(data), "path": path, "lfs": large}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, hub: FakeHub, host: str) -> None:
        self.hub, self.host = hub, host
        super().__init__(("127.0.0.1", 0), _Exchange)


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body waits 40 ms for the receipt of its headers
    server: _Server

    def do_GET(self) -> None:
        asked = Asked(
            self.server.host,
            self.command,
            self.path,
            self.headers.get("Authorization", ""),
            self.headers.get("Range", ""),
        )
        fault = self.server.hub.take_fault(asked) or Fault("")
        answer = self.server.hub.answer(asked)
        if fault.status:
            answer = _Answer(fault.status, b"a fault", {})
        if fault.body is not None:
            answer = _Answer(fault.status or 200, fault.body, {})
        if fault.etag is not None:
            answer.headers |= {"ETag": f'"{fault.etag}"', "X-Linked-ETag": f'"{fault.etag}"'}
        answer.body = answer.body[: len(answer.body) - fault.shorten_by]
        if fault.corrupt and answer.body:
            answer.body = answer.body[:-1] + bytes([answer.body[-1] ^ 1])
        answer.headers |= fault.headers
        self._send(answer, fault)

    do_HEAD = do_GET  # noqa: N815  # the base class's name

    def _send(self, answer: _Answer, fault: Fault) -> None:
        body = self._part(answer) if answer.status == 200 and not fault.ignore_range else answer.body
        self.send_response_only(answer.status)
        answer.headers.setdefault("Date", self.date_time_string())
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        first = len(body) if fault.cut_after is None else fault.cut_after
        if fault.gate is not None and fault.cut_after is None:
            fault.gate.wait()
        self._write(body[:first])
        if fault.cut_after is not None:
            if fault.gate is not None:
                fault.gate.wait()
                self._write(body[first:])
            else:
                self.close_connection = True

    def _part(self, answer: _Answer) -> bytes:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found is None:
            return answer.body
        begin, end = int(found[1]), min(int(found[2] or len(answer.body)) + 1, len(answer.body))
        if begin >= len(answer.body):
            answer.status = 416
            answer.headers["Content-Range"] = f"bytes */{len(answer.body)}"
            return b""
        answer.status = 206
        answer.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(answer.body)}"
        return answer.body[begin:end]

    def _write(self, body: bytes) -> None:
        view = memoryview(body)
        for at in range(0, len(view), 1 << 16):
            try:
                self.wfile.write(view[at : at + (1 << 16)])
            except OSError:
                self.close_connection = True
                return
            self.server.hub.count(len(view[at : at + (1 << 16)]))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Nothing on stderr."""

    def handle(self) -> None:
        with suppress(OSError):  # the client went away
            super().handle()
