"""The provider ``hugging-face`` against a hub on loopback: the contract, refusals, and faults."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mx.core.model import EntryKey, Listing, ModelRef, ProviderName
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
from mx.providers.huggingface import HuggingFaceProvider, read_token
from mx.testing.fake_hub import FakeHub
from mx.testing.faults import Fault
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
    open_files_below,
)

NAME = "org/Model-7B"
REF = ModelRef(ProviderName.HUGGING_FACE, NAME)
STRANGER = "0" * 40
TOKEN = "hf_" + "t0ken" * 6


RULE = FOUR_ATTEMPTS


def provider_of(hub: FakeHub, **changes: object) -> HuggingFaceProvider:
    pauses = changes.pop("pauses", Pauses())
    silence_s = changes.pop("silence_s", 30.0)
    window = changes.pop("window_bytes", 8 << 30)
    rules = HttpRules(metadata=RULE, downloads=RULE, sleep=pauses, silence_s=silence_s, window_bytes=window)
    return HuggingFaceProvider(endpoint=hub.endpoint, rules=rules, **changes)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub(page_size=4) as hub:
        yield hub


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def provider(hub: FakeHub, pauses: Pauses) -> AsyncIterator[HuggingFaceProvider]:
    provider = provider_of(hub, pauses=pauses)
    yield provider
    await provider.close()


class Hub:
    """Models as repositories of the hub."""

    def __init__(self, hub: FakeHub) -> None:
        self.hub = hub

    def put(self, files: Mapping[str, bytes]) -> ModelRef:
        self.hub.add(NAME, files)
        return REF

    def missing(self) -> ModelRef:
        return ModelRef(ProviderName.HUGGING_FACE, "org/nothing-here")

    def change(self, ref: ModelRef, path: str) -> None:
        self.hub.fail(Fault(f"hub:.*resolve/.*/{path}", times=None, etag="f" * 64))


class TestHuggingFaceProvider(ProviderContract):
    @pytest.fixture
    def origin(self, hub: FakeHub) -> Hub:
        return Hub(hub)

    @pytest.fixture
    async def provider(self, provider: HuggingFaceProvider) -> HuggingFaceProvider:
        return provider


async def put(hub: FakeHub, provider: HuggingFaceProvider) -> Listing:
    hub.add(NAME, FILES)
    return await listing_of(provider, REF)


async def fetch(
    provider: HuggingFaceProvider, listing: Listing, into: Path, *, path: str = LARGE, offset: int = 0
) -> Counted:
    counted = Counted()
    await provider.fetch(listing.key, file_of(listing, path), into, offset=offset, progress=counted)
    return counted


# revisions


async def test_branches_tags_pull_requests_and_commits(hub: FakeHub, provider: HuggingFaceProvider) -> None:
    old = hub.add(NAME, {"config.json": b"1"}, revision="v1.0")
    new = hub.add(NAME, {"config.json": b"2"})
    pull = hub.add(NAME, {"config.json": b"3"}, revision="refs/pr/1")
    for revision, commit in ((None, new), ("main", new), ("v1.0", old), ("refs/pr/1", pull), (old, old)):
        assert await provider.resolve(ModelRef(ProviderName.HUGGING_FACE, NAME, revision)) == commit
    with pytest.raises(NotFoundError, match="no such revision"):
        await provider.resolve(ModelRef(ProviderName.HUGGING_FACE, NAME, "v2"))


async def test_a_commit_is_never_answered_with_another_one(
    hub: FakeHub, provider: HuggingFaceProvider
) -> None:
    commit = hub.add(NAME, FILES)
    hub.fail(Fault("/revision/", body=json.dumps({"sha": STRANGER}).encode()))
    with pytest.raises(IntegrityError, match="another commit"):
        await provider.resolve(ModelRef(ProviderName.HUGGING_FACE, NAME, commit))


async def test_files_are_asked_for_by_commit(
    hub: FakeHub, provider: HuggingFaceProvider, tmp_path: Path
) -> None:
    listing = await put(hub, provider)
    hub.add(NAME, {LARGE: b"the branch has moved on"})
    await fetch(provider, listing, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    with pytest.raises(InvalidArgumentError, match="resolve"):
        await provider.list_files(EntryKey(ProviderName.HUGGING_FACE, NAME, "main"))


async def test_the_official_library_sees_the_same_hub(
    hub: FakeHub, provider: HuggingFaceProvider, tmp_path: Path
) -> None:
    """Proves the stand-in, and with it what is tested against it."""
    listing = await put(hub, provider)
    source = """
import sys
from huggingface_hub import HfApi, snapshot_download
endpoint, cache = sys.argv[1:]
api = HfApi(endpoint=endpoint, token=False)
print(api.model_info("org/Model-7B").sha)
print(snapshot_download("org/Model-7B", endpoint=endpoint, cache_dir=cache, token=False))
for file in api.list_repo_tree("org/Model-7B", recursive=True):
    if hasattr(file, "size"):
        digest = f"sha256:{file.lfs.sha256}" if file.lfs else f"git-sha1:{file.blob_id}"
        print(file.path, file.size, digest, sep="|")
"""
    environ = {name: os.environ[name] for name in ("PATH",)} | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", source, hub.endpoint, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environ | {"HOME": str(tmp_path), "PYTHONUTF8": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    commit, folder, *rows = ran.stdout.splitlines()
    assert commit == listing.key.commit
    theirs = {path: (int(size), digest) for path, size, digest in (row.split("|") for row in rows)}
    assert set(theirs) == set(FILES)
    assert {f.path: (f.size_bytes, f.digest) for f in listing.files} == {p: theirs[p] for p in KEPT}
    for path in KEPT:
        assert (Path(folder) / path).read_bytes() == FILES[path]


# who may read what


@pytest.mark.parametrize(
    ("name", "token", "kind", "said"),
    [
        ("org/nothing", None, NotFoundError, "HF_TOKEN"),
        ("org/nothing", "hf_account", NotFoundError, "no such model"),
        ("org/private", None, NotFoundError, "HF_TOKEN"),
        ("org/private", "hf_account", NotFoundError, "HF_TOKEN may read"),
        ("org/private", "hf_member", None, ""),
        ("org/private", "hf_wrong", UnauthenticatedError, "does not accept the token"),
        ("org/gated", None, PermissionDeniedError, "/org/gated and set HF_TOKEN"),
        ("org/gated", "hf_account", PermissionDeniedError, "accept its terms at http://"),
        ("org/gated", "hf_member", None, ""),
    ],
)
async def test_missing_private_and_gated_are_told_apart(
    hub: FakeHub, tmp_path: Path, name: str, token: str | None, kind: type[MxError] | None, said: str
) -> None:
    hub.tokens, hub.members = {"hf_account"}, {"hf_member"}
    hub.add("org/private", FILES, private=True)
    hub.add("org/gated", FILES, gated=True)
    provider = provider_of(hub, token=lambda: token)

    async def get() -> None:
        listing = await listing_of(provider, ModelRef(ProviderName.HUGGING_FACE, name))
        await fetch(provider, listing, tmp_path / "part")

    if kind is None:
        await get()
    else:
        with pytest.raises(kind) as caught:
            await get()
        assert said in str(caught.value)
        assert name in caught.value.message
        assert token is None or token not in str(caught.value)
        for where in ("/revision/", "/resolve/"):
            assert len(hub.asked(where)) <= 1, "a refusal is not asked for again"
    await provider.close()


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (400, {"X-Error-Message": "bad"}, UnavailableError),
        (401, {"X-Error-Code": "GatedRepo"}, PermissionDeniedError),
        (403, {}, PermissionDeniedError),
        (403, {"X-Error-Message": "Access to this resource is disabled."}, PermissionDeniedError),
        (404, {}, NotFoundError),
        (404, {"X-Error-Code": "EntryNotFound"}, NotFoundError),
        (410, {}, NotFoundError),
        (418, {}, UnavailableError),
        (451, {}, PermissionDeniedError),
        (204, {}, UnavailableError),
    ],
)
async def test_final_answers_are_not_asked_for_again(
    hub: FakeHub, provider: HuggingFaceProvider, status: int, headers: dict[str, str], kind: type[MxError]
) -> None:
    hub.add(NAME, FILES)
    hub.fail(Fault("/revision/", status=status, headers=headers, times=None, body=b""))
    with pytest.raises(kind, match=NAME):
        await provider.resolve(REF)
    assert len(hub.requests) == 1


async def test_offline_asks_for_nothing(hub: FakeHub, tmp_path: Path) -> None:
    commit = hub.add(NAME, FILES)
    provider = provider_of(hub, offline=True)
    with pytest.raises(UnavailableError) as caught:
        await provider.resolve(REF)
    assert "HF_HUB_OFFLINE" in caught.value.remedy
    with pytest.raises(UnavailableError):
        await provider.list_files(EntryKey(ProviderName.HUGGING_FACE, NAME, commit))
    assert hub.requests == []
    await provider.close()


# the token


async def test_the_token_goes_to_the_hub_and_nowhere_else(
    hub: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    hub.tokens = {TOKEN}
    provider = provider_of(hub, token=lambda: TOKEN)
    hub.fail(Fault("storage:", cut_after=1000))
    await fetch(provider, await put(hub, provider), tmp_path / "part")
    assert {one.authorization for one in hub.asked("hub:")} == {f"Bearer {TOKEN}"}
    assert [one.authorization for one in hub.asked("storage:")] == ["", ""]
    assert TOKEN not in caplog.text
    await provider.close()


async def test_a_listing_that_goes_on_elsewhere_goes_on_without_the_token(
    hub: FakeHub, provider: HuggingFaceProvider
) -> None:
    hub.tokens = {TOKEN}
    provider = provider_of(hub, token=lambda: TOKEN)
    commit = hub.add(NAME, FILES)
    elsewhere = f'<{hub.storage}/steal?page=2>; rel="next"'
    hub.fail(Fault("/tree/", headers={"Link": elsewhere}))
    with pytest.raises(PermissionDeniedError):
        await provider.list_files(EntryKey(ProviderName.HUGGING_FACE, NAME, commit))
    assert {one.authorization for one in hub.asked("storage:/steal")} == {""}
    await provider.close()


def test_the_token_file_counts_when_no_token_is_set(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = read_token(None, path)
    assert token() is None
    path.write_text("hf_first\n")
    assert token() == "hf_first"
    path.write_text("hf_second")
    assert token() == "hf_second"
    assert read_token("hf_mine", path)() == "hf_mine"
    path.write_text("two\nlines")
    with pytest.raises(SettingsError, match=str(path)) as caught:
        token()
    assert "lines" not in str(caught.value)


# faults


@pytest.mark.parametrize(
    "where", ["hub:/api/.*/revision/", "hub:/api/.*/tree/", "hub:.*/resolve/", "storage:"]
)
@pytest.mark.parametrize(
    ("status", "headers", "pauses_s"),
    [
        (429, {"Retry-After": "7"}, [7.5, 7.5]),
        (429, {"RateLimit": '"api";r=0;t=55'}, [55.5, 55.5]),
        (
            503,
            {"Date": "Mon, 23 Nov 2026 10:00:00 GMT", "Retry-After": "Mon, 23 Nov 2026 10:01:00 GMT"},
            [60.5] * 2,
        ),
        (500, {}, [1.0, 2.0]),
        (502, {"Retry-After": "soon"}, [1.0, 2.0]),
        (408, {}, [1.0, 2.0]),
    ],
)
async def test_what_may_pass_is_asked_for_again_after_a_pause(
    hub: FakeHub,
    provider: HuggingFaceProvider,
    pauses: Pauses,
    tmp_path: Path,
    where: str,
    status: int,
    headers: dict[str, str],
    pauses_s: list[float],
) -> None:
    hub.fail(Fault(where, times=2, status=status, headers=headers))
    await fetch(provider, await put(hub, provider), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    assert pauses.taken == pauses_s


@pytest.mark.parametrize("where", ["/revision/", "/tree/", "/resolve/", "storage:"])
async def test_what_does_not_pass_ends_with_the_reason(
    hub: FakeHub, provider: HuggingFaceProvider, pauses: Pauses, tmp_path: Path, where: str
) -> None:
    hub.fail(Fault(where, times=None, status=429))
    with pytest.raises(UnavailableError, match="429") as caught:
        await fetch(provider, await put(hub, provider), tmp_path / "part")
    assert NAME in caught.value.message
    assert "token" in caught.value.remedy
    assert len(pauses.taken) == RULE.attempts - 1
    assert pauses.taken == sorted(pauses.taken)


async def test_a_pause_that_is_too_long_is_not_taken(
    hub: FakeHub, provider: HuggingFaceProvider, pauses: Pauses
) -> None:
    hub.add(NAME, FILES)
    hub.fail(Fault("/revision/", status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(UnavailableError, match="429"):
        await provider.resolve(REF)
    assert pauses.taken == []


@given(cuts=st.lists(st.integers(0, len(WEIGHTS) - 1), min_size=1, max_size=3))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_at_any_byte_is_resumed_there(tmp_path: Path, cuts: list[int]) -> None:
    async def run(hub: FakeHub) -> None:
        provider = provider_of(hub)
        listing = await put(hub, provider)
        for cut in cuts:
            hub.fail(Fault("storage:", cut_after=cut))
        counted = await fetch(provider, listing, tmp_path / "part")
        assert (tmp_path / "part").read_bytes() == WEIGHTS
        assert counted.total == len(WEIGHTS)
        assert hub.asked("storage:")[1].range == (f"bytes={cuts[0]}-{len(WEIGHTS) - 1}" if cuts[0] else "")
        await provider.close()

    (tmp_path / "part").unlink(missing_ok=True)
    with FakeHub() as hub:
        asyncio.run(run(hub))


@pytest.mark.parametrize("where", ["/revision/", "/tree/", "/resolve/.*config"])
async def test_an_answer_that_is_cut_is_asked_for_again(
    hub: FakeHub, provider: HuggingFaceProvider, tmp_path: Path, where: str
) -> None:
    hub.fail(Fault(where, cut_after=3, times=2))
    await fetch(provider, await put(hub, provider), tmp_path / "part", path="config.json")
    assert (tmp_path / "part").read_bytes() == FILES["config.json"]


async def test_cuts_that_never_end_are_given_up_and_what_came_is_kept(
    hub: FakeHub, provider: HuggingFaceProvider, tmp_path: Path
) -> None:
    listing = await put(hub, provider)
    hub.fail(Fault("storage:", cut_after=1000, times=None))
    with pytest.raises(UnavailableError, match="broke"):
        await fetch(provider, listing, tmp_path / "part")
    kept = (tmp_path / "part").read_bytes()
    assert kept == WEIGHTS[: 1000 * RULE.attempts]
    hub.mend()
    counted = await fetch(provider, listing, tmp_path / "part", offset=len(kept))
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    assert counted.total == len(WEIGHTS) - len(kept)


async def test_attempts_that_bring_much_are_not_counted(hub: FakeHub, tmp_path: Path) -> None:
    weights = os.urandom(12 << 20)
    hub.add(NAME, {"model.safetensors": weights})
    provider = provider_of(hub)
    listing = await listing_of(provider, REF)
    hub.fail(Fault("storage:", cut_after=2 << 20, times=None))
    await fetch(provider, listing, tmp_path / "part", path="model.safetensors")
    assert (tmp_path / "part").read_bytes() == weights
    assert len(hub.asked("storage:")) == 6 > RULE.attempts
    await provider.close()


async def test_a_silent_connection_is_left(hub: FakeHub, tmp_path: Path) -> None:
    provider = provider_of(hub, silence_s=0.2)
    listing = await put(hub, provider)
    hub.fail(Fault("storage:", cut_after=1000, gate=threading.Event()))
    counted = await fetch(provider, listing, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    assert counted.total == len(WEIGHTS)
    await provider.close()


async def test_a_server_that_knows_no_ranges_is_read_from_the_start(
    hub: FakeHub, provider: HuggingFaceProvider, tmp_path: Path
) -> None:
    listing = await put(hub, provider)
    hub.fail(Fault("storage:", cut_after=100_000))
    hub.fail(Fault("storage:", ignore_range=True))
    counted = await fetch(provider, listing, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    assert counted.total == len(WEIGHTS)


async def test_large_files_come_in_windows(hub: FakeHub, tmp_path: Path) -> None:
    provider = provider_of(hub, window_bytes=100_000)
    await fetch(provider, await put(hub, provider), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    assert [one.range for one in hub.asked("storage:")] == [
        "bytes=0-99999",
        "bytes=100000-199999",
        "bytes=200000-299999",
        f"bytes=300000-{len(WEIGHTS) - 1}",
    ]
    await provider.close()


async def test_an_address_that_expired_is_asked_for_anew(
    hub: FakeHub, provider: HuggingFaceProvider, tmp_path: Path
) -> None:
    hub.fail(Fault("storage:", status=403))
    await fetch(provider, await put(hub, provider), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    assert len(hub.asked("hub:.*resolve")) == 2


@pytest.mark.parametrize("path", [LARGE, "config.json"])
async def test_a_shorter_file_at_the_provider_is_another_file(
    hub: FakeHub, provider: HuggingFaceProvider, tmp_path: Path, path: str
) -> None:
    listing = await put(hub, provider)
    hub.fail(Fault("storage:" if path == LARGE else "resolve", shorten_by=1, times=None))
    with pytest.raises(PreconditionError, match="changed"):
        await fetch(provider, listing, tmp_path / "part", path=path)
    (tmp_path / "part").write_bytes(FILES[path][:-2])
    with pytest.raises(PreconditionError, match="changed"):
        await fetch(provider, listing, tmp_path / "part", path=path, offset=len(FILES[path]) - 2)
    (tmp_path / "part").write_bytes(FILES[path][:-1])
    with pytest.raises(PreconditionError, match="416"):
        await fetch(provider, listing, tmp_path / "part", path=path, offset=len(FILES[path]) - 1)
    assert (tmp_path / "part").stat().st_size == 0


async def test_another_etag_after_a_cut_ends_the_download(
    hub: FakeHub, provider: HuggingFaceProvider, tmp_path: Path
) -> None:
    listing = await put(hub, provider)
    hub.fail(Fault("storage:", cut_after=1000))
    hub.fail(Fault("nothing"))
    hub.fail(Fault("hub:.*resolve", times=1))
    hub.fail(Fault("hub:.*resolve", times=None, etag="0" * 64))
    with pytest.raises(PreconditionError, match="ETag"):
        await fetch(provider, listing, tmp_path / "part")
    assert (tmp_path / "part").stat().st_size == 0


async def test_etags_of_a_mirrors_own_making_may_not_change_either(
    hub: FakeHub, provider: HuggingFaceProvider, tmp_path: Path
) -> None:
    listing = await put(hub, provider)
    hub.fail(Fault("hub:.*resolve", etag="mirror-1", times=2))
    hub.fail(Fault("storage:", cut_after=1000))
    await fetch(provider, listing, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    hub.fail(Fault("hub:.*resolve", etag="mirror-1"))
    hub.fail(Fault("hub:.*resolve", etag="mirror-2"))
    hub.fail(Fault("storage:", cut_after=1000))
    with pytest.raises(PreconditionError, match="mirror-2"):
        await fetch(provider, listing, tmp_path / "part")


@pytest.mark.parametrize("path", [LARGE, "config.json"])
async def test_a_wrong_digest_is_refused_and_nothing_is_kept(
    hub: FakeHub, provider: HuggingFaceProvider, tmp_path: Path, path: str
) -> None:
    listing = await put(hub, provider)
    where = "storage:" if path == LARGE else "resolve"
    hub.fail(Fault(where, corrupt=True))
    with pytest.raises(IntegrityError, match="sha256" if path == LARGE else "git-sha1") as caught:
        await fetch(provider, listing, tmp_path / "part", path=path)
    assert path in caught.value.message
    assert (tmp_path / "part").stat().st_size == 0
    # Wrong bytes that were there before count as well.
    (tmp_path / "part").write_bytes(b"X")
    with pytest.raises(IntegrityError):
        await fetch(provider, listing, tmp_path / "part", path=path, offset=1)
    await fetch(provider, listing, tmp_path / "part", path=path)
    assert (tmp_path / "part").read_bytes() == FILES[path]


async def test_more_bytes_than_listed_are_refused(
    hub: FakeHub, provider: HuggingFaceProvider, tmp_path: Path
) -> None:
    listing = await put(hub, provider)
    hub.fail(Fault("resolve", body=FILES["config.json"] + b"more", times=None))
    with pytest.raises(PreconditionError, match="changed"):
        await fetch(provider, listing, tmp_path / "part", path="config.json")


# answers that are no answers

_ENTRY = {"type": "file", "path": "a", "size": 1, "oid": "0" * 40}


@pytest.mark.parametrize(
    "tree",
    [
        {"no": "list"},
        ["text"],
        [_ENTRY | {"type": "submodule"}],
        [_ENTRY | {"size": -1}],
        [_ENTRY | {"size": True}],
        [_ENTRY | {"size": "1"}],
        [_ENTRY | {"oid": "short"}],
        [_ENTRY | {"oid": None}],
        [_ENTRY | {"lfs": {"oid": "0" * 40, "size": 1}}],
        [_ENTRY | {"lfs": []}],
        [_ENTRY | {"path": "../up"}],
        [_ENTRY | {"path": "/etc/passwd"}],
        [_ENTRY | {"path": ""}],
        [_ENTRY | {"path": "a\0b"}],
        [_ENTRY | {"path": None}],
        [_ENTRY, _ENTRY | {"size": 2}],
        [_ENTRY, _ENTRY | {"path": "a/b"}],
    ],
)
async def test_a_listing_of_rubbish_is_refused(
    hub: FakeHub, provider: HuggingFaceProvider, tree: object
) -> None:
    commit = hub.add(NAME, FILES)
    hub.fail(Fault("/tree/", body=json.dumps(tree).encode()))
    with pytest.raises(IntegrityError, match=NAME):
        await provider.list_files(EntryKey(ProviderName.HUGGING_FACE, NAME, commit))


@pytest.mark.parametrize("body", [b"", b"<html>log in</html>", b"[" * 100_000, b"\xff\xfe", b"nul"])
async def test_what_is_no_json_is_the_networks_fault(
    hub: FakeHub, provider: HuggingFaceProvider, body: bytes
) -> None:
    hub.fail(Fault("/revision/", body=body, times=None))
    with pytest.raises(UnavailableError, match="no JSON"):
        await provider.resolve(REF)


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"sha": null}', b'{"sha": "main"}', b'{"sha": "ABC"}'])
async def test_an_answer_without_a_commit(hub: FakeHub, provider: HuggingFaceProvider, body: bytes) -> None:
    hub.fail(Fault("/revision/", body=body))
    with pytest.raises(IntegrityError, match="no commit"):
        await provider.resolve(REF)


async def test_a_listing_without_end_ends(hub: FakeHub, provider: HuggingFaceProvider) -> None:
    commit = hub.add(NAME, {"config.json": b"{}"})
    again = f"/api/models/{NAME}/tree/{commit}?recursive=true&expand=false"
    hub.fail(Fault("/tree/", times=None, headers={"Link": f'<{again}>; rel="next"'}))
    with pytest.raises(IntegrityError, match="did not end"):
        await provider.list_files(EntryKey(ProviderName.HUGGING_FACE, NAME, commit))


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (302, {"Location": "ftp://example.org/x"}, "redirects from http to ftp"),
        (302, {"Location": "/org/Model-7B/resolve/round"}, "redirects"),
        (302, {"Location": "http://[bad"}, NAME),
        (302, {}, "refused with 302"),
        (206, {"Content-Range": "bytes 5-9/10"}, "range"),
        (206, {}, "range"),
        (200, {"Content-Encoding": "gzip"}, "compressed"),
    ],
)
async def test_wrong_answers_to_a_file(
    hub: FakeHub,
    provider: HuggingFaceProvider,
    tmp_path: Path,
    status: int,
    headers: dict[str, str],
    said: str,
) -> None:
    listing = await put(hub, provider)
    body = FILES["config.json"] if status == 200 else b""
    hub.fail(Fault("resolve", status=status, headers=headers, body=body, times=None))
    with pytest.raises(UnavailableError, match=said):
        await fetch(provider, listing, tmp_path / "part", path="config.json")


# a hub that is not there


async def test_nobody_listens(pauses: Pauses) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        rules = HttpRules(metadata=RULE, sleep=pauses)
        provider = HuggingFaceProvider(endpoint=f"http://127.0.0.1:{port}", rules=rules)
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{port} can't be reached") as caught:
            await provider.resolve(REF)
    assert caught.value.remedy
    assert pauses.taken == [1.0, 2.0, 4.0]
    await provider.close()


async def test_a_name_that_nobody_knows(pauses: Pauses) -> None:
    rules = HttpRules(metadata=RULE, sleep=pauses)
    provider = HuggingFaceProvider(endpoint="http://hub.invalid", rules=rules)
    with pytest.raises(UnavailableError, match=r"hub\.invalid can't be reached"):
        await provider.resolve(REF)
    await provider.close()


# leaving


async def test_a_cancelled_fetch_stops_writing_and_can_be_resumed(
    hub: FakeHub, provider: HuggingFaceProvider, tmp_path: Path
) -> None:
    listing = await put(hub, provider)
    gate = threading.Event()
    hub.fail(Fault("storage:", cut_after=200_000, gate=gate))
    into = tmp_path / "part"
    task = asyncio.create_task(fetch(provider, listing, into))
    async with asyncio.timeout(30):
        while hub.bytes_served < 200_000:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    kept = into.read_bytes()
    gate.set()
    assert WEIGHTS.startswith(kept)
    assert into.read_bytes() == kept
    await fetch(provider, listing, into, offset=len(kept))
    assert into.read_bytes() == WEIGHTS


async def test_the_number_of_connections_is_bounded(hub: FakeHub, tmp_path: Path) -> None:
    gate = threading.Event()
    hub.add(NAME, {f"{number}.safetensors": b"%d" % number for number in range(9)})
    hub.fail(Fault("storage:", times=None, gate=gate))
    provider = provider_of(hub, connections=3)
    listing = await listing_of(provider, REF)
    async with asyncio.TaskGroup() as tasks:
        for file in listing.files:
            tasks.create_task(fetch(provider, listing, tmp_path / file.path, path=file.path))
        async with asyncio.timeout(30):
            while len(hub.asked("storage:")) < 3:
                await asyncio.sleep(0.01)
        for _ in range(20):  # a fourth one would be on its way by now
            await asyncio.sleep(0.01)
        assert len(hub.asked("storage:")) == 3
        gate.set()
    assert len(list(tmp_path.iterdir())) == 9
    await provider.close()


async def test_no_descriptor_is_left_open(
    hub: FakeHub, provider: HuggingFaceProvider, tmp_path: Path
) -> None:
    listing = await put(hub, provider)
    hub.fail(Fault("storage:", corrupt=True, times=None))

    async def fail(number: int) -> None:
        with pytest.raises(IntegrityError):
            await fetch(provider, listing, tmp_path / f"{number}")
        task = asyncio.create_task(fetch(provider, listing, tmp_path / f"{number}"))
        for _ in range(number):  # cancelled a little later each time
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, IntegrityError)):
            await task

    for number in range(30):
        await fail(number)
        assert open_files_below(tmp_path) == []
