"""Parts of the Redis store that need no Redis: errors in words, the clock, names of keys, packed records."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions as errors
from redis.asyncio.sentinel import MasterNotFoundError
from redis.crc import key_slot

from mx.core.model import EntryKey, ProviderName
from mx.core.source import EMPTY_MAP, WorkerKey, WorkerRecord
from mx.errors import (
    InvalidArgumentError,
    MxError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from mx.store.published import UnreadableError, dump_record
from mx.store.redis import keys
from mx.store.redis.change import Change
from mx.store.redis.clock import RedisClock
from mx.store.redis.failures import translate
from mx.store.redis.packed import pack, stamp, unpack
from mx.testing.samples import model_keys, texts, workers

WHERE = "Redis at redis://r:6379"


@pytest.mark.parametrize(
    ("error", "words", "opening"),
    [
        (errors.AuthenticationError("WRONGPASS invalid"), "user name or password", UnauthenticatedError),
        (errors.AuthenticationError("Authentication required."), "user name", UnauthenticatedError),
        (errors.NoPermissionError("this user has no permissions"), "does not let", PermissionDeniedError),
        (errors.ResponseError("The user executing the script can't"), "does not let", PermissionDeniedError),
        (errors.BusyLoadingError("Redis is loading the dataset"), "is loading", UnavailableError),
        (errors.ReadOnlyError("You can't write"), "read-only replica", UnavailableError),
        (errors.ResponseError("Error: -READONLY You can't write"), "read-only replica", UnavailableError),
        (errors.OutOfMemoryError("command not allowed"), "out of memory", UnavailableError),
        (errors.ResponseError("Error running script: -OOM command not"), "out of memory", UnavailableError),
        (errors.ResponseError("MISCONF Errors writing to the AOF"), "save to its disk", UnavailableError),
        (errors.ResponseError("NOREPLICAS Not enough"), "too few replicas", UnavailableError),
        (errors.ClusterDownError("The cluster is down"), "cluster that is down", UnavailableError),
        (errors.MasterDownError("Link with MASTER is down"), "cluster that is down", UnavailableError),
        (errors.SlotNotCoveredError("Slot 7"), "cluster that is down", UnavailableError),
        (errors.MovedError("7 10.0.0.1:6379"), "redis+cluster://", UnavailableError),
        (errors.ClusterCrossSlotError("Keys"), "redis+cluster://", UnavailableError),
        (errors.TryAgainError("Multiple keys"), "moving keys", UnavailableError),
        (MasterNotFoundError("No master"), "Sentinels", UnavailableError),
        (errors.ResponseError("max number of clients reached"), "no connection left", UnavailableError),
        (errors.ResponseError("BUSY Redis is busy"), "script of somebody else", UnavailableError),
        (errors.ResponseError("WRONGTYPE Operation"), "another type", UnavailableError),
        (errors.ConnectionError("Error 1: [SSL: CERTIFICATE_VERIFY_FAILED]"), "ca_file", UnavailableError),
        (errors.ConnectionError("Error 111 connecting to r:6379."), "can't be reached", UnavailableError),
        (ConnectionRefusedError(111, "refused"), "can't be reached", UnavailableError),
        (errors.TimeoutError("Timeout reading"), "did not answer in time", UnavailableError),
        (errors.ResponseError("ERR something new"), "refused a call: ERR something new", UnavailableError),
        (errors.RedisClusterException("odd"), "refused a call: odd", UnavailableError),
    ],
)
def test_every_error_says_what_happened_where_and_what_to_do(
    error: Exception, words: str, opening: type[MxError]
) -> None:
    for begins in (False, True):
        found = translate(error, WHERE, opening=begins)
        assert type(found) is (opening if begins else UnavailableError)
        assert found.message.startswith(WHERE)
        assert words in str(found)


def test_values_that_no_text_can_hold_are_the_callers_fault() -> None:
    with pytest.raises(UnicodeEncodeError) as caught:
        "\ud800".encode()
    assert isinstance(translate(caught.value, WHERE), InvalidArgumentError)


def test_an_error_that_quotes_a_command_is_cut_before_the_password() -> None:
    error = errors.ResponseError("unknown command 'AUTH', with args beginning with: 'geheim' \r\n more")
    assert "geheim" not in str(translate(error, WHERE))


# ---- the clock -----------------------------------------------------------------------------------------


class Now:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def test_the_clock_tells_redis_time_and_runs_on_between_its_answers() -> None:
    now = Now()
    clock = RedisClock(now)
    assert not clock.known
    clock.note(5_000_000, asked_s=100.0, heard_s=100.2)
    assert clock.known
    assert clock.now_ms() == 4_999_900  # the middle of asking and hearing
    now.s += 1.5
    assert clock.now_ms() == 5_001_400
    assert clock.monotonic_s() == 101.5


def test_a_slow_answer_does_not_shake_what_it_can_not_contradict() -> None:
    now = Now()
    clock = RedisClock(now)
    clock.note(5_000_000, asked_s=100.0, heard_s=100.0)
    clock.note(5_002_000, asked_s=101.0, heard_s=103.0)
    assert clock.now_ms() == 5_000_000
    clock.note(9_000_000, asked_s=103.0, heard_s=103.0)
    now.s = 104
    assert clock.now_ms() == 9_001_000, "another Redis, whose clock is ahead"


def test_the_clock_never_goes_back_and_goes_on_when_it_is_overtaken() -> None:
    now = Now()
    clock = RedisClock(now)
    clock.note(5_000_000, asked_s=100.0, heard_s=100.0)
    assert clock.now_ms() == 5_000_000
    clock.note(4_000_000, asked_s=100.0, heard_s=100.0)
    assert clock.now_ms() == 5_000_000
    now.s += 2_000
    assert clock.now_ms() == 6_000_000


# ---- keys ----------------------------------------------------------------------------------------------


@given(model_keys)
def test_model_keys_come_back(key: EntryKey) -> None:
    assert keys.parse_model_key(keys.model_key(key)) == key


@pytest.mark.parametrize("text", ["mx1:", "mx1:abc", "mx1:abc:x:name", "mx1:abc:-:", "mx1::"])
def test_a_malformed_entry_key_is_a_plain_name(text: str) -> None:
    expected = EntryKey(ProviderName.HUGGING_FACE, text, "", True)
    assert keys.parse_model_key(f"mx:model:HuggingFace:{text}".encode()) == expected


@pytest.mark.parametrize("key", [b"mx:model:x", b"mx:model:Odd:x", b"mx:model:Ngc:", b"mx:model:\xff:x"])
def test_keys_that_are_no_models(key: bytes) -> None:
    assert keys.parse_model_key(key) is None


@given(texts.filter(bool), st.integers(0, (1 << 32) - 1))
def test_members_of_the_index_of_workers_come_back(worker_id: str, rank: int) -> None:
    key = WorkerKey("0123456789abcdef", worker_id, rank)
    assert keys.parse_worker_member(keys.worker_member(key)) == key


@given(texts)
def test_companions_lie_in_the_slot_of_their_key(worker_id: str) -> None:
    main = keys.worker_key("0123456789abcdef", worker_id)
    if keys.has_companions(main):
        assert key_slot(keys.packed_key("0123456789abcdef", worker_id)) == key_slot(main)
        assert key_slot(keys.model_extras_key(main)) == key_slot(main)
    source = keys.source_key("0123456789abcdef")
    assert key_slot(keys.index_key("0123456789abcdef")) == key_slot(source)


def test_a_change_is_cut_by_slots_in_the_order_of_its_keys() -> None:
    change = Change().is_(b"{b}1", b"f", b"v").is_(b"{a}1", b"f", None).set(b"{b}2", b"f", b"w")
    change.drop(b"{a}1").say(b"channel", b"message")
    ((all_keys, _),) = change.calls(by_slot=False)
    assert all_keys == (b"{b}1", b"{a}1", b"{b}2")
    (first_keys, first), (second_keys, second) = change.calls(by_slot=True)
    assert first_keys == (b"{b}1", b"{b}2")
    assert first == (b"is", b"1", b"f", b"v", b"set", b"2", b"f", b"w")
    assert second_keys == (b"{a}1",)
    assert second == (b"no", b"1", b"f", b"drop", b"1", b"say", b"1", b"channel", b"message")


# ---- packed records ------------------------------------------------------------------------------------


@given(workers)
def test_packed_records_come_back_without_what_heartbeats_rewrite(worker: WorkerRecord) -> None:
    kept = replace(worker, status=0, updated_at_ms=0, accelerator="", topology=EMPTY_MAP)
    assert unpack(pack(worker)) == kept


@given(st.binary(max_size=40))
def test_rubbish_is_not_unpacked(data: bytes) -> None:
    for text in (data, b"\x01" + data):
        with pytest.raises(UnreadableError):
            unpack(text)


@given(workers, st.integers(0, 1 << 40))
def test_a_record_that_was_published_again_has_another_stamp(worker: WorkerRecord, later_ms: int) -> None:
    again = replace(worker, updated_at_ms=later_ms)
    same = again == worker
    assert (stamp(dump_record(worker)) == stamp(dump_record(again))) == same
