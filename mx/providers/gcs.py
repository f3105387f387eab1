"""Models in Google Cloud Storage: every object below a prefix, pinned to its generation.

Own requests with google-auth's tokens: the JSON interface gives size, CRC-32C and generation of a
thousand objects in one answer, and obstore hides the last two (``benchmarks/object_stores.py``).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlencode

import httpx2

from mx.core.model import EntryKey, ListedFile, Listing, ModelRef, ProviderName, safe_relative_path
from mx.core.redact import redact_text
from mx.errors import (
    IntegrityError,
    InvalidArgumentError,
    MxError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnavailableError,
)
from mx.ports import Progress
from mx.providers.http import Ask, Asked, HttpReads, HttpRules
from mx.providers.landing import open_landing
from mx.providers.listings import (
    StoredObject,
    bucket_and_prefix,
    gone,
    objects_below,
    require_model,
    whole_listing,
)
from mx.providers.retry import TransientError

_FIELDS = "items(name,size,crc32c,generation,contentEncoding),nextPageToken"
_PASSING = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "backendError", "internalError"})


class Tokens(Protocol):
    """Whose requests they are."""

    anonymous: bool

    async def headers(self) -> Mapping[str, str]: ...

    def close(self) -> None: ...


class Strangers:
    """Nobody's: for public buckets, and for emulators, which must not see a token."""

    anonymous = True

    async def headers(self) -> Mapping[str, str]:
        return {}

    def close(self) -> None:
        return None


class GcsProvider:
    """``mx.ports.Provider`` over Cloud Storage. Commits are "": a prefix has no history.

    ``endpoint`` has no slash at its end. A file's etag is the generation of its object, which every
    read names: bytes of two generations are never joined. ``verify``: ``fetch`` compares CRC-32C
    itself; off where the cache does so on ingest anyway.
    """

    name = ProviderName.GCS

    def __init__(
        self,
        *,
        endpoint: str = "https://storage.googleapis.com",
        tokens: Tokens | None = None,
        verify: bool = True,
        page_objects: int = 1000,
        rules: HttpRules | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._tokens = tokens or Strangers()
        self._verify = verify
        self._page_objects = page_objects
        self._reads = HttpReads(
            refusal=self._refusal, etag=_generation, rules=rules, mirrored=False, as_stored=True
        )
        self._threads = ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 2, thread_name_prefix="mx-gcs")

    async def resolve(self, ref: ModelRef) -> str:
        key = EntryKey(ref.provider, ref.name, "")
        # Two: the first may be the marker of an empty folder.
        objects, _ = await self._page(key, at_most=2)
        require_model(ref.name, objects)
        return ""

    async def list_files(self, key: EntryKey) -> Listing:
        _, prefix = bucket_and_prefix(key.name)
        listed = await whole_listing(key, self._pages(key))
        require_model(key.name, listed)
        files = []
        for path, one in objects_below(key, listed, prefix=prefix):
            if one.encoding:
                # The store would unpack it on the way, and size and checksum are those of the packed one.
                raise PreconditionError(
                    f"{key}: {path} is stored with Content-Encoding {one.encoding[:40]!r}",
                    remedy="upload it as it is, without -z or -j",
                )
            files.append(ListedFile(path, one.size_bytes, digest=one.digest, etag=one.etag))
        return Listing(key, tuple(files))

    async def fetch(
        self, key: EntryKey, file: ListedFile, into: Path, *, offset: int, progress: Progress
    ) -> None:
        bucket, prefix = bucket_and_prefix(key.name)
        stored = prefix + safe_relative_path(file.path)
        query = {"alt": "media"} | ({"generation": file.etag} if file.etag else {})
        asked = self._ask(f"{bucket}/o/{quote(stored, safe='')}", query, what=f"{key}: {file.path}")
        async with open_landing(
            file, into, offset=offset, threads=self._threads, progress=progress, verify=self._verify
        ) as landing:
            if landing.missing_bytes:
                try:
                    await self._reads.fill(landing, asked)
                except NotFoundError as error:  # that generation is: it was deleted or overwritten
                    await landing.discard()
                    raise gone(key, file.path) from error
            await landing.finish()

    async def close(self) -> None:
        await self._reads.close()
        self._tokens.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _pages(self, key: EntryKey) -> AsyncIterator[tuple[Sequence[StoredObject], str | None]]:
        objects, following = await self._page(key)
        yield objects, following
        while following is not None:
            objects, following = await self._page(key, after=following)
            yield objects, following

    async def _page(
        self, key: EntryKey, *, after: str = "", at_most: int = 0
    ) -> tuple[Sequence[StoredObject], str | None]:
        bucket, prefix = bucket_and_prefix(key.name)
        query = {"prefix": prefix, "maxResults": str(at_most or self._page_objects), "fields": _FIELDS}
        if after:
            query["pageToken"] = after
        page = await self._reads.get_json(self._ask(f"{bucket}/o", query, what=str(key)))
        try:
            return _read_page(page.content)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"{key}: the store's listing can't be read: {error}") from None

    def _ask(self, path: str, query: Mapping[str, str], *, what: str) -> Ask:
        url = f"{self._endpoint}/storage/v1/b/{path}?{urlencode(query, quote_via=quote)}"

        async def ask() -> Asked:
            return Asked(url, what, await self._tokens.headers())

        return ask

    def _refusal(self, answer: httpx2.Response, what: str) -> MxError | TransientError:
        return _refused(answer, what, anonymous=self._tokens.anonymous)


def _read_page(content: object) -> tuple[Sequence[StoredObject], str | None]:
    """KeyError, TypeError or ValueError for what is no page of objects."""
    if not isinstance(content, dict):
        raise ValueError("it is no object")
    following = content.get("nextPageToken")
    if following is not None and not isinstance(following, str):
        raise ValueError("a page token that is no text")
    return tuple(_read_object(item) for item in content.get("items", ())), following or None


def _read_object(item: object) -> StoredObject:
    if not isinstance(item, dict):
        raise ValueError(f"{str(item)[:80]!r} is no object")
    name, size, generation = item["name"], item["size"], item["generation"]
    checksum, encoding = item.get("crc32c", ""), item.get("contentEncoding", "")
    if not isinstance(name, str) or not name or not isinstance(encoding, str):
        raise ValueError(f"the name or encoding of {str(name)[:80]!r}")
    for number in (size, generation):
        if not isinstance(number, str) or not re.fullmatch(r"\d{1,19}", number, re.ASCII):
            raise ValueError(f"size or generation of {name[:80]!r}")
    try:
        digest = base64.b64decode(checksum, validate=True).hex()
    except binascii.Error:
        digest = "?"
    if len(digest) not in (0, 8):
        raise ValueError(f"the checksum of {name[:80]!r}")
    return StoredObject(
        name,
        int(size),
        etag=generation,
        digest=f"crc32c:{digest}" if digest else "",
        encoding="" if encoding == "identity" else encoding,
    )


def _generation(answers: Sequence[httpx2.Response]) -> str:
    return answers[-1].headers.get("x-goog-generation", "")


def _refused(answer: httpx2.Response, what: str, *, anonymous: bool) -> MxError | TransientError:
    host, status = answer.url.host, answer.status_code
    reason, message = _reason(answer)
    shown = f"{host} answered {status}{f': {message}' if message else ''}"
    if reason in _PASSING:
        return TransientError(UnavailableError(f"{what}: {shown}"))
    strangers = "no Google credentials were found: set GOOGLE_APPLICATION_CREDENTIALS"
    rights = "the account needs storage.objects.list and storage.objects.get on the bucket"
    match status:
        case 401 if anonymous:  # what strangers get for everything that is not public
            return PermissionDeniedError(f"{what}: access is denied ({shown})", remedy=strangers)
        case 401:
            return UnauthenticatedError(
                f"{what}: the credentials were refused ({shown})",
                remedy="check GOOGLE_APPLICATION_CREDENTIALS",
            )
        case 403:
            return PermissionDeniedError(
                f"{what}: access is denied ({shown})", remedy=strangers if anonymous else rights
            )
        case 404:
            return NotFoundError(
                f"{what}: there is no such bucket or object ({shown})", remedy="check the name"
            )
        case 400:
            return InvalidArgumentError(f"{what}: {shown}", remedy="check the name of the bucket")
    return UnavailableError(f"{what}: {shown}")


def _reason(answer: httpx2.Response) -> tuple[str, str]:
    """Google's word for it, and the sentence beside it."""
    try:
        error = answer.json()["error"]
        reasons = [str(item["reason"]) for item in error.get("errors", ()) if "reason" in item]
        return (reasons or [""])[0], redact_text(str(error.get("message", "")))[:200]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""
