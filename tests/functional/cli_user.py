"""A person with a home, a shell and ``mx``: every command is a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEADLINE_S = 120.0
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout. Raises when there is none or more than one."""
        return json.loads(self.out)


@dataclass(slots=True)
class User:
    """``variables`` are those of the shell; what the tests' own environment says of mx is not there."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MX_", "MODEL_EXPRESS_", "HF_", "NGC_"))
            and name not in ("FORCE_COLOR", "COLUMNS")
        }
        return kept | {"HOME": str(self.home), "PYTHONPATH": str(ROOT)} | self.variables

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "mx", *args],
            cwd=self.home,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str], *, by: signal.Signals | None = None) -> Ran:
        if by is not None:
            process.send_signal(by)
        try:
            out, err = process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        return Ran(process.returncode, out, err)

    def mx(self, *args: str) -> Ran:
        return self.end(self.start(*args))

    def json(self, *args: str, code: int = 0) -> Any:
        """The document of a command that ends with that code."""
        ran = self.mx(*args, "-f", "json")
        assert ran.code == code, ran
        return ran.json
