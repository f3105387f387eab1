"""``mx source`` against services in this process."""

from __future__ import annotations

import io
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cli_runner import Bench

from mx.cli.output import Cell, Column, Output
from mx.client.embedded import EmbeddedClient
from mx.core.source import (
    ArtifactSource,
    PodReference,
    SourceFilter,
    SourceIdentity,
    SourceStatus,
    SourceSummary,
    WorkerKey,
)
from mx.testing.samples import IDENTITY, PEER, entry

OTHER = SourceIdentity(
    model_name="acme/other",
    tensor_parallel_size=8,
    dtype="float8_e4m3",
    extra_parameters={"training_step": "12", "layout_signature": "sig"},
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("MX_", "MODEL_EXPRESS_")) or name in ("FORCE_COLOR", "COLUMNS", "NO_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bench() -> Bench:
    """Three ready ranks of one model, published 65 s ago, and a new worker of another that still loads."""
    bench = Bench()
    bench.publish(entry("w0", rank=0, peer=PEER, source_load=0.25))
    bench.publish(entry("w0", rank=1))
    bench.publish(entry("w1", rank=0, source_load=0.75))
    bench.clock.advance(65)
    bench.publish(entry("x0", rank=0, status=SourceStatus.INITIALIZING, identity=OTHER))
    return bench


def rows(bench: Bench, *args: str) -> list[tuple[str, int]]:
    ran = bench.mx("source", "list", "-f", "json", *args)
    assert ran.code == 0, ran.err
    return [(row["worker_id"], row["worker_rank"]) for row in ran.json["sources"]]


ALL = [("x0", 0), ("w0", 0), ("w0", 1), ("w1", 0)]


def test_list_json_has_every_member(bench: Bench) -> None:
    found = bench.mx("source", "list", "-f", "json", "--sort", "age:desc").json["sources"]
    first = found[0]
    assert set(first) >= set(SourceSummary.__dataclass_fields__)
    assert first["status"] == "ready"
    assert first["age_s"] == 65.0
    assert first["source_load"] == 0.25
    assert first["peer"]["endpoint"] == PEER.endpoint
    assert first["topology"] == {"node": "n1", "rack": "r1"}
    last = found[-1]
    assert (last["model_name"], last["status"], last["training_step"]) == ("acme/other", "initializing", 12)
    assert (last["peer"], last["source_load"]) == (None, None)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], ALL),
        (["--model", "acme/other"], [("x0", 0)]),
        (["--model", "nobody"], []),
        (["--status", "ready"], ALL[1:]),
        (["--status", "READY"], ALL[1:]),
        (["--status", "stale"], []),
        (["--rank", "1"], [("w0", 1)]),
        (["--filter", "age>1m"], ALL[1:]),
        (["--filter", "age<=1m"], ALL[:1]),
        (["--filter", "load<0.5"], [("w0", 0)]),
        (["--filter", "load!=0.25"], [("x0", 0), ("w0", 1), ("w1", 0)]),
        (["--filter", "model~OTHER"], [("x0", 0)]),
        (["--filter", "worker=w0", "--filter", "rank=0"], [("w0", 0)]),
        (["--filter", "worker!=w0"], [("x0", 0), ("w1", 0)]),
        (["--filter", "step>=12"], [("x0", 0)]),
        (["--filter", "10.0.0.7"], ALL),
        (["--filter", "!acme"], ALL[1:]),
        (["--filter", "status = ready"], ALL[1:]),
        (["--sort", "load"], [("w0", 0), ("w1", 0), ("x0", 0), ("w0", 1)]),
        (["--sort", "load:desc"], [("w1", 0), ("w0", 0), ("x0", 0), ("w0", 1)]),
        (["--sort", "WORKER:desc"], [("x0", 0), ("w1", 0), ("w0", 0), ("w0", 1)]),
        (["--limit", "2"], ALL[:2]),
        (["--limit", "0"], ALL),
    ],
)
def test_list_filters_sorts_and_limits(
    bench: Bench, args: list[str], expected: list[tuple[str, int]]
) -> None:
    # Two sources of different models: their ids decide nothing here, the model names do.
    assert rows(bench, *args) == expected


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--filter", "lod>1"], "did you mean load"),
        (["--filter", "age>soon"], "age>soon"),
        (["--filter", "model>a"], "numbers"),
        (["--filter", ""], "empty"),
        (["--filter", "!"], "empty"),
        (["--sort", "size"], "size"),
        (["--sort", "age:down"], "down"),
    ],
)
def test_list_refuses_what_it_can_t_read(bench: Bench, args: list[str], words: str) -> None:
    ran = bench.mx("source", "list", *args)
    assert ran.code == 2
    assert words in ran.err
    assert ran.settings is None, "the server was asked for nothing"


def test_list_table_in_a_pipe_is_whole(bench: Bench) -> None:
    long = "organisation/" + "model-" * 40
    bench.publish(entry("worker-" * 20, identity=replace(IDENTITY, model_name=long)))
    ran = bench.mx("source", "list")
    lines = ran.out.splitlines()
    assert lines[0].split() == [
        "MODEL",
        "SOURCE",
        "WORKER",
        "RANK",
        "STATUS",
        "HEARTBEAT",
        "LOAD",
        "ACCELERATOR",
        "ENDPOINT",
    ]
    assert len(lines) == 6
    assert any(long in line and "worker-" * 20 in line for line in lines)
    assert all(line == line.rstrip() for line in lines)
    assert "\x1b" not in ran.out
    assert "1m 5s" in ran.out
    assert ran.err == ""


def test_list_on_a_narrow_terminal_leaves_columns_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    ran = bench.mx("source", "list")
    assert "ENDPOINT" not in ran.out
    assert "ENDPOINT" in ran.err
    assert "--wide" in ran.err
    assert "\x1b[" in ran.out
    assert "ENDPOINT" in bench.mx("source", "list", "--wide").out
    monkeypatch.setenv("NO_COLOR", "1")
    plain = bench.mx("source", "list").out
    assert "\x1b" not in plain


def test_list_on_a_terminal_cuts_the_model_and_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = bench.publish(
        entry("w5", identity=replace(IDENTITY, model_name="organisation/" + "m" * 60 + "-tail"))
    )
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    for columns in ("80", "70"):
        monkeypatch.setenv("COLUMNS", columns)
        lines = bench.mx("source", "list").out.splitlines()
        assert all(len(line) <= int(columns) for line in lines)
        cut = next(line for line in lines if "…" in line)
        assert cut.startswith("organ")
        assert "-tail" in cut
        assert found in cut
    monkeypatch.setenv("COLUMNS", "20")
    assert found in bench.mx("source", "list").out, "what can't fit is whole"


def test_a_table_of_ten_thousand_rows_takes_no_time(bench: Bench) -> None:
    out = Output(stdout=io.StringIO())
    rows = [[f"model-{index}", Cell("ready", "green"), str(index)] for index in range(10_000)]
    begin = time.process_time()
    out.table([Column("A", elastic=True), Column("B"), Column("C", justify="right", optional=True)], rows)
    assert time.process_time() - begin < 1.0


def test_list_shows_no_control_characters(bench: Bench) -> None:
    evil = "good\x1b]0;title\x07\x1b[2J\u009b31mbad\nnext\u2028line\u202eturned"
    bench.publish(entry("w9", identity=replace(IDENTITY, model_name=evil)))
    human = bench.mx("source", "list").out
    assert not set(human) & {"\x1b", "\x07", "\u009b", "\u2028", "\u202e"}
    assert len(human.splitlines()) == 6
    assert evil in [row["model_name"] for row in bench.mx("source", "list", "-f", "json").json["sources"]]
    assert "\x1b" not in bench.mx("source", "show", evil).out


def test_list_of_nothing_says_so_on_stderr() -> None:
    ran = Bench().mx("source", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "no source" in ran.err


def test_list_of_a_status_without_a_name(bench: Bench) -> None:
    class Later(EmbeddedClient):
        async def list_sources(
            self, query: SourceFilter, *, identity: SourceIdentity | None = None
        ) -> tuple[SourceSummary, ...]:
            return (SourceSummary("ab" * 8, "w", 0, "m", 7, -(1 << 63), source_load=float("nan")),)

    bench.client = Later(bench.services)
    assert "status 7" in bench.mx("source", "list").out
    row = bench.mx("source", "list", "-f", "json").json["sources"][0]
    assert (row["status"], row["source_load"]) == ("status 7", None)


def test_show_json(bench: Bench) -> None:
    wanted = bench.publish(entry("w0", rank=0, peer=PEER, source_load=0.25))
    shown = bench.mx("source", "show", wanted, "-f", "json").json
    assert shown["source_id"] == wanted
    assert shown["model_name"] == IDENTITY.model_name
    assert shown["identity"]["dtype"] == "bfloat16"
    assert shown["identity"]["mx_source_type"] == "weights"
    assert [(one["worker_id"], one["worker_rank"]) for one in shown["workers"]] == [
        ("w0", 0),
        ("w1", 0),
        ("w0", 1),
    ]
    first = shown["workers"][0]
    assert first["peer"]["generation"] == "g1"
    assert first["record"]["tensors"] == {"count": 2, "bytes": 1 << 63}
    assert first["record"]["nixl_metadata_bytes"] == 6
    assert first["record"]["agent_name"] == "agent-7"


@pytest.mark.parametrize("form", ["id", "prefix", "model"])
def test_show_takes_id_prefix_and_model_name(bench: Bench, form: str) -> None:
    wanted = bench.publish(entry("x0", identity=OTHER))
    name = {"id": wanted, "prefix": wanted[:5], "model": OTHER.model_name}[form]
    assert bench.mx("source", "show", name, "-f", "json").json["source_id"] == wanted


def test_show_human(bench: Bench) -> None:
    pod = PodReference(name="vllm-0", namespace="prod")
    bench.publish(entry("x0", identity=OTHER, peer=PEER, pod=pod))
    out = bench.mx("source", "show", OTHER.model_name, "x0").out
    for words in (
        "acme/other",
        "float8_e4m3",
        "tensor 8",
        "worker x0  rank 0",
        PEER.endpoint,
        "training_step",
    ):
        assert words in out
    assert "tensors" in out
    assert all(line == line.rstrip() for line in out.splitlines())


def test_show_of_an_artifact(bench: Bench) -> None:
    made = entry("x0", identity=OTHER)
    artifact = ArtifactSource("art", total_size_bytes=3 * 1024**3, file_count=5)
    bench.publish(replace(made, worker=replace(made.worker, payload=artifact, backend_metadata=None)))
    assert "art, 5 files, 3.00 GiB" in bench.mx("source", "show", OTHER.model_name).out
    record = bench.mx("source", "show", OTHER.model_name, "-f", "json").json["workers"][0]["record"]
    assert record["artifact"]["file_count"] == 5
    assert record["tensors"] is None


def test_show_one_worker(bench: Bench) -> None:
    shown = bench.mx("source", "show", IDENTITY.model_name, "w1", "-f", "json").json
    assert [one["worker_id"] for one in shown["workers"]] == ["w1"]


def test_show_what_is_not_there(bench: Bench) -> None:
    wanted = bench.publish(entry("x0", identity=OTHER))
    typo = wanted[:-1] + ("0" if wanted[-1] != "0" else "1")
    ran = bench.mx("source", "show", typo, "-f", "json")
    assert ran.code == 3
    assert wanted in ran.json["remedy"]
    assert OTHER.model_name in bench.mx("source", "show", "acme/othr").err
    ran = bench.mx("source", "show", OTHER.model_name, "zz")
    assert ran.code == 3
    assert Bench().mx("source", "show", "ab").code == 3
    assert bench.mx("source", "show", "").code == 3


def test_show_of_several_is_refused(bench: Bench) -> None:
    bench.publish(entry("y0", identity=replace(OTHER, dtype="bfloat16")))
    ran = bench.mx("source", "show", OTHER.model_name)
    assert ran.code == 2
    assert "fits 2 sources" in ran.err


def left(bench: Bench) -> list[tuple[str, int]]:
    return sorted(rows(bench))


def test_withdraw_asks_and_nobody_is_there(bench: Bench) -> None:
    ran = bench.mx("source", "withdraw", OTHER.model_name)
    assert ran.code == 2
    assert "--yes" in ran.err
    assert left(bench) == sorted(ALL)


def test_withdraw_dry_run_changes_nothing(bench: Bench) -> None:
    ran = bench.mx("source", "withdraw", IDENTITY.model_name, "--dry-run", "-f", "json")
    assert ran.json["dry_run"] is True
    assert len(ran.json["withdrawn"]) == 3
    assert left(bench) == sorted(ALL)


@pytest.mark.parametrize(
    ("args", "remaining"),
    [
        ([], [("x0", 0)]),
        (["w0"], [("w1", 0), ("x0", 0)]),
        (["w0", "--rank", "1"], [("w0", 0), ("w1", 0), ("x0", 0)]),
        (["--rank", "0"], [("w0", 1), ("x0", 0)]),
    ],
)
def test_withdraw_removes_what_was_named(
    bench: Bench, args: list[str], remaining: list[tuple[str, int]]
) -> None:
    ran = bench.mx("source", "withdraw", IDENTITY.model_name, *args, "--yes")
    assert ran.code == 0
    assert ran.out.count("withdrew ") == 4 - len(remaining)
    assert left(bench) == remaining


def test_withdraw_of_a_rank_that_is_not_there(bench: Bench) -> None:
    assert bench.mx("source", "withdraw", IDENTITY.model_name, "--rank", "9", "--yes").code == 3


def test_withdraw_of_what_went_in_the_meantime(bench: Bench) -> None:
    class Gone(EmbeddedClient):
        async def withdraw(self, key: WorkerKey) -> bool:
            return False

    bench.client = Gone(bench.services)
    ran = bench.mx("source", "withdraw", OTHER.model_name, "--yes")
    assert (ran.code, ran.out) == (0, "")
    assert "1 left" in ran.err
