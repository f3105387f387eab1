"""NIXL, tried in a process of its own: its libraries may crash, hang or print."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mx
from mx.cli.checks.site import Site
from mx.core.doctor.transfer import NixlFacts

# "[1795.8] [host:19:0]   ucp_context.c:1770 UCX  ERROR no usable transports"
_UCX_ERROR = re.compile(r"UCX\s+ERROR\s+(.*)")


def try_nixl(site: Site, *, deadline_s: float) -> NixlFacts:
    """Never raises: a library that does not start is what is told."""
    # -P: not from the folder that the user stands in; from where this mx is, wherever that is.
    home = str(Path(mx.__file__).parents[1])
    path = os.pathsep.join(filter(None, (home, site.environ.get("PYTHONPATH", ""))))
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mx.transfer.probe"],
            env={**site.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return NixlFacts(installed=True, failure=f"it did not start within {deadline_s:g} s")
    return nixl_facts(done.returncode, done.stdout, done.stderr)


def nixl_facts(code: int, answer: str, talk: str) -> NixlFacts:
    """What the other process said; UCX's own words where it failed, since NIXL's say little."""
    try:
        found = json.loads(answer)
    except ValueError:
        ended = f"by signal {-code}" if code < 0 else f"with {code}"
        last = talk.strip().splitlines()[-1:]
        return NixlFacts(installed=True, failure=": ".join([f"its process ended {ended}", *last]))
    failure = str(found.get("failure", ""))
    if failure and (said := _UCX_ERROR.findall(talk)):
        failure = f"{failure}; UCX says: {said[-1]}"
    return NixlFacts(
        installed=bool(found.get("installed")),
        version=str(found.get("version", "")),
        failure=failure,
        backend=str(found.get("backend", "UCX")),
        plugins=tuple(found.get("plugins", ())),
        ucx_version=str(found.get("ucx_version", "")),
        transports=tuple(found.get("transports", ())),
    )
