"""What the documents say is true: their commands run, their links resolve, what they name exists.

A block after ``<!-- runs -->`` is run, line by line, against a server with two replicas of
``org/model``; what follows a command is compared with its output, where ``…`` stands for anything
(on a line of its own: for any lines). A block after ``<!-- runs until stopped -->`` is one command
that serves, and is stopped.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.core import TyperGroup

from mx.cli.app import build
from mx.config.foreign import is_foreign_env
from mx.config.layers import CONFIG_ENV
from mx.config.tree import TABLE
from mx.core.source import SourceFilter
from mx.demo import checkpoint
from mx.demo.replica import Task

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    found
    for pattern in ("*.md", "docs/**/*.md", "charts/**/*.md", "examples/**/*.md")
    for found in ROOT.glob(pattern)
)
MX = [sys.executable, "-m", "mx"]
DEADLINE_S = 120.0

FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUNS = re.compile(r"<!-- (runs|runs until stopped) -->\n```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WORDS = re.compile(r"[a-z]+(-[a-z]+)*(\|[a-z]+(-[a-z]+)*)*")  # one command, or several of a noun
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
ENV_NAME = re.compile(r"\b(?:MX|MODEL_EXPRESS)_[A-Z0-9_]+\b")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


documents = pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)


# --- links ----------------------------------------------------------------------------------------
def anchors(document: Path) -> set[str]:
    """What a heading is linked by, as GitHub makes it."""
    found = set()
    for heading in HEADING.findall(FENCE.sub("", text_of(document))):
        plain = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


@documents
def test_links_resolve(document: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", text_of(document))):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_document_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(text_of(index))}
    assert [name_of(one) for one in ROOT.glob("docs/**/*.md") if one not in {*linked, index}] == []


# --- commands -------------------------------------------------------------------------------------
def commands_in(document: Path) -> list[str]:
    """Everything that calls mx: in backticks, at the beginning of a line of a block, by kubectl exec."""
    text = text_of(document)
    blocks = "\n".join(block for _, block in FENCE.findall(text))
    lines = re.sub(r"^kubectl .* exec .* -- (?=mx )", "", blocks, flags=re.MULTILINE).splitlines()
    spans = CODE.findall(FENCE.sub("", text))
    return [
        re.split(r"\s#\s| ▶", part.strip().removeprefix("$ "))[0].strip()
        for part in (*lines, *spans)
        if re.match(r"(\$ )?mx( (?!\d)|$)", part.strip())
    ]


def problem_with(command: str) -> str:
    """Why the commands of mx don't take this line; "" when they do. After ``…`` only options count."""
    group: Any = build()
    ctx = group.make_context("mx", [], resilient_parsing=True)
    takes_value = {"--help": False, "-h": False} | _options(group)
    elided = is_value = False
    for word in re.split(r"\s+", command.replace("\\|", "|"))[1:]:
        if is_value:
            is_value = False
        elif word in ("…", "..."):
            elided = True
        elif word.startswith("-"):
            option, equals, _ = word.partition("=")
            if option not in takes_value:
                return f"no option {option}"
            is_value = takes_value[option] and not equals
        elif isinstance(group, TyperGroup) and not elided and WORDS.fullmatch(word):
            names = word.split("|")
            missing = [name for name in names if group.get_command(ctx, name) is None]
            if missing:
                return f"no command {missing[0]}"
            group = group.resolve_command(ctx, names[:1])[1]  # imports the noun
            takes_value |= _options(group)
    return ""


def _options(command: Any) -> dict[str, bool]:
    return {name: not getattr(one, "is_flag", False) for one in command.params for name in one.opts}


@documents
def test_commands_exist(document: Path) -> None:
    wrong = {command: problem for command in commands_in(document) if (problem := problem_with(command))}
    assert not wrong


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("mx source list --filter 'age>60s'", ""),
        ("mx -e HOST:8001 source list|show|withdraw", ""),
        ("mx … --format json", ""),
        ("mx -t 5 source lst", "no command lst"),
        ("mx sauce list", "no command sauce"),
        ("mx source lst", "no command lst"),
        ("mx model clear-all --dry-run", ""),
        ("mx model clear|clear-all org/model", ""),
        ("mx model clear-some", "no command clear-some"),
        ("mx source list --fliter x", "no option --fliter"),
    ],
)
def test_a_wrong_command_is_found(command: str, problem: str) -> None:
    assert problem_with(command) == problem


@documents
def test_make_targets_exist(document: Path) -> None:
    text = text_of(document)
    blocks = " ".join(block for _, block in FENCE.findall(text))
    named = re.findall(r"`make ([a-z-]+)", text) + re.findall(r"^make ([a-z-]+)", blocks, re.MULTILINE)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= set(targets)


# --- names ----------------------------------------------------------------------------------------
def setting_keys() -> set[str]:
    """Every key of settings.toml and every section."""
    keys: set[str] = set()

    def walk(table: dict[str, Any], prefix: str) -> None:
        for name, value in table.items():
            keys.add(f"{prefix}{name}")
            if isinstance(value, dict):
                walk(value, f"{prefix}{name}.")

    walk(tomllib.loads((ROOT / "settings.toml").read_text(encoding="utf-8")), "")
    return keys


@documents
def test_settings_exist(document: Path) -> None:
    keys = setting_keys()
    sections = {key for key in keys if "." not in key}
    named = {
        span.split(":")[0].split("=")[0].strip()
        for span in CODE.findall(FENCE.sub("", text_of(document)))
        if re.match(r"[a-z]+(\.[a-z_0-9]+)+(\s*[:=].*)?$", span)
    }
    assert {key for key in named if key.partition(".")[0] in sections} <= keys | chart_values()


def chart_values() -> set[str]:
    """What the chart's values are called: some of its groups have the names of sections."""
    text = (ROOT / "charts" / "mx" / "README.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `([A-Za-z.]+)` \|", text, re.MULTILINE))


@documents
def test_variables_are_known(document: Path) -> None:
    known = {CONFIG_ENV, "MX_DEBUG"}
    known |= {name for one in TABLE for name in (*one.named_env, *one.nested_env)}
    tools = [ROOT / "Makefile", *ROOT.glob("scripts/*.sh"), *ROOT.glob("tests/**/*.py")]
    known |= {name for tool in tools for name in ENV_NAME.findall(text_of(tool)) if tool != Path(__file__)}
    named = {name for name in ENV_NAME.findall(text_of(document)) if not is_foreign_env(name)}
    assert {name for name in named if not name.endswith("_")} <= known


@documents
def test_paths_exist(document: Path) -> None:
    named = {
        span
        for span in CODE.findall(FENCE.sub("", text_of(document)))
        if re.fullmatch(r"(mx|docs|tests|benchmarks|scripts|protos|\.ci)/[\w./-]+", span)
    }
    assert [span for span in named if not (ROOT / span).exists()] == []


# --- the picture ----------------------------------------------------------------------------------
def test_internals_show_the_layers_that_are_checked() -> None:
    rules = configparser.ConfigParser()
    rules.read(ROOT / ".importlinter")
    layers = rules["importlinter:contract:layers"]["layers"].strip().splitlines()
    shown = next(
        block for kind, block in FENCE.findall(text_of(ROOT / "docs/internals.md")) if kind == "layers"
    )
    assert shown.splitlines() == layers
    contracts = {name.rpartition(":")[2] for name in rules.sections() if ":contract:" in name}
    listed = set(
        re.findall(r"^\| ([a-z-]+)(?: \(.*\))? \|", text_of(ROOT / "docs/internals.md"), re.MULTILINE)
    )
    assert contracts <= listed


def test_internals_show_the_tree_that_is_there() -> None:
    shown = next(
        block for kind, block in FENCE.findall(text_of(ROOT / "docs/internals.md")) if kind == "tree"
    )
    listed = set(re.findall(r"^  ([\w.]+)/?  ", shown, re.MULTILINE))
    there = {
        one.name
        for one in (ROOT / "mx").iterdir()
        if (one.suffix == ".py" and not one.name.startswith("__")) or (one / "__init__.py").exists()
    }
    assert listed == there


def test_the_picture_shows_every_package() -> None:
    names = {
        element.text
        for element in ElementTree.parse(ROOT / "docs/images/architecture.svg").iter()
        if element.get("class") == "name"
    }
    there = {
        one.stem
        for one in (ROOT / "mx").iterdir()
        if (one.suffix == ".py" and not one.name.startswith("__")) or (one / "__init__.py").exists()
    }
    assert names == there


@pytest.mark.parametrize("picture", sorted(ROOT.glob("docs/images/*.svg")), ids=name_of)
def test_pictures_are_plain(picture: Path) -> None:
    """They are shown by <img>: no script, nothing from elsewhere, text as text, a title for readers."""
    tree = ElementTree.parse(picture)
    tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert {"title", "text"} <= tags
    assert not tags & {"script", "image", "foreignObject"}
    assert "http" not in text_of(picture).replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_the_recording_loops_and_is_small() -> None:
    recording = ROOT / "docs/images/demo.svg"
    assert "step-end infinite" in text_of(recording)
    assert recording.stat().st_size < 300_000


# --- examples -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Example:
    document: str
    until_stopped: bool
    steps: tuple[tuple[str, tuple[str, ...]], ...]


def examples(document: Path) -> list[Example]:
    found = []
    for kind, block in RUNS.findall(text_of(document)):
        steps: list[tuple[str, list[str]]] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line.removeprefix("$ "), []))
            else:
                steps[-1][1].append(line)
        done = tuple((command, tuple(lines)) for command, lines in steps)
        found.append(Example(name_of(document), kind == "runs until stopped", done))
    return found


WITH_EXAMPLES = [document for document in DOCUMENTS if examples(document)]


def fits(expected: tuple[str, ...], output: str) -> bool:
    """Whether ``output`` is what a document shows; runs of blanks are alike, indents too."""

    def pattern(line: str) -> str:
        words = re.escape(re.sub(r"\s+", " ", line.strip())).replace("…", ".*")
        return words.replace(r"\ ", r"\s+").replace(r"\s+.*", r"\s*.*").replace(r".*\s+", r".*\s*")

    lines = "".join(
        r"(?:.*\n)*" if line.strip() == "…" else rf"[ ]*{pattern(line)}\s*\n" for line in expected
    )
    return re.fullmatch(lines, output.rstrip("\n") + "\n") is not None


def test_comparing_is_strict_where_it_should_be() -> None:
    assert fits(("ok  version 0.1.0  up …",), "ok  version 0.1.0  up 6s\n")
    assert fits(("a", "…", "z"), "a\nb\nc\nz\n")
    assert fits(("a  …  c",), "a   b  c\n")
    assert fits(("a", "  b  1"), "a\n  b   1\n")
    assert not fits(("ok  version 0.1.0  up …",), "draining  version 0.1.0  up 6s\n")
    assert not fits(("a",), "a\nb\n")
    assert not fits(("a  b",), "a  c\n")


def environment(home: Path, port: int) -> dict[str, str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MX_", "MODEL_EXPRESS_", "HF_"))
    }
    return clean | {
        "HOME": str(home),
        "MODEL_EXPRESS_ENDPOINT": f"127.0.0.1:{port}",
        "UCX_LOG_LEVEL": "error",
        "NIXL_LOG_LEVEL": "ERROR",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(arguments: list[str], *, home: Path, port: int) -> Iterator[str]:
    """``mx server start`` on ``port``; the line in which it says that it listens. Stopped by SIGTERM."""
    # The last of two equal options counts, so the document's own port is only read.
    command = [*MX, *arguments, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        command,
        cwd=home,
        env=environment(home, port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = next((line for line in process.stderr if "listens" in line), "")
        assert line, f"{shlex.join(command)} ended with code {process.wait(DEADLINE_S)}"
        yield line
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


@contextlib.contextmanager
def replica(name: str, directory: Path, *, port: int, from_disk: bool) -> Iterator[None]:
    """A process that loads or pulls ``org/model`` and serves it while the body runs."""
    task = Task(name, f"127.0.0.1:{port}", str(directory), "org/model", from_disk)
    with subprocess.Popen(
        [sys.executable, "-m", "mx.demo.replica", json.dumps(asdict(task))],
        env=environment(directory, port),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = next((line for line in process.stdout if '"state"' not in line), "")
            assert '"loaded"' in said, said
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a server that knows two replicas of ``org/model`` and how they loaded."""
    pytest.importorskip("nixl") if os.environ.get("CI") != "true" else None
    from mx.client.sync import SyncClient

    home = tmp_path_factory.mktemp("fleet")
    directory = checkpoint.make(tmp_path_factory.mktemp("model"), 4 << 20)
    port = free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(serving(["server", "start"], home=home, port=port))
        client = stack.enter_context(SyncClient(f"127.0.0.1:{port}"))
        stack.enter_context(replica("replica-1", directory, port=port, from_disk=True))
        stack.enter_context(replica("replica-2", directory, port=port, from_disk=False))
        end = time.monotonic() + DEADLINE_S
        # Reports are sent by a thread of their own.
        while len(client.list_transfers()) < 2 or len(client.list_sources(SourceFilter())) < 2:
            assert time.monotonic() < end, "the replicas did not report"
            time.sleep(0.05)
        yield port


@pytest.mark.parametrize("document", WITH_EXAMPLES, ids=name_of)
def test_examples_run(document: Path, fleet: int, tmp_path: Path) -> None:
    folder = tmp_path / "tiny-model"  # what examples of models are about
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(65_534))
    for example in examples(document):
        for command, expected in example.steps:
            arguments = shlex.split(command)[1:]
            if example.until_stopped:
                with serving(arguments, home=tmp_path, port=free_port()) as line:
                    said = re.sub(r"127\.0\.0\.1:\d+", "0.0.0.0:8001", line)
                assert fits(expected, said), f"{command}\n{line}"
                continue
            done = subprocess.run(
                [*MX, *arguments],
                cwd=tmp_path,
                env=environment(tmp_path, fleet),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            # Commands that only talk, such as `config generate`, do so on stderr.
            assert fits(expected, done.stdout or done.stderr), f"{command}\n{done.stdout}{done.stderr}"


def test_the_documents_for_beginners_have_examples() -> None:
    assert {"docs/quickstart.md", "docs/howto/server.md", "docs/howto/cache.md"} <= {
        name_of(one) for one in WITH_EXAMPLES
    }


def test_readme_has_room_for_measurements() -> None:
    assert re.search(r"<!-- measured -->.*<!-- /measured -->", text_of(ROOT / "README.md"), re.DOTALL)
