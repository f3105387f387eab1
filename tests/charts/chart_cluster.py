"""The API server of the tests as people use it: with kubectl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from chart_containers import Account
from chart_rendering import Manifest

from mx.testing.api_server import ApiServer

# Of the ServiceAccount that the ordinary token belongs to; its name is that which the chart gives its own.
ACCOUNT_NAMESPACE = "default"


def missing() -> str:
    """Why kubectl can't be used here; empty if it can."""
    return "" if shutil.which("kubectl") else "needs kubectl"


@dataclass(frozen=True, slots=True)
class Cluster:
    """``kubeconfig`` is the admin's."""

    server: ApiServer
    kubeconfig: Path

    def kubectl(self, *arguments: str | Path, stdin: str = "") -> str:
        """Its standard output; the test fails with its own words if it fails."""
        done = self.run("kubectl", *arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(
        self, *argv: str | Path, stdin: str = "", path: Sequence[Path] = ()
    ) -> subprocess.CompletedProcess[str]:
        """A command that finds this cluster, and the folders ``path`` before all others."""
        env = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "PATH": os.pathsep.join([*map(str, path), os.environ["PATH"]]),
        }
        return subprocess.run(
            [str(one) for one in argv],
            input=stdin,
            env=env,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def dry_run(self, manifests: Sequence[Manifest], *, namespace: str = "serving") -> list[str]:
        """Have the server take them, and keep nothing; kind/name of what it took."""
        placed = [{**one, "metadata": {"namespace": namespace, **one["metadata"]}} for one in manifests]
        text = yaml.safe_dump_all(placed)
        return self.kubectl("apply", "--dry-run=server", "-o", "name", "-f", "-", stdin=text).split()

    def make_namespace(self, name: str) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def account(self, folder: Path) -> Account:
        """What a pod gets of its ServiceAccount."""
        folder.mkdir()
        (folder / "token").write_text(self.server.token)
        (folder / "ca.crt").write_bytes((self.server.folder / "certs" / "apiserver.crt").read_bytes())
        (folder / "namespace").write_text(ACCOUNT_NAMESPACE)
        return Account(folder, self.server.port)
