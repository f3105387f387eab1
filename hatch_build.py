"""Build hook: write the wire classes from ``protos/`` before they go into a wheel.

What is checked in is the same text (``make check`` compares them), so an editable install, which
uses the tree as it is, skips this.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProtoHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs ``protos/generate.py`` with the build environment's compiler."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            subprocess.run([sys.executable, str(Path(self.root, "protos", "generate.py"))], check=True)
