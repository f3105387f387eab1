"""NGC on loopback, over TLS: what the catalogue, its token service and its storage answer, and faults.

    with FakeNgc(tls) as ngc:
        ngc.keys = {"nvapi-secret"}
        ngc.add("acme/models/tiny/1.0", {"config.json": b"{}", "model.safetensors": weights})
        ngc.fail(Fault("storage:.*safetensors", cut_after=1000))
        ... NGC_API_ENDPOINT=ngc.endpoint, NGC_AUTH_ENDPOINT=ngc.auth ...

Keys that begin with ``nvapi-`` are bearer tokens, others are exchanged for one. Files lie with a
storage server of another host name, behind signed addresses that ``expire_addresses`` makes void.
The SDK remembers its hosts for the life of a process: tests of one process share one of these, and
``reset`` it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, quote, unquote

from mx.testing.fake_site import Answer, FakeSite
from mx.testing.faults import Asked, Fault

__all__ = ["Asked", "FakeNgc", "Fault"]

_NAMES = {"models": ("modelVersion", "modelFiles"), "resources": ("recipeVersion", "recipeFiles")}
_ARTIFACT = r"/v2/org/(?P<org>[^/]+)(?:/team/(?P<team>[^/]+))?/(?P<kind>models|resources)/(?P<name>[^/]+)"


@dataclass(frozen=True, slots=True)
class _Version:
    files: Mapping[str, bytes]
    status: str
    digests: bool
    made: int


class FakeNgc(FakeSite):
    """See the head of this module. ``page_size`` bounds the entries of one page, whatever is asked for."""

    def __init__(self, tls: ssl.SSLContext, *, page_size: int = 1000) -> None:
        super().__init__(("api", "auth", "storage"), tls=tls)
        self.endpoint = f"https://127.0.0.1:{self.port('api')}"
        self.auth = f"https://127.0.0.1:{self.port('auth')}"
        self.storage = f"https://localhost:{self.port('storage')}"
        self.page_size = page_size
        self.reset()

    def reset(self) -> None:
        """As if new: no versions, no keys, no faults, nothing asked."""
        self.mend()
        self.keys: set[str] = set()  # they may read everything; ``strangers`` nothing
        self.strangers: set[str] = set()
        self.with_terms: set[str] = set()  # versions whose terms nobody has accepted
        self.requests.clear()
        self.bytes_served = 0
        self._versions: dict[str, _Version] = {}
        self._tokens: dict[str, str] = {}
        self._signature = 0
        self._made = 0

    def add(
        self,
        name: str,
        files: Mapping[str, bytes],
        *,
        status: str = "UPLOAD_COMPLETE",
        digests: bool = True,
    ) -> None:
        """A version, by its canonical name; ``digests`` False lists sizes only, as for older uploads."""
        self._made += 1
        self._versions[name] = _Version(dict(files), status, digests, self._made)

    def change(self, name: str, path: str, data: bytes) -> None:
        """Storage has another file there; the catalogue does not know."""
        version = self._versions[name]
        self._versions[name] = replace(version, files={**version.files, path: data})

    def expire_addresses(self) -> None:
        self._signature += 1

    def void_tokens(self) -> None:
        """Tokens that were handed out count no more."""
        self._tokens.clear()

    def answer(self, asked: Asked) -> Answer:
        path, _, query = asked.path.partition("?")
        match asked.host:
            case "auth":
                return self._token(path, asked.authorization)
            case "storage":
                return self._stored(path, query)
        return self._catalogue(path, query, asked.authorization)

    def _token(self, path: str, authorization: str) -> Answer:
        given = base64.b64decode(authorization.removeprefix("Basic ") or "").decode()
        user, _, key = given.partition(":")
        if path != "/token" or user != "$oauthtoken" or key not in self.keys | self.strangers:
            return _refused(401, "Invalid credentials")
        token = f"token-{len(self._tokens)}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        self._tokens[token] = key
        return _json({"token": token, "expires_in": 3600})

    def _catalogue(self, path: str, query: str, authorization: str) -> Answer:
        bearer = authorization.removeprefix("Bearer ")
        key = bearer if bearer.startswith("nvapi-") else self._tokens.get(bearer, "")
        if key not in self.keys | self.strangers:
            return _refused(401, "Authentication failed")
        if key in self.strangers:
            return _refused(403, "Access denied")
        found = re.fullmatch(
            _ARTIFACT + r"(?:/versions/(?P<of>[^/]+)(?P<files>/files)?|/(?P<at>[^/]+)/files)", path
        )
        if found is None:
            return _refused(404, "No such resource")
        parts = (found["org"], found["team"], found["kind"], found["name"], found["of"] or found["at"])
        name = "/".join(unquote(part) for part in parts if part)
        version = self._versions.get(name)
        if version is None:
            return _refused(404, f"Could not find {name}")
        if name in self.with_terms and (found["files"] or found["at"]):
            return _refused(412, "Terms are not accepted")
        about, member = _NAMES[found["kind"]]
        described = {
            "versionId": parts[-1],
            "status": version.status,
            "createdDate": f"2026-01-01T00:00:00.{version.made:03}Z",
            "totalFileCount": len(version.files),
        }
        if not found["files"] and not found["at"]:
            return _json({about: described, "requestStatus": {"statusCode": "SUCCESS"}})
        page, paths = self._page(sorted(version.files), query)
        if found["files"]:
            listed = [_listed(path, version.files[path], version) for path in paths]
            return _json({member: listed or None, "paginationInfo": page})
        urls = [f"{self.storage}/{quote(f'{name}/{path}')}?signature=s{self._signature}" for path in paths]
        return _json({"urls": urls, "filepath": paths, "paginationInfo": page})

    def _page(self, paths: list[str], query: str) -> tuple[dict[str, int], list[str]]:
        asked = parse_qs(query)
        size = min(self.page_size, int(asked.get("page-size", ["100"])[0]))
        number = int(asked.get("page-number", ["0"])[0])
        pages = -(-len(paths) // size)
        info = {"index": number, "size": size, "totalPages": pages, "totalResults": len(paths)}
        return info, paths[number * size : (number + 1) * size]

    def _stored(self, path: str, query: str) -> Answer:
        if query != f"signature=s{self._signature}":
            return Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        for name, version in self._versions.items():
            data = version.files.get(unquote(path).removeprefix(f"/{name}/"))
            if data is not None:
                etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
                return Answer(200, data, {"ETag": f'"{etag}"'})
        return Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")


def _listed(path: str, data: bytes, version: _Version) -> dict[str, object]:
    found: dict[str, object] = {"path": path, "sizeInBytes": len(data), "createdDate": str(version.made)}
    if version.digests:
        found["sha256_base64"] = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return found


def _refused(status: int, said: str) -> Answer:
    body = {"requestStatus": {"statusCode": "REFUSED", "statusDescription": said, "requestId": "r-1"}}
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


def _json(content: object) -> Answer:
    return Answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})
