"""Buckets in real servers, for tests: put a model there, ask through a proxy that can fail."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import botocore.session
import httpx2
from botocore.config import Config

from mx.core.model import ModelRef, ProviderName
from mx.providers.aws import Keys
from mx.providers.gcs import GcsProvider
from mx.providers.http import HttpRules
from mx.providers.retry import RetryRule
from mx.providers.s3 import S3Provider
from mx.testing.fault_proxy import FaultProxy
from mx.testing.object_servers import FakeGcs, SeaweedFs
from mx.testing.pauses import Pauses

BUCKET = "models"
PAGE = 4  # objects of one listing
RULE = RetryRule(attempts=4, first_pause_s=1.0, jitter=lambda: 0.5)


def rules(pauses: Pauses, **changes: Any) -> HttpRules:
    """Parts so small that a test's files have several."""
    chosen = {"window_bytes": 100_000, "ahead": 4} | changes
    return HttpRules(metadata=RULE, downloads=RULE, sleep=pauses, **chosen)


class Store(Protocol):
    """One kind of store. ``listing`` and ``reading`` are what requests of each kind look like."""

    kind: ProviderName
    endpoint: str
    listing: str

    def put(self, files: Mapping[str, bytes], *, folder: str | None = None) -> ModelRef: ...

    def reading(self, path: str) -> str: ...

    def provider(self, endpoint: str, pauses: Pauses, **changes: Any) -> S3Provider | GcsProvider: ...


class S3Store:
    kind = ProviderName.S3
    access_key, secret_key = SeaweedFs.access_key, SeaweedFs.secret_key
    listing = r"GET:/[a-z-]+\?"

    def __init__(self, server: SeaweedFs) -> None:
        self.endpoint = server.endpoint
        self.client: Any = botocore.session.Session().create_client(
            "s3",
            endpoint_url=server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}),
        )
        for bucket in (BUCKET, "open"):
            self.client.create_bucket(Bucket=bucket)
        self._numbers = itertools.count(1)

    @property
    def keys(self) -> Keys:
        return Keys(self.access_key, self.secret_key)

    def put(self, files: Mapping[str, bytes], *, folder: str | None = None, bucket: str = BUCKET) -> ModelRef:
        folder = folder or f"team a/model-{next(self._numbers)}"
        for path, data in files.items():
            self.client.put_object(Bucket=bucket, Key=f"{folder}/{path}", Body=data)
        return ModelRef(self.kind, f"s3://{bucket}/{folder}")

    def reading(self, path: str) -> str:
        return f"GET:/{BUCKET}/.*{re.escape(quote(path))}$"

    def provider(self, endpoint: str, pauses: Pauses, **changes: Any) -> S3Provider:
        find_keys = changes.pop("find_keys", lambda: self.keys)
        verify = changes.pop("verify", True)
        return S3Provider(
            endpoint=endpoint,
            find_keys=find_keys,
            verify=verify,
            page_objects=PAGE,
            rules=rules(pauses, **changes),
        )


class GcsStore:
    kind = ProviderName.GCS
    listing = r"GET:/storage/v1/b/[a-z-]+/o\?"

    def __init__(self, server: FakeGcs) -> None:
        self.endpoint = server.endpoint
        self._post("/storage/v1/b?project=p", json.dumps({"name": BUCKET}).encode())
        self._numbers = itertools.count(1)

    def _post(self, path: str, body: bytes) -> None:
        httpx2.post(f"{self.endpoint}{path}", content=body, timeout=60).raise_for_status()

    def put(self, files: Mapping[str, bytes], *, folder: str | None = None) -> ModelRef:
        folder = folder or f"team a/model-{next(self._numbers)}"
        for path, data in files.items():
            name = quote(f"{folder}/{path}", safe="")
            self._post(f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}", data)
        return ModelRef(self.kind, f"gs://{BUCKET}/{folder}")

    def reading(self, path: str) -> str:
        return f"GET:/storage/v1/b/{BUCKET}/o/.*{re.escape(quote(path, safe=''))}\\?alt=media"

    def provider(self, endpoint: str, pauses: Pauses, **changes: Any) -> GcsProvider:
        tokens = changes.pop("tokens", None)
        verify = changes.pop("verify", True)
        return GcsProvider(
            endpoint=endpoint,
            tokens=tokens,
            verify=verify,
            page_objects=PAGE,
            rules=rules(pauses, **changes),
        )


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[Store]:
    if kind == "s3":
        with SeaweedFs(folder, public=["open"]) as seaweed:
            yield S3Store(seaweed)
    else:
        with FakeGcs(folder) as gcs:
            yield GcsStore(gcs)


class Bucket:
    """Models as folders of a bucket: the other side of a provider under contract."""

    def __init__(self, store: Store, proxy: FaultProxy) -> None:
        self.store = store
        self.proxy = proxy

    def put(self, files: Mapping[str, bytes]) -> ModelRef:
        return self.store.put(files)

    def missing(self) -> ModelRef:
        scheme = "s3" if self.store.kind is ProviderName.S3 else "gs"
        return ModelRef(self.store.kind, f"{scheme}://{BUCKET}/nothing/here")

    def change(self, ref: ModelRef, path: str) -> None:
        self.store.put({path: b"another one"}, folder=ref.name.partition(f"{BUCKET}/")[2])
