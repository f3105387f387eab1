"""Sources that die, freeze, lie or come back as somebody else, with real processes over NIXL."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from processes import Server, Site, Worker, free_port, until

from mx.core.source import SourceStatus

MIB = 1 << 20
SEGMENT = 2 * MIB
WINDOW = 4
# Like a small model: a few large tensors, some of middle size, many tiny ones.
SIZES = [12 * MIB] * 6 + [3 * MIB // 2 + 512] * 20 + [4096] * 200
TOTAL = sum(SIZES)
SEGMENTS = -(-TOTAL // SEGMENT)
# With these transports a read needs the source's process for every byte, as over a network
# without RDMA: one that is stopped or killed leaves its reads half done.
NETWORK = "self,tcp"
STALL_S = 2
# Port 9 is for discarding; nobody listens on it.
NOBODY = "127.0.0.1:9"
# Generous: a machine with two busy cores takes a second or two for everything here.
SOON_S = 15


@pytest.fixture(autouse=True)
def _server(site: Site, shared_server: Server) -> None:
    site.use(shared_server)


def launch(site: Site, *names: str, **task: Any) -> list[Worker]:
    """Workers with the same task, started side by side. Names of sources begin with "source"."""
    workers = [
        site.worker(
            name,
            sizes=SIZES,
            transports=NETWORK,
            **{"filled": name.startswith("source"), "count": not name.startswith("source")} | task,
        )
        for name in names
    ]
    for worker in workers:
        worker.hear("started")
        if worker.name.startswith("source"):
            worker.publish()
    return workers


def assert_loaded(worker: Worker, outcome: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Everything arrived, verified, right, and counted once. The shares by worker."""
    assert outcome["kind"] == "Loaded", outcome
    assert outcome["verified"]
    assert outcome["bytes_done"] == TOTAL == sum(share["bytes"] for share in outcome["sources"])
    assert outcome["segments"] == SEGMENTS == sum(share["segments"] for share in outcome["sources"])
    assert worker.wrong_words() == 0
    return {share["worker_id"]: share for share in outcome["sources"]}


def read_bytes(outcome: dict[str, Any]) -> int:
    """Bytes of all reads that were started."""
    return sum(outcome["posted"].values())


# ---- killed and frozen -------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True], ids=["between reads", "in the middle of reads"])
def test_a_source_killed_mid_pull_is_replaced_by_the_second(site: Site, frozen: bool) -> None:
    first, _, target = launch(site, "source-1", "source-2", "target")
    target.tell("pull", hold_at=0.3, source="source-1", sources=2)
    assert target.hear("holding")["posted"] < TOTAL
    # The next read is one from the first source.
    if frozen:
        # The target goes on; its reads from the first source stay half done until the kill.
        first.signal(signal.SIGSTOP)
        target.tell("go")
        until(lambda: site.done_bytes(target) >= TOTAL - WINDOW * SEGMENT, "the second delivers the rest")
        first.kill()
    else:
        first.kill()
        target.tell("go")
    outcome = target.hear("outcome")
    shares = assert_loaded(target, outcome)
    # Killed in the middle of its reads it is on probation; with little left nobody asks it again.
    assert shares["source-1"]["dropped"] or frozen
    assert shares["source-2"]["bytes"] > shares["source-1"]["bytes"]
    assert not shares["source-2"]["dropped"]
    assert outcome["segments_reread"] == 0, "nothing that was verified is read again"
    assert read_bytes(outcome) <= TOTAL + WINDOW * SEGMENT, outcome["posted"]
    assert outcome["seconds"] < SOON_S
    assert target.end() < 5


def test_a_killed_source_with_no_second_fails_the_pull_and_says_what_is_missing(site: Site) -> None:
    source, target = launch(site, "source", "target")
    target.tell("pull", hold_at=0.3)
    target.hear("holding")
    source.kill()
    target.tell("go")
    outcome = target.hear("outcome")
    assert (outcome["kind"], outcome["mutated"], outcome["blame"]) == ("Failed", True, "source")
    assert "segments missing, the first is " in outcome["reason"]
    assert "source:" in outcome["reason"]
    assert outcome["seconds"] < SOON_S
    assert target.end() < 5
    assert "Traceback" not in target.log


def test_a_frozen_source_stalls_its_segments_go_to_the_second_and_nothing_arrives_late(site: Site) -> None:
    """NIXL frees a read that is under way, but its bytes would still arrive when the source wakes up."""
    flags = {"transfer.stall_timeout_s": STALL_S}
    first, _, target = launch(site, "source-1", "source-2", "target", flags=flags)
    target.tell("pull", hold_at=0.3, source="source-1", sources=2)
    target.hear("holding")
    first.signal(signal.SIGSTOP)
    target.tell("go")
    outcome = target.hear("outcome")
    shares = assert_loaded(target, outcome)
    assert "no progress" in shares["source-1"]["dropped"]
    assert not shares["source-2"]["dropped"]
    assert read_bytes(outcome) <= TOTAL + WINDOW * SEGMENT, outcome["posted"]
    assert STALL_S <= outcome["seconds"] < SOON_S
    # From here on the memory belongs to the model.
    target.ask("clear", "cleared")
    first.signal(signal.SIGCONT)
    _wait_awake(first)
    assert target.untouched()
    assert target.end() < 5


def _wait_awake(source: Worker) -> None:
    """Until it has gone through its memory, or ended: UCX aborts some that find their readers gone."""
    source.tell("content")
    assert source.next_event()["event"] in ("content", "ended")


def test_a_frozen_source_with_no_second_fails_the_pull(site: Site) -> None:
    flags = {"transfer.stall_timeout_s": STALL_S}
    source, target = launch(site, "source", "target", flags=flags)
    target.tell("pull", hold_at=0.3)
    target.hear("holding")
    source.signal(signal.SIGSTOP)
    target.tell("go")
    outcome = target.hear("outcome")
    assert (outcome["kind"], outcome["mutated"], outcome["blame"]) == ("Failed", True, "source")
    assert "segments missing, the first is " in outcome["reason"]
    assert f"within {STALL_S} s" in outcome["reason"] or "no progress" in outcome["reason"]
    assert outcome["seconds"] < SOON_S
    assert target.end() < 5


def test_a_source_that_wakes_up_in_time_finishes_what_it_began(site: Site) -> None:
    flags = {"transfer.stall_timeout_s": STALL_S}
    source, warm, target = launch(site, "source", "warm", "target", flags=flags)
    assert_loaded(warm, warm.pull())  # afterwards all digests are known
    target.tell("pull", hold_at=0.3)
    target.hear("holding")
    source.signal(signal.SIGSTOP)
    target.tell("go")
    # One stall is over, the next not yet.
    with pytest.raises(AssertionError):
        target.hear("outcome", within_s=1.4 * STALL_S)
    source.signal(signal.SIGCONT)
    assert_loaded(target, target.hear("outcome"))


def test_a_source_that_is_frozen_before_the_pull_costs_nothing(site: Site) -> None:
    first, _, target = launch(site, "source-1", "source-2", "target")
    first.signal(signal.SIGSTOP)
    outcome = target.pull()
    shares = assert_loaded(target, outcome)
    assert set(shares) == {"source-2"}
    assert outcome["seconds"] < 4, "connecting to the frozen one alone has 5 s"


def test_a_target_that_dies_mid_pull_leaves_its_source_in_order(site: Site) -> None:
    source, victim, target = launch(site, "source", "victim", "target")
    victim.tell("pull", hold_at=0.3)
    victim.hear("holding")
    victim.tell("go")
    victim.kill()
    assert_loaded(target, target.pull())
    # The victim's lease is still open: the end does not wait for it longer than it may.
    assert source.end() < 8


# ---- manifests ---------------------------------------------------------------------------------


def test_manifests_that_do_not_fit_are_refused_before_a_byte_moves(site: Site) -> None:
    words = {
        "missing": "1 local tensors the source lacks: layers.225.weight",
        "size": "1 tensors differ: layers.225.weight (4096 B torch.bfloat16 here, 4032 B torch.bfloat16",
        "dtype": "4096 B torch.float16 there)",
    }
    wrong = [
        site.worker(f"source-{change}", sizes=SIZES, filled=True, transports=NETWORK, change=change)
        for change in words
    ]
    target, other = launch(site, "target", "target-2")
    for source in wrong:
        source.hear("started")
        source.publish()
    outcome = target.pull()
    assert (outcome["kind"], outcome["mutated"], outcome["blame"]) == ("Failed", False, "source"), outcome
    for change, text in words.items():
        assert f"source-{change}: " in outcome["reason"]
        assert text in outcome["reason"], change
    assert read_bytes(outcome) == 0
    assert target.untouched()
    assert wrong[0].end() < 5, "no lease is left behind"
    # Beside one that fits they do no harm.
    launch(site, "source-good")
    shares = assert_loaded(other, other.pull())
    assert {name for name, share in shares.items() if share["segments"]} == {"source-good"}


# ---- wrong bytes -------------------------------------------------------------------------------


def test_one_flipped_byte_is_found_alone_and_with_a_second_source(site: Site) -> None:
    flipped, copy = launch(site, "source-1", "copy")
    assert_loaded(copy, copy.pull())  # afterwards all digests are known
    # Ids choose the start: both targets begin with segment 1 and read segment 0 last.
    flipped.ask("flip", "flipped", at=SEGMENT // 2)
    alone, target = launch(site, "01", "1")

    outcome = alone.pull()
    assert (outcome["kind"], outcome["mutated"], outcome["blame"]) == ("Failed", True, "source"), outcome
    assert "segment 0 does not match its digest" in outcome["reason"]
    assert "1 segments missing, the first is 0" in outcome["reason"]

    copy.publish()
    target.tell("pull", hold_at=0.2, sources=2)
    target.hear("holding")
    # Segment 0 comes last. While the good source sleeps, only the flipped one can deliver it.
    copy.signal(signal.SIGSTOP)
    target.tell("go")
    until(lambda: site.done_bytes(target) >= TOTAL - (WINDOW + 1) * SEGMENT, "the flipped source delivers")
    copy.signal(signal.SIGCONT)
    outcome = target.hear("outcome")
    shares = assert_loaded(target, outcome)
    assert outcome["segments_reread"] == 1
    assert shares["copy"]["segments"] >= 1
    assert not shares["copy"]["dropped"]


def test_a_source_that_still_computes_its_digests_is_waited_for(site: Site) -> None:
    """A large source needs longer for all of them than a stall may take; a late segment is no stall."""
    # Ids choose the start: 0x33 is the last segment.
    _, target = launch(site, "source", "33", flags={"transfer.stall_timeout_s": STALL_S}, digest_s=0.08)
    outcome = target.pull()
    assert_loaded(target, outcome)
    assert outcome["seconds"] > STALL_S


# ---- other processes at the same address ---------------------------------------------------------


def test_a_worker_that_restarted_on_its_port_is_not_taken_for_its_predecessor(site: Site) -> None:
    flags = {"worker.grpc_port": free_port()}
    (old,) = launch(site, "source", flags=flags)
    target, other = launch(site, "target", "target-2")
    old.kill()
    # Same name, same port; the server does not hear of it, so the record is the old one's.
    renewed = site.worker(
        "source",
        sizes=SIZES,
        filled=True,
        transports=NETWORK,
        flags=flags,
        address=NOBODY,
    )
    renewed.hear("started")
    renewed.ask("publish", "published", wait=False)
    outcome = target.pull()
    assert outcome["kind"] == "Skipped", outcome
    assert "worker source has restarted since it was listed" in outcome["reason"]
    assert read_bytes(outcome) == 0
    renewed.kill()
    # Another worker on that port, which does publish: the old record is refused, the new one taken.
    (_,) = launch(site, "source-2", flags=flags)
    outcome = other.pull()
    shares = assert_loaded(other, outcome)
    assert set(shares) == {"source-2"}


# ---- many at once --------------------------------------------------------------------------------


def test_a_fleet_that_starts_at_once_pulls_from_the_one_that_has_the_weights(site: Site) -> None:
    names = ["10", "20", "30", "40"]
    source, *targets = launch(site, "source", *names)
    for target in targets:
        target.tell("pull")
    for target in targets:
        outcome = target.hear("outcome")
        shares = assert_loaded(target, outcome)
        assert set(shares) == {"source"}
        target.publish()
    ready = site.server.sources(model=site.model, status=SourceStatus.READY)
    assert set(ready) == {"source", *names}
    source.end()
    (last,) = launch(site, "last")
    shares = assert_loaded(last, last.pull())
    assert set(shares) <= set(names)
    assert len(shares) >= 2, "several sources share the work"
