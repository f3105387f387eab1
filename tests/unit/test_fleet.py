"""The reducer of the feed's updates: tables follow changes, bounds hold, nothing told is changed in place."""

from __future__ import annotations

from dataclasses import replace

from mx.core.feed import (
    CacheChanged,
    DownloadMoved,
    EntryChanged,
    EntryGone,
    FeedPosition,
    FleetChanges,
    LinkLost,
    Logged,
    Moving,
    ServerChanged,
    SourceChanged,
    SourceGone,
    TransferChanged,
)
from mx.core.fleet import EVENTS_KEPT, FINISHED_KEPT, NOTHING_TOLD, apply, apply_changes, snapshot_of
from mx.core.model import EntryStatus
from mx.core.transfer import TransferState
from mx.testing import feed_samples as some

LOST = LinkLost("refused", 1, 0.5)


def test_a_snapshot_is_told_back_as_it_was() -> None:
    fleet = apply(NOTHING_TOLD, some.snapshot())
    assert snapshot_of(fleet, dropped=2) == some.snapshot()
    assert fleet.snapshots == 1


def test_each_change_replaces_what_it_names() -> None:
    before = apply(NOTHING_TOLD, some.snapshot())
    key, gone = some.entry_key("org/n"), some.source("w1").key
    stats = replace(some.cache_stats(), used_bytes=5)
    status = some.server_status(draining=True)
    changes = (
        EntryChanged(some.listed("org/n", EntryStatus.ERROR)),
        EntryGone(some.entry_key("org/m")),
        DownloadMoved(key, Moving(2, 2)),
        CacheChanged(stats),
        SourceChanged(some.source("w2")),
        SourceGone(gone),
        TransferChanged(some.transfer("t1", TransferState.DONE)),
        TransferChanged(some.transfer("t2")),
        ServerChanged(status),
        Logged(some.event(2)),
    )
    after = apply(before, FleetChanges(FeedPosition("f0", 11), 99, changes))
    assert after.position == FeedPosition("f0", 11)
    assert after.now_ms == 99
    assert list(after.entries) == [key]
    assert after.entries[key].status is EntryStatus.ERROR
    assert after.downloads == {key: Moving(2, 2)}
    assert (after.cache, after.server) == (stats, status)
    assert [one.worker_id for one in after.sources.values()] == ["w0", "w2"]
    assert list(after.running) == ["t2"]
    assert list(after.finished) == ["t0", "t1"]
    assert [one.transfer_id for one in after.transfers] == ["t2", "t1", "t0"]
    assert [one.at_ms for one in after.events] == [0, 1, 2]
    assert before == apply(NOTHING_TOLD, some.snapshot())
    ended = apply(after, FleetChanges(FeedPosition("f0", 12), 100, (DownloadMoved(key, None),)))
    assert ended.downloads == {}


def test_a_lost_link_keeps_what_was_known_until_the_next_news() -> None:
    fleet = apply(apply(NOTHING_TOLD, some.snapshot()), LOST)
    assert fleet.lost == LOST
    assert fleet.entries
    assert apply(fleet, FleetChanges(FeedPosition("f0", 1), 11, ())).lost is None
    assert apply(fleet, some.snapshot()).lost is None


def test_a_transfer_that_was_given_up_and_goes_on_is_under_way_again() -> None:
    fleet = apply(NOTHING_TOLD, some.snapshot())
    fleet = apply_changes(fleet, [TransferChanged(some.transfer("t1", TransferState.FAILED))])
    assert "t1" in fleet.finished
    fleet = apply_changes(fleet, [TransferChanged(some.transfer("t1", bytes_done=5))])
    assert "t1" in fleet.running
    assert "t1" not in fleet.finished


def test_events_and_finished_transfers_are_bounded() -> None:
    fleet = apply(NOTHING_TOLD, some.snapshot())
    events = [Logged(some.event(number)) for number in range(EVENTS_KEPT + 10)]
    ends = [TransferChanged(some.transfer(f"e{n}", TransferState.DONE)) for n in range(FINISHED_KEPT + 10)]
    fleet = apply_changes(fleet, [*events, *ends])
    assert len(fleet.events) == EVENTS_KEPT
    assert fleet.events[-1].at_ms == EVENTS_KEPT + 9
    assert len(fleet.finished) == FINISHED_KEPT
    assert fleet.transfers[1].transfer_id == f"e{FINISHED_KEPT + 9}"


def test_an_event_that_comes_twice_is_kept_once() -> None:
    fleet = apply(NOTHING_TOLD, some.snapshot())
    fleet = apply_changes(fleet, [Logged(some.event(1)), Logged(some.event(2)), Logged(some.event(2))])
    assert [one.at_ms for one in fleet.events] == [0, 1, 2]


def test_tables_that_no_change_touches_are_not_copied() -> None:
    before = apply(NOTHING_TOLD, some.snapshot())
    after = apply_changes(before, [SourceChanged(some.source("w5"))])
    assert after.entries is before.entries
    assert after.sources is not before.sources
