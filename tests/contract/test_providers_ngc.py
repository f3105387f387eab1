"""The provider ``ngc`` with the real SDK against a catalogue on loopback: contract, refusals, faults."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mx.core.model import EntryKey, Listing, ModelRef, ProviderName, canonical_name
from mx.errors import (
    IntegrityError,
    InvalidArgumentError,
    MxError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    SettingsError,
    UnauthenticatedError,
    UnavailableError,
)
from mx.providers.http import HttpRules
from mx.providers.ngc import NgcProvider
from mx.providers.ngc_key import read_key
from mx.testing.fake_ngc import FakeNgc, Fault
from mx.testing.ngc_site import KEY, LEGACY_KEY, require_sdk, running, server_context, trusted
from mx.testing.pauses import FOUR_ATTEMPTS, Pauses
from mx.testing.provider_contract import (
    FILES,
    KEPT,
    LARGE,
    WEIGHTS,
    Counted,
    ProviderContract,
    file_of,
    listing_of,
)

NAME = "acme/vision/models/tiny/1.0"
REF = ModelRef(ProviderName.NGC, NAME)
RULE = FOUR_ATTEMPTS


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def site(authority: trustme.CA) -> Iterator[FakeNgc]:
    require_sdk()
    yield from running(authority)


@pytest.fixture
def ngc(site: FakeNgc, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNgc:
    for name, value in trusted(authority, tmp_path).items():
        monkeypatch.setenv(name, value)
    site.reset()
    site.keys = {KEY, LEGACY_KEY}
    return site


def provider_of(
    ngc: FakeNgc, *, pauses: Pauses | None = None, key: str | None = KEY, **changes: object
) -> NgcProvider:
    limits = {name: changes.pop(name) for name in ("silence_s", "window_bytes") if name in changes}
    rules = HttpRules(metadata=RULE, downloads=RULE, sleep=pauses or Pauses(), **limits)
    return NgcProvider(
        key=lambda: key, api_endpoint=ngc.endpoint, auth_endpoint=ngc.auth, rules=rules, **changes
    )


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def provider(ngc: FakeNgc, pauses: Pauses) -> AsyncIterator[NgcProvider]:
    provider = provider_of(ngc, pauses=pauses)
    yield provider
    await provider.close()


class Catalogue:
    """Models as versions of the catalogue."""

    def __init__(self, ngc: FakeNgc) -> None:
        self.ngc = ngc

    def put(self, files: Mapping[str, bytes]) -> ModelRef:
        self.ngc.add(NAME, files)
        return REF

    def missing(self) -> ModelRef:
        return ModelRef(ProviderName.NGC, "acme/models/nothing/1.0")

    def change(self, ref: ModelRef, path: str) -> None:
        self.ngc.change(ref.name, path, b"somebody uploaded another one")


class TestNgcProvider(ProviderContract):
    @pytest.fixture
    def origin(self, ngc: FakeNgc) -> Catalogue:
        return Catalogue(ngc)

    @pytest.fixture
    async def provider(self, provider: NgcProvider) -> NgcProvider:
        return provider


async def put(ngc: FakeNgc, provider: NgcProvider) -> Listing:
    ngc.add(NAME, FILES)
    return await listing_of(provider, REF)


async def fetch(
    provider: NgcProvider, listing: Listing, into: Path, *, path: str = LARGE, offset: int = 0
) -> Counted:
    counted = Counted()
    await provider.fetch(listing.key, file_of(listing, path), into, offset=offset, progress=counted)
    return counted


# names and versions


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        ("acme/tiny/1.0", "acme/models/tiny/1.0"),
        ("acme/vision/tiny/1.0", NAME),
        ("acme/vision/models/tiny/1.0", NAME),
        ("acme/vision/tiny:1.0", NAME),
        ("acme/tiny:1.0", "acme/models/tiny/1.0"),
        ("acme/vision/resources/kit/2", "acme/vision/resources/kit/2"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "ngc://"])
async def test_every_spelling_reaches_one_artifact(
    ngc: FakeNgc, provider: NgcProvider, spelling: str, canonical: str, prefix: str
) -> None:
    assert canonical_name(ProviderName.NGC, prefix + spelling) == canonical
    ngc.add(canonical, {"config.json": b"{}"})
    listing = await listing_of(provider, ModelRef(ProviderName.NGC, canonical))
    assert [file.path for file in listing.files] == ["config.json"]


async def test_a_kind_that_is_no_model_is_refused_by_name(provider: NgcProvider) -> None:
    with pytest.raises(InvalidArgumentError, match="helm-charts") as caught:
        await provider.resolve(ModelRef(ProviderName.NGC, "acme/vision/helm-charts/x/1"))
    assert "models" in caught.value.remedy


@pytest.mark.parametrize("status", ["UPLOAD_PENDING", "ERROR"])
async def test_a_version_that_is_not_complete_is_not_taken(
    ngc: FakeNgc, provider: NgcProvider, status: str
) -> None:
    ngc.add(NAME, FILES, status=status)
    for call in (provider.resolve(REF), provider.list_files(EntryKey(ProviderName.NGC, NAME, ""))):
        with pytest.raises(PreconditionError, match=status) as caught:
            await call
        assert NAME in caught.value.message
    assert ngc.asked("storage:") == []


async def test_a_version_made_again_is_told_by_its_validators(ngc: FakeNgc, provider: NgcProvider) -> None:
    before = await put(ngc, provider)
    assert await put(ngc, provider) != before


async def test_digests_where_ngc_names_them(ngc: FakeNgc, provider: NgcProvider, tmp_path: Path) -> None:
    listing = await put(ngc, provider)
    assert all(file.digest.startswith("sha256:") for file in listing.files)
    ngc.add(NAME, FILES, digests=False)
    listing = await listing_of(provider, REF)
    assert {file.digest for file in listing.files} == {""}
    await fetch(provider, listing, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == WEIGHTS


# keys


async def test_an_older_key_is_exchanged_once_and_a_new_token_taken_when_it_is_void(
    ngc: FakeNgc, tmp_path: Path
) -> None:
    key = f"older{os.urandom(8).hex()}"  # the SDK remembers tokens by key, for the life of a process
    ngc.keys = {key}
    provider = provider_of(ngc, key=key)
    await fetch(provider, await put(ngc, provider), tmp_path / "part")
    assert {one.authorization[:6] for one in ngc.asked("auth:")} == {"Basic "}
    assert len(ngc.asked("auth:")) == 1
    assert {one.authorization[:12] for one in ngc.asked("api:")} == {"Bearer token"}
    ngc.void_tokens()
    assert await provider.resolve(REF) == ""
    assert len(ngc.asked("auth:")) == 2
    await provider.close()


async def test_a_key_of_the_new_kind_is_sent_as_it_is(ngc: FakeNgc, provider: NgcProvider) -> None:
    await put(ngc, provider)
    assert {one.authorization for one in ngc.asked("api:")} == {f"Bearer {KEY}"}
    assert ngc.asked("auth:") == []


async def test_a_key_that_changes_is_used_without_a_restart(ngc: FakeNgc) -> None:
    keys = iter([KEY, "nvapi-second"])
    ngc.keys.add("nvapi-second")
    ngc.add(NAME, FILES)
    provider = NgcProvider(key=lambda: next(keys), api_endpoint=ngc.endpoint, auth_endpoint=ngc.auth)
    await provider.resolve(REF)
    await provider.resolve(REF)
    assert [one.authorization for one in ngc.asked("api:")] == [f"Bearer {KEY}", "Bearer nvapi-second"]
    await provider.close()


async def test_without_a_key_nothing_is_asked(ngc: FakeNgc) -> None:
    provider = provider_of(ngc, key=None)
    with pytest.raises(UnauthenticatedError, match=NAME) as caught:
        await provider.resolve(REF)
    assert "NGC_API_KEY" in caught.value.remedy
    assert ngc.requests == []
    await provider.close()


@pytest.mark.parametrize("key", ["nvapi-wrong", "wrongolder"])
async def test_a_wrong_key_is_said_to_be_wrong_and_not_shown(
    ngc: FakeNgc, pauses: Pauses, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ngc.add(NAME, FILES)
    provider = provider_of(ngc, key=key, pauses=pauses)
    with pytest.raises(UnauthenticatedError, match="does not accept the key") as caught:
        await provider.resolve(REF)
    assert key not in str(caught.value) + caplog.text
    assert pauses.taken == []
    await provider.close()


async def test_the_key_goes_to_the_catalogue_and_nowhere_else(
    ngc: FakeNgc, provider: NgcProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    listing = await put(ngc, provider)
    ngc.fail(Fault("storage:", cut_after=1000))
    ngc.fail(Fault("storage:", status=302, headers={"Location": f"{ngc.endpoint}/elsewhere"}))
    await fetch(provider, listing, tmp_path / "part")
    assert {one.authorization for one in ngc.asked("storage:|api:/elsewhere")} == {""}
    assert len(ngc.asked("api:/elsewhere")) == 1
    of_the_sdk = [one.getMessage() for one in caplog.records if not one.name.startswith("http")]
    assert not [line for line in of_the_sdk if "signature=" in line or KEY in line]


async def test_a_catalogue_that_redirects_to_another_host_does_not_hand_out_the_key(
    ngc: FakeNgc, provider: NgcProvider
) -> None:
    ngc.fail(Fault("api:/v2", status=302, headers={"Location": f"{ngc.storage}/steal"}, times=None))
    with pytest.raises(MxError):
        await provider.resolve(REF)
    assert {one.authorization for one in ngc.asked("storage:/steal")} == {""}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[CURRENT]\napikey = nvapi-a\n", "nvapi-a"),
        ('[CURRENT]\napi_key = "nvapi-a"\n', "nvapi-a"),
        ("[CURRENT]\napikey = 'nvapi-a'\n", "nvapi-a"),
        (";WARNING - machine generated\n[CURRENT]\napikey =\norg = x\n[OTHER]\napi_key=nvapi-b", "nvapi-b"),
        ("apikey = nvapi-a", "nvapi-a"),
        ("\ufeff[CURRENT]\nAPIKEY: nvapi-a", "nvapi-a"),
        ('{"apikey": "nvapi-a"}', "nvapi-a"),
        ('{"api_key": "nvapi-a"}', "nvapi-a"),
        ('{"apikey": "  ", "APIKey": "nvapi-a"}', "nvapi-a"),
        ('{"apiKey": "nvapi-a"}', "nvapi-a"),
        ('{"apikey": 7, "apiKey": "nvapi-a"}', "nvapi-a"),
        ("{not json", None),
        ("[" * 5000, None),
        ('{"a":' * 100_000, None),
        ("[CURRENT]\norg = acme\n", None),
        ("", None),
        ("\0\1\2", None),
        ("[CURRENT]\napikey = %(home)s\n", "%(home)s"),
    ],
)
def test_the_key_in_the_file_of_ngcs_own_tools(tmp_path: Path, text: str, key: str | None) -> None:
    (tmp_path / "config").write_text(text, encoding="utf-8")
    assert read_key(None, tmp_path / "config")() == key
    assert read_key(" nvapi-mine\n", tmp_path / "config")() == "nvapi-mine"


def test_a_file_that_is_none_and_a_key_that_can_be_no_key(tmp_path: Path) -> None:
    assert read_key(None, tmp_path)() is None
    assert read_key(None, tmp_path / "nothing")() is None
    with pytest.raises(SettingsError, match="no key has") as caught:
        read_key("two\nlines", None)()
    assert "lines" not in str(caught.value)


# refusals


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (400, UnavailableError, "400"),
        (401, UnauthenticatedError, "key"),
        (403, PermissionDeniedError, "denied"),
        (404, NotFoundError, NAME),
        (412, PermissionDeniedError, "terms"),
    ],
)
@pytest.mark.parametrize(
    "where", ["api:.*/versions/1.0$", "api:.*/versions/1.0/files", "api:.*/tiny/1.0/files"]
)
async def test_final_answers_are_told_and_not_asked_for_again(
    ngc: FakeNgc,
    provider: NgcProvider,
    pauses: Pauses,
    tmp_path: Path,
    where: str,
    status: int,
    kind: type[MxError],
    said: str,
) -> None:
    ngc.fail(Fault(where, status=status, times=None))
    with pytest.raises(kind, match=NAME) as caught:
        await fetch(provider, await put(ngc, provider), tmp_path / "part")
    assert said in str(caught.value)
    assert KEY not in str(caught.value)
    assert pauses.taken == []


async def test_a_stranger_and_terms_that_nobody_accepted(ngc: FakeNgc, provider: NgcProvider) -> None:
    ngc.with_terms = {NAME}
    with pytest.raises(PermissionDeniedError, match="Terms are not accepted"):
        await put(ngc, provider)
    ngc.keys, ngc.strangers = set(), {KEY}
    with pytest.raises(PermissionDeniedError, match="Access denied"):
        await provider.resolve(REF)


# faults


@pytest.mark.parametrize(
    "where", ["api:.*/versions/1.0$", "api:.*/versions/1.0/files", "api:.*/1.0/files", "storage:"]
)
@pytest.mark.parametrize(
    ("status", "headers", "pauses_s"),
    [(429, {"Retry-After": "7"}, [7.5, 7.5]), (500, {}, [1.0, 2.0]), (503, {}, [1.0, 2.0])],
)
async def test_what_may_pass_is_asked_for_again_after_a_pause(
    ngc: FakeNgc,
    provider: NgcProvider,
    pauses: Pauses,
    tmp_path: Path,
    where: str,
    status: int,
    headers: dict[str, str],
    pauses_s: list[float],
) -> None:
    ngc.fail(Fault(where, times=2, status=status, headers=headers))
    if "versions/1.0$" in where:  # asked by resolve alone
        ngc.add(NAME, FILES)
        await provider.resolve(REF)
    else:
        await fetch(provider, await put(ngc, provider), tmp_path / "part")
        assert (tmp_path / "part").read_bytes() == WEIGHTS
    assert pauses.taken == pauses_s


@pytest.mark.parametrize("where", ["api:.*/files", "storage:"])
async def test_what_does_not_pass_ends_with_the_reason(
    ngc: FakeNgc, provider: NgcProvider, pauses: Pauses, tmp_path: Path, where: str
) -> None:
    ngc.fail(Fault(where, times=None, status=429))
    with pytest.raises(UnavailableError, match="429") as caught:
        await fetch(provider, await put(ngc, provider), tmp_path / "part")
    assert NAME in caught.value.message
    assert len(pauses.taken) == RULE.attempts - 1


@given(cuts=st.lists(st.integers(0, len(WEIGHTS) - 1), min_size=1, max_size=3))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_at_any_byte_is_resumed_there(ngc: FakeNgc, tmp_path: Path, cuts: list[int]) -> None:
    async def run() -> None:
        provider = provider_of(ngc)
        listing = await put(ngc, provider)
        ngc.requests.clear()
        for cut in cuts:
            ngc.fail(Fault("storage:", cut_after=cut))
        counted = await fetch(provider, listing, tmp_path / "part")
        assert (tmp_path / "part").read_bytes() == WEIGHTS
        assert counted.total == len(WEIGHTS)
        assert ngc.asked("storage:")[1].range == (f"bytes={cuts[0]}-{len(WEIGHTS) - 1}" if cuts[0] else "")
        await provider.close()

    (tmp_path / "part").unlink(missing_ok=True)
    ngc.mend()
    asyncio.run(run())


async def test_an_answer_that_is_cut_is_asked_for_again(
    ngc: FakeNgc, provider: NgcProvider, tmp_path: Path
) -> None:
    ngc.fail(Fault("api:.*/versions/1.0/files", cut_after=3, times=2))
    assert len((await put(ngc, provider)).files) == len(KEPT)


async def test_an_address_that_expired_is_asked_for_anew_and_the_file_resumed(
    ngc: FakeNgc, provider: NgcProvider, tmp_path: Path
) -> None:
    listing = await put(ngc, provider)
    await fetch(provider, listing, tmp_path / "small", path="config.json")
    ngc.expire_addresses()
    (tmp_path / "part").write_bytes(WEIGHTS[:1000])
    await fetch(provider, listing, tmp_path / "part", offset=1000)
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    assert [one.range for one in ngc.asked("storage:.*00001")] == [f"bytes=1000-{len(WEIGHTS) - 1}"] * 2


async def test_addresses_are_asked_for_once_for_all_files(
    ngc: FakeNgc, provider: NgcProvider, tmp_path: Path
) -> None:
    listing = await put(ngc, provider)
    async with asyncio.TaskGroup() as tasks:
        for number, file in enumerate(listing.files):
            tasks.create_task(fetch(provider, listing, tmp_path / str(number), path=file.path))
    pages = -(-len(FILES) // ngc.page_size)
    assert len(ngc.asked("api:.*/tiny/1.0/files")) == pages


@pytest.mark.parametrize("shorten", [1, 100_000])
async def test_a_body_that_is_shorter_than_listed(
    ngc: FakeNgc, provider: NgcProvider, tmp_path: Path, shorten: int
) -> None:
    listing = await put(ngc, provider)
    ngc.fail(Fault("storage:", shorten_by=shorten, times=None))
    with pytest.raises(PreconditionError, match="changed"):
        await fetch(provider, listing, tmp_path / "part")
    assert (tmp_path / "part").stat().st_size == 0


async def test_another_file_of_the_same_size_has_another_digest(
    ngc: FakeNgc, provider: NgcProvider, tmp_path: Path
) -> None:
    listing = await put(ngc, provider)
    ngc.change(NAME, LARGE, WEIGHTS[::-1])
    with pytest.raises(IntegrityError, match="sha256"):
        await fetch(provider, listing, tmp_path / "part")
    assert (tmp_path / "part").stat().st_size == 0


async def test_a_file_that_changes_between_a_cut_and_its_rest_is_never_joined(
    ngc: FakeNgc, provider: NgcProvider, tmp_path: Path
) -> None:
    ngc.add(NAME, FILES, digests=False)
    listing = await listing_of(provider, REF)
    ngc.fail(Fault("storage:", cut_after=1000))
    ngc.fail(Fault("storage:", etag="0" * 32, times=None))
    with pytest.raises(PreconditionError, match="ETag"):
        await fetch(provider, listing, tmp_path / "part")
    assert (tmp_path / "part").stat().st_size == 0


async def test_a_silent_connection_is_left(ngc: FakeNgc, tmp_path: Path) -> None:
    provider = provider_of(ngc, silence_s=0.5)
    listing = await put(ngc, provider)
    ngc.fail(Fault("storage:", cut_after=1000, gate=threading.Event()))
    await fetch(provider, listing, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    await provider.close()


async def test_a_cancelled_fetch_can_be_resumed(ngc: FakeNgc, provider: NgcProvider, tmp_path: Path) -> None:
    listing = await put(ngc, provider)
    gate = threading.Event()
    ngc.fail(Fault("storage:", cut_after=200_000, gate=gate))
    into = tmp_path / "part"
    task = asyncio.create_task(fetch(provider, listing, into))
    async with asyncio.timeout(30):
        while ngc.bytes_served < 200_000:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    kept = into.read_bytes()
    gate.set()
    assert WEIGHTS.startswith(kept)
    await fetch(provider, listing, into, offset=len(kept))
    assert into.read_bytes() == WEIGHTS


# answers that are no answers

_FILE = {"path": "a", "sizeInBytes": 1}


@pytest.mark.parametrize(
    "files",
    [
        "text",
        {"no": "list"},
        ["text"],
        [{"sizeInBytes": 1}],
        [{"path": "a"}],
        [_FILE | {"sizeInBytes": -1}],
        [_FILE | {"sizeInBytes": True}],
        [_FILE | {"sizeInBytes": "1"}],
        [_FILE | {"sha256_base64": "short"}],
        [_FILE | {"sha256_base64": 7}],
        [_FILE | {"sha256_base64": "!" * 44}],
        [_FILE | {"path": "../up"}],
        [_FILE | {"path": "/etc/passwd"}],
        [_FILE | {"path": "a\\b"}],
        [_FILE | {"path": "a\0b"}],
        [_FILE | {"path": None}],
        [_FILE, _FILE | {"sizeInBytes": 2}],
        [_FILE, _FILE | {"path": "a/b"}],
    ],
)
async def test_a_listing_of_rubbish_is_refused(ngc: FakeNgc, provider: NgcProvider, files: object) -> None:
    ngc.fail(Fault("versions/1.0/files", body=json.dumps({"modelFiles": files}).encode()))
    with pytest.raises(IntegrityError, match=NAME):
        await put(ngc, provider)


@pytest.mark.parametrize("info", [[], "x", {}, {"totalPages": "2"}, {"size": 0, "totalResults": 5}])
async def test_a_listing_that_does_not_say_how_long_it_is(
    ngc: FakeNgc, provider: NgcProvider, info: object
) -> None:
    body = json.dumps({"modelFiles": [_FILE], "paginationInfo": info}).encode()
    ngc.fail(Fault("versions/1.0/files", body=body))
    with pytest.raises(IntegrityError, match="how long"):
        await put(ngc, provider)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"urls": []},
        {"urls": ["x"], "filepath": []},
        {"urls": [1], "filepath": ["a"]},
        {"urls": ["http://127.0.0.1/a"], "filepath": ["a"]},
        {"urls": ["file:///etc/passwd"], "filepath": ["a"]},
    ],
)
async def test_addresses_of_rubbish_are_refused(
    ngc: FakeNgc, provider: NgcProvider, tmp_path: Path, body: object
) -> None:
    listing = await put(ngc, provider)
    ngc.fail(Fault("tiny/1.0/files", body=json.dumps(body).encode()))
    with pytest.raises(IntegrityError, match=NAME):
        await fetch(provider, listing, tmp_path / "part")


async def test_a_file_without_an_address(ngc: FakeNgc, provider: NgcProvider, tmp_path: Path) -> None:
    listing = await put(ngc, provider)
    ngc.fail(Fault("tiny/1.0/files", body=b'{"urls": [], "filepath": []}'))
    with pytest.raises(NotFoundError, match=f"no address for {LARGE}"):
        await fetch(provider, listing, tmp_path / "part")


@pytest.mark.parametrize("body", [b"", b"<html>log in</html>", b"[]", b"\xff\xfe", b"nul"])
async def test_an_answer_that_is_none(ngc: FakeNgc, provider: NgcProvider, body: bytes) -> None:
    ngc.add(NAME, FILES)
    ngc.fail(Fault("versions/1.0$", body=body, times=None))
    with pytest.raises((UnavailableError, IntegrityError), match=NAME):
        await provider.resolve(REF)


async def test_a_version_of_which_nothing_is_said(ngc: FakeNgc, provider: NgcProvider) -> None:
    for body in (b"{}", b'{"modelVersion": []}', b'{"modelVersion": {"status": 7}}'):
        ngc.fail(Fault("versions/1.0$", body=body))
        with pytest.raises(IntegrityError, match="says nothing"):
            await provider.resolve(REF)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"no json", b'{"token": "s3cret-of-ours"'])
async def test_a_token_service_that_answers_rubbish(ngc: FakeNgc, body: bytes) -> None:
    provider = provider_of(ngc, key=f"older{os.urandom(8).hex()}")
    ngc.fail(Fault("auth:", body=body, times=None))
    with pytest.raises(UnavailableError, match=NAME) as caught:
        await provider.resolve(REF)
    assert "s3cret" not in str(caught.value)
    await provider.close()


@pytest.mark.parametrize(
    ("status", "kind", "attempts"),
    [
        (401, UnauthenticatedError, 1),
        (403, PermissionDeniedError, 1),
        (429, UnavailableError, 4),
        (500, UnavailableError, 4),
    ],
)
async def test_a_token_service_that_refuses(
    ngc: FakeNgc, status: int, kind: type[MxError], attempts: int
) -> None:
    provider = provider_of(ngc, key=f"older{os.urandom(8).hex()}")
    ngc.fail(Fault("auth:", status=status, times=None))
    with pytest.raises(kind, match=NAME):
        await provider.resolve(REF)
    assert len(ngc.asked("auth:")) == attempts
    await provider.close()


# hosts that are not there, or not who they should be


async def test_an_authority_that_nobody_knows(
    ngc: FakeNgc, pauses: Pauses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in trusted(trustme.CA(), tmp_path).items():
        monkeypatch.setenv(name, value)
    provider = provider_of(ngc, pauses=pauses)
    with pytest.raises(UnavailableError, match="is not trusted") as caught:
        await provider.resolve(REF)
    assert "REQUESTS_CA_BUNDLE" in caught.value.remedy
    assert pauses.taken == []
    await provider.close()


def test_only_https_gets_a_key() -> None:
    with pytest.raises(SettingsError, match="https only"):
        NgcProvider(key=lambda: KEY, api_endpoint="http://127.0.0.1:1")


async def test_one_process_speaks_to_one_ngc(
    ngc: FakeNgc, authority: trustme.CA, provider: NgcProvider
) -> None:
    await put(ngc, provider)
    with FakeNgc(server_context(authority)) as other:
        another = NgcProvider(key=lambda: KEY, api_endpoint=other.endpoint, auth_endpoint=other.auth)
        with pytest.raises(PreconditionError, match="not for https"):
            await another.resolve(REF)
        await another.close()
        assert other.requests == []


_ALONE = """
import asyncio, sys
from mx.core.model import ModelRef, ProviderName
from mx.errors import MxError
from mx.providers.http import HttpRules
from mx.providers.ngc import NgcProvider
from mx.providers.retry import RetryRule
if sys.argv[3] == "missing":
    sys.modules["ngcsdk"] = None
async def main():
    rules = HttpRules(metadata=RetryRule(attempts=1))
    api, auth, _ = sys.argv[1:]
    provider = NgcProvider(key=lambda: "nvapi-x", api_endpoint=api, auth_endpoint=auth, rules=rules)
    try:
        print(repr(await provider.resolve(ModelRef(ProviderName.NGC, "acme/models/tiny/1.0"))))
    except MxError as error:
        print(error.code.value, error, sep="|")
    await provider.close()
asyncio.run(main())
"""


async def alone(ngc: FakeNgc, tmp_path: Path, *, api: str = "", how: str = "-") -> str:
    """The provider in a fresh process, whose home holds what would end the SDK."""
    (tmp_path / ".ngc").mkdir(exist_ok=True)
    (tmp_path / ".ngc" / "config").write_text('{"apikey": "nvapi-y"}')
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    environ |= {name: os.environ[name] for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")}
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _ALONE, api or ngc.endpoint, ngc.auth, how],
        capture_output=True, text=True, timeout=120, env=environ, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert os.listdir(tmp_path / ".ngc") == ["config"], "the SDK left something in the home"
    return ran.stdout.strip()


async def test_a_configuration_of_ngcs_tools_that_would_end_the_sdk_does_not_end_us(
    ngc: FakeNgc, tmp_path: Path
) -> None:
    ngc.keys = {"nvapi-x"}
    ngc.add("acme/models/tiny/1.0", FILES)
    assert await alone(ngc, tmp_path) == "''"


async def test_nobody_listens(ngc: FakeNgc, tmp_path: Path) -> None:
    said = await alone(ngc, tmp_path, api="https://127.0.0.1:1")
    assert said.startswith("unavailable|acme/models/tiny/1.0: no good answer from https://127.0.0.1:1")


async def test_without_the_package_it_says_how_to_get_it(ngc: FakeNgc, tmp_path: Path) -> None:
    said = await alone(ngc, tmp_path, how="missing")
    assert said.startswith("failed_precondition|")
    assert "pip install 'modelexpress-mx[ngc]'" in said
