"""A container of a rendered manifest, with everything looked up that a kubelet looks up.

Command, arguments, variables (Secrets, ConfigMaps, the downward API, ``$(NAME)``), user and groups,
volumes as folders, capabilities. container_processes.py runs it.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chart_rendering import Manifest, pod_spec

POD_IP = "127.0.0.1"
_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


class Unsupported(Exception):  # noqa: N818  # says what a manifest holds, it is no failure of the code
    """A manifest that this module can't run, or that no kubelet would."""


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
