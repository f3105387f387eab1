"""NGC, the catalogue of NVIDIA, by way of its SDK ``ngcsdk``.

The SDK signs in (it exchanges older keys for tokens and renews them) and carries every call to the
catalogue: the state of a version, its files, their signed addresses. The files themselves are read
from those addresses by ``mx.providers.http``. The SDK's own download is one call for a whole
version: it begins each file again instead of resuming it, gives files their full size before their
bytes are there, joins listed paths to the target unchecked, counts bytes of all files together, and
does not raise when some of them failed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from mx.core.model import (
    EntryKey,
    ListedFile,
    Listing,
    ModelRef,
    ProviderName,
    is_kept_file,
    safe_relative_path,
)
from mx.errors import (
    IntegrityError,
    InvalidArgumentError,
    MxError,
    NotFoundError,
    PreconditionError,
    SettingsError,
    UnavailableError,
)
from mx.ports import Progress
from mx.providers.http import Ask, Asked, HttpReads, HttpRules
from mx.providers.landing import open_landing
from mx.providers.listings import gather, require_tree
from mx.providers.ngc_key import Key
from mx.providers.ngc_sdk import KINDS, Artifact, Json, Sdk
from mx.providers.retry import TransientError, with_retries

API_ENDPOINT = "https://api.ngc.nvidia.com"
AUTH_ENDPOINT = "https://authn.nvidia.com"

_ANSWER_S = 60.0  # one answer of the catalogue, whole; the SDK waits 30 s for each part of it
_CALLS_AT_ONCE = 4
_PAGE_SIZE = 1000
_PAGES = 1_000  # a listing without an end is a fault of the catalogue
_VERSIONS_KEPT = 8  # whose addresses are remembered: a version of 5,000 files takes some 5 MB
_REFUSED = frozenset({400, 401, 403})  # what storage says of an address that has expired
_COMPLETE = "UPLOAD_COMPLETE"
_LISTED_ANEW = "ask again: it is listed anew"


class NgcProvider:
    """``mx.ports.Provider`` over the catalogue.

    Endpoints have no slash at their end. ``key`` is asked before each call, so that a new one is used
    without a restart. ``connections`` bounds files in flight. ``verify``: ``fetch`` compares digests
    itself; off where the cache does so on ingest anyway.
    """

    name = ProviderName.NGC

    def __init__(
        self,
        *,
        key: Key,
        api_endpoint: str = API_ENDPOINT,
        auth_endpoint: str = AUTH_ENDPOINT,
        connections: int = 8,
        verify: bool = True,
        rules: HttpRules | None = None,
    ) -> None:
        for endpoint in (api_endpoint, auth_endpoint):
            if not endpoint.startswith("https://"):
                raise SettingsError((f"{endpoint}: NGC is spoken to over https only, as it gets a key",))
        self._rules = rules or HttpRules()
        self._verify = verify
        self._sdk = Sdk(api_endpoint.rstrip("/"), auth_endpoint.rstrip("/"), key)
        self._reads = HttpReads(refusal=_refusal, etag=_etag, rules=self._rules)
        self._slots = asyncio.Semaphore(connections)
        self._addresses: OrderedDict[EntryKey, dict[str, str]] = OrderedDict()
        self._asking = asyncio.Lock()
        self._calls = ThreadPoolExecutor(max_workers=_CALLS_AT_ONCE, thread_name_prefix="mx-ngc-call")
        # Writing and hashing: more threads than cores only wait for each other.
        self._threads = ThreadPoolExecutor(
            max_workers=min(connections, (os.cpu_count() or 1) + 2), thread_name_prefix="mx-ngc"
        )

    async def resolve(self, ref: ModelRef) -> str:
        """ "": a version is part of the name. PreconditionError while it is still being uploaded."""
        await self._version(Artifact.of(ref.name), ref.name)
        return ""

    async def list_files(self, key: EntryKey) -> Listing:
        artifact = Artifact.of(key.name)
        version = await self._version(artifact, key.name)
        stamp = ":".join(str(version.get(name)) for name in ("versionId", "createdDate", "updatedDate"))
        member = KINDS[artifact.kind][2]
        files: dict[str, ListedFile] = {}
        for page in await self._pages(
            artifact, key.name, lambda api: api.get_files_endpoint(**artifact.where)
        ):
            gather(_files(page.get(member), key.name, stamp), into=files, what=key.name)
        require_tree(files, key.name)
        self._addresses.pop(key, None)  # those of an earlier download may have expired
        kept = [file for path, file in sorted(files.items()) if is_kept_file(path, weights=key.weights)]
        return Listing(key, tuple(kept))

    async def fetch(
        self, key: EntryKey, file: ListedFile, into: Path, *, offset: int, progress: Progress
    ) -> None:
        safe_relative_path(file.path)
        async with (
            self._slots,
            open_landing(
                file, into, offset=offset, threads=self._threads, progress=progress, verify=self._verify
            ) as landing,
        ):
            if landing.missing_bytes:
                await self._reads.fill(landing, self._ask(key, file.path))
            await landing.finish()

    async def close(self) -> None:
        await self._reads.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._sdk.close()

    async def _version(self, artifact: Artifact, what: str) -> Json:
        answer = await self._call(artifact, what, lambda api: api.get_versions_endpoint(**artifact.where))
        version = answer.get(KINDS[artifact.kind][1])
        status = version.get("status") if isinstance(version, dict) else None
        if not isinstance(version, dict) or not isinstance(status, str):
            raise IntegrityError(f"{what}: NGC's answer says nothing of the version")
        if status != _COMPLETE:
            raise PreconditionError(
                f"{what}: its upload to NGC is not complete ({status[:40]})", remedy="ask again when it is"
            )
        return version

    def _ask(self, key: EntryKey, path: str) -> Ask:
        """Where the file lies: as remembered the first time, asked for anew when that did not do."""
        used: str | None = None

        async def ask() -> Asked:
            nonlocal used
            used = await self._address(key, path, other_than=used)
            return Asked(used, f"{key}: {path}", {})  # signed: our key is not for whoever lies there

        return ask

    async def _address(self, key: EntryKey, path: str, *, other_than: str | None) -> str:
        async with self._asking:
            known = self._addresses.get(key)
            if known is None or known.get(path) in (None, other_than):
                known = await self._all_addresses(key)
                self._addresses[key] = known
                while len(self._addresses) > _VERSIONS_KEPT:
                    self._addresses.popitem(last=False)
        found = known.get(path)
        if found is None:
            raise NotFoundError(
                f"{key}: NGC gives no address for {path}", remedy="ask again: it is listed anew"
            )
        return found

    async def _all_addresses(self, key: EntryKey) -> dict[str, str]:
        artifact = Artifact.of(key.name)
        at = {name: value for name, value in artifact.where.items() if name not in ("name", "version")}
        found: dict[str, str] = {}
        for page in await self._pages(
            artifact,
            key.name,
            lambda api: api.get_direct_download_URL(artifact.name, artifact.version, **at),
        ):
            paths, urls = page.get("filepath"), page.get("urls")
            if not isinstance(paths, list) or not isinstance(urls, list) or len(paths) != len(urls):
                raise IntegrityError(f"{key}: NGC's addresses of the files can't be read")
            for path, url in zip(paths, urls, strict=True):
                if not isinstance(path, str) or not isinstance(url, str) or not url.startswith("https://"):
                    raise IntegrityError(f"{key}: NGC gives an address that is none of https")
                found[path] = url
        return found

    async def _pages(self, artifact: Artifact, what: str, address: Callable[[Any], str]) -> list[Json]:
        """Every page of an answer that has several."""
        pages: list[Json] = []
        for number in range(_PAGES):
            query = f"?page-size={_PAGE_SIZE}&page-number={number}"
            pages.append(await self._call(artifact, what, _paged(address, query)))
            if number + 1 >= _page_count(pages[-1], what):
                return pages
        raise IntegrityError(f"{what}: NGC's listing did not end after {_PAGES} pages")

    async def _call(self, artifact: Artifact, what: str, address: Callable[[Any], str]) -> Json:
        """One call of the SDK, with retries. A thread of it that hangs is left to its own limit."""

        async def attempt() -> Json:
            running = asyncio.get_running_loop().run_in_executor(
                self._calls, self._sdk.get, artifact, what, address
            )
            try:
                async with asyncio.timeout(_ANSWER_S):
                    return await running
            except TimeoutError:
                raise TransientError(
                    UnavailableError(f"{what}: no whole answer from NGC within {_ANSWER_S:.0f} s")
                ) from None

        return await with_retries(attempt, rule=self._rules.metadata, sleep=self._rules.sleep)


def _paged(address: Callable[[Any], str], query: str) -> Callable[[Any], str]:
    return lambda api: address(api) + query


def _page_count(page: Json, what: str) -> int:
    info = page.get("paginationInfo")
    if info is None:
        return 1
    pages = info.get("totalPages") if isinstance(info, dict) else ""
    if pages is None:
        size, results = info.get("size"), info.get("totalResults")
        if type(size) is int and type(results) is int and size > 0:
            pages = math.ceil(results / size)
    if type(pages) is not int:
        raise IntegrityError(f"{what}: NGC's listing does not say how long it is")
    return pages


def _files(content: object, what: str, stamp: str) -> Iterator[ListedFile]:
    if content is not None and not isinstance(content, list):
        raise IntegrityError(f"{what}: NGC's listing is no list")
    for item in content or ():
        try:
            yield _file(item, stamp)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"{what}: NGC's listing has an entry that can't be read: {error}") from None
        except InvalidArgumentError as error:
            raise IntegrityError(f"{what}: NGC's listing is unsafe: {error.message}") from None


def _file(item: object, stamp: str) -> ListedFile:
    if not isinstance(item, dict):
        raise TypeError(f"{str(item)[:80]!r} is no file")
    path, size, digest = item["path"], item["sizeInBytes"], item.get("sha256_base64")
    if not isinstance(path, str) or type(size) is not int or size < 0:
        raise ValueError(f"path or size of {str(path)[:80]!r}")
    listed = ""
    if digest:
        try:
            raw = base64.b64decode(digest, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raw = b""
        if len(raw) != 32:
            raise ValueError(f"digest of {path[:80]!r}")
        listed = f"sha256:{raw.hex()}"
    # NGC names no validator. Ours says when a version was made again: then nothing is resumed. It is
    # longer than those of storage, which are compared among themselves only.
    mark = hashlib.sha256(f"{stamp}:{size}:{item.get('createdDate')}:{path}".encode()).hexdigest()
    return ListedFile(safe_relative_path(path), size, digest=listed, etag=f"ngc-{mark}")


def _etag(answers: Sequence[httpx2.Response]) -> str:
    return str(answers[-1].headers.get("etag", "")).strip().removeprefix("W/").strip('"')


def _refusal(answer: httpx2.Response, what: str) -> MxError | TransientError:
    """Of the storage behind an address."""
    error = UnavailableError(f"{what}: {answer.url.host}, where the file lies, answered {answer.status_code}")
    if answer.status_code in _REFUSED:
        return TransientError(error)  # the address expired; the next attempt asks for another one
    if answer.status_code in (404, 410):
        return NotFoundError(
            f"{what}: {answer.url.host} has no such file", remedy="ask again: it is listed anew"
        )
    return error
