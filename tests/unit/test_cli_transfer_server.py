"""``mx transfer`` and ``mx server`` against services in this process."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from cli_runner import Bench

import mx
from mx.client.base import ServerStatus
from mx.client.embedded import EmbeddedClient
from mx.core.source import SourceStatus
from mx.core.transfer import SourceShare, Strategy, TransferReport, TransferState
from mx.errors import PreconditionError
from mx.testing.samples import entry

DONE = TransferReport(
    transfer_id="t-aaaa",
    model_name="org/Model-7B",
    source_id="ab" * 8,
    worker_id="w2",
    worker_rank=0,
    strategy=Strategy.PEER,
    state=TransferState.DONE,
    bytes_total=4 * 1024**3,
    bytes_done=4 * 1024**3,
    verified=True,
    started_at_ms=1_700_000_000_000,
    seconds=2.5,
    stages_s={"read": 2.0, "discover": 0.1, "warp": 0.4},
    sources=(SourceShare("w0", "10.0.0.7:6555", 4 * 1024**3, 17.2, 64, True),),
    segments=64,
    segments_reread=2,
    tensors=200,
)
RUNNING = replace(
    DONE,
    transfer_id="t-bbbb",
    state=TransferState.RUNNING,
    bytes_done=1024**3,
    started_at_ms=1_700_000_005_000,
)
FAILED = replace(
    DONE,
    transfer_id="u-cccc",
    state=TransferState.FAILED,
    strategy=Strategy.DISK,
    bytes_done=0,
    seconds=0.0,
    stages_s={},
    sources=(),
    verified=False,
    started_at_ms=1_700_000_003_000,
    reason="the last source left",
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("MX_", "MODEL_EXPRESS_")) or name in ("FORCE_COLOR", "COLUMNS", "REDIS_URL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    for report in (DONE, RUNNING, FAILED):
        bench.services.transfers.record(report)
    return bench


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], ["t-bbbb", "u-cccc", "t-aaaa"]),
        (["--state", "failed"], ["u-cccc"]),
        (["--filter", "size>2GiB"], ["t-aaaa"]),
        (["--filter", "strategy=peer", "--sort", "id"], ["t-aaaa", "t-bbbb"]),
        (["--filter", "last source"], ["u-cccc"]),
        (["--filter", "seconds>=2s"], ["t-bbbb", "t-aaaa"]),
        (["--sort", "rate:desc", "--limit", "1"], ["t-aaaa"]),
    ],
)
def test_list(bench: Bench, args: list[str], expected: list[str]) -> None:
    found = bench.mx("transfer", "list", "-f", "json", *args).json["transfers"]
    assert [one["transfer_id"] for one in found] == expected
    ids = [line.split()[0] for line in bench.mx("transfer", "list", *args).out.splitlines()[1:]]
    assert ids == expected


def test_list_says_how_many_it_left_out(bench: Bench) -> None:
    assert "1 of 3" in bench.mx("transfer", "list", "--limit", "1").err
    assert "no transfer" in Bench().mx("transfer", "list").err


def test_show_json_has_every_member(bench: Bench) -> None:
    shown = bench.mx("transfer", "show", "t-a", "-f", "json").json
    assert set(shown) == {*TransferReport.__dataclass_fields__, "gbit_s"}
    assert shown["state"] == "done"
    assert shown["gbit_s"] == pytest.approx(4 * 1024**3 * 8 / 2.0 / 1e9)
    assert shown["sources"][0]["segments"] == 64


def test_show_human(bench: Bench) -> None:
    out = bench.mx("transfer", "show", "t-aaaa").out
    assert "every segment verified" in out
    assert "64, 2 read again" in out
    stages = out[out.index("stages") :].split()
    assert [stages.index(name) for name in ("discover", "read", "warp")] == sorted(
        stages.index(name) for name in ("discover", "read", "warp")
    )
    assert "from w0  10.0.0.7:6555" in out
    assert "the last source left" in bench.mx("transfer", "show", "u-cccc").out


def test_show_of_none_and_of_several(bench: Bench) -> None:
    assert bench.mx("transfer", "show", "zzz").code == 3
    assert bench.mx("transfer", "show", "t-").code == 2


def test_server_status(bench: Bench) -> None:
    bench.publish(entry("w0"))
    bench.publish(entry("w1", status=SourceStatus.INITIALIZING))
    bench.clock.advance(3700)
    shown = bench.mx("server", "status", "-f", "json").json
    assert shown["version"] == mx.__version__
    assert shown["uptime"] == 3700
    assert (shown["ready"], shown["draining"]) == (True, False)
    assert shown["store"]["backend"] == "memory"
    assert sum(shown["sources"].values()) == 2
    human = bench.mx("server", "status").out
    assert "ready" in human
    assert "up        1h 1m" in human
    assert "memory" in human


class Draining(EmbeddedClient):
    async def status(self) -> ServerStatus:
        return replace(await super().status(), draining=True, store_ok=False, ready=False)


def test_server_status_of_a_server_that_drains(bench: Bench) -> None:
    bench.client = Draining(bench.services)
    ran = bench.mx("server", "status")
    assert ran.code == 1
    assert "draining" in ran.out
    assert "can't be reached" in ran.out


class Published(EmbeddedClient):
    async def status(self) -> ServerStatus:
        raise PreconditionError("this server has no admin service")


def test_server_status_of_a_published_server(bench: Bench) -> None:
    bench.client = Published(bench.services)
    ran = bench.mx("server", "status", "-f", "json")
    assert ran.code == 0
    assert ran.json == {"published": True, "version": mx.__version__, "status": "ok", "uptime": 0}
    assert "published" in ran.err


def test_validate_config_prints_what_is_in_force(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("server:\n  port: 9001\n")
    ran = bench.mx("server", "start", "-c", "s.yaml", "--host", "::1", "--validate-config", "-f", "json")
    assert ran.code == 0, ran.err
    settings = {row["key"]: row for row in ran.json["settings"]}
    assert ran.json["valid"] is True
    assert settings["server.port"] == {
        "key": "server.port",
        "value": 9001,
        "origin": f"file:{tmp_path / 's.yaml'}",
    }
    assert (settings["server.host"]["value"], settings["server.host"]["origin"]) == ("::1", "flag")
    human = bench.mx("server", "start", "--validate-config").out
    assert "server.port" in human
    assert not list(tmp_path.glob("*.db")), "checking opens nothing"


FLAGS = [
    ("--host", "example.org", "server.host", "example.org"),
    ("--port", "9001", "server.port", 9001),
    ("-p", "9001", "server.port", 9001),
    ("--metrics-port", "0", "server.metrics_port", 0),
    ("--metadata-backend", "memory", "metadata.backend", "memory"),
    ("--database-path", "/x/y.db", "database.path", "/x/y.db"),
    ("-d", "/x/y.db", "database.path", "/x/y.db"),
    ("--cache-directory", "/x/c", "cache.directory", "/x/c"),
    ("--cache-eviction-enabled", "false", "cache.eviction.enabled", False),
    ("--log-level", "DEBUG", "logging.level", "debug"),
    ("-l", "warn", "logging.level", "warn"),
    ("--log-format", "json", "logging.format", "json"),
    ("--security-mode", "OFF", "security.mode", "off"),
    ("--security-token-audiences", "a,b", "security.token_audiences", ["a", "b"]),
    (
        "--security-allowed-service-accounts",
        "ns:sa",
        "security.allowed_service_accounts",
        [{"namespace": "ns", "service_account": "sa"}],
    ),
    ("--security-cache-ttl-secs", "5", "security.cache_ttl_secs", 5.0),
]


@pytest.mark.parametrize(("flag", "text", "key", "value"), FLAGS)
def test_each_flag_of_server_start_reaches_its_setting(
    bench: Bench, flag: str, text: str, key: str, value: object
) -> None:
    ran = bench.mx("server", "start", flag, text, "--validate-config", "-f", "json")
    assert ran.code == 0, ran.err
    rows = {row["key"]: row for row in ran.json["settings"]}
    assert rows[key]["value"] == value
    assert rows[key]["origin"] == "flag"


def test_log_level_before_the_command_reaches_the_server(bench: Bench) -> None:
    ran = bench.mx("--log-level", "trace", "server", "start", "--validate-config", "-f", "json")
    rows = {row["key"]: row["value"] for row in ran.json["settings"]}
    assert rows["logging.level"] == "trace"


def test_validate_config_tells_every_error(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("server:\n  port: high\n  hots: x\n")
    ran = bench.mx("server", "start", "-c", "s.yaml", "--validate-config")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.count("error: ") == 2


@pytest.mark.parametrize("backend", ["postgres"])
def test_a_store_that_is_not_there_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setenv("MX_METADATA_BACKEND", backend)
    for args in (["--validate-config"], []):
        ran = bench.mx("server", "start", *args)
        assert ran.code == 1
        assert "MX_METADATA_BACKEND" in ran.err
        assert "sqlite" in ran.err
