"""Whatever is typed ends in a documented exit code, without a traceback, and as one document in JSON."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from cli_runner import Bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mx.cli.exits import MEANING
from mx.core.source import SourceEntry
from mx.testing.samples import PEER, entries, entry

# ``start``, ``generate``, ``demo`` and ``completion --install`` would really do it.
WORDS = [
    *(
        "source",
        "transfer",
        "events",
        "doctor",
        "completion",
        "bash",
        "top",
        "reap",
        "stale",
        "settings",
        "server",
        "config",
        "health",
        "api",
        "version",
    ),
    *("model", "cache", "download", "evict", "pin", "unpin", "verify", "stats", "clear", "clear-all"),
    *("org/model", "org/model@c", "s3://", "./x", "a/b/c", "-s", "direct", "server-only"),
    *("--to", "1GiB", "much", "--older-than", "30d", "--repair", "--runs", "--no-weights", "--force"),
    *("--embedded", "--cache-path", "cache", "--no-shared-storage", "--transfer-chunk-size", "--detailed"),
    *("list", "show", "withdraw", "status", "send", "validate", "ping", "w0", "t-1"),
    *("-f", "json", "human", "--format=json", "-q", "-v", "-vvv", "-e", "localhost:1", "-t", "5", "0", "-1"),
    *("--filter", "age>1s", "load<", "--sort", "model:desc", "--limit", "3", "--rank", "--wide", "--model"),
    *(
        "--dry-run",
        "--yes",
        "--raw",
        "--count",
        "--kind",
        "--since",
        "--only",
        "-p",
        "-P",
        "{}",
        "--",
        "-",
        "",
        "--help",
        "--version",
        "--for",
        "client",
    ),
]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("MX_", "MODEL_EXPRESS_")) or name in ("FORCE_COLOR", "COLUMNS"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # nothing that is typed may reach the network
    monkeypatch.chdir(tmp_path)


many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=8))
def test_any_words(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    bench = Bench()
    bench.publish(entry("w0", peer=PEER))
    capsys.readouterr()
    ran = bench.mx(*words)
    assert ran.code in MEANING
    assert "Traceback" not in ran.err
    assert "defect" not in ran.err, ran.err
    shown_by_typer = capsys.readouterr().out  # help
    if ran.out and not shown_by_typer and "json" in " ".join(words) and ran.out[0] in "{[":
        json.loads(ran.out)


@settings(many, max_examples=50)  # each runs two commands
@given(entries(), st.sampled_from(["human", "json", "json-pretty"]))
def test_any_record_can_be_listed_and_shown(found: SourceEntry, form: str) -> None:
    bench = Bench()
    asyncio.run(bench.services.store.publish(found))
    for args in (["source", "list"], ["source", "show", found.source_id]):
        ran = bench.mx(*args, "-f", form)
        assert (ran.code, ran.err) == (0, "")
        if form == "human":
            assert not [char for char in ran.out if ord(char) < 32 and char not in "\n\t"]
        else:
            assert json.loads(ran.out)
