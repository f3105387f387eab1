"""How far long work is, on stderr: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from mx.cli.output import Output, clean
from mx.core.progress import EnsureUpdate
from mx.core.units import format_age, format_size
from mx.core.verification import VerifyProgress

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Between two lines on a stderr that is no terminal.
_LINE_EVERY_S = 10.0


class Bar:
    """A bar; use it as a context manager. Times are seconds, given by the caller."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._told_s = float("-inf")
        self._drawn: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Wipe it; what is told next begins on a line of its own."""
        drawn, self._drawn = self._drawn, None
        if drawn is not None:
            drawn[0].stop()

    def show(self, title: str, done: float, total: float, words: str, *, now_s: float) -> None:
        """Draw it anew: ``done`` of ``total`` (0 is unknown), and what to say beside."""
        if (drawn := self._draw()) is not None:
            progress, task = drawn
            progress.update(
                task,
                description=clean(title),
                completed=min(done, total),
                total=total or None,
                words=clean(words),
                refresh=True,
            )
        elif now_s - self._told_s >= _LINE_EVERY_S:
            self._told_s = now_s
            self._out.say(f"{title}: {words}")

    def download(self, update: EnsureUpdate, *, now_s: float) -> None:
        self.show(
            str(update.key),
            update.bytes_done,
            update.bytes_total,
            update.message or "downloading",
            now_s=now_s,
        )

    def verify(self, step: VerifyProgress, *, now_s: float) -> None:
        words = step.note
        if not words:
            parts = [f"{format_size(step.bytes_done)} of {format_size(step.bytes_total)}"]
            parts += [f"{step.entries_done} of {step.entries_total} entries"]
            parts += [f"{format_size(step.rate)}/s"] if step.rate is not None else []
            parts += [f"{format_age(step.eta_s)} left"] if step.eta_s is not None else []
            words = ", ".join(parts)
        self.show(f"verifying {step.key}", step.bytes_done, step.bytes_total, words, now_s=now_s)

    def _draw(self) -> tuple[Progress, TaskID] | None:
        if self._drawn is None and (terminal := self._out.terminal()) is not None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[words]}", markup=False),
                console=Console(file=terminal, highlight=False),
                transient=True,
                auto_refresh=False,
            )
            progress.start()
            self._drawn = progress, progress.add_task("", total=None, words="")
        return self._drawn
