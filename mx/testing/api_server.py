"""A real Kubernetes API server on loopback, for tests: started, restarted, killed, asked as its admin.

The envtest convention: ``kube-apiserver`` lies in $KUBEBUILDER_ASSETS, and ``etcd`` there or on the path.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

import yaml

_START_S: Final = 120.0  # 7 s on an idle machine
_GROUP: Final = "modelexpress.nvidia.com"


def find_assets() -> tuple[Path, Path] | str:
    """The two programs, or why they can't be used."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return "KUBEBUILDER_ASSETS names no folder with kube-apiserver"
    server = Path(folder) / "kube-apiserver"
    etcd = Path(folder) / "etcd" if (Path(folder) / "etcd").exists() else Path(shutil.which("etcd") or "")
    for needed, found in (("kube-apiserver", server.is_file()), ("etcd", etcd.is_file())):
        if not found:
            return f"{needed} is neither in {folder} nor installed"
    if shutil.which("openssl") is None:
        return "openssl is not installed"
    return server, etcd


class Refused(Exception):  # noqa: N818
    """What the API server answered to its admin."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text[:300]}")
        self.code = code


class ApiServer:
    """``admin_token`` may do everything; ``token`` belongs to the ordinary account default:mx."""

    def __init__(self, folder: Path, *, server: Path, etcd: Path) -> None:
        self.folder = folder
        self.port, self._etcd_port, self._peer_port = _free_ports(3)
        self.url = f"https://127.0.0.1:{self.port}"
        self.admin_token, self.token = secrets.token_hex(16), secrets.token_hex(16)
        self._server_program, self._etcd_program = server, etcd
        self._etcd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)

    # --- life -----------------------------------------------------------------------------------
    def start(self) -> None:
        """Both processes, ready; and once the custom resources of mx."""
        key, public = self.folder / "sa.key", self.folder / "sa.pub"
        _run("openssl", "genrsa", "-out", str(key), "2048")
        _run("openssl", "rsa", "-in", str(key), "-pubout", "-out", str(public))
        (self.folder / "tokens.csv").write_text(
            f'{self.admin_token},admin,1,"system:masters"\n'
            f'{self.token},system:serviceaccount:default:mx,2,"system:serviceaccounts"\n'
        )
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, self._peer_port))
        arguments = {
            "data-dir": str(self.folder / "etcd"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "log-level": "error",
        }
        self._etcd = self._spawn(self._etcd_program, arguments, "--unsafe-no-fsync")
        self.start_server()

    def start_server(self) -> None:
        """The API server alone; returns when it is ready."""
        arguments = {
            "etcd-servers": f"http://127.0.0.1:{self._etcd_port}",
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": str(self.port),
            "insecure-port": "0",
            "cert-dir": str(self.folder / "certs"),
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": str(self.folder / "sa.pub"),
            "service-account-signing-key-file": str(self.folder / "sa.key"),
            "api-audiences": "api",
            "service-cluster-ip-range": "10.0.0.0/24",
            "authorization-mode": "RBAC",
            "token-auth-file": str(self.folder / "tokens.csv"),
            "disable-admission-plugins": "ServiceAccount,TaintNodesByCondition,Priority",
        }
        self._server = self._spawn(self._server_program, arguments)
        deadline = time.monotonic() + _START_S
        while True:
            try:
                self.ask("GET", "/readyz")
            except (OSError, Refused):
                if self._server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"kube-apiserver did not start: {self.log_tail()}") from None
                time.sleep(0.1)
            else:
                return

    def stop_server(self, *, kill: bool = False) -> None:
        _end(self._server, kill=kill)
        self._server = None

    def stop(self) -> None:
        self.stop_server(kill=True)
        _end(self._etcd, kill=True)
        self._etcd = None

    def log_tail(self) -> str:
        return (self.folder / "kube-apiserver.log").read_text(errors="replace")[-2000:]

    @property
    def is_running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    def _spawn(self, program: Path, arguments: dict[str, str], *flags: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{program.name}.log").open("ab") as log:
            return subprocess.Popen(
                [str(program), *(f"--{name}={value}" for name, value in arguments.items()), *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    # --- as the admin -----------------------------------------------------------------------------
    def ask(
        self, method: str, path: str, body: Any = None, *, token: str = "", kind: str = "application/json"
    ) -> Any:
        """The decoded answer; Refused for a code that is no success."""
        request = urllib.request.Request(  # noqa: S310  # always https on loopback
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token or self.admin_token}", "Content-Type": kind},
        )
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as answer:  # noqa: S310
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode(errors="replace")) from None
        with contextlib.suppress(ValueError):
            return json.loads(text)
        return text.decode()

    def apply_definitions(self, folder: Path) -> None:
        """The custom resource definitions of a folder, and wait until they are served."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for file in sorted(folder.glob("*.yaml")):
            body = yaml.safe_load(file.read_text())
            with contextlib.suppress(Refused):  # there already
                self.ask("POST", path, body)
            deadline = time.monotonic() + _START_S
            while not self._is_established(f"{path}/{body['metadata']['name']}"):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{file.name} was not established")
                time.sleep(0.05)

    def _is_established(self, path: str) -> bool:
        conditions = self.ask("GET", path).get("status", {}).get("conditions", ())
        return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)

    def new_namespace(self) -> str:
        name = f"mx-{os.getpid()}-{next(self._names)}"
        self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def grant(self, namespace: str, rules: list[Any]) -> None:
        """A Role of these rules for the ordinary account, in one namespace; returns when it has effect."""
        root = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        self.ask("POST", f"{root}/roles", {"metadata": {"name": "mx"}, "rules": rules})
        binding = {
            "metadata": {"name": "mx"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "mx"},
            "subjects": [{"kind": "ServiceAccount", "name": "mx", "namespace": "default"}],
        }
        self.ask("POST", f"{root}/rolebindings", binding)
        rule = rules[0]
        asked = {
            "namespace": namespace,
            "group": rule["apiGroups"][0],
            "resource": rule["resources"][0],
            "verb": rule["verbs"][0],
        }
        review = {"spec": {"resourceAttributes": asked}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        deadline = time.monotonic() + _START_S
        while not self.ask("POST", path, review, token=self.token)["status"]["allowed"]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the Role in {namespace} has no effect")
            time.sleep(0.01)

    def objects(self, namespace: str, plural: str) -> list[Any]:
        return list(self.ask("GET", f"{self.path(namespace, plural)}")["items"])

    @staticmethod
    def path(namespace: str, plural: str, name: str = "") -> str:
        root = "/api/v1" if plural == "configmaps" else f"/apis/{_GROUP}/v1alpha1"
        return f"{root}/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")

    def kubeconfig(self, file: Path, *, token: str = "", url: str = "") -> Path:
        """A kubeconfig for a token (the admin's), at another address where a proxy stands in between."""
        cluster: dict[str, Any] = {"server": url or self.url}
        if not url:
            cluster["certificate-authority"] = str(self.folder / "certs" / "apiserver.crt")
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token or self.admin_token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        file.write_text(yaml.safe_dump(document))
        return file


def _end(process: subprocess.Popen[bytes] | None, *, kill: bool) -> None:
    if process is None:
        return
    process.kill() if kill else process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            found.append(one.getsockname()[1])
        return found
