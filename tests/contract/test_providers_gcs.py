"""The provider ``gcs``: generations, tokens, and what Cloud Storage says when it refuses."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mx.core.model import EntryKey, ModelRef, ProviderName
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
from mx.providers.gcs import GcsProvider
from mx.providers.google_tokens import INSTALL, GoogleTokens
from mx.providers.retry import TransientError
from mx.testing.bucket_stores import BUCKET, GcsStore, opened
from mx.testing.fault_proxy import FaultProxy
from mx.testing.faults import Fault
from mx.testing.pauses import Pauses
from mx.testing.provider_contract import FILES, WEIGHTS, Counted, file_of, listing_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with opened("gcs", tmp_path_factory.mktemp("gcs")) as store:
        yield store


@pytest.fixture
def proxy(store: GcsStore) -> Iterator[FaultProxy]:
    with FaultProxy(store.endpoint) as proxy:
        yield proxy


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def provider(store: GcsStore, proxy: FaultProxy, pauses: Pauses) -> AsyncIterator[GcsProvider]:
    provider = store.provider(proxy.endpoint, pauses)
    yield provider
    await provider.close()


async def test_every_read_names_the_generation(
    store: GcsStore, provider: GcsProvider, proxy: FaultProxy, tmp_path: Path
) -> None:
    listing = await listing_of(provider, store.put({"weights.bin": WEIGHTS}))
    [file] = listing.files
    await provider.fetch(listing.key, file, tmp_path / "part", offset=0, progress=Counted())
    reads = proxy.asked("GET:.*alt=media")
    assert len(reads) == 4
    assert file.etag.isdecimal()
    assert all(one.path.endswith(f"alt=media&generation={file.etag}") for one in reads)
    assert file.digest.startswith("crc32c:")


async def test_a_new_generation_of_the_same_bytes_is_told_apart(
    store: GcsStore, provider: GcsProvider
) -> None:
    ref = store.put(FILES)
    first = await listing_of(provider, ref)
    store.put({"config.json": FILES["config.json"]}, folder=ref.name.partition(f"{BUCKET}/")[2])
    again = await listing_of(provider, ref)
    before, after = file_of(first, "config.json"), file_of(again, "config.json")
    assert (before.digest, before.size_bytes) == (after.digest, after.size_bytes)
    assert before.etag != after.etag


# who asks


class Tokens:
    """One token, which counts how often it was asked for."""

    anonymous = False

    def __init__(self, token: str) -> None:
        self.token = token

    async def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def close(self) -> None:
        return None


async def test_the_token_goes_to_the_store_and_nowhere_else(
    store: GcsStore, proxy: FaultProxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider = store.provider(proxy.endpoint, Pauses(), tokens=Tokens("ya29.the-token"))
    listing = await listing_of(provider, store.put({"config.json": b"{}"}))
    with FaultProxy(store.endpoint) as elsewhere:
        elsewhere.fail(Fault("GET:", body=b"{}"))
        there = {"Location": f"{elsewhere.endpoint}/stolen"}
        proxy.fail(Fault("GET:.*alt=media", status=302, headers=there))
        await provider.fetch(listing.key, listing.files[0], tmp_path / "p", offset=0, progress=Counted())
        assert [one.authorization for one in elsewhere.asked("")] == [""]
    assert {one.authorization for one in proxy.asked("")} == {"Bearer ya29.the-token"}
    assert "ya29" not in caplog.text
    await provider.close()


def service_account(path: Path, *, token_uri: str) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "client_email": "mx@project.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": text.decode(),
        "token_uri": token_uri,
        "project_id": "project",
    }
    path.write_text(json.dumps(account))
    return path


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home folder without credentials, on a machine that is not Google's."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return tmp_path


async def test_a_service_account_gets_a_token_and_keeps_it(machine: Path, store: GcsStore) -> None:
    with FaultProxy(store.endpoint) as issuer:
        answer = json.dumps({"access_token": "ya29.fresh", "expires_in": 3600, "token_type": "Bearer"})
        issuer.fail(
            Fault(
                "POST:/token", body=answer.encode(), headers={"Content-Type": "application/json"}, times=None
            )
        )
        path = service_account(machine / "key.json", token_uri=f"{issuer.endpoint}/token")
        tokens = GoogleTokens(path)
        for _ in range(3):
            assert await tokens.headers() == {"Authorization": "Bearer ya29.fresh"}
        assert len(issuer.asked("")) == 1
        assert not tokens.anonymous
        tokens.close()


async def test_the_default_credentials_are_those_of_the_environment(
    machine: Path, store: GcsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = GoogleTokens(None)
    assert await tokens.headers() == {}
    assert tokens.anonymous
    tokens.close()
    with FaultProxy(store.endpoint) as issuer:
        answer = json.dumps({"access_token": "ya29.env", "expires_in": 3600})
        issuer.fail(Fault("POST:/token", body=answer.encode(), times=None))
        path = service_account(machine / "key.json", token_uri=f"{issuer.endpoint}/token")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        tokens = GoogleTokens(None)
        assert await tokens.headers() == {"Authorization": "Bearer ya29.env"}
        tokens.close()


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"type": "service_account"}', "\x00"])
async def test_a_file_without_credentials_is_named(machine: Path, content: str | None) -> None:
    path = machine / "key.json"
    if content is not None:
        path.write_text(content)
    tokens = GoogleTokens(path)
    with pytest.raises(UnauthenticatedError) as caught:
        await tokens.headers()
    assert "GOOGLE_APPLICATION_CREDENTIALS" in caught.value.remedy
    tokens.close()


async def test_an_account_that_is_refused_and_an_issuer_that_is_away_are_told_apart(
    machine: Path, store: GcsStore
) -> None:
    with FaultProxy(store.endpoint) as issuer:
        refused = json.dumps({"error": "invalid_grant", "error_description": "account not found"})
        issuer.fail(Fault("POST:/token", status=400, body=refused.encode(), times=None))
        tokens = GoogleTokens(service_account(machine / "a.json", token_uri=f"{issuer.endpoint}/token"))
        with pytest.raises(UnauthenticatedError, match="account not found"):
            await tokens.headers()
        tokens.close()
        address = issuer.endpoint
    tokens = GoogleTokens(service_account(machine / "b.json", token_uri=f"{address}/token"))
    with pytest.raises(TransientError, match="no Google access token"):
        await tokens.headers()
    tokens.close()


def test_without_google_auth_the_installation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(PreconditionError, match="google-auth") as caught:
        GoogleTokens(None)
    assert caught.value.remedy == INSTALL


# refusals


def refusal(reason: str, message: str = "why") -> bytes:
    return json.dumps({"error": {"message": message, "errors": [{"reason": reason}]}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "for_strangers", "for_accounts"),
    [
        (400, refusal("invalid"), InvalidArgumentError, "why", "why"),
        (401, refusal("authError"), None, "GOOGLE_APPLICATION_CREDENTIALS", "were refused"),
        (403, refusal("forbidden"), PermissionDeniedError, "no Google credentials", "storage.objects.list"),
        (404, refusal("notFound"), NotFoundError, "no such bucket", "no such bucket"),
        (404, b"<html>", NotFoundError, "no such bucket", "no such bucket"),
        (405, b'{"error": []}', UnavailableError, "405", "405"),
        (410, b"\xff", UnavailableError, "410", "410"),
    ],
)
async def test_refusals_are_told_apart(
    store: GcsStore,
    proxy: FaultProxy,
    status: int,
    body: bytes,
    kind: type[MxError] | None,
    for_strangers: str,
    for_accounts: str,
) -> None:
    proxy.fail(Fault("GET:", status=status, body=body, times=None))
    ref = ModelRef(ProviderName.GCS, f"gs://{BUCKET}/m")
    strangers = store.provider(proxy.endpoint, Pauses())
    with pytest.raises(kind or PermissionDeniedError) as caught:
        await strangers.resolve(ref)
    assert for_strangers in str(caught.value)
    account = store.provider(proxy.endpoint, Pauses(), tokens=Tokens("ya29.x"))
    with pytest.raises(kind or UnauthenticatedError) as caught:
        await account.resolve(ref)
    assert for_accounts in str(caught.value)
    assert ref.name in caught.value.message
    await strangers.close()
    await account.close()


async def test_limits_that_look_like_refusals_are_waited_for(
    store: GcsStore, provider: GcsProvider, proxy: FaultProxy, pauses: Pauses
) -> None:
    proxy.fail(Fault("GET:", status=403, body=refusal("rateLimitExceeded"), times=2))
    await provider.resolve(store.put(FILES))
    assert pauses.taken == [1.0, 2.0]


async def test_a_bucket_that_is_not_there(provider: GcsProvider) -> None:
    with pytest.raises(NotFoundError, match="no such bucket"):
        await provider.resolve(ModelRef(ProviderName.GCS, "gs://no-bucket-of-ours/m"))


# listings of rubbish

OBJECT: dict[str, object] = {"name": "m/a", "size": "1", "generation": "5", "crc32c": "AAAAAA=="}


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ([], "no object"),
        ({"items": 5}, "can't be read"),
        ({"items": ["text"]}, "no object"),
        ({"items": [{}]}, "name"),
        ({"items": [OBJECT | {"name": None}]}, "name"),
        ({"items": [OBJECT | {"name": ""}]}, "name"),
        ({"items": [OBJECT | {"size": 1}]}, "size"),
        ({"items": [OBJECT | {"size": "-1"}]}, "size"),
        ({"items": [OBJECT | {"generation": "x&y"}]}, "generation"),
        ({"items": [OBJECT | {"crc32c": "AAAA"}]}, "checksum"),
        ({"items": [OBJECT | {"crc32c": "****"}]}, "checksum"),
        ({"items": [OBJECT | {"crc32c": 5}]}, "can't be read"),
        ({"items": [OBJECT | {"contentEncoding": 5}]}, "encoding"),
        ({"items": [OBJECT | {"name": "elsewhere/a"}]}, "lies elsewhere"),
        ({"items": [OBJECT, OBJECT | {"size": "2"}]}, "twice"),
        ({"items": [OBJECT | {"name": "m/../a"}]}, "unsafe"),
        ({"items": [OBJECT | {"name": "m/a\\b"}]}, "unsafe"),
        ({"items": [OBJECT | {"name": "m//a"}]}, "unsafe"),
        ({"items": [OBJECT | {"name": "m/a/"}]}, "unsafe"),
        ({"items": [OBJECT | {"name": "m/\ud800"}]}, "unsafe"),
        ({"nextPageToken": 5}, "page token"),
        ({"nextPageToken": "round"}, "in circles"),
    ],
)
async def test_a_listing_of_rubbish_is_refused(
    provider: GcsProvider, proxy: FaultProxy, page: object, said: str
) -> None:
    proxy.fail(Fault("GET:", body=json.dumps(page).encode(), times=None))
    with pytest.raises(IntegrityError, match=said) as caught:
        await provider.list_files(EntryKey(ProviderName.GCS, f"gs://{BUCKET}/m", ""))
    assert f"gs://{BUCKET}/m" in caught.value.message


async def test_packed_objects_are_refused(provider: GcsProvider, proxy: FaultProxy) -> None:
    packed = OBJECT | {"contentEncoding": "gzip"}
    proxy.fail(Fault("GET:", body=json.dumps({"items": [packed]}).encode()))
    with pytest.raises(PreconditionError, match="Content-Encoding 'gzip'") as caught:
        await provider.list_files(EntryKey(ProviderName.GCS, f"gs://{BUCKET}/m", ""))
    assert caught.value.remedy


async def test_objects_without_a_checksum_are_read_all_the_same(
    store: GcsStore, provider: GcsProvider, proxy: FaultProxy, tmp_path: Path
) -> None:
    ref = store.put({"config.json": b"{}"})
    [told] = (await listing_of(provider, ref)).files
    name = f"{ref.name.partition(f'{BUCKET}/')[2]}/config.json"
    bare = {"name": name, "size": "2", "generation": told.etag}
    proxy.fail(Fault("GET:.*prefix", body=json.dumps({"items": [bare]}).encode()))
    listing = await provider.list_files(EntryKey(ref.provider, ref.name, ""))
    assert listing.files[0].digest == ""
    await provider.fetch(listing.key, listing.files[0], tmp_path / "p", offset=0, progress=Counted())
    assert (tmp_path / "p").read_bytes() == b"{}"
