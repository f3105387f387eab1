"""Models in S3 and compatible stores: every object below a prefix.

Own requests with botocore's signatures: as fast as obstore, which hides the checksums that stores keep
and takes one stream for each file, and for two thirds of boto3's processor time
(``benchmarks/object_stores.py``).
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx2

from mx.core.model import EntryKey, ListedFile, Listing, ModelRef, ProviderName, safe_relative_path
from mx.errors import MxError, NotFoundError
from mx.logs import event_log
from mx.ports import Progress
from mx.providers.aws import FindKeys, Signer, aws_address, find_botocore_keys, is_region
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
from mx.providers.s3_answers import Page, bare, read_head, read_page, refusal

log = event_log(__name__)

_HEADS = 16  # at once
_KNOWN_HEADS = 50_000  # some 300 bytes each
_NOTHING: Mapping[str, str] = {}


class S3Provider:
    """``mx.ports.Provider`` over S3. Commits are "": a prefix has no history.

    ``endpoint`` is that of a compatible store, without a slash at its end; "" is AWS, where
    ``address`` says the place of a bucket in a region. Each object is listed with its ETag and, where
    the store keeps one, a digest of the whole content; every ranged read names the ETag, so bytes of
    two versions are never joined. ``verify``: ``fetch`` compares digests itself; off where the cache
    does so on ingest anyway.
    """

    name = ProviderName.S3

    def __init__(
        self,
        *,
        endpoint: str = "",
        region: str = "us-east-1",
        find_keys: FindKeys | None = None,
        address: Callable[[str, str], str] = aws_address,
        verify: bool = True,
        page_objects: int = 1000,
        rules: HttpRules | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._region = region
        self._address = address
        self._verify = verify
        self._page_objects = page_objects
        self._signer = Signer(find_keys or find_botocore_keys())
        self._reads = HttpReads(
            refusal=self._refusal, etag=_etag, rules=rules, mirrored=False, as_stored=True
        )
        self._regions: dict[str, str] = {}
        self._heads: OrderedDict[tuple[str, StoredObject], StoredObject] = OrderedDict()
        self._threads = ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 2, thread_name_prefix="mx-s3")

    async def resolve(self, ref: ModelRef) -> str:
        key = EntryKey(ref.provider, ref.name, "")
        # Two: the first may be the marker of an empty folder.
        require_model(ref.name, (await self._page(key, at_most=2)).objects)
        return ""

    async def list_files(self, key: EntryKey) -> Listing:
        bucket, prefix = bucket_and_prefix(key.name)
        listed = await whole_listing(key, self._pages(key))
        require_model(key.name, listed)
        kept = dict(objects_below(key, listed, prefix=prefix))
        heads = await self._heads_of(key, bucket, list(kept.values()))
        files = (
            ListedFile(path, head.size_bytes, digest=head.digest, etag=head.etag)
            for path, head in zip(kept, heads, strict=True)
        )
        return Listing(key, tuple(files))

    async def fetch(
        self, key: EntryKey, file: ListedFile, into: Path, *, offset: int, progress: Progress
    ) -> None:
        bucket, prefix = bucket_and_prefix(key.name)
        stored = prefix + safe_relative_path(file.path)
        async with open_landing(
            file, into, offset=offset, threads=self._threads, progress=progress, verify=self._verify
        ) as landing:
            if landing.missing_bytes:
                unchanged = {"If-Match": f'"{file.etag}"'} if file.etag else {}
                asked = await self._ask(bucket, stored, what=f"{key}: {file.path}", also=unchanged)
                try:
                    await self._reads.fill(landing, asked)
                except NotFoundError as error:
                    await landing.discard()
                    raise gone(key, file.path) from error
            await landing.finish()

    async def close(self) -> None:
        await self._reads.close()
        self._signer.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _pages(self, key: EntryKey) -> AsyncIterator[tuple[Sequence[StoredObject], str | None]]:
        page = await self._page(key)
        yield page.objects, page.following
        while page.following is not None:
            page = await self._page(key, after=page.following)
            yield page.objects, page.following

    async def _page(self, key: EntryKey, *, after: str = "", at_most: int = 0) -> Page:
        bucket, prefix = bucket_and_prefix(key.name)
        query = {
            "list-type": "2",
            "prefix": prefix,
            "encoding-type": "url",
            "max-keys": str(at_most or self._page_objects),
        }
        if after:
            query["continuation-token"] = after
        asked = await self._ask(bucket, "", what=str(key), query=query)
        return read_page(await self._reads.get_body(asked), str(key))

    async def _heads_of(
        self, key: EntryKey, bucket: str, objects: Sequence[StoredObject]
    ) -> list[StoredObject]:
        """What only a HEAD tells: checksums. Asked once for each version of an object."""
        slots = asyncio.Semaphore(_HEADS)
        failures: list[MxError] = []

        async def head(one: StoredObject) -> StoredObject:
            known = self._heads.get((bucket, one))
            if known is not None:
                self._heads.move_to_end((bucket, one))
                return known
            async with slots:
                if failures:
                    return one
                try:
                    return await self._head(key, bucket, one)
                except MxError as error:
                    failures.append(error)
                    return one

        async with asyncio.TaskGroup() as tasks:
            found = [tasks.create_task(head(one), name=f"head of {one.key}") for one in objects]
        if failures:
            raise failures[0]
        return [task.result() for task in found]

    async def _head(self, key: EntryKey, bucket: str, one: StoredObject) -> StoredObject:
        what = f"{key}: {one.key}"
        asked = await self._ask(
            bucket, one.key, what=what, method="HEAD", also={"x-amz-checksum-mode": "ENABLED"}
        )
        try:
            head = read_head(await self._reads.get_head(asked), one, what)
        except NotFoundError as error:
            raise gone(key, one.key) from error
        self._heads[bucket, one] = head
        while len(self._heads) > _KNOWN_HEADS:
            self._heads.popitem(last=False)
        return head

    async def _ask(
        self,
        bucket: str,
        stored: str,
        *,
        what: str,
        method: str = "GET",
        query: Mapping[str, str] = _NOTHING,
        also: Mapping[str, str] = _NOTHING,
    ) -> Ask:
        """A request for an object, or with "" for the bucket; signed when it is made."""
        region = await self._region_of(bucket)
        base = f"{self._endpoint}/{bucket}" if self._endpoint else self._address(bucket, region)
        url = f"{base}/{quote(stored, safe='/~')}" if stored else base
        if query:
            # Signed is the path as it is sent, and an address without one is sent with a slash.
            slash = "" if "/" in base.partition("://")[2] else "/"
            url = f"{url}{slash}?{urlencode(query, quote_via=quote)}"

        async def ask() -> Asked:
            return Asked(url, what, await self._signer.headers(method, url, region=region, also=also))

        return ask

    async def _region_of(self, bucket: str) -> str:
        """The region that AWS keeps the bucket in: it tells strangers too, and signatures need it."""
        known = self._regions.get(bucket)
        if known is not None or self._endpoint:
            return known or self._region
        asked = Asked(self._address(bucket, self._region), f"s3://{bucket}", {})
        answer = await self._reads.get_head(asked, judged=False)
        found = answer.headers.get("x-amz-bucket-region", "")
        region = found if is_region(found) else self._region
        if region != self._region:
            log.info("bucket is in another region", bucket=bucket, region=region, configured=self._region)
        if found or answer.status_code < 500:
            self._regions[bucket] = region
        return region

    def _refusal(self, answer: httpx2.Response, what: str) -> MxError | TransientError:
        return refusal(answer, what, anonymous=self._signer.anonymous)


def _etag(answers: Sequence[httpx2.Response]) -> str:
    return bare(answers[-1].headers.get("etag", ""))
