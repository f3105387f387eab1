"""What the cache's admin calls say survives the wire, whatever it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx.core.cache_view import CacheStats, EntryDetail, KindStats, ListedEntry, ShownFile
from mx.core.cached import FaultKind, FileFault
from mx.core.eviction import EvictionPlan, EvictionPolicy, EvictionRun, EvictionStep, Survivor, Victim
from mx.core.model import Claim, EntryKey, EntryStatus, Pin, ProviderName, ReadLease
from mx.core.verification import EntryVerified, OnFault, Outcome, VerifyProgress
from mx.errors import InvalidArgumentError
from mx.wire import cache_codec, models_admin_codec
from mx.wire.v1 import admin

text = st.text(st.characters(codec="utf-8"), max_size=12)
count = st.integers(0, 2**40)
times = st.integers(0, 2**50)
floats = st.floats(0, 1e12)
keys = st.builds(EntryKey, st.sampled_from(ProviderName), text, text, st.booleans())
pins = st.none() | st.builds(Pin, st.none() | times, text)
listed = st.builds(
    ListedEntry,
    key=keys,
    status=st.sampled_from(EntryStatus),
    created_at_ms=times,
    last_used_at_ms=times,
    message=text,
    bytes_total=count,
    bytes_done=count,
    files=st.integers(0, 2**31),
    disk_bytes=count,
    own_bytes=count,
    owner=text,
    pin=pins,
    readers=st.lists(text, max_size=2).map(tuple),
    requested_revision=text,
    retry_at_ms=times,
)
details = st.builds(
    EntryDetail,
    listed=listed,
    root=text,
    completed_at_ms=times,
    files=st.lists(st.builds(ShownFile, text, count, text, text, text, st.integers(0, 9)), max_size=2).map(
        tuple
    ),
    shares_with=st.lists(keys, max_size=2).map(tuple),
    claim=st.none() | st.builds(Claim, text.filter(bool), count, times),
    leases=st.lists(st.builds(ReadLease, text, text, times), max_size=2).map(tuple),
    attempts=st.integers(0, 99),
)
plans = st.builds(
    EvictionPlan,
    victims=st.lists(st.builds(Victim, keys, count, text), max_size=2).map(tuple),
    survivors=st.lists(st.builds(Survivor, keys, count, text), max_size=2).map(tuple),
    bytes_freed=count,
    target_bytes=count,
    met=st.booleans(),
)
runs = st.builds(
    EvictionRun,
    run_id=text,
    started_at_ms=times,
    trigger=text,
    plan=plans,
    bytes_freed=count,
    finished_at_ms=times,
    failed=st.lists(st.tuples(keys, text), max_size=2).map(tuple),
)
policies = st.builds(
    EvictionPolicy,
    unused_threshold_s=st.none() | floats,
    max_models=st.none() | count,
    max_size_bytes=st.none() | count,
    min_free_space_bytes=st.none() | count,
    high_water=floats,
    low_water=floats,
    grace_s=floats,
)
stats = st.builds(
    CacheStats,
    root=text,
    kinds=st.lists(st.builds(KindStats, text, count, count, count, count), max_size=3).map(tuple),
    used_bytes=count,
    free_bytes=count,
    disk_bytes=count,
    policy=policies,
    eviction_enabled=st.booleans(),
    next_run_at_ms=st.none() | times,
    runs=st.lists(runs, max_size=2).map(tuple),
    now_ms=times,
)
steps = st.builds(
    VerifyProgress, keys, count, count, count, count, st.none() | floats, st.none() | floats, text
) | st.builds(
    EntryVerified,
    keys,
    st.sampled_from(Outcome),
    count,
    count,
    st.lists(st.builds(FileFault, text, st.sampled_from(FaultKind), text), max_size=2).map(tuple),
    st.lists(text, max_size=2).map(tuple),
    text,
    st.lists(keys, max_size=2).map(tuple),
)


@given(details)
def test_entries(detail: EntryDetail) -> None:
    assert cache_codec.decode_detail(cache_codec.encode_detail(detail)) == detail


@given(stats)
def test_stats(found: CacheStats) -> None:
    assert cache_codec.decode_stats(cache_codec.encode_stats(found)) == found


@given(steps)
def test_steps_of_a_verification(step: VerifyProgress | EntryVerified) -> None:
    assert cache_codec.decode_verify_step(cache_codec.encode_verify_step(step)) == step


@given(runs, st.builds(EvictionStep, keys, count, text, count, count))
def test_runs_and_their_steps(run: EvictionRun, step: EvictionStep) -> None:
    assert models_admin_codec.decode_run(models_admin_codec.encode_run(run)) == run
    assert models_admin_codec.decode_step(models_admin_codec.encode_step(step)) == step


@given(st.none() | st.lists(keys, max_size=3).map(tuple), st.sampled_from(OnFault))
def test_what_is_to_be_verified(wanted: tuple[EntryKey, ...] | None, on_fault: OnFault) -> None:
    assert cache_codec.decode_verify(cache_codec.encode_verify(wanted, on_fault)) == (wanted, on_fault)


def test_an_empty_request_reports_and_a_strange_one_is_refused() -> None:
    assert cache_codec.decode_verify(admin.VerifyModelsRequest()) == (None, OnFault.REPORT)
    with pytest.raises(InvalidArgumentError, match="burn"):
        cache_codec.decode_verify(admin.VerifyModelsRequest(on_fault="burn"))


def test_words_of_a_later_release_are_taken_for_the_worse() -> None:
    key = admin.EntryKey(provider="s3", name="s3://b/m", weights=True)
    fault = admin.FileFault(path="a", kind="haunted")
    message = admin.VerifyUpdate(entry=admin.EntryVerified(key=key, outcome="splendid", faults=[fault]))
    step = cache_codec.decode_verify_step(message)
    assert isinstance(step, EntryVerified)
    assert (step.outcome, step.faults[0].kind) == (Outcome.DAMAGED, FaultKind.UNREADABLE)
