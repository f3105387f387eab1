"""The command line of mx: one file per noun, no policy of its own.

Commands turn arguments into one call of ``mx.client`` and the answer into text or JSON.
They must not open stores, speak gRPC, or write to a stream other than through ``output``.
Importing this package loads the standard library only: each noun is imported when it is used.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script ``mx``; ends the process with a documented exit code."""
    try:
        from mx.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # Ctrl-C while Python is still importing
        code = 130
    sys.exit(code)
