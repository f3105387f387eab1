"""A container run as a process, as near to a container as a test can come.

It sees a root file system of its own (read-only if the manifest says so), is the manifest's user without
capabilities, and has by default a loopback of its own, so that ports are those of the manifest. What
stands in for an image is this interpreter with its packages and this tree, and the machine's /usr; or it
is an image that was really built (image_builds.py).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chart_containers import Container
from chart_rendering import ROOT

TOOLS = ("unshare", "nsenter", "setpriv", "chroot", "mount", "ip")
# No HOME: a runtime would say /, and mx can do without.
_STAND_IN_ENV = {
    "PATH": "/opt/bin:/usr/local/bin:/usr/bin:/bin",
    "PYTHONPATH": "/opt/mx:/opt/packages",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def missing() -> str:
    """Why containers can't be run here; empty if they can."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root, for a root file system of the process's own"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"needs {', '.join(absent)}" if absent else ""


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: its root file system, unpacked for one use, and its configuration (OCI)."""

    root: Path
    config: dict[str, Any]

    @property
    def env(self) -> dict[str, str]:
        return dict(one.split("=", 1) for one in self.config.get("Env") or [])

    @property
    def argv(self) -> list[str]:
        return [*(self.config.get("Entrypoint") or []), *(self.config.get("Cmd") or [])]


@dataclass(frozen=True, slots=True)
class Running:
    """A started container. ``process`` is the container's own, not a wrapper's."""

    process: subprocess.Popen[bytes]
    container: Container
    log: Path
    own_network: bool

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """A command of this machine in the container's network, with this tree in its path."""
        return subprocess.run(
            self._inside(argv),
            env=_this_tree(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """The same for one that goes on; its owner ends it."""
        return subprocess.Popen(self._inside(argv), env=_this_tree(), stdin=subprocess.DEVNULL)

    def _inside(self, argv: Sequence[str]) -> list[str]:
        enter = ["nsenter", "--target", str(self.process.pid), "--net"] if self.own_network else []
        return [*enter, *argv]


def _this_tree() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@contextmanager
def started(
    container: Container,
    folder: Path,
    *,
    image: Image | None = None,
    own_network: bool = True,
    hosts: Sequence[str] = (),
    beside: Running | None = None,
) -> Iterator[Running]:
    """Run it; ends it by its id. ``hosts`` are names of Services, all of them on loopback.

    ``beside`` another: both in one network, as two pods that reach each other by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    script = folder / "start.sh"
    new_network = own_network and beside is None
    script.write_text("\n".join(_script(container, folder, image, hosts, new_network=new_network)) + "\n")
    enter = ["nsenter", "--target", str(beside.process.pid), "--net"] if beside is not None else []
    new = ["unshare", "--mount", *(["--net"] if new_network else [])]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*enter, *new, "sh", "-eu", str(script)], env={}, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield Running(process, container, log, own_network)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _script(
    container: Container, folder: Path, image: Image | None, hosts: Sequence[str], *, new_network: bool
) -> Iterator[str]:
    """Builds the root, becomes the user, and is replaced by the command."""
    root = folder / "root"
    root.mkdir(exist_ok=True)
    yield "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    yield "mount --make-rprivate /"
    if new_network:
        yield "ip link set lo up"
    if image is None:
        yield f"mount -t tmpfs root {_quoted(root)}"
        yield from _stand_in(root, folder)
    else:
        yield f"mount --bind {_quoted(image.root)} {_quoted(root)}"
    yield f"mkdir -p {_quoted(root)}/etc {_quoted(root)}/proc {_quoted(root)}/dev {_quoted(root)}/var/lib/mx"
    names = "".join(f"127.0.0.1 {name}\n" for name in ("localhost", *hosts))
    yield f"printf %s {_quoted(names)} > {_quoted(root)}/etc/hosts"
    yield f"mount --rbind /proc {_quoted(root)}/proc"
    for device in ("null", "zero", "urandom", "random"):
        place = f"{_quoted(root)}/dev/{device}"
        yield f"touch {place} && mount --bind /dev/{device} {place}"
    for mount in container.mounts:
        yield from _bound(mount.source, f"{root}{mount.path}", read_only=mount.read_only)
    if container.read_only_root:
        yield f"mount -o remount,{'bind,' if image is not None else ''}ro {_quoted(root)}"
    env = _STAND_IN_ENV if image is None else image.env
    yield f"exec chroot {_quoted(root)} {_as_the_user(container, env)}"


def _as_the_user(container: Container, image_env: Mapping[str, str]) -> str:
    groups = ",".join(str(group) for group in (container.gid, *container.groups))
    become = f"setpriv --reuid {container.uid} --regid {container.gid} --groups {groups} --no-new-privs"
    if not container.keep_capabilities:
        become += " --bounding-set=-all --inh-caps=-all --ambient-caps=-all"
    env = " ".join(_quoted(f"{key}={value}") for key, value in {**image_env, **container.env}.items())
    command = " ".join(_quoted(word) for word in container.argv)
    return f"{become} sh -c {_quoted(f'cd /var/lib/mx && exec env -i {env} {command}')}"


def _stand_in(root: Path, folder: Path) -> Iterator[str]:
    """This machine's programs and this tree, read-only, in place of an image."""
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            yield f"ln -s {_quoted(path.readlink())} {_quoted(root / name)}"
        elif path.is_dir():
            yield from _bound(path, f"{root}/{name}", read_only=True)
    yield from _bound(Path("/usr"), f"{root}/usr", read_only=True)
    if not Path(sys.base_prefix).is_relative_to("/usr"):
        yield from _bound(Path(sys.base_prefix), f"{root}{sys.base_prefix}", read_only=True)
    yield from _bound(Path(sysconfig.get_path("purelib")), f"{root}/opt/packages", read_only=True)
    yield from _bound(ROOT, f"{root}/opt/mx", read_only=True)
    commands = folder / "commands"
    commands.mkdir(exist_ok=True)
    program = commands / "mx"
    program.write_text(f'#!/bin/sh\nexec {_quoted(os.path.realpath(sys.executable))} -m mx "$@"\n')
    program.chmod(0o755)
    yield from _bound(commands, f"{root}/opt/bin", read_only=True)
    yield f"mkdir {_quoted(root)}/etc"
    for file, text in (("passwd", "root:x:0:0::/root:/bin/sh"), ("nsswitch.conf", "hosts: files")):
        yield f"echo {_quoted(text)} > {_quoted(root)}/etc/{file}"


def _bound(source: Path, target: str, *, read_only: bool) -> Iterator[str]:
    yield f"mkdir -p {_quoted(target)}"
    yield f"mount --bind {_quoted(source)} {_quoted(target)}"
    if read_only:
        yield f"mount -o remount,bind,ro {_quoted(target)}"


def _quoted(text: str | Path) -> str:
    return shlex.quote(str(text))
