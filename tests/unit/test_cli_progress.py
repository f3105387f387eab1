"""Progress goes to stderr: drawn over itself on a terminal, as a line now and then elsewhere."""

from __future__ import annotations

import io

import pytest

from mx.cli.output import Output
from mx.cli.progress import Bar
from mx.core.model import EntryKey, EntryStatus, ProviderName
from mx.core.progress import EnsureUpdate
from mx.core.verification import VerifyProgress

KEY = EntryKey(ProviderName.HUGGING_FACE, "org/\x1b[2Jmodel", "a" * 40)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stderr: io.StringIO, *, quiet: bool = False) -> str:
    stdout = Terminal()
    out = Output(stdout=stdout, stderr=stderr)
    out.quiet = quiet
    with Bar(out) as bar:
        for second in range(25):
            update = EnsureUpdate(
                KEY, EntryStatus.DOWNLOADING, f"step {second}", bytes_done=second, bytes_total=24
            )
            bar.download(update, now_s=second)
        bar.verify(VerifyProgress(KEY, 1, 2, 0, 1, rate=1024.0, eta_s=61.0), now_s=30)
        bar.show("unknown", 5, 0, "no total yet", now_s=40)
    assert stdout.getvalue() == ""
    return stderr.getvalue()


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


def test_lines_now_and_then_where_nothing_can_be_drawn() -> None:
    lines = shown(io.StringIO()).splitlines()
    assert [line.rpartition(" ")[2] for line in lines[:3]] == ["0", "10", "20"]
    assert "1.00 KiB/s, 1m 1s left" in lines[3]
    assert not [line for line in lines if "\x1b" in line]


def test_a_dumb_terminal_gets_lines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in shown(Terminal())


def test_a_bar_is_drawn_and_wiped_and_a_name_can_do_nothing() -> None:
    text = shown(Terminal())
    assert "step 24" in text
    assert "no total yet" in text
    assert "\x1b[2Jmodel" not in text
    assert text.count("\n") < 5, "one line, drawn over"


def test_nothing_when_quiet() -> None:
    assert shown(io.StringIO(), quiet=True) == shown(Terminal(), quiet=True) == ""
