"""The command line of mx: one file per noun, no policy of its own.

Commands turn arguments into one call of ``mx.client`` and the answer into text or JSON.
They must not open stores, speak gRPC, or write to a stream other than through ``output``.
Importing this package loads the standard library only: each noun is imported when it is used.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script ``mx``; ends the process with a documented exit code."""
    try:
        from mx.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # Ctrl-C while Python is still importing
        code = 130
    _end(code)


def _end(code: int) -> NoReturn:
    """Leave without tearing the interpreter down where gRPC was used.

    Everything of ours is closed by now. gRPC's poller thread may still wait on a descriptor that
    the teardown closes, and then aborts the process: one exit in a hundred would not have the
    documented code.
    """
    if "grpc" not in sys.modules:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
