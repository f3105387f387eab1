"""Logs: what each setting does, what a line looks like, and that no secret gets through."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mx.core.redact import is_secret_name, redact_text
from mx.errors import SettingsError
from mx.logs import LEVELS, event_log, log_context, new_request_id, setup_logs


@dataclass(frozen=True, slots=True)
class Options:
    level: str = "info"
    format: str = "json"
    file: Path | None = None
    structured: bool = False
    quiet: bool = False


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    ours, root = logging.getLogger("mx"), logging.getLogger()
    before = [(one, one.level, one.propagate, list(one.handlers)) for one in (ours, root)]
    yield
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers


def written(options: Options, **fields: object) -> str:
    stream = io.StringIO()
    setup_logs(options, stream=stream)
    event_log("mx.test").info("model ready", **fields)
    return stream.getvalue()


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_shows_itself_and_what_is_worse(level: str) -> None:
    stream = io.StringIO()
    setup_logs(Options(level=level), stream=stream)
    log = event_log("mx.test")
    for name in LEVELS:
        getattr(log, name)("event", said=name)
        assert log.enabled(name) == (LEVELS[name] >= LEVELS[level])
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["level"] for line in lines] == list(LEVELS)[list(LEVELS).index(level) :]
    assert all(line["level"] == line["said"] for line in lines)


def test_quiet_leaves_errors() -> None:
    stream = io.StringIO()
    setup_logs(Options(quiet=True, level="trace"), stream=stream)
    event_log("mx.test").warn("a")
    event_log("mx.test").error("b")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["b"]


def test_json_is_one_object_per_line() -> None:
    line = json.loads(
        written(Options(), size_bytes=1, ratio=float("nan"), path=Path("/a"), list=[1, {"b": None}])
    )
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "mx.test",
        "event": "model ready",
        "size_bytes": 1,
        "ratio": "nan",
        "path": "/a",
        "list": [1, {"b": None}],
    }


def test_a_field_can_not_replace_a_member_of_the_line() -> None:
    line = json.loads(written(Options(), level="fatal", time="never", event="other"))
    assert (line["level"], line["event"]) == ("info", "model ready")
    assert (line["level_"], line["time_"], line["event_"]) == ("fatal", "never", "other")


def test_structured_means_json_whatever_the_format_says() -> None:
    assert json.loads(written(Options(format="pretty", structured=True)))["event"] == "model ready"


def test_pretty_and_compact_are_one_line_that_a_person_reads() -> None:
    pretty = written(Options(format="pretty"), model="a/b", note="two words", empty="", n=3)
    assert pretty.endswith('INFO  test               model ready model=a/b note="two words" empty="" n=3\n')
    compact = written(Options(format="compact"), model="a/b")
    assert compact[20:] == " I model ready model=a/b\n"
    assert "\x1b" not in pretty + compact


def test_text_from_outside_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    for look in ("pretty", "compact", "json"):
        text = written(Options(format=look), name="a\n2026 ERROR forged\x1b[31m\u2028x")
        assert text.count("\n") == 1
        assert "\x1b" not in text
    stream = io.StringIO()
    setup_logs(Options(format="pretty"), stream=stream)
    logging.getLogger("mx.test").error("bad %s", "a\nb\x1b]0;title\x07")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_colour_only_on_a_terminal() -> None:
    stream = io.StringIO()
    setup_logs(Options(format="pretty"), stream=stream, colour=True)
    event_log("mx.test").warn("slow")
    assert "\x1b[33mWARN \x1b[0m" in stream.getvalue()


def test_a_file_instead_of_the_stream(tmp_path: Path) -> None:
    file, stream = tmp_path / "mx.log", io.StringIO()
    setup_logs(Options(file=file, format="compact"), stream=stream)
    event_log("mx.test").info("one")
    # logrotate moves the file away: the next event starts a new one.
    file.rename(tmp_path / "mx.log.1")
    event_log("mx.test").info("two")
    assert (tmp_path / "mx.log.1").read_text().endswith("I one\n")
    assert file.read_text().endswith("I two\n")
    assert stream.getvalue() == ""


def test_a_file_that_can_not_be_written_is_a_settings_error(tmp_path: Path) -> None:
    before = list(logging.getLogger("mx").handlers)
    with pytest.raises(SettingsError, match=r"logging\.file: .*none/x\.log can't be written: No such file"):
        setup_logs(Options(file=tmp_path / "none/x.log"))
    assert logging.getLogger("mx").handlers == before


def test_a_second_set_up_replaces_the_first_and_nothing_else() -> None:
    first, second, foreign = io.StringIO(), io.StringIO(), logging.NullHandler()
    logging.getLogger("mx").addHandler(foreign)
    setup_logs(Options(), stream=first)
    setup_logs(Options(), stream=second)
    event_log("mx.test").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1
    assert foreign in logging.getLogger("mx").handlers


def test_libraries_are_heard_from_warnings_on_and_only_if_asked() -> None:
    stream = io.StringIO()
    setup_logs(Options(), stream=stream)
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").warning("odd %d", 1)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["odd 1"]
    root_handlers = len(logging.getLogger().handlers)
    setup_logs(Options(), stream=stream, libraries=False)
    assert len(logging.getLogger().handlers) == root_handlers - 1


async def test_context_follows_tasks_and_ends() -> None:
    stream = io.StringIO()
    setup_logs(Options(), stream=stream)
    log = event_log("mx.test")

    async def request(number: int) -> None:
        with log_context(request_id=number):
            await asyncio.sleep(0)
            log.info("in", own=number)

    await asyncio.gather(*(request(number) for number in range(5)))
    log.info("out")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert all(line["request_id"] == line["own"] for line in lines[:-1])
    assert "request_id" not in lines[-1]
    with log_context(a=1), log_context(b=2):
        log.info("both", a=3)
    assert {"a": 3, "b": 2}.items() <= json.loads(stream.getvalue().splitlines()[-1]).items()
    assert len({new_request_id() for _ in range(100)}) == 100


def test_a_line_names_the_place_that_wrote_it(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("mx").propagate = True
    with caplog.at_level("INFO", logger="mx"):
        event_log("mx.test").info("here")
    assert caplog.records[0].funcName == "test_a_line_names_the_place_that_wrote_it"


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_nothing_loses_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(written(Options(), it=Hostile(), many={1, 2}))["it"] == "<Hostile>"
    stream = io.StringIO()
    setup_logs(Options(), stream=stream)
    logging.getLogger("mx.test").error("%d of %d", 1)
    assert json.loads(stream.getvalue())["event"] == "%d of %d (1,)"
    stream.close()
    event_log("mx.test").info("reader is gone")
    assert capsys.readouterr().err == ""


TOKEN = "hf_" + "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("look", ["json", "pretty", "compact"])
def test_no_secret_gets_through(look: str) -> None:
    stream = io.StringIO()
    setup_logs(Options(format=look), stream=stream, secrets=("kennwort",))
    log = event_log("mx.test")
    log.info("by name", token="geheim", api_key="geheim", nested={"password": "geheim"})
    log.info("by place", url="redis://user:geheim@host:1/0", signed="https://b/x?X-Amz-Signature=geheim&a=1")
    log.info("by look", text=f"got {TOKEN}", header="Authorization: Bearer geheim.geheim.geheim")
    log.info("as known: kennwort", list=["kennwort"])
    try:
        raise RuntimeError(f"cannot reach redis://:geheim@h with {TOKEN} and kennwort")
    except RuntimeError:
        log.exception("failed", error_kind="RuntimeError")
    text = stream.getvalue()
    assert "geheim" not in text
    assert "kennwort" not in text
    assert TOKEN not in text
    assert "redis://user:***@host:1/0" in text
    assert "Traceback" in text
    assert "cannot reach redis://:***@h" in text


@pytest.mark.parametrize(
    "text",
    [
        "basic tokenizer of the model",
        "http://host:8001/path",
        "oci://registry:5000/model@sha256:abc",
        "org/model@main",
        "hf_short",
        "the bearer of it",
        "/var/run/secrets/tokens/modelexpress",
    ],
)
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert redact_text(text, known=("", "a")) == text


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("token", True),
        ("hf_token", True),
        ("api_key", True),
        ("password", True),
        ("aws_secret_access_key", True),
        ("Authorization", True),
        ("tokens", False),
        ("tokenizer", False),
        ("token_path", False),
        ("auth_token_ttl_s", False),
        ("token_audiences", False),
        ("key", False),
    ],
)
def test_names_of_secrets(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret


def test_logs_load_the_standard_library_only() -> None:
    code = (
        "import sys, mx.logs; "
        "loaded = {name.partition('.')[0] for name in sys.modules}; "
        "print(*sorted(loaded - set(sys.stdlib_module_names) - {'__main__'}))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.split() == ["mx"], done.stderr
