"""A real Kubernetes API server with its etcd, on free loopback ports: no nodes, no controllers."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any

import yaml
from chart_rendering import Manifest

START_S = 120.0
SERVICE_ACCOUNT = "system:serviceaccount:serving:mx"


def missing() -> str:
    """Why there can be no cluster here; empty if there can."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets:
        return "needs KUBEBUILDER_ASSETS, a folder with kube-apiserver"
    if not Path(assets, "kube-apiserver").exists():
        return f"needs kube-apiserver in {assets}"
    absent = [tool for tool in ("kubectl", "openssl") if shutil.which(tool) is None]
    return f"needs {', '.join(absent)}" if absent else "" if _etcd() else "needs etcd"


def _etcd() -> str | None:
    """Beside the API server, or in the path."""
    return shutil.which("etcd", path=os.pathsep.join([os.environ["KUBEBUILDER_ASSETS"], os.environ["PATH"]]))


@dataclass(frozen=True, slots=True)
class Cluster:
    """``token`` is that of SERVICE_ACCOUNT, who may do nothing until a Role says so."""

    url: str
    ca: Path
    kubeconfig: Path
    token: str

    def kubectl(self, *arguments: str | Path, stdin: str = "", check: bool = True) -> str:
        """Its standard output; the test fails with its own words if it fails."""
        done = self.run("kubectl", *arguments, stdin=stdin)
        assert done.returncode == 0 or not check, done.stderr
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
            timeout=120,
            check=False,
        )

    def dry_run(self, manifests: Sequence[Manifest], *, namespace: str = "serving") -> list[str]:
        """Have the server take them, and keep nothing; kind/name of what it took."""
        placed = [{**one, "metadata": {"namespace": namespace, **one["metadata"]}} for one in manifests]
        text = yaml.safe_dump_all(placed)
        return self.kubectl("apply", "--dry-run=server", "-o", "name", "-f", "-", stdin=text).split()

    def make_namespace(self, name: str) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps(_namespace(name)))


def _namespace(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Start, wait until it is ready, and end both by their ids."""
    assets = Path(os.environ["KUBEBUILDER_ASSETS"])
    client, peer, api = _free_ports(3)
    key, certificates = folder / "accounts.key", folder / "certificates"
    _checked("openssl", "genrsa", "-out", key, "2048")
    admin, token = secrets.token_hex(16), secrets.token_hex(16)
    (folder / "tokens.csv").write_text(
        f'{admin},admin,1,"system:masters"\n{token},{SERVICE_ACCOUNT},2,"system:serviceaccounts"\n'
    )
    etcd_urls = [f"http://127.0.0.1:{port}" for port in (client, peer)]
    etcd = [
        *(_etcd() or "etcd", "--data-dir", folder / "etcd", "--unsafe-no-fsync", "--log-level", "error"),
        *("--listen-client-urls", etcd_urls[0], "--advertise-client-urls", etcd_urls[0]),
        *("--listen-peer-urls", etcd_urls[1], "--initial-advertise-peer-urls", etcd_urls[1]),
        *("--initial-cluster", f"default={etcd_urls[1]}"),
    ]
    server = [
        *(assets / "kube-apiserver", "--etcd-servers", etcd_urls[0]),
        *("--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--secure-port", str(api)),
        *(
            "--cert-dir",
            certificates,
            "--authorization-mode",
            "RBAC",
            "--token-auth-file",
            folder / "tokens.csv",
        ),
        *("--service-account-issuer", "https://kubernetes.default.svc", "--api-audiences", "api"),
        *("--service-account-key-file", key, "--service-account-signing-key-file", key),
        *("--service-cluster-ip-range", "10.0.0.0/24"),
        *("--disable-admission-plugins", "ServiceAccount,TaintNodesByCondition,Priority"),
    ]
    with _process(etcd, folder / "etcd.log"), _process(server, folder / "server.log") as process:
        url, ca = f"https://127.0.0.1:{api}", certificates / "apiserver.crt"
        _wait_until_ready(url, ca, admin, process, folder / "server.log")
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig(url, ca, admin)))
        yield Cluster(url, ca, kubeconfig, token)


def _kubeconfig(url: str, ca: Path, token: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority": str(ca)}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


@contextmanager
def _process(argv: Sequence[str | Path], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(one) for one in argv], stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(url: str, ca: Path, token: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not _answers(url, ca, token):
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.1)


def _answers(url: str, ca: Path, token: str) -> bool:
    if not ca.exists():
        return False
    request = urllib.request.Request(f"{url}/readyz", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=5, context=_trusting(ca)) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _trusting(ca: Path) -> SSLContext:
    return create_default_context(cafile=str(ca))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _checked(*argv: str | Path) -> None:
    subprocess.run([str(one) for one in argv], check=True, capture_output=True)
