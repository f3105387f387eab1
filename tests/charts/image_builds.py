"""Images built from the Dockerfiles as they are, where there is no image registry and no daemon.

buildah runs every step in a chroot. The base image comes from Debian's packages and stands in for
``python:…-slim``: the same distribution with its own Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from chart_rendering import ROOT
from container_processes import Image

BASE = "docker.io/library/python:3.12-slim"
SUITE = "bookworm"
_PACKAGES = "python3-venv,python3-pip,ca-certificates"


def missing() -> str:
    """Why images can't be built here; empty if they can."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root, to build images"
    absent = [tool for tool in ("buildah", "mmdebstrap") if shutil.which(tool) is None]
    return f"needs {', '.join(absent)}" if absent else ""


class Builder:
    """Builds below ``folder``; everything it makes lies there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._buildah = (
            *("buildah", "--root", str(folder / "store"), "--runroot", str(folder / "run")),
            *("--storage-driver", "overlay"),
        )

    def make_base(self) -> None:
        archive = self.folder / "base.tar"
        leave_out = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")
        _run(
            *("mmdebstrap", "--mode=root", "--variant=minbase", f"--include={_PACKAGES}"),
            *("--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"'),
            *(f"--dpkgopt=path-exclude={path}" for path in leave_out),
            *(SUITE, str(archive), "http://deb.debian.org/debian"),
        )
        container = self._run("from", "scratch")
        self._run("add", "--quiet", container, str(archive), "/")
        self._run("commit", "--quiet", container, BASE)
        self._run("rm", container)
        archive.unlink()

    def build(self, file: str, *, target: str | None = None, **arguments: str) -> Image:
        """One Dockerfile in this tree, without a registry. Raises AssertionError with what it said."""
        name = f"{Path(file).name}-{target or 'last'}".lower()
        self._run(
            *("build", "--isolation", "chroot", "--pull-never", "--layers", "--format", "docker"),
            *(word for volume in _pip_settings() for word in ("--volume", f"{volume}:{volume}:ro")),
            *(word for pair in arguments.items() for word in ("--build-arg", "=".join(pair))),
            *(("--target", target) if target else ()),
            *("--tag", name, "--file", str(ROOT / file), str(ROOT)),
        )
        container = self._run("from", "--pull-never", name)
        about = json.loads(self._run("inspect", container))
        return Image(Path(self._run("mount", container)), about["Docker"]["config"])

    def remove(self) -> None:
        self._run("umount", "--all")
        self._run("rm", "--all")
        shutil.rmtree(self.folder)

    def _run(self, *arguments: str) -> str:
        return _run(*self._buildah, *arguments)


def _pip_settings() -> list[str]:
    """Where this machine's pip finds packages, so that the builds find them too. Often nothing."""
    asked = _run(sys.executable, "-m", "pip", "config", "list")
    words = asked.replace("'", " ").replace("file://", " ").replace("\\n", " ").split()
    folders = [word.removesuffix("/simple") for word in words if word.startswith("/")]
    files = ["/etc/pip.conf", str(Path.home() / ".config" / "pip" / "pip.conf"), "/etc/ssl/certs"]
    return [path for path in dict.fromkeys([*folders, *files]) if Path(path).exists()]


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, f"{' '.join(argv[:8])} …\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout.strip()
