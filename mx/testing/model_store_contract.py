"""What every ``mx.ports.ModelStore`` must do, as a test class to inherit from.

    class TestMyStore(ModelStoreContract):
        @pytest.fixture
        async def store(self): ...            # an empty, open store; closed afterwards
        @pytest.fixture
        async def beside(self, store): ...    # another one on the same records, where there can be

``mx.testing.model_store_life`` goes further and compares a store with the memory store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from mx.core.eviction import EvictionPlan, EvictionRun
from mx.core.model import Claim, EntryKey, EntryStatus, ModelRecord, Pin, ProviderName, ReadLease
from mx.core.transitions import BackingOff, ClaimResult, Held, Ready, Won
from mx.errors import InvalidArgumentError, UnavailableError
from mx.ports import EVICTION_RUNS_KEPT, ModelStore
from mx.testing.samples import COMMIT, eviction_run, model_key, model_record
from mx.testing.watching import closing_ends_the_watch, watching

KEY = model_key()
NOW = 1_700_000_000_000
LEASE_S = 30.0
EXPIRED = NOW + 30_000
DOWNLOADING, DOWNLOADED = EntryStatus.DOWNLOADING, EntryStatus.DOWNLOADED
ERROR, EVICTING = EntryStatus.ERROR, EntryStatus.EVICTING


async def claim(
    store: ModelStore, key: EntryKey = KEY, *, owner: str = "a", now_ms: int = NOW, **options: Any
) -> ClaimResult:
    return await store.claim(key, owner=owner, lease_s=LEASE_S, now_ms=now_ms, **options)


async def win(
    store: ModelStore, key: EntryKey = KEY, *, owner: str = "a", now_ms: int = NOW, **options: Any
) -> Claim:
    """The claim, which nothing may stand in the way of."""
    won = await claim(store, key, owner=owner, now_ms=now_ms, **options)
    assert isinstance(won, Won)
    assert won.record.claim == won.claim
    assert await store.get(key) == won.record
    return won.claim


async def refresh(
    store: ModelStore, held: Claim, *, now_ms: int = NOW, done: int = 0, total: int = 0
) -> Claim | None:
    return await store.refresh(
        KEY, held, lease_s=LEASE_S, now_ms=now_ms, bytes_done=done, bytes_total=total, files=3
    )


async def finish(
    store: ModelStore,
    held: Claim,
    key: EntryKey = KEY,
    *,
    status: EntryStatus = DOWNLOADED,
    now_ms: int = NOW,
    retry_at_ms: int = 0,
    message: str = "",
) -> bool:
    return await store.finish(
        key,
        held,
        status=status,
        message=message,
        bytes_on_disk=4096,
        files=5,
        retry_at_ms=retry_at_ms,
        now_ms=now_ms,
    )


async def record_of(store: ModelStore, key: EntryKey = KEY) -> ModelRecord:
    found = await store.get(key)
    assert found is not None
    return found


async def downloaded(store: ModelStore, key: EntryKey = KEY, *, now_ms: int = NOW) -> ModelRecord:
    """An entry that was claimed and finished."""
    assert await finish(store, await win(store, key, now_ms=now_ms), key, now_ms=now_ms)
    return await record_of(store, key)


class ModelStoreContract:
    """Inherit, and provide the fixture ``store``."""

    @pytest.fixture
    async def store(self) -> Any:
        raise NotImplementedError("a contract suite needs a store to run against")

    @pytest.fixture
    async def beside(self, store: ModelStore) -> ModelStore:
        return store

    # claims

    async def test_the_first_claim_wins_and_makes_the_record(self, store: ModelStore) -> None:
        assert await store.get(KEY) is None
        won = await claim(store, owner="a", requested_revision="main")
        assert isinstance(won, Won)
        assert not won.resumed
        assert (won.claim.owner, won.claim.expires_at_ms) == ("a", EXPIRED)
        assert won.record == ModelRecord(
            KEY, DOWNLOADING, NOW, NOW, claim=won.claim, requested_revision="main"
        )
        assert await store.get(KEY) == won.record

    async def test_a_held_claim_is_not_given_away(self, store: ModelStore) -> None:
        held = await win(store)
        for owner in ("a", "b"):
            for force in (False, True):
                answer = await claim(store, owner=owner, now_ms=EXPIRED - 1, force=force)
                assert answer == Held(await record_of(store))
        assert (await record_of(store)).claim == held

    async def test_of_many_claims_at_once_one_wins(self, store: ModelStore) -> None:
        answers = await asyncio.gather(*(claim(store, owner=f"o{number}") for number in range(64)))
        (won,) = [answer for answer in answers if isinstance(answer, Won)]
        assert all(answer == Held(won.record) for answer in answers if answer is not won)

    async def test_keys_that_differ_in_anything_are_claimed_apart(self, store: ModelStore) -> None:
        keys = [
            KEY,
            replace(KEY, weights=False),
            replace(KEY, commit="f" * 40),
            replace(KEY, commit=""),
            replace(KEY, name="org/model-7b"),
            replace(KEY, provider=ProviderName.LOCAL),
        ]
        for key in keys:
            await win(store, key)
        assert len(await store.list_models()) == len(keys)

    async def test_an_expired_claim_is_taken_over_and_resumed(self, store: ModelStore) -> None:
        dead = await win(store, owner="dead")
        assert await refresh(store, dead, done=70, total=100)
        won = await claim(store, owner="b", now_ms=EXPIRED)
        assert isinstance(won, Won)
        assert won.resumed
        assert won.claim.token > dead.token
        assert (won.record.bytes_done, won.record.bytes_total, won.record.files) == (70, 100, 3)
        assert (won.record.created_at_ms, won.record.last_used_at_ms) == (NOW, EXPIRED)

    async def test_a_dead_owner_without_bytes_leaves_nothing_to_resume(self, store: ModelStore) -> None:
        await win(store, owner="dead")
        won = await claim(store, owner="b", now_ms=EXPIRED)
        assert isinstance(won, Won)
        assert not won.resumed

    async def test_a_late_owner_changes_nothing(self, store: ModelStore) -> None:
        late = await win(store, owner="a")
        await win(store, owner="b", now_ms=EXPIRED)
        before = await record_of(store)
        assert await refresh(store, late, now_ms=EXPIRED, done=9) is None
        assert not await finish(store, late, now_ms=EXPIRED)
        assert not await finish(store, late, status=ERROR, now_ms=EXPIRED)
        assert not await store.release(KEY, late, now_ms=EXPIRED)
        assert not await store.delete(KEY, token=late.token)
        assert await record_of(store) == before

    async def test_the_same_owner_name_does_not_make_an_old_token_good(self, store: ModelStore) -> None:
        late = await win(store, owner="a")
        new = await win(store, owner="a", now_ms=EXPIRED)
        assert await refresh(store, late, now_ms=EXPIRED) is None
        assert await refresh(store, new, now_ms=EXPIRED) is not None

    async def test_a_token_of_another_owner_is_not_good(self, store: ModelStore) -> None:
        held = await win(store, owner="a")
        assert await refresh(store, replace(held, owner="b")) is None
        assert not await finish(store, replace(held, owner="b"))

    async def test_an_expired_claim_that_nobody_took_is_still_its_owners(self, store: ModelStore) -> None:
        held = await win(store)
        renewed = await refresh(store, held, now_ms=EXPIRED + 1)
        assert renewed == replace(held, expires_at_ms=EXPIRED + 30_001)
        assert await finish(store, renewed, now_ms=EXPIRED + 90_000)

    async def test_a_refresh_extends_and_notes_progress(self, store: ModelStore) -> None:
        held = await win(store)
        renewed = await refresh(store, held, now_ms=NOW + 10_000, done=1 << 40, total=1 << 41)
        assert renewed == replace(held, expires_at_ms=NOW + 40_000)
        record = await record_of(store)
        assert (record.claim, record.bytes_done, record.bytes_total) == (renewed, 1 << 40, 1 << 41)
        assert (record.files, record.last_used_at_ms) == (3, NOW + 10_000)
        assert isinstance(await claim(store, owner="b", now_ms=EXPIRED), Held)
        assert await finish(store, held), "the claim is named by its token, not by its time"

    async def test_tokens_grow_over_deletion(self, store: ModelStore) -> None:
        tokens = []
        for _ in range(3):
            late = await win(store)
            tokens.append(late.token)
            assert await store.delete(KEY)
        assert tokens == sorted(set(tokens))
        await win(store)
        assert await refresh(store, late) is None

    async def test_a_claim_of_a_deleted_record_is_void(self, store: ModelStore) -> None:
        held = await win(store)
        assert await store.delete(KEY)
        assert await refresh(store, held) is None
        assert not await finish(store, held)
        assert await store.get(KEY) is None

    async def test_a_released_claim_is_won_at_once(self, store: ModelStore) -> None:
        held = await win(store)
        await refresh(store, held, done=5, total=9)
        assert await store.release(KEY, held, now_ms=NOW)
        record = await record_of(store)
        assert (record.status, record.claim, record.bytes_done) == (DOWNLOADING, None, 5)
        assert not await store.release(KEY, held, now_ms=NOW)
        assert await refresh(store, held) is None
        won = await claim(store, owner="b")
        assert isinstance(won, Won)
        assert won.resumed

    # ends

    async def test_a_finished_download_is_ready_for_everyone(self, store: ModelStore) -> None:
        held = await win(store)
        await refresh(store, held, done=60, total=100)
        assert await finish(store, held, now_ms=NOW + 5, message="ok")
        record = await record_of(store)
        assert record == ModelRecord(
            KEY,
            DOWNLOADED,
            NOW,
            NOW + 5,
            message="ok",
            bytes_total=100,
            bytes_done=100,
            files=5,
            bytes_on_disk=4096,
        )
        for force in (False, True):
            assert await claim(store, owner="b", now_ms=NOW + 9, force=force) == Ready(record)
        assert await record_of(store) == record, "a hit is noted by touch"
        assert not await finish(store, held), "a claim ends once"

    async def test_a_failure_backs_off_and_counts_its_attempts(self, store: ModelStore) -> None:
        for attempt in (1, 2):
            held = await win(store, force=attempt == 2)
            assert (await record_of(store)).message == ""
            assert await finish(store, held, status=ERROR, retry_at_ms=NOW + 60_000, message="no space")
            record = await record_of(store)
            assert (record.status, record.message, record.claim) == (ERROR, "no space", None)
            assert (record.attempts, record.retry_at_ms) == (attempt, NOW + 60_000)
            assert await claim(store, now_ms=NOW + 59_999) == BackingOff(record)
        held = await win(store, now_ms=NOW + 60_000)
        assert (await record_of(store)).attempts == 2
        assert await finish(store, held, retry_at_ms=NOW + 60_000)
        record = await record_of(store)
        assert (record.attempts, record.retry_at_ms) == (0, 0)

    @pytest.mark.parametrize("status", [DOWNLOADING, EVICTING])
    async def test_a_claim_ends_as_downloaded_or_error_only(
        self, store: ModelStore, status: EntryStatus
    ) -> None:
        held = await win(store)
        with pytest.raises(InvalidArgumentError, match=status):
            await finish(store, held, status=status)
        assert (await record_of(store)).claim == held

    async def test_what_is_not_there_is_not_changed(self, store: ModelStore) -> None:
        ghost = Claim("a", 1, EXPIRED)
        assert await refresh(store, ghost) is None
        assert not await finish(store, ghost)
        assert not await store.release(KEY, ghost, now_ms=NOW)
        assert not await store.pin(KEY, Pin())
        assert not await store.lease(KEY, ReadLease("l", "h", EXPIRED), now_ms=NOW)
        assert not await store.delete(KEY)
        assert await store.mark_evicting(KEY, observed=model_record(), now_ms=NOW) is None
        assert not await store.put(model_record(), observed=model_record())
        await store.unlease(KEY, "l")
        await store.touch([KEY], now_ms=NOW)
        assert await store.list_models() == ()

    # last used

    async def test_touching_moves_forward_only(self, store: ModelStore) -> None:
        other = model_key("org/other")
        for key in (KEY, other):
            await downloaded(store, key)
        await store.touch([KEY, model_key("org/absent"), KEY], now_ms=NOW + 7)
        await store.touch([KEY], now_ms=NOW + 3)
        await store.touch([], now_ms=NOW + 99)
        assert (await record_of(store)).last_used_at_ms == NOW + 7
        assert (await record_of(store, other)).last_used_at_ms == NOW
        assert len(await store.list_models()) == 2

    async def test_no_change_moves_last_used_back(self, store: ModelStore) -> None:
        held = await win(store)
        await store.touch([KEY], now_ms=NOW + 500)
        await refresh(store, held, now_ms=NOW + 1)
        await finish(store, held, now_ms=NOW + 2)
        await store.lease(KEY, ReadLease("l", "h", EXPIRED), now_ms=NOW + 3)
        await store.put(model_record(last_used_at_ms=NOW + 4))
        assert (await record_of(store)).last_used_at_ms == NOW + 500

    # listings

    async def test_listings_are_ordered_and_narrowed(self, store: ModelStore) -> None:
        keys = [
            EntryKey(ProviderName.GCS, "gs://b/m", "", True),
            EntryKey(ProviderName.HUGGING_FACE, "B", COMMIT, True),
            EntryKey(ProviderName.HUGGING_FACE, "a", "0" * 40, True),
            EntryKey(ProviderName.HUGGING_FACE, "a", "0" * 40, False),
            EntryKey(ProviderName.HUGGING_FACE, "a", COMMIT, True),
            EntryKey(ProviderName.HUGGING_FACE, "é", COMMIT, True),
            EntryKey(ProviderName.LOCAL, "a", "", True),
        ]
        for key in reversed(keys):
            await win(store, key)

        async def listed(**only: Any) -> list[EntryKey]:
            return [record.key for record in await store.list_models(**only)]

        assert await listed() == keys
        assert await listed(provider=ProviderName.HUGGING_FACE) == keys[1:6]
        assert await listed(name="a") == [*keys[2:5], keys[6]]
        assert await listed(name="a", provider=ProviderName.LOCAL) == keys[6:]
        assert await listed(name="A") == []
        assert await listed(provider=ProviderName.NGC) == []

    # reconciliation

    async def test_a_record_comes_back_as_it_was_put(self, store: ModelStore) -> None:
        record = model_record(
            message="naïve\n名",
            bytes_total=(1 << 63) - 1,
            bytes_done=1,
            files=2,
            bytes_on_disk=3,
            attempts=4,
            retry_at_ms=5,
            pin=Pin(6, "soft"),
            leases=(ReadLease("l1", "h", 7), ReadLease("l2", "h", 8)),
            requested_revision="refs/pr/1",
        )
        assert await store.put(record)
        assert await store.get(KEY) == record
        assert await store.list_models() == (record,)

    async def test_putting_again_keeps_what_belongs_to_others(self, store: ModelStore) -> None:
        stored = await downloaded(store)
        await store.pin(KEY, Pin(reason="mine"))
        await store.lease(KEY, ReadLease("l", "h", EXPIRED), now_ms=NOW)
        found = model_record(created_at_ms=1, last_used_at_ms=1, bytes_on_disk=8, files=9, message="drift")
        assert await store.put(found)
        record = await record_of(store)
        assert (record.bytes_on_disk, record.files, record.message) == (8, 9, "drift")
        assert (record.pin, record.leases) == (Pin(reason="mine"), (ReadLease("l", "h", EXPIRED),))
        assert (record.created_at_ms, record.last_used_at_ms) == (stored.created_at_ms, NOW)

    async def test_a_claimed_record_is_not_put(self, store: ModelStore) -> None:
        held = await win(store)
        before = await record_of(store)
        assert not await store.put(model_record(last_used_at_ms=EXPIRED + 1))
        assert await record_of(store) == before
        await store.release(KEY, held, now_ms=NOW)
        assert await store.put(model_record(last_used_at_ms=NOW))
        assert (await record_of(store)).status == DOWNLOADED

    async def test_a_record_that_is_being_evicted_is_not_put(self, store: ModelStore) -> None:
        held = await store.mark_evicting(KEY, observed=await downloaded(store), now_ms=NOW)
        assert held is not None
        assert not await store.put(model_record())
        await store.release(KEY, held, now_ms=NOW)
        assert not await store.put(model_record())
        assert (await record_of(store)).status == EVICTING

    @pytest.mark.parametrize(
        "record",
        [model_record(status=EVICTING), model_record(status=DOWNLOADING, claim=Claim("a", 99, EXPIRED))],
    )
    async def test_claims_and_evictions_are_not_put(self, store: ModelStore, record: ModelRecord) -> None:
        with pytest.raises(InvalidArgumentError):
            await store.put(record)
        assert await store.list_models() == ()

    async def test_putting_and_deleting_what_was_observed_heeds_what_came_between(
        self, store: ModelStore
    ) -> None:
        async def used() -> None:
            await store.touch([KEY], now_ms=NOW + 1)

        async def claimed() -> None:
            await store.put(model_record(status=ERROR))
            await win(store, now_ms=NOW)

        async def downloaded_anew() -> None:
            await store.delete(KEY)
            await downloaded(store, now_ms=NOW + 1)

        async def found_broken() -> None:
            await store.put(model_record(status=ERROR, last_used_at_ms=NOW))

        between: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = (
            used,
            claimed,
            downloaded_anew,
            found_broken,
        )
        for change in between:
            observed = await downloaded(store)
            await change()
            now = await record_of(store)
            assert not await store.put(replace(observed, status=ERROR), observed=observed)
            assert not await store.delete(KEY, observed=observed)
            assert await store.mark_evicting(KEY, observed=observed, now_ms=NOW + 2) is None
            assert await record_of(store) == now
            assert await store.delete(KEY)
        observed = await downloaded(store)
        assert await store.put(replace(observed, status=ERROR, message="files are gone"), observed=observed)
        assert await store.delete(KEY, observed=await record_of(store))

    async def test_deleting_by_token(self, store: ModelStore) -> None:
        held = await win(store)
        assert not await store.delete(KEY, token=held.token + 1)
        assert await store.delete(KEY, token=held.token)
        await downloaded(store)
        assert not await store.delete(KEY, token=held.token), "nobody holds it"
        assert await store.delete(KEY)

    # pins, leases, eviction

    async def test_pins_come_and_go(self, store: ModelStore) -> None:
        await downloaded(store)
        for pin in (Pin(reason="prod"), Pin(until_ms=NOW + 5), None):
            assert await store.pin(KEY, pin)
            assert (await record_of(store)).pin == pin

    async def test_leases_are_added_renewed_and_forgotten(self, store: ModelStore) -> None:
        await downloaded(store)
        one, two = ReadLease("1", "h1", NOW + 10), ReadLease("2", "h2", NOW + 20)
        assert await store.lease(KEY, two, now_ms=NOW)
        assert await store.lease(KEY, one, now_ms=NOW + 1)
        record = await record_of(store)
        assert (record.leases, record.last_used_at_ms) == ((one, two), NOW + 1)
        renewed = replace(two, expires_at_ms=NOW + 40)
        assert await store.lease(KEY, renewed, now_ms=NOW + 10)
        assert (await record_of(store)).leases == (renewed,), "the other one had expired"
        await store.unlease(KEY, "1")
        assert (await record_of(store)).leases == (renewed,)
        await store.unlease(KEY, "2")
        assert (await record_of(store)).leases == ()

    async def test_leases_belong_to_their_entry(self, store: ModelStore) -> None:
        other = replace(KEY, weights=False)
        for key in (KEY, other):
            await downloaded(store, key)
            await store.lease(key, ReadLease("same", "h", EXPIRED), now_ms=NOW)
        await store.unlease(other, "same")
        assert len((await record_of(store)).leases) == 1
        await store.delete(KEY)
        assert (await downloaded(store)).leases == ()

    async def test_only_downloaded_entries_are_leased(self, store: ModelStore) -> None:
        lease = ReadLease("l", "h", EXPIRED)
        held = await win(store)
        assert not await store.lease(KEY, lease, now_ms=NOW)
        await finish(store, held, status=ERROR)
        assert not await store.lease(KEY, lease, now_ms=NOW)
        await finish(store, await win(store))
        await store.mark_evicting(KEY, observed=await record_of(store), now_ms=NOW)
        assert not await store.lease(KEY, lease, now_ms=NOW)
        assert (await record_of(store)).leases == ()

    async def test_an_idle_entry_is_marked_and_removed(self, store: ModelStore) -> None:
        observed = await downloaded(store)
        held = await store.mark_evicting(KEY, observed=observed, now_ms=NOW + 1, owner="e", lease_s=60)
        assert held is not None
        assert (held.owner, held.expires_at_ms) == ("e", NOW + 60_001)
        assert await record_of(store) == replace(observed, status=EVICTING, claim=held)
        assert isinstance(await claim(store, now_ms=NOW + 60_000), Held)
        assert not await store.pin(KEY, Pin())
        assert await store.delete(KEY, token=held.token)
        assert await store.get(KEY) is None

    @pytest.mark.parametrize("protection", ["pin", "soft pin", "lease", "claim", "renewed use"])
    async def test_a_protected_entry_is_not_marked(self, store: ModelStore, protection: str) -> None:
        await downloaded(store)
        end = NOW + 100
        match protection:
            case "pin":
                await store.pin(KEY, Pin())
            case "soft pin":
                await store.pin(KEY, Pin(until_ms=end))
            case "lease":
                await store.lease(KEY, ReadLease("l", "h", end), now_ms=NOW)
            case "claim":
                await store.delete(KEY)
                await store.claim(KEY, owner="a", lease_s=0.1, now_ms=NOW)
        observed = await record_of(store)
        if protection == "renewed use":
            await store.touch([KEY], now_ms=end)
        before = await record_of(store)
        assert await store.mark_evicting(KEY, observed=observed, now_ms=end - 1) is None
        assert await record_of(store) == before
        # What has an end protects until then; a person's pin has none.
        evicted = await store.mark_evicting(KEY, observed=before, now_ms=end)
        assert (evicted is None) == (protection == "pin")

    async def test_an_eviction_that_died_is_finished_by_the_next_pass(self, store: ModelStore) -> None:
        dead = await store.mark_evicting(KEY, observed=await downloaded(store), now_ms=NOW, lease_s=1)
        assert dead is not None
        left = await record_of(store)
        assert await store.mark_evicting(KEY, observed=left, now_ms=NOW + 999) is None
        again = await store.mark_evicting(KEY, observed=left, now_ms=NOW + 1_000)
        assert again is not None
        assert again.token > dead.token
        assert not await store.delete(KEY, token=dead.token)
        assert await store.delete(KEY, token=again.token)

    async def test_an_eviction_that_died_is_overtaken_by_a_download(self, store: ModelStore) -> None:
        held = await win(store)
        await refresh(store, held, done=9, total=9)
        await finish(store, held)
        dead = await store.mark_evicting(KEY, observed=await record_of(store), now_ms=NOW, lease_s=1)
        assert dead is not None
        won = await claim(store, now_ms=NOW + 1_000)
        assert isinstance(won, Won)
        assert (won.resumed, won.record.bytes_done) == (False, 0), "who knows what was removed already"
        assert not await store.delete(KEY, token=dead.token)
        assert await finish(store, won.claim)

    async def test_a_long_eviction_is_refreshed_and_one_that_fails_is_taken_back(
        self, store: ModelStore
    ) -> None:
        observed = await downloaded(store)
        held = await store.mark_evicting(KEY, observed=observed, now_ms=NOW)
        assert held is not None
        renewed = await refresh(store, held, now_ms=NOW + 50_000, done=1, total=2)
        assert renewed == replace(held, expires_at_ms=NOW + 80_000)
        assert await record_of(store) == replace(observed, status=EVICTING, claim=renewed)
        assert await finish(store, renewed, now_ms=NOW + 60_000, message="can't be removed")
        record = await record_of(store)
        assert (record.status, record.claim, record.last_used_at_ms) == (DOWNLOADED, None, NOW)

    # runs of eviction

    async def test_runs_come_back_newest_first(self, store: ModelStore) -> None:
        assert await store.eviction_runs(limit=5) == ()
        runs = [eviction_run(f"r{number}", started_at_ms=number // 2) for number in range(5)]
        for run in runs:
            await store.record_eviction(run)
        assert await store.eviction_runs(limit=9) == tuple(reversed(runs))
        assert await store.eviction_runs(limit=2) == (runs[4], runs[3])
        assert await store.eviction_runs(limit=0) == ()

    async def test_recording_a_run_again_replaces_it(self, store: ModelStore) -> None:
        nothing = EvictionPlan(victims=(), survivors=(), bytes_freed=0, target_bytes=0, met=True)
        begun = EvictionRun("r", 5, "room", nothing, 0, 0)
        await store.record_eviction(begun)
        await store.record_eviction(eviction_run("r", started_at_ms=5))
        assert await store.eviction_runs(limit=9) == (eviction_run("r", started_at_ms=5),)

    async def test_a_run_of_many_entries_comes_back_whole(self, store: ModelStore) -> None:
        run = eviction_run(victims=10_000)
        await store.record_eviction(run)
        assert await store.eviction_runs(limit=1) == (run,)

    async def test_old_runs_are_forgotten(self, store: ModelStore) -> None:
        for number in range(EVICTION_RUNS_KEPT + 3):
            await store.record_eviction(eviction_run(f"r{number}", started_at_ms=number))
        kept = await store.eviction_runs(limit=10_000)
        assert len(kept) == EVICTION_RUNS_KEPT
        assert kept[-1].started_at_ms == 3

    # watching

    async def test_every_change_by_anyone_is_told(self, store: ModelStore, beside: ModelStore) -> None:
        async with watching(store.watch) as told, watching(beside.watch) as told_beside:
            await told.after(beside.put(model_record(status=ERROR)), KEY)
            await told.after(win(beside), KEY)
            held = (await record_of(store)).claim
            assert held is not None
            await told.after(refresh(beside, held, done=1, total=2), KEY)
            await told.after(beside.release(KEY, held, now_ms=NOW), KEY)
            await told.after(downloaded(beside), KEY)
            await told.after(beside.pin(KEY, Pin()), KEY)
            await told.after(beside.pin(KEY, None), KEY)
            await told.after(beside.lease(KEY, ReadLease("l", "h", EXPIRED), now_ms=NOW), KEY)
            await told.after(beside.unlease(KEY, "l"), KEY)
            observed = await record_of(store)
            await told.after(beside.mark_evicting(KEY, observed=observed, now_ms=NOW), KEY)
            # One's own changes are told as well.
            await told_beside.after(beside.delete(KEY), KEY)

    async def test_a_watch_ends_with_its_store(self, store: ModelStore) -> None:
        await closing_ends_the_watch(store)

    # life

    async def test_a_closed_store_refuses_everything(self, store: ModelStore) -> None:
        observed = await downloaded(store)
        await store.check()
        await store.close()
        await store.close()
        held = Claim("a", 1, EXPIRED)
        calls: list[Coroutine[Any, Any, Any]] = [
            claim(store),
            refresh(store, held),
            finish(store, held),
            store.release(KEY, held, now_ms=NOW),
            store.touch([KEY], now_ms=NOW),
            store.get(KEY),
            store.list_models(),
            store.put(observed),
            store.mark_evicting(KEY, observed=observed, now_ms=NOW),
            store.delete(KEY),
            store.pin(KEY, None),
            store.lease(KEY, ReadLease("l", "h", EXPIRED), now_ms=NOW),
            store.unlease(KEY, "l"),
            store.record_eviction(eviction_run()),
            store.eviction_runs(limit=1),
            store.check(),
        ]
        for call in calls:
            with pytest.raises(UnavailableError):
                await call
