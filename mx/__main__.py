"""``python -m mx`` is ``mx``."""

from __future__ import annotations

from mx.cli import main

if __name__ == "__main__":
    main()
