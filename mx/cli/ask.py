"""A question before something goes."""

from __future__ import annotations

import sys

import typer

from mx.errors import CancelledError, UsageError


def confirm(question: str, *, yes: bool, done: str = "removed") -> None:
    """Ask on a terminal, in every format; elsewhere only --yes goes on. UsageError, and CancelledError
    that says that nothing was ``done``."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to be asked", remedy="--yes goes on without a question")
    if not typer.confirm(question, err=True):
        raise CancelledError(f"nothing was {done}")
