"""A record at the server: kept through refusals and losses, and gone for good once it is withdrawn."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mx.core.source import (
    PeerRecord,
    PodReference,
    SourceIdentity,
    SourceStatus,
    WorkerKey,
    WorkerRecord,
    source_id,
)
from mx.errors import DeadlineError, InvalidArgumentError, UnavailableError
from mx.testing.clock import FakeClock
from mx.testing.registry import InProcessRegistry
from mx.transfer.publisher import FIRST_RETRY_S, Publisher

IDENTITY = SourceIdentity(model_name="org/model", mx_version="test")
KEY = WorkerKey(source_id(IDENTITY), "aaaa0001", 0)
PEER = PeerRecord("127.0.0.1:1", "generation-0")


class Registry(InProcessRegistry):
    """The real services, with hooks around each call; ``calls`` are those that came through."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.calls: list[str] = []
        self.loads: list[float | None] = []
        self.before: dict[str, Callable[[], None]] = {}
        self.after: dict[str, Callable[[], None]] = {}

    def _note(self, name: str) -> None:
        if name in self.before:
            self.before[name]()
        self.calls.append(name)

    def publish(
        self,
        identity: SourceIdentity,
        worker: WorkerRecord,
        *,
        worker_id: str,
        pod: PodReference = PodReference(),
    ) -> str:
        self._note("publish")
        answer = super().publish(identity, worker, worker_id=worker_id, pod=pod)
        if "publish" in self.after:
            self.after["publish"]()
        return answer

    def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        self._note("announce")
        return super().announce(key, peer)

    def update_status(self, key: WorkerKey, status: int, *, source_load: float | None = None) -> bool:
        self._note("update_status")
        self.loads.append(source_load)
        return super().update_status(key, status, source_load=source_load)

    def withdraw(self, key: WorkerKey) -> bool:
        self._note("withdraw")
        return super().withdraw(key)

    @property
    def statuses(self) -> list[int]:
        return [row.status for row in self.list_sources()]


def until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.005)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def start(registry: Registry) -> Iterator[Callable[..., Publisher]]:
    started: list[Publisher] = []

    def begin(*, heartbeat_s: float = 0.02, give_up_s: float = 30.0, **options: Any) -> Publisher:
        publisher = Publisher(
            registry,
            identity=IDENTITY,
            worker=WorkerRecord(worker_rank=0),
            key=KEY,
            peer=PEER,
            heartbeat_s=heartbeat_s,
            give_up_s=give_up_s,
            **options,
        )
        started.append(publisher)
        publisher.start()
        return publisher

    yield begin
    registry.before.clear()
    for publisher in started:
        publisher.withdraw(timeout_s=5)


Start = Callable[..., Publisher]


def refuse() -> None:
    raise InvalidArgumentError("the server refused worker 'aaaa0001': Backend error: store is down")


def messages(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(record.message == text for record in caplog.records)


# --- losses and refusals -------------------------------------------------------------------------
def test_a_server_that_forgets_what_it_took_is_not_stormed(registry: Registry, start: Start) -> None:
    published: list[float] = []
    registry.before["publish"] = lambda: published.append(time.monotonic())
    registry.before["update_status"] = registry.forget
    publisher = start(heartbeat_s=60)
    until(lambda: len(published) >= 3)
    assert published[1] - published[0] >= FIRST_RETRY_S * 0.9
    assert published[2] - published[1] >= FIRST_RETRY_S * 1.8, "the pause doubles"
    assert not publisher.wait_published(0)
    del registry.before["update_status"]
    assert publisher.wait_published(10)
    assert registry.statuses == [SourceStatus.READY]


def test_a_record_that_was_lost_is_published_again_at_once(registry: Registry, start: Start) -> None:
    publisher = start()
    assert publisher.wait_published(10)
    registry.forget()
    until(lambda: registry.statuses == [SourceStatus.READY], within_s=FIRST_RETRY_S)


def test_a_refusal_is_told_once_and_tried_again(
    registry: Registry, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    refused: list[bool] = []

    def refuse_some() -> None:
        if len(refused) < 5:
            refused.append(True)
            refuse()

    registry.before["publish"] = refuse_some
    publisher = start()
    assert publisher.wait_published(10), "the server reports trouble of its store as a refusal, too"
    assert len(refused) == 5
    assert messages(caplog, "source refused") == 1


def test_a_source_that_is_always_refused_is_given_up_and_leaves_nothing_behind(
    registry: Registry, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    registry.before["update_status"] = refuse
    start(give_up_s=0.1)
    until(lambda: messages(caplog, "gave up publishing") == 1)
    until(lambda: "withdraw" in registry.calls)
    assert registry.statuses == []


def test_a_source_that_was_there_once_is_never_given_up(
    registry: Registry, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = start(give_up_s=0.05)
    assert publisher.wait_published(10)
    tries: list[float] = []

    def refuse_and_count() -> None:
        tries.append(time.monotonic())
        refuse()

    registry.before["publish"] = refuse_and_count
    registry.forget()
    until(lambda: len(tries) > 5 and tries[-1] - tries[0] > 0.1)
    del registry.before["publish"]
    until(lambda: registry.statuses == [SourceStatus.READY])
    assert messages(caplog, "gave up publishing") == 0


def test_trouble_is_told_once_until_it_is_of_another_kind(
    registry: Registry, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    registry.down = True
    publisher = start()
    until(lambda: len(caplog.records) == 1)
    registry.before["publish"] = refuse
    registry.down = False
    until(lambda: messages(caplog, "source refused") == 1)
    registry.before.clear()
    assert publisher.wait_published(10)
    assert len(caplog.records) == 2


# --- withdrawing ---------------------------------------------------------------------------------
def test_a_publish_that_outlasts_its_withdrawal_leaves_no_record(registry: Registry, start: Start) -> None:
    asked, answer = threading.Event(), threading.Event()

    def slow() -> None:
        asked.set()
        answer.wait(10)

    registry.before["publish"] = slow
    publisher = start()
    assert asked.wait(10)
    began = time.monotonic()
    publisher.withdraw(timeout_s=0.1)
    assert time.monotonic() - began < 2, "the wait is bounded"
    answer.set()
    until(lambda: "withdraw" in registry.calls)
    assert registry.calls == ["publish", "withdraw"], "nobody is told that it is ready"
    assert registry.statuses == []


def test_a_record_that_never_became_ready_is_withdrawn(registry: Registry, start: Start) -> None:
    def fail() -> None:
        raise UnavailableError("can't reach the server")

    registry.before["update_status"] = fail
    publisher = start()
    until(lambda: registry.statuses == [SourceStatus.UNKNOWN])
    publisher.withdraw(timeout_s=5)
    assert registry.statuses == []


def test_a_publish_whose_answer_was_lost_is_withdrawn(registry: Registry, start: Start) -> None:
    """The server may have recorded it, whatever the worker heard."""
    heard = threading.Event()

    def lose() -> None:
        heard.set()
        raise DeadlineError("the server did not answer in time")

    registry.after["publish"] = lose
    publisher = start()
    assert heard.wait(10)
    publisher.withdraw(timeout_s=5)
    assert registry.statuses == []


def test_a_source_that_is_withdrawn_is_gone_and_stays_gone(registry: Registry, start: Start) -> None:
    publisher = start()
    assert publisher.wait_published(10)
    publisher.withdraw(timeout_s=5)
    assert registry.statuses == []
    assert registry.calls[-1] == "withdraw"
    calls = len(registry.calls)
    publisher.withdraw(timeout_s=5)
    assert len(registry.calls) == calls, "once is enough"


def test_withdrawing_what_was_never_started_is_harmless(registry: Registry) -> None:
    publisher = Publisher(
        registry,
        identity=IDENTITY,
        worker=WorkerRecord(worker_rank=0),
        key=KEY,
        peer=PEER,
        heartbeat_s=1,
        give_up_s=1,
    )
    publisher.withdraw(timeout_s=1)
    assert registry.calls == []
