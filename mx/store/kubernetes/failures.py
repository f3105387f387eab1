"""What an API server refuses and what keeps us from reaching it, in our words.

While the store is open every failure of the store itself means unavailable, whatever its reason:
callers of mx did nothing wrong when mx's own token has expired.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from mx.errors import (
    InvalidArgumentError,
    MxError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnavailableError,
)

LIBRARY_ERRORS: Final = (aiohttp.ClientError, asyncio.TimeoutError, OSError, ssl.SSLError)

INSTALL_KINDS: Final = "install mx's custom resources: kubectl apply -f charts/mx/crds"


@dataclass(frozen=True, slots=True)
class _Meaning:
    """``opening`` is raised while the store is opened, ``running`` afterwards."""

    what: str
    remedy: str
    opening: type[MxError] = UnavailableError
    running: type[MxError] = UnavailableError


_BY_STATUS: Final[Mapping[int, _Meaning]] = {
    400: _Meaning(
        "does not understand a request", "report it to mx", InvalidArgumentError, InvalidArgumentError
    ),
    401: _Meaning(
        "does not know our credentials",
        "in a pod mount a token of its service account; elsewhere renew the credentials of the kubeconfig",
        UnauthenticatedError,
    ),
    403: _Meaning(
        "forbids what mx needs",
        "bind the Role of docs/howto/kubernetes.md to this service account in namespace {namespace}",
        PermissionDeniedError,
    ),
    404: _Meaning("does not know the custom resources of mx", INSTALL_KINDS, PreconditionError),
    409: _Meaning("reports a conflict", "try again"),
    410: _Meaning("has forgotten what was asked for", "try again"),
    413: _Meaning("takes no object of this size", "", InvalidArgumentError, InvalidArgumentError),
    422: _Meaning(
        "takes no object of this shape",
        f"if its custom resources are of another release, {INSTALL_KINDS}",
        InvalidArgumentError,
        InvalidArgumentError,
    ),
    429: _Meaning("asks for fewer requests", "try again later, or give mx a priority level of its own"),
}
_BROKEN: Final = _Meaning("failed", "try again; the log of the API server says more")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no success. ``about_object``: the one named object, not its kind or namespace."""

    code: int
    message: str
    about_object: bool = False
    missing_namespace: bool = False
    invalid: bool = False  # 422 for a value, not for a test of a patch


def read_refusal(code: int, body: Any, *, plural: str, name: str) -> Refusal:
    """From the Status object that an API server answers, or from whatever else came."""
    if not isinstance(body, dict):
        return Refusal(code, str(body)[:200].strip())
    details = body.get("details") or {}
    return Refusal(
        code,
        str(body.get("message", ""))[:500],
        about_object=details.get("kind") == plural and bool(name) and details.get("name") == name,
        missing_namespace=details.get("kind") == "namespaces",
        invalid=bool(details.get("causes")),
    )


def refused(refusal: Refusal, *, server: str, namespace: str, opening: bool) -> MxError:
    """The error for a refusal that no caller can make use of."""
    meaning = _BY_STATUS.get(refusal.code, _BROKEN)
    kind = meaning.opening if opening else meaning.running
    if refusal.missing_namespace:
        return kind(
            f"Kubernetes at {server} has no namespace {namespace}",
            remedy=f"kubectl create namespace {namespace}, or set MX_METADATA_NAMESPACE",
        )
    detail = f": {refusal.message}" if refusal.message else f" (HTTP {refusal.code})"
    return kind(
        f"Kubernetes at {server} {meaning.what}{detail}", remedy=meaning.remedy.format(namespace=namespace)
    )


def unreachable(error: BaseException, *, server: str) -> UnavailableError:
    """The error for a request without an answer."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            what, remedy = "has a certificate that can't be verified", "check the authority in the kubeconfig"
        case asyncio.TimeoutError():
            what, remedy = "did not answer in time", "check the network and the load of the API server"
        case aiohttp.ClientConnectorError():
            what, remedy = "can't be reached", "check the address in the kubeconfig, and the network"
        case _:
            what, remedy = "broke the connection off", "try again; the log of the API server says more"
    reason = str(error).strip()
    return UnavailableError(f"Kubernetes at {server} {what}{f' ({reason})' if reason else ''}", remedy=remedy)
