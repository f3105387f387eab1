"""A container of a rendered manifest, run as a process: what a kubelet does, as near as a test can.

What is taken from the manifest: command, arguments, variables (Secrets, ConfigMaps, the downward API,
``$(NAME)``), user and groups, volumes, read-only root file system, capabilities, probes. What stands in
for the image is this interpreter with its packages and this tree, and the machine's /usr. The process
sees a root of its own, and by default a loopback of its own, so that ports are those of the manifest.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chart_rendering import ROOT, Manifest, pod_spec

TOOLS = ("unshare", "nsenter", "setpriv", "chroot", "mount", "ip")
POD_IP = "127.0.0.1"
_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


class Unsupported(Exception):  # noqa: N818  # says what a manifest holds, it is no failure of the code
    """A manifest that this module can't run, or that no kubelet would."""


def missing() -> str:
    """Why containers can't be run here; empty if they can."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root, for a root file system of the process's own"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"needs {', '.join(absent)}" if absent else ""


@dataclass(frozen=True, slots=True)
class Mount:
    path: str
    source: Path  # on this machine
    read_only: bool


@dataclass(frozen=True, slots=True)
class Container:
    """One container, with everything looked up."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    mounts: tuple[Mount, ...]
    uid: int
    gid: int
    groups: tuple[int, ...]
    read_only_root: bool
    keep_capabilities: bool
    spec: Manifest = field(repr=False)


def container_of(
    workload: Manifest,
    manifests: Sequence[Manifest],
    folder: Path,
    *,
    name: str | None = None,
    secrets: Mapping[str, Mapping[str, str]] | None = None,
) -> Container:
    """The named (or only) container of a workload; volumes become folders below ``folder``.

    A folder that is there is used again, as a volume would. ``secrets`` are those that the cluster has
    beside the manifests' own. Raises Unsupported.
    """
    pod = pod_spec(workload)
    containers = [one for one in pod["containers"] if name in (None, one["name"])]
    if len(containers) != 1:
        raise Unsupported(f"{len(containers)} containers are called {name}")
    spec = containers[0]
    known = _secrets(manifests) | {key: dict(value) for key, value in (secrets or {}).items()}
    security = {**pod.get("securityContext", {}), **spec.get("securityContext", {})}
    uid = security.get("runAsUser", 0)
    if security.get("runAsNonRoot") and uid == 0:
        raise Unsupported("runAsNonRoot with an image that runs as root")
    gid = security.get("runAsGroup", uid)
    fs_group = security.get("fsGroup")
    env = _env(spec, workload, known)
    argv = [_expanded(word, env) for word in [*spec["command"], *spec.get("args", [])]]
    mounts = [
        Mount(mount["mountPath"], source, bool(mount.get("readOnly")) or is_fixed)
        for mount in spec.get("volumeMounts", [])
        for source, is_fixed in [_volume(mount["name"], workload, manifests, folder, fs_group)]
    ]
    return Container(
        argv=tuple(argv),
        env=env,
        mounts=tuple(mounts),
        uid=uid,
        gid=gid,
        groups=(fs_group,) if fs_group is not None else (),
        read_only_root=bool(security.get("readOnlyRootFilesystem")),
        keep_capabilities="ALL" not in security.get("capabilities", {}).get("drop", []),
        spec=spec,
    )


def _secrets(manifests: Sequence[Manifest]) -> dict[str, dict[str, str]]:
    return {
        one["metadata"]["name"]: {
            **{key: base64.b64decode(value).decode() for key, value in one.get("data", {}).items()},
            **one.get("stringData", {}),
        }
        for one in manifests
        if one["kind"] == "Secret"
    }


def _env(spec: Manifest, workload: Manifest, secrets: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    env: dict[str, str] = {}
    for source in spec.get("envFrom", []):
        ref = source["secretRef"]
        if ref["name"] in secrets:
            env |= secrets[ref["name"]]
        elif not ref.get("optional"):
            raise Unsupported(f"there is no Secret {ref['name']}")
    for one in spec.get("env", []):
        if "value" in one:
            env[one["name"]] = _expanded(str(one["value"]), env)
            continue
        match one["valueFrom"]:
            case {"fieldRef": {"fieldPath": path}}:
                env[one["name"]] = _downward(path, workload)
            case {"secretKeyRef": {"name": name, "key": key, **rest}}:
                if key in secrets.get(name, {}):
                    env[one["name"]] = secrets[name][key]
                elif not rest.get("optional"):
                    raise Unsupported(f"there is no key {key} in a Secret {name}")
            case other:
                raise Unsupported(f"{one['name']} comes from {other}")
    return env


def _downward(path: str, workload: Manifest) -> str:
    meta = workload["metadata"]
    known = {
        "metadata.name": f"{meta['name']}-0",
        "metadata.namespace": meta.get("namespace", "serving"),
        "metadata.uid": "7d5c1ac6-0000-4000-8000-000000000000",
        "status.podIP": POD_IP,
        "spec.nodeName": "node-1",
    }
    return known[path]


def _expanded(text: str, env: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: env.get(found[1], found[0]), text)


def _volume(
    name: str, workload: Manifest, manifests: Sequence[Manifest], folder: Path, fs_group: int | None
) -> tuple[Path, bool]:
    """The folder that stands for a volume, and whether it is read-only by nature."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    volumes = {one["name"]: one for one in pod_spec(workload).get("volumes", [])}
    templates = [one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", [])]
    match volumes.get(name):
        case {"configMap": {"name": wanted}}:
            maps = {one["metadata"]["name"]: one for one in manifests if one["kind"] == "ConfigMap"}
            for file, text in maps[wanted]["data"].items():
                (place / file).write_text(text, encoding="utf-8")
            return place, True
        case {"emptyDir": _} | {"persistentVolumeClaim": _}:
            pass
        case None if name in templates:
            pass
        case other:
            raise Unsupported(f"volume {name}: {other}")
    # What fsGroup does to a volume: it belongs to the group, which may write, and so does what is made in it.
    if fs_group is not None:
        os.chown(place, 0, fs_group)
        place.chmod(0o2775)
    else:
        place.chmod(0o777 if "emptyDir" in volumes.get(name, {}) else 0o755)
    return place, False


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
        enter = ["nsenter", "--target", str(self.process.pid), "--net"] if self.own_network else []
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [*enter, *argv], env=env, capture_output=True, text=True, timeout=timeout_s, check=False
        )


@contextmanager
def started(
    container: Container,
    folder: Path,
    *,
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
    script.write_text(_script(container, folder, hosts, own_network=own_network and beside is None))
    enter = ["nsenter", "--target", str(beside.process.pid), "--net"] if beside is not None else []
    new = ["unshare", "--mount", *(["--net"] if own_network and beside is None else [])]
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


def _script(container: Container, folder: Path, hosts: Sequence[str], *, own_network: bool) -> str:
    """Builds the root, becomes the user, and is replaced by the command."""
    root = folder / "root"
    root.mkdir(exist_ok=True)
    etc = _etc(folder / "etc", container, hosts)
    quoted = shlex.quote
    lines = [
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "mount --make-rprivate /",
        f"mount -t tmpfs root {quoted(str(root))}",
    ]
    if own_network:
        lines.append("ip link set lo up")

    def bind(source: Path, path: str, *, read_only: bool) -> None:
        target = quoted(f"{root}{path}")
        lines.append(f"mkdir -p {target}")
        lines.append(f"mount --bind {quoted(str(source))} {target}")
        if read_only:
            lines.append(f"mount -o remount,bind,ro {target}")

    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            lines.append(f"ln -s {quoted(str(path.readlink()))} {quoted(f'{root}/{name}')}")
        elif path.is_dir():
            bind(path, f"/{name}", read_only=True)
    bind(Path("/usr"), "/usr", read_only=True)
    if not Path(sys.base_prefix).is_relative_to("/usr"):
        bind(Path(sys.base_prefix), sys.base_prefix, read_only=True)
    bind(etc, "/etc", read_only=False)
    bind(Path(sysconfig.get_path("purelib")), "/opt/packages", read_only=True)
    bind(ROOT, "/opt/mx", read_only=True)
    bind(_commands(folder / "commands"), "/opt/bin", read_only=True)
    for device in ("null", "zero", "urandom", "random"):
        lines.append(f"mkdir -p {quoted(f'{root}/dev')} && touch {quoted(f'{root}/dev/{device}')}")
        lines.append(f"mount --bind /dev/{device} {quoted(f'{root}/dev/{device}')}")
    lines += [f"mkdir -p {quoted(f'{root}/proc')}", f"mount --rbind /proc {quoted(f'{root}/proc')}"]
    for mount in container.mounts:
        bind(mount.source, mount.path, read_only=mount.read_only)
    lines.append(f"mkdir -p {quoted(f'{root}/var/lib/mx')}")
    if container.read_only_root:
        lines += [
            f"mount -o remount,bind,ro {quoted(f'{root}/etc')}",
            f"mount -o remount,ro {quoted(str(root))}",
        ]
    # No HOME: a runtime would say /, and mx can do without.
    image = {
        "PATH": "/opt/bin:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": "/opt/mx:/opt/packages",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    env = " ".join(quoted(f"{key}={value}") for key, value in (image | dict(container.env)).items())
    groups = ",".join(str(group) for group in (container.gid, *container.groups))
    become = f"setpriv --reuid {container.uid} --regid {container.gid} --groups {groups} --no-new-privs"
    if not container.keep_capabilities:
        become += " --bounding-set=-all --inh-caps=-all --ambient-caps=-all"
    command = " ".join(quoted(word) for word in container.argv)
    inside = quoted(f"cd /var/lib/mx && exec env -i {env} {command}")
    lines.append(f"exec chroot {quoted(str(root))} {become} sh -c {inside}")
    return "\n".join(lines) + "\n"


def _etc(place: Path, container: Container, hosts: Sequence[str]) -> Path:
    place.mkdir(exist_ok=True)
    (place / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (place / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *hosts)))
    (place / "nsswitch.conf").write_text("hosts: files\n")
    for mount in container.mounts:
        if mount.path.startswith("/etc/"):
            (place / mount.path.removeprefix("/etc/")).mkdir(parents=True, exist_ok=True)
    return place


def _commands(place: Path) -> Path:
    """What the image has in its PATH, beside the machine's own."""
    place.mkdir(exist_ok=True)
    python = os.path.realpath(sys.executable)
    for name in ("mx",):
        file = place / name
        file.write_text(f'#!/bin/sh\nexec {shlex.quote(python)} -m mx "$@"\n')
        file.chmod(0o755)
    return place
