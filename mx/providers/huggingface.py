"""The Hugging Face hub and its mirrors.

Two calls of the hub's API are all that is needed (a revision's commit, a commit's tree), so they
are made here instead of through huggingface_hub: that library waits without a bound, shares one
session with whatever else runs in the process, and reads its settings from the environment.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx2

from mx.core.model import (
    EntryKey,
    ListedFile,
    Listing,
    ModelRef,
    ProviderName,
    is_commit,
    is_kept_file,
    safe_relative_path,
)
from mx.core.redact import redact_text
from mx.errors import (
    IntegrityError,
    InvalidArgumentError,
    MxError,
    NotFoundError,
    PermissionDeniedError,
    SettingsError,
    UnauthenticatedError,
    UnavailableError,
)
from mx.ports import Progress
from mx.providers.http import Asked, HttpReads, HttpRules
from mx.providers.landing import open_landing
from mx.providers.listings import gather, require_tree

Token = Callable[[], str | None]

_PAGES = 1_000  # a thousand entries each: a listing without an end is a fault of the mirror
_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class HuggingFaceProvider:
    """``mx.ports.Provider`` over the hub's HTTP interface.

    ``endpoint`` has no slash at its end. ``token`` is asked before each call, so that a new one is
    used without a restart. ``connections`` bounds files in flight. ``verify``: ``fetch`` compares
    digests itself; off where the cache does so on ingest anyway.
    """

    name = ProviderName.HUGGING_FACE

    def __init__(
        self,
        *,
        endpoint: str = "https://huggingface.co",
        token: Token = lambda: None,
        offline: bool = False,
        connections: int = 8,
        verify: bool = True,
        rules: HttpRules | None = None,
    ) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._token = token
        self._offline = offline
        self._verify = verify
        self._reads = HttpReads(refusal=self._refusal, etag=_etag, rules=rules)
        self._slots = asyncio.Semaphore(connections)
        # Writing and hashing: more threads than cores only wait for each other.
        self._threads = ThreadPoolExecutor(
            max_workers=min(connections, (os.cpu_count() or 1) + 2), thread_name_prefix="mx-huggingface"
        )

    async def resolve(self, ref: ModelRef) -> str:
        revision = ref.revision or "main"
        what = f"{ref.name}@{revision}"
        page = await self._reads.get_json(
            self._asked(f"/api/models/{ref.name}/revision/{quote(revision, safe='')}", what=what)
        )
        commit = page.content.get("sha") if isinstance(page.content, dict) else None
        if not isinstance(commit, str) or not is_commit(commit):
            raise IntegrityError(f"{what}: {self._endpoint} named no commit")
        if is_commit(revision) and commit != revision:
            raise IntegrityError(f"{what}: {self._endpoint} answered with another commit, {commit}")
        return commit

    async def list_files(self, key: EntryKey) -> Listing:
        if not is_commit(key.commit):
            raise InvalidArgumentError(f"{key} is pinned to no commit; resolve its revision first")
        path = f"/api/models/{key.name}/tree/{key.commit}?recursive=true&expand=false"
        asked = self._asked(path, what=str(key))
        files: dict[str, ListedFile] = {}
        for _ in range(_PAGES):
            page = await self._reads.get_json(asked)
            gather(_files(page.content, str(key)), into=files, what=str(key))
            if page.next_url is None:
                break
            asked = self._asked(page.next_url, what=str(key))
        else:
            raise IntegrityError(f"{key}: the listing did not end after {_PAGES} pages")
        require_tree(files, str(key))
        kept = [file for path, file in sorted(files.items()) if is_kept_file(path, weights=key.weights)]
        return Listing(key, tuple(kept))

    async def fetch(
        self, key: EntryKey, file: ListedFile, into: Path, *, offset: int, progress: Progress
    ) -> None:
        path = f"/{key.name}/resolve/{key.commit}/{quote(safe_relative_path(file.path))}"
        async with (
            self._slots,
            open_landing(
                file, into, offset=offset, threads=self._threads, progress=progress, verify=self._verify
            ) as landing,
        ):
            if landing.missing_bytes:
                await self._reads.fill(landing, self._asked(path, what=f"{key}: {file.path}"))
            await landing.finish()

    async def close(self) -> None:
        await self._reads.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _asked(self, path: str, *, what: str) -> Asked:
        if self._offline:
            raise UnavailableError(
                f"{what}: not asked for, since the hub is switched off",
                remedy="unset HF_HUB_OFFLINE (providers.huggingface.offline) to allow it",
            )
        url = f"{self._endpoint}{path}" if path.startswith("/") else path
        token = self._token()
        if not token or httpx2.URL(url).origin != httpx2.URL(self._endpoint).origin:
            return Asked(url, what, {})  # a mirror may send us on to another host: not with our token
        return Asked(url, what, {"Authorization": f"Bearer {token}"})

    def _refusal(self, answer: httpx2.Response, what: str) -> MxError:
        status, code = answer.status_code, answer.headers.get("x-error-code", "")
        said = redact_text(answer.headers.get("x-error-message", ""))[:200]
        shown = f"{what}: {said}" if said else what
        private = (
            "check the spelling; a private model needs a token that may read it (HF_TOKEN)"
            if not self._token()
            else "check the spelling, and that HF_TOKEN may read the model if it is private"
        )
        match code:
            case "GatedRepo":
                return PermissionDeniedError(
                    f"{what}: the model is gated",
                    remedy=f"accept its terms at {self._endpoint}/{_repository(what)} and set HF_TOKEN to a "
                    "token of that account",
                )
            case "RepoNotFound":
                return NotFoundError(f"{what}: {self._endpoint} has no such model", remedy=private)
            case "RevisionNotFound":
                return NotFoundError(
                    f"{what}: the model has no such revision", remedy="name a branch, tag or commit"
                )
            case "EntryNotFound":
                return NotFoundError(f"{what}: the model has no such file")
        if status == 401 and "invalid" in said.lower():
            return UnauthenticatedError(
                f"{what}: {self._endpoint} does not accept the token", remedy="set HF_TOKEN to a valid one"
            )
        if status == 401 and not self._token():
            # The hub's answer to strangers for what is missing as well as for what is private.
            return NotFoundError(f"{what}: {self._endpoint} shows no such model", remedy=private)
        if status == 401:
            return UnauthenticatedError(
                f"{shown}: the token was refused", remedy="set HF_TOKEN to a valid one"
            )
        if status in (403, 451):
            return PermissionDeniedError(
                f"{shown}: access is denied ({status})", remedy="check what the account of HF_TOKEN may read"
            )
        if status in (404, 410):
            return NotFoundError(
                f"{shown}: not found at {self._endpoint}", remedy="check the name, and HF_ENDPOINT"
            )
        return UnavailableError(f"{shown}: {self._endpoint} refused with {status}")


def read_token(token: str | None, path: Path | None) -> Token:
    """The token of the settings, else what the token file holds at that moment.

    Raises SettingsError, from the call, for a token that no header can carry.
    """

    def read() -> str | None:
        found, origin = token, "HF_TOKEN"
        if not found and path is not None:
            try:
                found, origin = path.read_text(encoding="utf-8", errors="replace").strip(), str(path)
            except OSError:
                return None  # no file, or not ours to read: anonymous, as the hub's own tools do it
        if found and not re.fullmatch(r"[\x21-\x7e]+", found):
            raise SettingsError((f"the token from {origin} holds characters that no token has",))
        return found or None

    return read


def _repository(what: str) -> str:
    return what.partition(":")[0].partition("@")[0]


def _etag(answers: Sequence[httpx2.Response]) -> str:
    """The hub's validator of the content; the one of a storage network behind it says something else."""
    for answer in reversed(answers):
        if linked := answer.headers.get("x-linked-etag"):
            return _bare(linked)
    if answers[-1].url.origin == answers[0].url.origin:
        return _bare(answers[-1].headers.get("etag", ""))
    return ""


def _bare(etag: str) -> str:
    return etag.strip().removeprefix("W/").strip('"')


def _files(content: object, what: str) -> Iterator[ListedFile]:
    if not isinstance(content, list):
        raise IntegrityError(f"{what}: the hub's listing is no list")
    for item in content:
        if isinstance(item, dict) and item.get("type") == "directory":
            continue
        try:
            yield _file(item)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                f"{what}: the hub's listing has an entry that can't be read: {error}"
            ) from None
        except InvalidArgumentError as error:
            raise IntegrityError(f"{what}: the hub's listing is unsafe: {error.message}") from None


def _file(item: object) -> ListedFile:
    if not isinstance(item, dict) or item["type"] != "file":
        raise ValueError(f"{str(item)[:80]!r} is neither file nor directory")
    path, size, oid, large = item["path"], item["size"], item["oid"], item.get("lfs")
    if not isinstance(path, str) or type(size) is not int or size < 0:
        raise ValueError(f"path or size of {str(path)[:80]!r}")
    digest, pattern = f"git-sha1:{oid}", _SHA1
    if large is not None:
        # Size and content of a large file are those of what the pointer in git points at.
        size, oid = large["size"], large["oid"]
        digest, pattern = f"sha256:{oid}", _SHA256
    if not isinstance(oid, str) or not pattern.fullmatch(oid) or type(size) is not int or size < 0:
        raise ValueError(f"digest of {path[:80]!r}")
    return ListedFile(safe_relative_path(path), size, digest=digest, etag=oid)
