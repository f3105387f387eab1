"""Completion in the shells themselves: a terminal, the script, words, the tabulator key."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cli_user import ROOT, User
from running import running

from mx.testing.samples import PEER, entry

DEADLINE_S = 60.0
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
# What would get between the keys of a test and the line; then the script.
BEGIN = {
    "bash": "bind 'set enable-bracketed-paste off'; eval \"$(mx completion bash)\"",
    "zsh": 'autoload -Uz compinit && compinit -u -D; eval "$(mx completion zsh)"',
    "fish": "mx completion fish | source",
}


class Terminal:
    """A shell at a terminal of its own."""

    def __init__(self, home: Path, shell: str, **variables: str) -> None:
        tools = home / "bin"
        tools.mkdir(exist_ok=True)
        (tools / "mx").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m mx "$@"\n')
        (tools / "mx").chmod(0o755)
        environment = User(home, variables=variables).environment()
        environment |= {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "TERM": "xterm",
            "COLUMNS": "200",
            "LINES": "50",
        }
        self._master, slave = pty.openpty()
        self._shell = subprocess.Popen(
            ["setsid", "--ctty", *SHELLS[shell]],  # the terminal is the shell's own
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=home,
            env=environment,
        )
        os.close(slave)
        self.shown = ""
        self.keys(BEGIN[shell] + "; echo be''gun\n")
        self.until("begun")

    def keys(self, text: str) -> None:
        self.shown = ""
        os.write(self._master, text.encode())

    def until(self, words: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while words not in self.shown:
            assert time.monotonic() < end, self.shown
            if select.select([self._master], [], [], 0.2)[0]:
                self.shown += os.read(self._master, 65536).decode(errors="replace")
                if "\x1b[c" in self.shown or "\x1b[0c" in self.shown:  # fish asks what this terminal is
                    self.shown = self.shown.replace("\x1b[c", "").replace("\x1b[0c", "")
                    os.write(self._master, b"\x1b[?6c")

    def close(self) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._master)


@pytest.mark.parametrize("shell", SHELLS)
async def test_the_tabulator_key(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{shell} is not installed")
    async with running() as up:
        record = entry("w0", peer=PEER)
        await up.services.store.publish(record)
        await asyncio.to_thread(_type, tmp_path, shell, up.server.listen, record.source_id)


def _type(home: Path, shell: str, endpoint: str, source_id: str) -> None:
    terminal = Terminal(home, shell, MODEL_EXPRESS_ENDPOINT=endpoint)
    try:
        terminal.keys("mx cach\t")
        terminal.until("mx cache")
        terminal.keys("\x15mx source wit\t")
        terminal.until("withdraw")
        terminal.keys(f"\x15mx source show {source_id[:4]}\t")
        terminal.until(source_id)
        terminal.keys("\x15mx source list --status ini\t")
        terminal.until("initializing")
    finally:
        terminal.close()


def test_installed_scripts_lie_where_shells_look(tmp_path: Path) -> None:
    user = User(tmp_path)
    for shell, place in (
        ("bash", ".local/share/bash-completion/completions/mx"),
        ("zsh", ".zfunc/_mx"),
        ("fish", ".config/fish/completions/mx.fish"),
    ):
        assert user.json("completion", shell, "--install")["written"] == str(tmp_path / place)
        assert "_MX_COMPLETE" in (tmp_path / place).read_text()
    assert (tmp_path / ".zfunc/_mx").read_text().startswith("#compdef mx")


def test_the_shell_is_that_of_the_user(tmp_path: Path) -> None:
    assert "complete_zsh" in User(tmp_path, variables={"SHELL": "/usr/bin/zsh"}).mx("completion").out
    ran = User(tmp_path, variables={"SHELL": "/bin/tcsh"}).mx("completion")
    assert (ran.code, ran.out) == (2, "")
    assert "tcsh" in ran.err


@pytest.mark.parametrize("endpoint", ["127.0.0.1:1", "10.255.255.1:8001"])
def test_a_server_that_is_not_there_gives_no_names_and_no_words(tmp_path: Path, endpoint: str) -> None:
    variables = {"_MX_COMPLETE": "complete_bash", "COMP_WORDS": "mx cache show ", "COMP_CWORD": "3"}
    ran = User(tmp_path, variables=variables | {"MODEL_EXPRESS_ENDPOINT": endpoint}).mx()
    assert (ran.code, ran.out.strip(), ran.err) == (0, "", "")


async def test_names_that_a_shell_would_run_are_not_offered(tmp_path: Path) -> None:
    async with running() as up:
        record = entry("w0", peer=PEER)
        hostile = replace(record, identity=replace(record.identity, model_name="org/$(touch x)"))
        await up.services.store.publish(hostile)
        words = f"mx -e {up.server.listen} source show "
        variables = {"_MX_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "5"}
        ran = await asyncio.to_thread(User(tmp_path, variables=variables).mx)
    assert ran.out.split() == [hostile.source_id]
