"""Rules of ensure: one download per entry, whoever asks, fails, dies or leaves."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from models_world import (
    COMMIT,
    DOWNLOADED,
    DOWNLOADING,
    ERROR,
    FILES,
    HF,
    KEY,
    META,
    PIECE,
    REF,
    RULES,
    TOTAL,
    World,
    ensure,
    outcome,
    until,
)

from mx.core.cached import CachedEntry
from mx.core.eviction import EvictionPolicy
from mx.core.model import Claim, EntryKey, ModelRef, Pin, ProviderName
from mx.core.progress import EnsureUpdate
from mx.core.transitions import Won
from mx.errors import (
    ConflictError,
    ErrorCode,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnavailableError,
)
from mx.services.jobs import JobRules
from mx.testing.folder_cache import FolderCache
from mx.testing.scripted_provider import ScriptedProvider


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(tmp_path / "cache", stack)


# one caller


async def test_a_model_is_fetched_verified_and_recorded(world: World) -> None:
    service = await world.start()
    updates = await ensure(service)
    assert [u.status for u in updates[:-1]] == [DOWNLOADING] * (len(updates) - 1)
    last = updates[-1]
    assert (last.status, last.key, last.message) == (DOWNLOADED, KEY, "downloaded")
    assert (last.bytes_done, last.bytes_total, last.files_total) == (TOTAL, TOTAL, 4)
    entry = await service.find(REF)
    assert {f.path: (entry.root / f.path).read_bytes() for f in entry.files} == FILES
    record = await world.record()
    assert (record.status, record.files, record.bytes_on_disk, record.claim) == (DOWNLOADED, 4, TOTAL, None)
    assert world.cache.resolve(HF, "org/model", None) == COMMIT


async def test_a_present_model_is_answered_without_a_fetch_and_counts_as_used(world: World) -> None:
    service = await world.start()
    await ensure(service)
    before = (await world.record()).last_used_at_ms
    fetched = len(world.fetches)
    await until(lambda: world.clock.now_ms() > before)
    assert (await outcome(service)).message == "already in the cache"
    assert len(world.fetches) == fetched
    async with asyncio.timeout(5):
        while (await world.record()).last_used_at_ms <= before:
            await asyncio.sleep(0.005)


async def test_progress_has_bytes_files_and_rate(world: World) -> None:
    world.hold(after_bytes=5 * PIECE)
    service = await world.start()
    seen: list[EnsureUpdate] = []
    async with aclosing(service.ensure(REF)) as updates:
        async for update in updates:
            seen.append(update)
            if update.bytes_done >= 5 * PIECE and update.rate is not None:
                world.go()
    moving = [u for u in seen if u.rate]
    assert all(u.bytes_total == TOTAL and u.files_total == 4 for u in moving)
    assert any(re.search(r"\d+ KiB \(\d+%\), \d of 4 files, .*/s", u.message) for u in moving), moving[-1]
    done = [u.bytes_done for u in seen]
    assert done == sorted(done), "progress never goes back"


async def test_metadata_is_an_entry_of_its_own_and_never_stands_for_weights(world: World) -> None:
    service = await world.start()
    assert (await outcome(service, weights=False)).files_total == 2
    assert not any("safetensors" in call for call in world.fetches)
    assert await world.store.get(KEY) is None
    with pytest.raises(NotFoundError):
        await service.find(REF, weights=True)
    assert (await service.find(REF)).key == META
    assert (await outcome(service)).files_total == 4
    assert (await service.find(REF)).key == KEY


async def test_a_full_entry_answers_for_its_metadata(world: World) -> None:
    service = await world.start()
    await ensure(service)
    fetched = len(world.fetches)
    assert (await outcome(service, weights=False)).status is DOWNLOADED
    assert len(world.fetches) == fetched


async def test_rubbish_is_refused_before_the_first_update(world: World) -> None:
    service = await world.start()
    for ref in (
        ModelRef(HF, ""),
        ModelRef(HF, "../etc"),
        ModelRef(HF, "org/model", "../x"),
        ModelRef(ProviderName.NGC, "a/b/c", "main"),
    ):
        with pytest.raises(InvalidArgumentError):
            await ensure(service, ref)
    with pytest.raises(PreconditionError):
        await ensure(service, ModelRef(ProviderName.NGC, "org/team/model:1"))
    assert world.provider.calls == []


# many callers


async def test_sixty_four_callers_of_two_processes_cost_one_fetch(world: World) -> None:
    services = [await world.start(owner) for owner in ("a", "b")]
    world.hold(after_bytes=PIECE)
    asked = [asyncio.create_task(outcome(services[i % 2])) for i in range(64)]
    await until(lambda: bool(world.fetches))
    world.go()
    assert {(u.status, u.bytes_total) for u in await asyncio.gather(*asked)} == {(DOWNLOADED, TOTAL)}
    assert world.provider.fetched_bytes == TOTAL
    assert len(world.fetches) == 4
    assert world.provider.calls.count("list") == 1
    assert world.provider.calls.count("resolve") <= 4, "callers that ask together ask once"


async def test_a_follower_tells_bytes_and_owner(world: World) -> None:
    owner, follower = await world.start("a"), await world.start("b")
    world.hold(after_bytes=PIECE)
    first = asyncio.create_task(outcome(owner))
    await until(lambda: bool(world.fetches))
    async with aclosing(follower.ensure(REF)) as updates:
        async for update in updates:
            if "by a" in update.message and update.bytes_done:
                assert update.bytes_total == TOTAL
                break
    world.go()
    assert (await first).status is DOWNLOADED


async def test_a_failure_reaches_every_caller_with_its_reason(world: World) -> None:
    services = [await world.start(owner) for owner in ("a", "b")]
    world.hold()
    world.provider.gate_after_bytes = 0
    asked = [asyncio.create_task(outcome(services[i % 2])) for i in range(8)]
    await until(lambda: len(world.fetches) == 2)
    world.provider.failures = [PermissionDeniedError("org/model is gated; accept its terms")] * 9
    world.go()
    ends = await asyncio.gather(*asked)
    assert {u.status for u in ends} == {ERROR}
    assert all("gated" in u.message for u in ends)
    assert (await world.record()).message == "org/model is gated; accept its terms"


async def test_a_failed_download_backs_off_and_doubles(world: World) -> None:
    service = await world.start()
    world.provider.failures = [UnavailableError("the hub is away")] * 9
    end = await outcome(service)
    assert (end.status, end.code, end.message) == (ERROR, ErrorCode.UNAVAILABLE, "the hub is away")
    record = await world.record()
    wait_s = (record.retry_at_ms - world.clock.now_ms()) / 1000
    assert (record.status, record.attempts) == (ERROR, 1)
    assert 25 < wait_s <= 30
    calls = len(world.fetches)
    again = await outcome(service)
    assert again.message.startswith("the hub is away; the next attempt may start in ")
    assert len(world.fetches) == calls
    await outcome(service, force=True)
    record = await world.record()
    assert record.attempts == 2
    assert 50 < (record.retry_at_ms - world.clock.now_ms()) / 1000 <= 60
    world.provider.failures = []
    assert (await outcome(service, force=True)).status is DOWNLOADED
    assert (await world.record()).attempts == 0


def test_back_off_has_an_end() -> None:
    rules = JobRules(first_backoff_s=5, longest_backoff_s=600)
    assert [rules.backoff_s(n) for n in (0, 1, 2, 3, 8, 9, 10_000)] == [5, 5, 10, 20, 600, 600, 600]


# callers that leave


async def test_a_caller_that_leaves_ends_its_wait_only(world: World) -> None:
    world.hold(after_bytes=PIECE)
    service = await world.start()
    async with aclosing(service.ensure(REF)) as updates:
        async for update in updates:
            if update.bytes_done:
                break
    world.go()
    async with asyncio.timeout(10):
        while (await world.record()).status is not DOWNLOADED:
            await asyncio.sleep(0.01)


async def test_the_last_one_to_leave_stops_the_download_where_settings_say_so(world: World) -> None:
    world.hold(after_bytes=5 * PIECE)
    service = await world.start(rules=replace(RULES, stop_when_alone=True))
    stays = asyncio.create_task(outcome(service))
    async with aclosing(service.ensure(REF)) as updates:
        async for update in updates:
            if update.bytes_done >= 5 * PIECE:
                break
    assert (await world.record()).claim is not None, "another caller still waits"
    stays.cancel()
    async with asyncio.timeout(10):
        while (await world.record()).claim is not None:
            await asyncio.sleep(0.005)
    world.go()
    assert (await outcome(service)).status is DOWNLOADED
    assert world.provider.fetched_bytes == TOTAL, "it went on from the bytes that were there"


async def test_leaving_the_service_hands_the_claim_back_and_tells_callers(world: World) -> None:
    world.hold(after_bytes=5 * PIECE)
    async with world.make("a") as leaving:
        asked = asyncio.create_task(outcome(leaving))
        await until(lambda: world.provider.fetched_bytes >= 5 * PIECE)
    end = await asked
    assert (end.status, end.code) == (ERROR, ErrorCode.UNAVAILABLE)
    record = await world.record()
    assert (record.status, record.claim) == (DOWNLOADING, None)
    world.go()
    assert (await outcome(await world.start("b"))).status is DOWNLOADED
    assert world.provider.fetched_bytes == TOTAL


# owners that die, lose, or are deleted


async def dead_owner(world: World, *, lease_s: float) -> Claim:
    """A claim of a process that is no more, with some bytes of it on disk."""
    won = await world.store.claim(KEY, owner="dead", lease_s=lease_s, now_ms=world.clock.now_ms())
    assert isinstance(won, Won)
    staging = world.cache.begin(await world.provider.list_files(KEY))
    big = next(m.file for m in staging.missing if m.file.path == "model.safetensors")
    staging.path_for(big).write_bytes(FILES[big.path][: 4 * PIECE])
    return won.claim


async def test_a_dead_owners_download_is_taken_over_and_resumed(world: World) -> None:
    claim = await dead_owner(world, lease_s=0.3)
    services = [await world.start(owner) for owner in ("a", "b")]
    ends = await asyncio.gather(*(outcome(services[i % 2]) for i in range(8)))
    assert {u.status for u in ends} == {DOWNLOADED}
    assert world.provider.fetched_bytes == TOTAL - 4 * PIECE
    assert not await world.store.finish(
        KEY,
        claim,
        status=ERROR,
        message="late",
        bytes_on_disk=0,
        files=0,
        retry_at_ms=0,
        now_ms=world.clock.now_ms(),
    )
    assert (await world.record()).status is DOWNLOADED


async def test_an_owner_that_lost_its_claim_stops_and_follows_the_new_one(world: World) -> None:
    world.hold(after_bytes=PIECE)
    service = await world.start("a")
    asked = asyncio.create_task(outcome(service))
    await until(lambda: world.provider.fetched_bytes > 0)
    # Another process took over: what a lease that ran out unnoticed looks like.
    await world.store.delete(KEY)
    won = await world.store.claim(KEY, owner="thief", lease_s=0.4, now_ms=world.clock.now_ms())
    assert isinstance(won, Won)
    async with asyncio.timeout(5), aclosing(service.ensure(REF)) as updates:
        async for update in updates:
            if "by thief" in update.message:
                break
    assert world.provider.fetched_bytes < TOTAL
    world.go()
    end = await asked
    assert end.status is DOWNLOADED, "the thief died too, and its claim was taken over in turn"
    assert world.provider.fetched_bytes == TOTAL


async def test_deleting_during_a_download_ends_it_for_everybody(world: World) -> None:
    owner, follower = await world.start("a"), await world.start("b")
    world.hold(after_bytes=PIECE)
    asked = [asyncio.create_task(outcome(service)) for service in (owner, owner, follower)]
    await until(lambda: world.provider.fetched_bytes > 0)
    async with asyncio.timeout(5):
        while (await world.record()).bytes_total != TOTAL:
            await asyncio.sleep(0.005)
    report = await owner.forget(HF, "org/model")
    assert report.records == (KEY,)
    for end in await asyncio.gather(*asked):
        assert end.status is ERROR
        assert "deleted" in end.message
    world.go()
    await asyncio.sleep(0)
    assert await world.store.get(KEY) is None, "nobody started it again"


async def test_deleting_elsewhere_reaches_the_owner_by_its_heartbeat(world: World) -> None:
    service = await world.start("a")
    world.hold(after_bytes=PIECE)
    asked = asyncio.create_task(outcome(service))
    await until(lambda: world.provider.fetched_bytes > 0)
    await world.store.delete(KEY)
    end = await asked
    assert (end.status, end.code) == (ERROR, ErrorCode.NOT_FOUND)
    assert await world.store.get(KEY) is None


# a store that is down


async def test_an_outage_shorter_than_the_lease_is_borne(world: World) -> None:
    world.hold(after_bytes=PIECE)
    service = await world.start()
    asked = asyncio.create_task(outcome(service))
    await until(lambda: world.provider.fetched_bytes > 0)
    world.store.down = True
    await until(lambda: world.store.refused >= 2)
    world.store.down = False
    world.go()
    assert (await asked).status is DOWNLOADED
    assert (await world.record()).status is DOWNLOADED


async def test_an_outage_longer_than_the_lease_stops_the_download(world: World) -> None:
    world.hold(after_bytes=PIECE)
    service = await world.start()
    asked = asyncio.create_task(outcome(service))
    await until(lambda: world.provider.fetched_bytes > 0)
    world.store.down = True
    end = await asked
    assert (end.status, end.code) == (ERROR, ErrorCode.UNAVAILABLE)
    fetched = world.provider.fetched_bytes
    world.go()
    assert world.cache.entry(KEY) is None, "without a claim nothing is published"
    world.store.down = False
    assert (await outcome(await world.start("b"))).status is DOWNLOADED
    assert world.provider.fetched_bytes == TOTAL >= fetched


async def test_a_download_that_ends_in_an_outage_is_recorded_after_it(world: World) -> None:
    service = await world.start()
    world.hold(after_bytes=PIECE)
    asked = asyncio.create_task(outcome(service))
    await until(lambda: world.provider.fetched_bytes > 0)
    world.store.down = True
    world.go()
    await until(lambda: world.cache.entry(KEY) is not None)
    refused = world.store.refused
    await until(lambda: world.store.refused > refused + 1)
    world.store.down = False
    assert (await asked).status is DOWNLOADED
    assert (await world.record()).status is DOWNLOADED


# records and files that disagree


async def test_a_record_without_files_is_downloaded_again(world: World) -> None:
    service = await world.start()
    await ensure(service)
    world.cache.remove(KEY)
    await world.store.pin(KEY, Pin(reason="prod"))
    assert (await outcome(service)).message == "downloaded"
    record = await world.record()
    assert (record.status, record.pin) == (DOWNLOADED, Pin(reason="prod"))


async def test_files_without_a_record_are_not_fetched_again(world: World) -> None:
    service = await world.start()
    await ensure(service)
    fetched = len(world.fetches)
    await service.forget(HF, "org/model")
    assert (await outcome(service)).status is DOWNLOADED
    assert len(world.fetches) == fetched
    assert (await world.record()).bytes_on_disk == TOTAL


async def test_reconcile_mends_both_ways_and_reports_drift(world: World) -> None:
    service = await world.start()
    await ensure(service)
    await ensure(service, weights=True)
    assert (await service.reconcile()).drift == 0
    await world.store.delete(KEY)
    report = await service.reconcile()
    assert (report.adopted, report.entries) == ((KEY,), 1)
    assert (await world.record()).status is DOWNLOADED
    world.cache.remove(KEY)
    assert (await service.reconcile()).without_files == (KEY,)
    assert await world.store.get(KEY) is None


async def test_reconcile_keeps_pins_and_leaves_work_alone(world: World) -> None:
    service = await world.start()
    await ensure(service)
    await service.pin(KEY, Pin())
    world.cache.remove(KEY)
    assert (await service.reconcile()).without_files == (KEY,)
    assert ((await world.record()).status, (await world.record()).pin) == (ERROR, Pin())
    other = replace(KEY, commit="b" * 40)
    await world.store.claim(other, owner="busy", lease_s=60, now_ms=world.clock.now_ms())
    assert (await service.reconcile()).drift == 0
    assert (await world.record(other)).claim is not None


async def test_reconcile_finishes_an_interrupted_removal(world: World) -> None:
    service = await world.start()
    await ensure(service)
    now_ms = world.clock.now_ms()
    claim = await world.store.mark_evicting(KEY, observed=await world.record(), now_ms=now_ms, lease_s=0.0)
    assert claim is not None
    await until(lambda: world.clock.now_ms() > now_ms)
    assert (await service.reconcile()).removals_finished == (KEY,)
    assert await world.store.get(KEY) is None
    assert world.cache.entry(KEY) is None


async def test_an_entry_being_removed_is_downloaded_after_that(world: World) -> None:
    service = await world.start()
    await ensure(service)
    claim = await world.store.mark_evicting(
        KEY, observed=await world.record(), now_ms=world.clock.now_ms(), lease_s=60
    )
    assert claim is not None
    asked = asyncio.create_task(ensure(service))
    await asyncio.sleep(0.05)
    assert not asked.done()
    world.cache.remove(KEY)
    await world.store.delete(KEY, token=claim.token)
    assert (await asked)[-1].message == "downloaded"


# bytes


async def test_wrong_bytes_are_fetched_once_more(world: World) -> None:
    world.cache.digests = {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}
    service = await world.start()
    world.provider.lies = 1
    assert (await outcome(service)).status is DOWNLOADED
    assert len(world.fetches) == 5


async def test_bytes_that_stay_wrong_are_an_error_and_never_an_entry(world: World) -> None:
    world.cache.digests = {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}
    service = await world.start()
    world.provider.lies = 100
    end = await outcome(service)
    assert (end.status, end.code) == (ERROR, ErrorCode.INTEGRITY)
    assert world.cache.entry(KEY) is None


# room


async def test_what_can_never_fit_is_refused_with_numbers_before_the_first_byte(world: World) -> None:
    world.policy = EvictionPolicy(max_size_bytes=TOTAL - 1)
    service = await world.start()
    end = await outcome(service)
    assert (end.status, end.code) == (ERROR, ErrorCode.EXHAUSTED)
    assert "it needs 70.8 KiB more and max_size_bytes is 70.8 KiB" in end.message
    assert world.fetches == []


async def test_the_least_recently_used_goes_for_a_new_one(world: World) -> None:
    world.policy = EvictionPolicy(max_size_bytes=2 * TOTAL)
    service = await world.start()
    for name in ("org/one", "org/two"):
        assert (await outcome(service, ModelRef(HF, name))).status is DOWNLOADED
        used_ms = world.clock.now_ms()
        await until(lambda: world.clock.now_ms() > used_ms)  # noqa: B023
    await outcome(service, ModelRef(HF, "org/one"))
    assert (await outcome(service, ModelRef(HF, "org/three"))).status is DOWNLOADED
    assert sorted(r.key.name for r in await service.records()) == ["org/one", "org/three"]


async def test_running_downloads_count_when_another_wants_room(world: World) -> None:
    world.cache.disk_bytes = TOTAL + TOTAL // 2
    service = await world.start()
    world.hold()
    first = asyncio.create_task(outcome(service))
    await until(lambda: bool(world.fetches))
    refused = await outcome(service, ModelRef(HF, "org/other"))
    assert (refused.status, refused.code) == (ERROR, ErrorCode.EXHAUSTED)
    assert "promised to running downloads" in refused.message
    world.go()
    assert (await first).status is DOWNLOADED


# resolving


async def test_a_full_commit_that_is_here_asks_nobody(world: World) -> None:
    service = await world.start()
    pinned = ModelRef(HF, "org/model", COMMIT)
    await ensure(service, pinned)
    world.provider.calls.clear()
    world.provider.resolve_error = UnavailableError("no network")
    assert (await outcome(service, pinned)).status is DOWNLOADED
    assert world.provider.calls == []


async def test_a_version_of_ngc_that_is_here_asks_nobody(world: World) -> None:
    world.provider = ScriptedProvider(FILES, piece_bytes=PIECE, name=ProviderName.NGC, commit="")
    service = await world.start()
    version = ModelRef(ProviderName.NGC, "acme/tiny:1.0")
    assert (await outcome(service, version)).key.name == "acme/models/tiny/1.0"
    world.provider.calls.clear()
    world.provider.resolve_error = UnavailableError("no network")
    assert (await outcome(service, version)).status is DOWNLOADED
    assert world.provider.calls == []


async def test_without_the_provider_the_last_known_commit_is_used(world: World) -> None:
    service = await world.start()
    world.provider.resolve_error = UnavailableError("no network")
    with pytest.raises(UnavailableError, match="no network"):
        await ensure(service)
    world.provider.resolve_error = None
    await ensure(service)
    world.provider.resolve_error = UnavailableError("no network")
    assert (await outcome(service)).key == KEY
    with pytest.raises(UnavailableError):
        await ensure(service, ModelRef(HF, "org/model", "v2"))


async def test_an_unknown_revision_is_not_found_whatever_the_cache_has(world: World) -> None:
    service = await world.start()
    await ensure(service)
    world.provider.resolve_error = NotFoundError("org/model is gone from the hub")
    with pytest.raises(NotFoundError):
        await ensure(service)


async def test_another_name_of_a_present_commit_is_noted(world: World) -> None:
    service = await world.start()
    await ensure(service)
    await ensure(service, ModelRef(HF, "org/model", "v1"))
    assert world.cache.resolve(HF, "org/model", "v1") == COMMIT
    assert (await service.find(ModelRef(HF, "org/model", "v1"))).key == KEY


# reading and deleting


async def test_a_reader_keeps_an_entry_from_being_evicted_or_deleted(world: World) -> None:
    service = await world.start()
    await ensure(service)
    async with service.reading(REF, holder="stream 1") as entry:
        assert entry.key == KEY
        with pytest.raises(ConflictError, match="stream 1"):
            await service.delete(HF, "org/model")
        first = (await world.record()).leases[0]
        async with asyncio.timeout(5):  # renewed before it ends
            while (await world.record()).leases[0].expires_at_ms <= first.expires_at_ms:
                await asyncio.sleep(0.01)
    assert (await world.record()).leases == ()
    report = await service.delete(HF, "org/model")
    assert (report.records, report.bytes_freed) == ((KEY,), TOTAL)
    assert world.cache.entry(KEY) is None
    with pytest.raises(NotFoundError):
        await service.delete(HF, "org/model")


async def test_an_entry_whose_record_was_deleted_can_still_be_read(world: World) -> None:
    service = await world.start()
    await ensure(service)
    await service.forget(HF, "org/model")
    async with service.reading(REF, holder="stream 1") as entry:
        assert entry.total_bytes == TOTAL
        assert (await world.record()).leases != ()


async def test_delete_takes_all_or_nothing(world: World) -> None:
    service = await world.start()
    await ensure(service)
    await ensure(service, ModelRef(HF, "org/model", "b" * 40))
    await service.pin(KEY, Pin(reason="prod"))
    with pytest.raises(ConflictError, match="pinned"):
        await service.delete(HF, "org/model")
    assert len(world.cache.scan()) == 2
    assert (await service.delete(HF, "org/model", commit="b" * 40)).bytes_freed == TOTAL
    assert (await service.delete(HF, "org/model", force=True)).bytes_freed == TOTAL
    assert world.cache.scan() == ()
    with pytest.raises(NotFoundError):
        await service.pin(KEY, Pin())


async def test_a_caller_that_leaves_right_after_the_claim_leaves_no_claim_behind(
    tmp_path: Path, world: World
) -> None:
    looking, go = threading.Event(), threading.Event()

    class SlowCache(FolderCache):
        def entry(self, key: EntryKey) -> CachedEntry | None:
            looking.set()
            go.wait(10)
            return super().entry(key)

    world.cache = SlowCache(tmp_path / "slow")
    service = await world.start()
    async with aclosing(service.ensure(REF)) as updates:
        first = asyncio.ensure_future(anext(updates))
        await until(looking.is_set)
        first.cancel()
        await asyncio.wait({first})
    go.set()
    begin_s = world.clock.monotonic_s()
    assert (await outcome(service)).status is DOWNLOADED
    assert world.clock.monotonic_s() - begin_s < RULES.job.download.lease_s
