"""Watches of real servers: killed and started again, several on one store, and what is remembered."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import DEADLINE_S, Server

from mx.client.sync import SyncClient
from mx.core.feed import EventKind, FeedUpdate, LinkLost
from mx.core.fleet import NOTHING_TOLD, Fleet, apply
from mx.core.source import SourceStatus
from mx.errors import MxError
from mx.testing.redis_servers import running_redis, valkey_program
from mx.testing.samples import entry

ONE = entry()
# The stores are swept every 10 s too: what is there before then was told.
TOLD_WITHIN_S = 5.0


class Watch:
    """A blocking watch in a thread of its own."""

    def __init__(self, address: str) -> None:
        self.fleet: Fleet = NOTHING_TOLD
        self.lost = 0
        self._client = SyncClient(address, timeout_s=10, max_retries=0)
        self._updates: queue.SimpleQueue[FeedUpdate] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def until(self, holds: Callable[[Fleet], Any]) -> Fleet:
        while not holds(self.fleet):
            update = self._updates.get(timeout=DEADLINE_S)
            self.lost += isinstance(update, LinkLost)
            self.fleet = apply(self.fleet, update)
        return self.fleet

    def close(self) -> None:
        self._client.close()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            for update in self._client.watch():
                self._updates.put(update)
        except MxError:
            return  # closed


@contextmanager
def watching(*servers: Server) -> Iterator[list[Watch]]:
    watches = [Watch(server.address) for server in servers]
    try:
        for watch in watches:
            watch.until(lambda fleet: fleet.server)
        yield watches
    finally:
        for watch in watches:
            watch.close()


@contextmanager
def running(*servers: Server) -> Iterator[None]:
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.close()


def publish(client: SyncClient) -> None:
    client.publish(ONE.identity, ONE.worker, worker_id=ONE.worker_id)
    assert client.update_status(ONE.key, SourceStatus.READY)


def test_a_server_that_was_killed_is_missed_and_tells_everything_when_it_is_back(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with running(server), watching(server) as (watch,):
        publish(server.client)
        before = watch.until(lambda fleet: any(one.kind is EventKind.SOURCE for one in fleet.events))
        server.kill()
        lost = watch.until(lambda fleet: fleet.lost)
        assert lost.sources == before.sources
        assert lost.lost is not None
        assert lost.lost.reason
        server.start()
        again = watch.until(lambda fleet: fleet.lost is None)
        assert again.snapshots == before.snapshots + 1
        assert again.position is not None
        assert before.position is not None
        assert again.position.feed_id != before.position.feed_id
        fleet = watch.until(lambda fleet: ONE.key in fleet.sources)
        # What happened before the kill is remembered, in the store that holds everything else.
        told = [event.event_id for event in before.events]
        assert [event.event_id for event in fleet.events][: len(told)] == told
        assert any(event.kind is EventKind.SOURCE for event in server.client.list_events())


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_servers_of_one_store_show_each_others_changes(tmp_path: Path, store: str) -> None:
    homes = [tmp_path / name for name in "ab"]
    for home in homes:
        home.mkdir()
    if store == "sqlite":
        one = Server(homes[0])
        two = Server(homes[1])
        two.database = one.database
        _see_each_other(one, two)
        return
    with running_redis(valkey_program()) as redis:
        env = {"MX_METADATA_BACKEND": "redis", "REDIS_URL": redis.url}
        _see_each_other(*(Server(home, env=env) for home in homes))


def _see_each_other(one: Server, two: Server) -> None:
    with running(one, two), watching(one, two) as watches:
        begin_s = time.monotonic()
        publish(one.client)
        for watch in watches:
            watch.until(lambda fleet: ONE.key in fleet.sources)
            watch.until(lambda fleet: any("serves" in event.text for event in fleet.events))
        assert time.monotonic() - begin_s < TOLD_WITHIN_S
        begin_s = time.monotonic()
        assert two.client.withdraw(ONE.key)
        for watch in watches:
            watch.until(lambda fleet: ONE.key not in fleet.sources)
        assert time.monotonic() - begin_s < TOLD_WITHIN_S
        for watch in watches:
            fleet = watch.until(lambda fleet: any("left" in event.text for event in fleet.events))
            texts = [event.text for event in fleet.events if event.kind is EventKind.SOURCE]
            assert len(texts) == 2, texts
        told = one.client.list_events()
        assert told == two.client.list_events()
        one.kill()
        one.start()
        assert one.client.list_events()[: len(told)] == told
