"""Where a check looks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mx.cli.options import Invocation
from mx.config import Settings
from mx.core.doctor.settings import ScopeFacts
from mx.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Site:
    """The run, its environment and its machine. ``root`` is ``/``, and another in tests."""

    run: Invocation
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    root: Path = Path("/")

    def scopes(self) -> tuple[dict[str, Settings], list[ScopeFacts]]:
        """Settings of each scope that can be loaded, and what loading said; the client's first."""
        loaded: dict[str, Settings] = {}
        facts = []
        for scope in ("client", "server", "worker"):
            try:
                settings = self.run.settings(scope=scope)
            except SettingsError as error:
                facts.append(ScopeFacts(scope, problems=error.problems))
            else:
                loaded[scope] = settings
                file = str(settings.config_file) if settings.config_file else None
                facts.append(ScopeFacts(scope, file, notices=settings.notices))
        return loaded, facts
