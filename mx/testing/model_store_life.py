"""A random life of a model store, lived by the memory store as well: every answer must be the same.

TestMyStoreLikeMemory = stateful_test(open_my_store)

After each step the rules that no answer may break are checked apart from the memory store:
tokens grow, nothing DOWNLOADED is claimed, and no step but ``delete`` loses an entry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from unittest import TestCase

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from mx.core.model import Claim, EntryKey, EntryStatus, ModelRecord, Pin, ProviderName, ReadLease
from mx.core.transitions import Won
from mx.ports import ModelStore
from mx.store.memory_models import MemoryModelStore
from mx.testing.samples import eviction_run, model_key, model_record, model_records

_KEYS = (model_key(), model_key(weights=False), model_key("b", provider=ProviderName.NGC, commit=""))
_keys = st.sampled_from(_KEYS)
_times = st.integers(0, 30)
_leases_s = st.integers(0, 8).map(lambda ms: ms / 1000)
_owners = st.sampled_from(["a", "b"])
_finals = st.sampled_from([EntryStatus.DOWNLOADED, EntryStatus.ERROR])
_puttable = st.sampled_from([EntryStatus.DOWNLOADED, EntryStatus.ERROR, EntryStatus.DOWNLOADING])
_picks = st.integers(0, 1 << 30)  # the newest claims and records are the likeliest to matter


def stateful_test(
    open_store: Callable[[], AbstractAsyncContextManager[ModelStore]], *, examples: int = 40
) -> type[TestCase]:
    """A test case that compares the store with the memory store; ``open_store`` gives an empty one."""

    class SameAsMemory(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self._runner = asyncio.Runner()
            self._opened = open_store()
            self._store = self._runner.run(self._opened.__aenter__())
            self._memory = MemoryModelStore()
            self._claims: list[Claim] = [Claim("a", 0, 0)]
            self._seen: list[ModelRecord] = [model_record()]

        def teardown(self) -> None:
            try:
                self._runner.run(self._opened.__aexit__(None, None, None))
            finally:
                self._runner.close()

        def _same(self, call: Callable[[ModelStore], Any], *, loses: bool = False) -> Any:
            async def both() -> Any:
                before = await self._memory.list_models()
                answer = await call(self._store)
                assert answer == await call(self._memory)
                after = await self._store.list_models()
                assert after == await self._memory.list_models()
                for key in _KEYS:
                    assert await self._store.get(key) == await self._memory.get(key)
                self._seen += after
                if not loses:
                    assert {record.key for record in before} <= {record.key for record in after}
                for record in after:
                    assert record.claim is None or record.status in (
                        EntryStatus.DOWNLOADING,
                        EntryStatus.EVICTING,
                    )
                return answer

            return self._runner.run(both())

        def _won(self, claim: Claim) -> None:
            assert claim.token > self._claims[-1].token
            self._claims.append(claim)

        def _claim(self, pick: int) -> Claim:
            return self._claims[-1 - pick % min(4, len(self._claims))]

        def _observed(self, pick: int) -> ModelRecord:
            return self._seen[-1 - pick % min(6, len(self._seen))]

        @rule(key=_keys, owner=_owners, lease_s=_leases_s, now_ms=_times, force=st.booleans())
        def claim(self, key: EntryKey, owner: str, lease_s: float, now_ms: int, force: bool) -> None:
            answer = self._same(
                lambda store: store.claim(key, owner=owner, lease_s=lease_s, now_ms=now_ms, force=force)
            )
            if isinstance(answer, Won):
                self._won(answer.claim)

        @rule(key=_keys, pick=_picks, lease_s=_leases_s, now_ms=_times, done=_times)
        def refresh(self, key: EntryKey, pick: int, lease_s: float, now_ms: int, done: int) -> None:
            claim = self._claim(pick)
            self._same(
                lambda store: store.refresh(
                    key, claim, lease_s=lease_s, now_ms=now_ms, bytes_done=done, bytes_total=30, files=done
                )
            )

        @rule(key=_keys, pick=_picks, status=_finals, now_ms=_times, retry_at_ms=_times)
        def finish(
            self, key: EntryKey, pick: int, status: EntryStatus, now_ms: int, retry_at_ms: int
        ) -> None:
            claim = self._claim(pick)
            self._same(
                lambda store: store.finish(
                    key,
                    claim,
                    status=status,
                    message=status,
                    bytes_on_disk=now_ms,
                    files=1,
                    retry_at_ms=retry_at_ms,
                    now_ms=now_ms,
                )
            )

        @rule(key=_keys, pick=_picks, now_ms=_times)
        def release(self, key: EntryKey, pick: int, now_ms: int) -> None:
            claim = self._claim(pick)
            self._same(lambda store: store.release(key, claim, now_ms=now_ms))

        @rule(keys=st.lists(_keys, max_size=3), now_ms=_times)
        def touch(self, keys: list[EntryKey], now_ms: int) -> None:
            self._same(lambda store: store.touch(keys, now_ms=now_ms))

        @rule(key=_keys, status=_puttable, now_ms=_times, pick=st.none() | _picks)
        def put(self, key: EntryKey, status: EntryStatus, now_ms: int, pick: int | None) -> None:
            record = model_record(key, status=status, created_at_ms=now_ms, last_used_at_ms=now_ms)
            observed = None if pick is None else self._observed(pick)
            self._same(lambda store: store.put(record, observed=observed))

        @rule(anything=model_records)
        def put_read_and_delete(self, anything: ModelRecord) -> None:
            async def life(store: ModelStore) -> tuple[object, ...]:
                key = anything.key
                found = await store.put(anything), await store.get(key)
                narrowed = await store.list_models(provider=key.provider, name=key.name)
                return found, narrowed, await store.delete(key)

            self._same(life)

        @rule(pick=_picks, now_ms=_times, owner=_owners, lease_s=_leases_s)
        def mark_evicting(self, pick: int, now_ms: int, owner: str, lease_s: float) -> None:
            observed = self._observed(pick)
            claim = self._same(
                lambda store: store.mark_evicting(
                    observed.key, observed=observed, now_ms=now_ms, owner=owner, lease_s=lease_s
                )
            )
            if claim is not None:
                self._won(claim)

        @rule(key=_keys, by=st.sampled_from(["name", "token", "observed"]), pick=_picks)
        def delete(self, key: EntryKey, by: str, pick: int) -> None:
            token = self._claim(pick).token if by == "token" else None
            observed = self._observed(pick) if by == "observed" else None
            self._same(lambda store: store.delete(key, token=token, observed=observed), loses=True)

        @rule(key=_keys, pin=st.none() | st.builds(Pin, until_ms=st.none() | _times, reason=st.just("r")))
        def pin(self, key: EntryKey, pin: Pin | None) -> None:
            self._same(lambda store: store.pin(key, pin))

        @rule(key=_keys, lease_id=_owners, expires_at_ms=_times, now_ms=_times)
        def lease(self, key: EntryKey, lease_id: str, expires_at_ms: int, now_ms: int) -> None:
            lease = ReadLease(lease_id, "h", expires_at_ms)
            self._same(lambda store: store.lease(key, lease, now_ms=now_ms))

        @rule(key=_keys, lease_id=_owners)
        def unlease(self, key: EntryKey, lease_id: str) -> None:
            self._same(lambda store: store.unlease(key, lease_id))

        @rule(run_id=_owners, started_at_ms=_times)
        def record_eviction(self, run_id: str, started_at_ms: int) -> None:
            async def life(store: ModelStore) -> object:
                await store.record_eviction(eviction_run(run_id, started_at_ms=started_at_ms))
                return await store.eviction_runs(limit=3)

            self._same(life)

    SameAsMemory.TestCase.settings = settings(max_examples=examples, stateful_step_count=40, deadline=None)
    return SameAsMemory.TestCase
