"""A Hugging Face hub on loopback: what the hub answers for models, and faults on demand.

    with FakeHub() as hub:
        commit = hub.add("org/model", {"config.json": b"{}", "model.safetensors": weights})
        hub.fail(Fault("resolve/.*safetensors", cut_after=1000))
        ... HF_ENDPOINT=hub.endpoint ...

Weight files are "large": they lie with a storage server of another host name, behind a redirect
with a signed address, as at the real hub.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

from mx.core.model import is_weight_file
from mx.testing.fake_site import Answer, FakeSite
from mx.testing.faults import Asked


@dataclass(slots=True)
class _Repository:
    revisions: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: bool = False
    gated: bool = False


class FakeHub(FakeSite):
    """See the head of this module. ``page_size`` is the hub's number of entries in one listing."""

    def __init__(self, *, page_size: int = 1000) -> None:
        super().__init__(("hub", "storage"))
        self.page_size = page_size
        self.tokens: set[str] = set()  # accounts; ``members`` may also read gated models
        self.members: set[str] = set()
        self._repositories: dict[str, _Repository] = {}
        self._objects: dict[str, bytes] = {}
        self.endpoint = f"http://127.0.0.1:{self.port('hub')}"
        self.storage = f"http://localhost:{self.port('storage')}"

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

    def answer(self, asked: Asked) -> Answer:
        """What there is to say without faults."""
        path, _, query = asked.path.partition("?")
        if asked.host == "storage":
            found = self._objects.get(path.removeprefix("/objects/"))
            if found is None or "X-Amz-Signature=" not in query:
                return Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            return Answer(200, found, {"ETag": '"storage-has-its-own"'})
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

    def _commit(self, name: str, revision: str, token: str) -> tuple[_Repository, str] | Answer:
        repository = self._repositories.get(name)
        if repository is None or (repository.private and token not in self.members):
            # As at the hub: strangers can't tell missing from private.
            return _refused(404 if token else 401, "RepoNotFound", "Repository not found")
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            return _refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    def _api(self, name: str, kind: str, revision: str, query: str, token: str) -> Answer:
        match self._commit(name, revision, token):
            case Answer() as refused:
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

    def _file(self, name: str, revision: str, path: str, token: str) -> Answer:
        match self._commit(name, revision, token):
            case Answer() as refused:
                return refused
            case repository, commit:
                data = repository.commits[commit].get(path)
        if repository.gated and token not in self.members:
            return _refused(403 if token else 401, "GatedRepo", "Access to this model is restricted.")
        if data is None:
            return _refused(404, "EntryNotFound", "Entry not found")
        if not is_weight_file(path):
            return Answer(200, data, {"ETag": f'"{_git_sha1(data)}"', "X-Repo-Commit": commit})
        headers = {
            "ETag": f'"{_sha256(data)}"',
            "X-Repo-Commit": commit,
            "X-Linked-ETag": f'"{_sha256(data)}"',
            "X-Linked-Size": str(len(data)),
            "Location": f"{self.storage}/objects/{_sha256(data)}?X-Amz-Signature=s1gned",
        }
        return Answer(302, b"", headers)


def _refused(status: int, code: str, message: str) -> Answer:
    headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return Answer(status, json.dumps({"error": message}).encode(), headers)


def _json(content: object) -> Answer:
    return Answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})


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
