"""A random life of a store, lived by the memory store as well: every answer must be the same.

TestMyStoreLikeMemory = stateful_test(open_my_store)
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

from mx.core.source import PeerRecord, SourceEntry, SourceFilter, SourceIdentity, WorkerKey
from mx.ports import SourceStore
from mx.store.memory import MemorySourceStore
from mx.testing.samples import any_worker_id, entries, entry, loads, peers
from mx.testing.store_contract import scanned

_IDENTITIES = tuple(
    SourceIdentity(model_name=name, extra_parameters={"training_step": step})
    for name, step in (("org/A", "1"), ("org/B", "18446744073709551615"), ("org/B", "no number"))
)
_keys = st.builds(
    lambda identity, worker_id, rank: entry(worker_id, rank=rank, identity=identity).key,
    st.sampled_from(_IDENTITIES),
    st.sampled_from(["w0", "w1"]),
    st.integers(0, 1),
)
_times = st.integers(-1, 6)
_statuses = st.integers(0, 4)


def stateful_test(
    open_store: Callable[[], AbstractAsyncContextManager[SourceStore]],
    *,
    worker_ids: st.SearchStrategy[str] = any_worker_id,
    examples: int = 40,
) -> type[TestCase]:
    """A test case that compares the store with the memory store; ``open_store`` gives an empty one."""

    class SameAsMemory(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self._runner = asyncio.Runner()
            self._opened = open_store()
            self._store = self._runner.run(self._opened.__aenter__())
            self._memory = MemorySourceStore()

        def teardown(self) -> None:
            try:
                self._runner.run(self._opened.__aexit__(None, None, None))
            finally:
                self._runner.close()

        def _same(self, call: Callable[[SourceStore], Any]) -> None:
            async def both() -> None:
                assert await call(self._store) == await call(self._memory)
                assert await scanned(self._store) == await scanned(self._memory)

            self._runner.run(both())

        @rule(
            identity=st.sampled_from(_IDENTITIES),
            key=_keys,
            status=_statuses,
            now_ms=_times,
            load=loads,
            peer=st.none() | peers,
        )
        def publish(
            self,
            identity: SourceIdentity,
            key: WorkerKey,
            status: int,
            now_ms: int,
            load: float | None,
            peer: PeerRecord | None,
        ) -> None:
            one = entry(
                key.worker_id,
                rank=key.worker_rank,
                status=status,
                updated_at_ms=now_ms,
                identity=identity,
                source_load=load,
                peer=peer,
            )
            self._same(lambda store: store.publish(one))

        @rule(anything=entries(worker_ids))
        def publish_read_and_remove(self, anything: SourceEntry) -> None:
            async def life(store: SourceStore) -> tuple[object, ...]:
                await store.publish(anything)
                found = await store.get(anything.source_id, anything.worker_id)
                query = SourceFilter(source_id=anything.source_id)
                rows = await store.list_sources(query, fresh_after_ms=None)
                return found, rows, await store.remove(anything.key)

            self._same(life)

        @rule(key=_keys, peer=peers)
        def announce(self, key: WorkerKey, peer: PeerRecord) -> None:
            self._same(lambda store: store.announce(key, peer))

        @rule(key=_keys, status=_statuses, load=loads, now_ms=_times)
        def heartbeat(self, key: WorkerKey, status: int, load: float | None, now_ms: int) -> None:
            self._same(lambda store: store.update_status(key, status=status, source_load=load, now_ms=now_ms))

        @rule(key=_keys, observed_ms=_times, now_ms=_times)
        def mark_stale(self, key: WorkerKey, observed_ms: int, now_ms: int) -> None:
            self._same(lambda store: store.mark_stale(key, observed_ms=observed_ms, now_ms=now_ms))

        @rule(key=_keys, observed_ms=st.none() | _times)
        def remove(self, key: WorkerKey, observed_ms: int | None) -> None:
            self._same(lambda store: store.remove(key, observed_ms=observed_ms))

        @rule(key=_keys)
        def get(self, key: WorkerKey) -> None:
            self._same(lambda store: store.get(key.source_id, key.worker_id))

        @rule(
            query=st.builds(
                SourceFilter,
                source_id=st.none() | _keys.map(lambda key: key.source_id),
                status=st.none() | _statuses,
                model_name=st.sampled_from([None, "org/A", "org/B", "x"]),
                worker_rank=st.none() | st.integers(0, 1),
                min_training_step=st.sampled_from([None, 0, 2, (1 << 64) - 1]),
                min_updated_at_ms=st.none() | _times,
                limit=st.integers(0, 3),
            ),
            fresh_after_ms=st.none() | _times,
        )
        def list_sources(self, query: SourceFilter, fresh_after_ms: int | None) -> None:
            self._same(lambda store: store.list_sources(query, fresh_after_ms=fresh_after_ms))

    SameAsMemory.TestCase.settings = settings(max_examples=examples, stateful_step_count=30, deadline=None)
    return SameAsMemory.TestCase
