"""Every command: its help, its JSON, and what it does when no server is there."""

from __future__ import annotations

import inspect
import io
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_runner import Bench, Ran
from typer.core import TyperGroup

from mx.cli.app import NOUNS, build, run
from mx.cli.exits import ExitCode
from mx.cli.options import Invocation
from mx.cli.output import Output
from mx.cli.reference import reference
from mx.testing.samples import PEER, entry


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("MX_", "MODEL_EXPRESS_")) or name in ("FORCE_COLOR", "COLUMNS"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def dead_port() -> Iterator[int]:
    """A port that is ours and refuses: bound, and nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def commands() -> list[str]:
    """Every command by its words."""
    root = build()
    ctx = root.make_context("mx", [], resilient_parsing=True)

    def walk(command: Any, words: str) -> Iterator[str]:
        if isinstance(command, TyperGroup):
            for name, below in command.commands.items():
                yield from walk(below, f"{words} {name}")
        else:
            yield words

    return [words for noun in NOUNS for words in walk(root.resolve_command(ctx, [noun.name])[1], noun.name)]


ALL = commands()


@dataclass(frozen=True)
class Call:
    """How a command is called with what it must have. ``asks``: it needs a server. ``own_format``: its
    ``--format`` is something else, and the global one stands before it."""

    arguments: tuple[str, ...] = ()
    asks: bool = True
    own_format: bool = False


# Every command has its line here: a new one can't be forgotten.
CALLS = {
    "tui": Call(asks=False),
    "source list": Call(),
    "source show": Call(("x",)),
    "source withdraw": Call(("x", "--yes")),
    "source stale": Call(("x", "--yes")),
    "source reap": Call(),
    "transfer list": Call(),
    "transfer show": Call(("x",)),
    "transfer top": Call(("--count", "1")),
    "events": Call(),
    "model download": Call(("org/model", "-s", "server-only")),
    "model list": Call(),
    "model status": Call(),
    "model clear": Call(("org/model", "--yes")),
    "model clear-all": Call(("--yes",)),
    "model validate": Call(),
    "model stats": Call(),
    "model init": Call(asks=False),
    "cache list": Call(),
    "cache show": Call(("org/model",)),
    "cache evict": Call(("--yes",)),
    "cache pin": Call(("org/model",)),
    "cache unpin": Call(("org/model",)),
    "cache verify": Call(),
    "cache stats": Call(),
    "server start": Call(("--validate-config",), asks=False),
    "server status": Call(),
    "server settings": Call(),
    "config generate": Call(("--dry-run",), asks=False, own_format=True),
    "config show": Call(asks=False),
    "config validate": Call(asks=False),
    "health": Call(),
    "doctor": Call(("--only", "python"), asks=False),
    "api send": Call(("ping",)),
    "completion": Call(("bash",), asks=False),
    "demo": Call(("--size", "none"), asks=False),
    "version": Call(asks=False),
}
ASKING = [words for words, call in CALLS.items() if call.asks]
LIVE = (
    *("source list", "source show", "transfer list", "model list", "model status"),
    *("cache list", "cache show", "cache stats"),
)


def mx(*args: str) -> Ran:
    """Run it against what the command line names."""
    stdout, stderr = io.StringIO(), io.StringIO()
    invocation = Invocation(
        start_logs=lambda settings, stream: None, out=Output(stdout=stdout, stderr=stderr)
    )
    code = run(args, invocation=invocation)
    return Ran(code, stdout.getvalue(), stderr.getvalue(), None)


def test_every_command_has_its_call() -> None:
    assert sorted(CALLS) == sorted(ALL)


@pytest.mark.parametrize("words", ALL)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(capsys: pytest.CaptureFixture[str], words: str, option: str) -> None:
    assert mx(*words.split(), option).code == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"Usage: mx {words}")
    assert shown.err == ""


def places(words: str, *options: str) -> Iterator[list[str]]:
    """Global options before the noun, after it, and after all."""
    arguments, (noun, *verb) = list(CALLS[words].arguments), words.split()
    yield [*options, noun, *verb, *arguments]
    yield [noun, *options, *verb, *arguments]
    if not CALLS[words].own_format:
        yield [noun, *verb, *arguments, *options]


@pytest.mark.parametrize("words", ASKING)
def test_without_a_server(words: str, dead_port: int) -> None:
    """4, a line on stderr with what to do, the failure as the one document; wherever the options stand."""
    for args in places(words, "-e", f"127.0.0.1:{dead_port}", "-t", "10", "--format", "json"):
        ran = mx(*args)
        assert ran.code == ExitCode.UNREACHABLE, (args, ran)
        assert ran.err.startswith("error: "), args
        assert "Traceback" not in ran.err
        assert ran.json["exit_code"] == ExitCode.UNREACHABLE, args
        assert ran.json["code"] == "unavailable"
    human = mx(*args[:-2])
    assert (human.code, human.out) == (ExitCode.UNREACHABLE, "")


@pytest.mark.parametrize("words", LIVE)
def test_what_is_live_needs_a_server_too(words: str, dead_port: int) -> None:
    call = CALLS[words]
    ran = mx(*words.split(), *call.arguments, "--watch", "-e", f"127.0.0.1:{dead_port}", "-f", "json")
    assert ran.code == ExitCode.UNREACHABLE, ran
    assert ran.json["code"] == "unavailable"


@pytest.mark.parametrize("words", [words for words, call in CALLS.items() if not call.asks])
@pytest.mark.parametrize("form", ["json", "json-pretty"])
def test_what_asks_nobody_gives_one_document(words: str, form: str) -> None:
    expected = ExitCode.USAGE if words in ("demo", "tui") else ExitCode.OK
    for args in places(words, "--format", form):
        ran = mx(*args)
        assert ran.code == expected, (args, ran)
        assert isinstance(ran.json, dict), args


def served() -> Bench:
    bench = Bench()
    bench.publish(entry("w0", peer=PEER))
    return bench


# These two want services that run; tests/functional has them.
@pytest.mark.parametrize("words", [one for one in ASKING if one not in ("model download", "transfer top")])
def test_with_services_stdout_is_json_and_nothing_else(words: str) -> None:
    """The document, or each line of a stream, whatever the exit code says."""
    ran = served().mx(*words.split(), *CALLS[words].arguments, "--format", "json")
    assert ran.code in tuple(ExitCode)
    assert "Traceback" not in ran.err
    assert "defect" not in ran.err, ran.err
    for line in ran.out.splitlines():
        json.loads(line)
    assert ran.out
    if ran.code != 0:
        assert ran.err.startswith("error: ")


@pytest.mark.parametrize("words", ALL)
def test_no_colour_where_it_is_not_wanted(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if words == "demo":
        pytest.skip("draws a fleet that it first starts")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    ran = served().mx(*words.split(), *CALLS[words].arguments)
    assert "\x1b" not in ran.out + ran.err


def test_the_reference_has_the_table_of_exit_codes_and_every_command() -> None:
    text = reference()
    for code in ExitCode:
        assert f"\n| {code.value} |" in text
    for words in ALL:
        assert f"\n## mx {words}" in text
    assert inspect.cleandoc(text)
