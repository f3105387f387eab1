"""The frame of the command line: global options, exit codes, formats, errors."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from cli_runner import Bench

import mx
from mx import errors
from mx.cli.app import NOUNS, build
from mx.cli.exits import MEANING, ExitCode
from mx.client.base import ApiReply, ServerHealth
from mx.client.embedded import EmbeddedClient


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("MX_", "MODEL_EXPRESS_", "_MX")) or name in ("FORCE_COLOR", "COLUMNS"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bench() -> Bench:
    return Bench()


PLACES = {
    "before": lambda option: [*option, "source", "list"],
    "between": lambda option: ["source", *option, "list"],
    "after": lambda option: ["source", "list", *option],
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        (["--endpoint", "http://a:1"], "client.endpoint", "http://a:1"),
        (["-e", "http://a:1"], "client.endpoint", "http://a:1"),
        (["--timeout", "90s"], "client.timeout_s", 90.0),
        (["-t", "7"], "client.timeout_s", 7.0),
        (["--max-retries", "4"], "client.max_retries", 4),
        (["--max-retries=0"], "client.max_retries", 0),
        (["--retry-delay", "250ms"], "client.retry_delay_s", 0.25),
        (["-v"], "logging.level", "info"),
        (["-vv"], "logging.level", "debug"),
        (["-vvv"], "logging.level", "trace"),
        (["-q"], "logging.level", "error"),
        (["--log-level", "DEBUG"], "logging.level", "debug"),
        (["--log-format", "json"], "logging.format", "json"),
    ],
)
def test_global_options_stand_anywhere(
    bench: Bench, place: str, option: list[str], key: str, value: object
) -> None:
    ran = bench.mx(*PLACES[place](option))
    assert ran.code == 0, ran.err
    found: object = ran.settings
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("option", [["-f", "json"], ["--format", "json"], ["--format=json"], ["-fjson"]])
def test_format_stands_anywhere(bench: Bench, place: str, option: list[str]) -> None:
    ran = bench.mx(*PLACES[place](option))
    assert ran.json == {"sources": []}
    assert ran.out.count("\n") == 1


def test_the_nearest_to_the_end_wins(bench: Bench) -> None:
    ran = bench.mx("-f", "json", "-e", "a:1", "source", "list", "-f", "json-pretty", "-e", "b:2")
    assert ran.out.count("\n") > 1
    assert ran.settings is not None
    assert ran.settings.client.endpoint == "http://b:2"


def test_log_level_beats_verbosity_wherever_they_stand(bench: Bench) -> None:
    for args in (["--log-level", "error", "-vv"], ["-vv", "--log-level", "error"]):
        ran = bench.mx("health", *args)
        assert ran.settings is not None
        assert ran.settings.logging.level == "error"


@pytest.mark.parametrize("place", PLACES)
def test_config_file_is_read(bench: Bench, tmp_path: Path, place: str) -> None:
    (tmp_path / "mine.yaml").write_text("connection:\n  endpoint: http://from-file:9\n")
    ran = bench.mx(*PLACES[place](["-c", "mine.yaml"]))
    assert ran.settings is not None
    assert ran.settings.client.endpoint == "http://from-file:9"


def test_quiet_leaves_data_and_errors(bench: Bench) -> None:
    assert bench.mx("source", "list").err != ""
    quiet = bench.mx("source", "list", "-q")
    assert (quiet.out, quiet.err) == ("", "")
    assert bench.mx("-q", "source", "show", "x").err.startswith("error: ")


class Refusing(EmbeddedClient):
    """Answers a health call with an error."""

    def __init__(self, bench: Bench, error: Exception) -> None:
        super().__init__(bench.services)
        self.error = error

    async def health(self) -> ServerHealth:
        raise self.error


EXIT_CODES = {
    errors.UsageError: 2,
    errors.InvalidArgumentError: 1,
    errors.NotFoundError: 3,
    errors.UnavailableError: 4,
    errors.PermissionDeniedError: 5,
    errors.UnauthenticatedError: 5,
    errors.ConflictError: 6,
    errors.PreconditionError: 6,
    errors.IntegrityError: 7,
    errors.DeadlineError: 8,
    errors.ExhaustedError: 1,
    errors.CancelledError: 130,
    errors.InternalError: 1,
}


def test_every_error_has_its_line_in_the_table() -> None:
    known = set(errors.MxError.__subclasses__()) - {errors.SettingsError}
    assert known == set(EXIT_CODES)
    assert {error.exit_code for error in known} <= set(MEANING)
    assert set(MEANING) == set(ExitCode)


@pytest.mark.parametrize("error", EXIT_CODES, ids=lambda error: error.__name__)
@pytest.mark.parametrize("form", ["human", "json", "json-pretty"])
def test_errors_end_with_their_code_and_words(bench: Bench, error: type[errors.MxError], form: str) -> None:
    bench.client = Refusing(bench, error("what happened", remedy="what to do"))
    ran = bench.mx("health", "-f", form)
    assert ran.code == EXIT_CODES[error]
    assert ran.err == "error: what happened\nhint: what to do\n"
    if form == "human":
        assert ran.out == ""
    else:
        assert ran.json == {
            "success": False,
            "error": "what happened",
            "code": error.code.value,
            "remedy": "what to do",
            "exit_code": ran.code,
        }


def test_an_error_in_a_task_group_is_shown_as_itself(bench: Bench) -> None:
    bench.client = Refusing(bench, ExceptionGroup("tasks", [errors.UnavailableError("no server")]))
    ran = bench.mx("health")
    assert (ran.code, ran.err) == (4, "error: no server\n")


def test_settings_errors_tell_every_problem(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("connection:\n  timeout_secs: never\nservr: {}\n")
    ran = bench.mx("health", "-c", "bad.yaml", "-f", "json")
    assert ran.code == 1
    assert len(re.findall("^error: ", ran.err, re.MULTILINE)) == 2
    assert ran.json["code"] == "settings"


@pytest.mark.parametrize("switch", [{"MX_DEBUG": "1"}, {}])
def test_a_defect_is_one_line_and_a_traceback_on_request(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, switch: dict[str, str]
) -> None:
    for name, value in switch.items():
        monkeypatch.setenv(name, value)
    bench.client = Refusing(bench, ZeroDivisionError("division by zero"))
    ran = bench.mx("health")
    assert ran.code == 1
    assert ("Traceback" in ran.err) is bool(switch)
    assert "error: unexpected ZeroDivisionError: division by zero" in ran.err
    assert "MX_DEBUG=1" in ran.err
    assert "Traceback" in bench.mx("health", "-vvv").err


def test_an_error_of_ours_never_shows_a_traceback(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MX_DEBUG", "1")
    bench.client = Refusing(bench, errors.UnavailableError("no server"))
    assert bench.mx("health", "-vvv").err == "error: no server\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["helth"], "Did you mean 'health'"),
        (["source", "lst"], "Did you mean 'list'"),
        (["health", "--formt", "json"], "--format"),
        (["health", "extra"], "extra"),
        (["source", "show"], "ID"),
        (["source", "list", "--status", "sleepy"], "--status"),
        (["source", "list", "--rank", "-1"], "--rank"),
        (["health", "-t", "0"], "0"),
        (["health", "-t", "soon"], "soon"),
        (["health", "--max-retries", "-1"], "--max-retries"),
        (["health", "-f", "xml"], "--format"),
        (["server", "start", "--port", "0"], "--port"),
        (["server", "start", "--port", "http"], "--port"),
        (["--endpoint"], "--endpoint"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(bench: Bench, args: list[str], words: str) -> None:
    ran = bench.mx(*args)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert words in ran.err
    assert "--help" in ran.err


@pytest.mark.parametrize(
    "args", [["--format", "json", "helth"], ["health", "--wrong", "-f", "json"], ["helth", "--format=json"]]
)
def test_a_wrong_command_line_is_json_when_json_was_asked(bench: Bench, args: list[str]) -> None:
    ran = bench.mx(*args)
    assert ran.code == 2
    assert ran.json["code"] == "usage"
    assert ran.err.startswith("error: ")


@pytest.mark.parametrize("args", [[], ["source"], ["server"], ["transfer"], ["api"]])
def test_a_noun_alone_shows_its_help_on_stderr(bench: Bench, args: list[str]) -> None:
    ran = bench.mx(*args)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: mx")


@pytest.mark.parametrize("args", [["--version"], ["version"]])
def test_version(bench: Bench, args: list[str]) -> None:
    assert bench.mx(*args).out == f"mx {mx.__version__}\n"
    assert bench.mx(*args, "-f", "json").json["version"] == mx.__version__
    assert bench.mx("-f", "json", *args).json["version"] == mx.__version__


def test_every_noun_shows_help_and_takes_the_global_options() -> None:
    root = build()
    ctx = root.make_context("mx", [], resilient_parsing=True)
    everywhere = {
        "--endpoint",
        "--timeout",
        "--max-retries",
        "--config",
        "--quiet",
        "--verbose",
        "--log-format",
    }
    for noun in NOUNS:
        name, command, _ = root.resolve_command(ctx, [noun.name])
        assert command is not None
        below = getattr(command, "commands", {}).values()
        for one in (command, *below):
            spellings = {spelling for param in one.params for spelling in param.opts}
            assert everywhere <= spellings, (name, one.name, everywhere - spellings)
            assert "--install-completion" not in spellings


class Api(EmbeddedClient):
    """Remembers what was sent and gives a prepared reply."""

    def __init__(self, bench: Bench, reply: ApiReply) -> None:
        super().__init__(bench.services)
        self.reply = reply
        self.sent: list[tuple[str, bytes | None]] = []

    async def send(self, action: str, *, payload: bytes | None = None) -> ApiReply:
        self.sent.append((action, payload))
        return self.reply


def test_api_send_prints_the_data(bench: Bench) -> None:
    assert json.loads(bench.mx("api", "send", "ping").out) == {"message": "pong"}
    assert bench.mx("api", "send", "ping", "-f", "json").out == '{"message": "pong"}\n'
    assert bench.mx("-f", "json", "api", "send", "ping").out == '{"message": "pong"}\n'
    assert bench.mx("api", "send", "ping", "--format", "json").out == '{"message": "pong"}\n'


def test_api_send_refused(bench: Bench) -> None:
    ran = bench.mx("api", "send", "dance", "-f", "json")
    assert ran.code == 1
    assert ran.json["success"] is False
    assert "dance" in ran.json["error"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", None),
        (None, None),
        (b"[1, 2]", [1, 2]),
        (b"plain", "plain"),
        (b"NaN", "NaN"),
        (b"\xff\x00", {"base64": "/wA="}),
    ],
)
def test_api_send_any_data_is_a_document(bench: Bench, data: bytes | None, expected: object) -> None:
    bench.client = Api(bench, ApiReply(success=True, data=data, error=None))
    ran = bench.mx("api", "send", "x", "-f", "json")
    assert ran.json == expected


def test_api_send_payload(bench: Bench, tmp_path: Path) -> None:
    api = bench.client = Api(bench, ApiReply(success=True, data=b"1", error=None))
    (tmp_path / "p.json").write_text('{"a": 1}')
    for option in (["-p", '{"a": 1}'], ["-P", "p.json"], ["--payload-file", "p.json"], ["-f", "p.json"]):
        assert bench.mx("api", "send", "x", *option, "-f", "json").code == 0
    assert api.sent == [("x", b'{"a": 1}')] * 4
    assert bench.mx("api", "send", "x", "-f", "p.json", "-f", "json").out == "1\n"


@pytest.mark.parametrize(
    "option",
    [
        ["-p", "{nope"],
        ["-P", "absent.json"],
        ["-P", "."],
        ["-p", "1", "-P", "absent.json"],
        ["-f", "a.json", "-f", "b.json"],
    ],
)
def test_api_send_bad_payload_is_usage(bench: Bench, option: list[str]) -> None:
    ran = bench.mx("api", "send", "x", *option)
    assert ran.code == 2
    assert ran.err.startswith("error: ")


def test_health(bench: Bench) -> None:
    bench.clock.advance(75)
    ran = bench.mx("health", "-f", "json")
    assert ran.json == {"version": mx.__version__, "status": "ok", "uptime": 75}
    assert bench.mx("health").out == f"ok  version {mx.__version__}  up 1m 15s\n"


class Ailing(EmbeddedClient):
    async def health(self) -> ServerHealth:
        return ServerHealth(version="9", status="store unavailable", uptime_s=1)


def test_health_that_is_not_ok_fails_and_still_tells(bench: Bench) -> None:
    bench.client = Ailing(bench.services)
    ran = bench.mx("health", "-f", "json")
    assert ran.code == 1
    assert ran.json["status"] == "store unavailable"
