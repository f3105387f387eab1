"""The SDK of NGC as mx uses it: loaded with our hosts, its errors in our words. The only file that names it.

What the SDK would decide by itself is decided here instead: it reads hosts and its configuration file
when it is imported, ends the process over a file it can't parse, and prefers another variable than the
contract does (settings contract, 3.1). So it is imported with our hosts and without that file, and
is given the key with each call.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mx.core.redact import redact_text
from mx.errors import (
    IntegrityError,
    InvalidArgumentError,
    MxError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnavailableError,
)
from mx.providers.answers import asked_pause_s
from mx.providers.ngc_key import Key
from mx.providers.retry import TransientError

_TRANSIENT = frozenset({408, 425, 429})
_KEY_REMEDY = "set NGC_API_KEY, or let `ngc config set` write it"
# By the word for it in names: the SDK's own, and the members of its answers.
KINDS = {
    "models": ("model", "modelVersion", "modelFiles"),
    "resources": ("resource", "recipeVersion", "recipeFiles"),
}


Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A canonical name in its parts; ``team`` is None where there is none."""

    org: str
    team: str | None
    kind: str
    name: str
    version: str

    @classmethod
    def of(cls, canonical: str) -> Artifact:
        org, *team, kind, name, version = canonical.split("/")
        if kind not in KINDS:
            raise InvalidArgumentError(
                f"{canonical}: mx has no {kind!r} of NGC", remedy=f"there are {' and '.join(KINDS)}"
            )
        return cls(org, team[0] if team else None, kind, name, version)

    @property
    def where(self) -> dict[str, str | None]:
        """As the SDK's makers of addresses want it."""
        return {"org": self.org, "team": self.team, "name": self.name, "version": self.version}


class Sdk:
    """What is used of ngcsdk. Blocking; imported with the first call, which takes a second."""

    def __init__(self, api_endpoint: str, auth_endpoint: str, key: Key) -> None:
        self._api_endpoint = api_endpoint
        self._auth_endpoint = auth_endpoint
        self._key = key
        self._lock = threading.Lock()
        self._client: Any = None

    def get(self, artifact: Artifact, what: str, address: Callable[[Any], str]) -> Json:
        """The answer to one GET; ``address`` makes it with the SDK's model or resource."""
        client = self._signed_in(what)
        try:
            found = client.connection.make_api_request(
                "GET",
                address(getattr(client.registry, KINDS[artifact.kind][0])),
                auth_org=artifact.org,
                auth_team=artifact.team,
                operation_name="mx",
                # One more attempt, and only for a token that has expired: the rest is our own rule.
                disable_non_auth_retry=True,
                retry_count=2,
            )
        except (Exception, SystemExit) as error:
            raise _translate(error, what, self._api_endpoint) from error
        if not isinstance(found, dict):
            raise IntegrityError(f"{what}: NGC answered something that is no object")
        return found

    def close(self) -> None:
        session = self._client.connection.cas_session_obj if self._client is not None else None
        if session is not None:
            session.close()

    def _signed_in(self, what: str) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._open()
            key = self._key()
            if key is None:
                raise UnauthenticatedError(f"{what}: there is no key for NGC", remedy=_KEY_REMEDY)
            if self._client.config.app_key != key:
                self._client.config.app_key = key
            return self._client

    def _open(self) -> Any:
        client = _import_sdk(self._api_endpoint, self._auth_endpoint).APIClient(
            base_url=f"{self._api_endpoint}/"
        )
        client.config.format_type = "json"  # else it writes to the terminal
        client.config.org_name, client.config.team_name = "no-org", "no-team"
        return client


_importing = threading.Lock()


def _import_sdk(api_endpoint: str, auth_endpoint: str) -> Any:
    """The SDK, speaking to these hosts. PreconditionError when it is not installed or speaks to others."""
    with _importing:
        if sys.modules.get("ngcsdk") is None:
            ours = {
                "NGC_CLI_API_URL": api_endpoint,
                "NGC_CLI_AUTH_URL": auth_endpoint,
                "NGC_CLI_HOME": os.devnull,  # no configuration can lie below it
            }
            before = {name: os.environ.get(name) for name in ours}
            os.environ.update(ours)
            try:
                sdk = importlib.import_module("ngcsdk")
            except ImportError as error:
                raise PreconditionError(
                    f"models of NGC need the package ngcsdk: {error}",
                    remedy="pip install 'modelexpress-mx[ngc]'",
                ) from error
            finally:
                for name, value in before.items():
                    if value is None:
                        os.environ.pop(name, None)
                    else:
                        os.environ[name] = value
            # At DEBUG it logs answers whole, and with them addresses that are as good as a key.
            for logger in ("ngcbase", "ngcsdk", "registry"):
                logging.getLogger(logger).setLevel(logging.WARNING)
        sdk = sys.modules["ngcsdk"]
    bound = importlib.import_module("ngcbase.environ").NGC_CLI_AUTH_URL
    if bound != auth_endpoint:
        raise PreconditionError(
            f"ngcsdk was loaded in this process for {bound or 'its own hosts'}, not for {auth_endpoint}",
            remedy="one process speaks to one NGC; start another one",
        )
    return sdk


def _translate(error: BaseException, what: str, endpoint: str) -> MxError | TransientError:
    """The SDK's errors in our words."""
    if isinstance(error, MxError):
        return error
    answer = getattr(error, "response", None)
    status = getattr(answer, "status_code", None)
    if answer is not None and isinstance(status, int) and status >= 400:
        return _answered(status, answer.headers, _said(answer), what, endpoint)
    sdk_errors = importlib.import_module("ngcbase.errors")
    if isinstance(error, (sdk_errors.AuthenticationException, sdk_errors.TokenExpiredException)):
        return _answered(401, {}, "", what, endpoint)
    if told := re.match(r"Error \(unexpected format\) : (\d{3}) :", str(error)):
        # Of the token service; the rest of the text is its answer, which may hold a token.
        return _answered(int(told[1]), {}, "the token service", what, endpoint)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UnavailableError(
                f"{what}: the certificate of {endpoint} is not trusted: {cause.verify_message}",
                remedy="REQUESTS_CA_BUNDLE and SSL_CERT_FILE name a file with further authorities",
            )
        cause = cause.__cause__ or cause.__context__
    reason = redact_text(str(error)).strip()[:200] or type(error).__name__
    return TransientError(
        UnavailableError(
            f"{what}: no good answer from {endpoint}: {reason}",
            remedy="check the network and NGC_API_ENDPOINT, or try again later",
        )
    )


def _answered(
    status: int, headers: Mapping[str, str], said: str, what: str, endpoint: str
) -> MxError | TransientError:
    shown = f"{what}: {said}" if said else what
    match status:
        case 401:
            return UnauthenticatedError(f"{shown}: {endpoint} does not accept the key", remedy=_KEY_REMEDY)
        case 403:
            return PermissionDeniedError(
                f"{shown}: access is denied", remedy="check what the key may read, and its organisation"
            )
        case 404 | 410:
            return NotFoundError(
                f"{shown}: not found at {endpoint}", remedy="check the name; write org/team/name:version"
            )
        case 412:
            return PermissionDeniedError(
                f"{shown}: its terms are not accepted", remedy="accept them in the NGC catalogue"
            )
    error = UnavailableError(f"{shown}: {endpoint} answered {status}")
    if status in _TRANSIENT or status >= 500 or status < 300:  # a proxy's page instead of the answer
        return TransientError(error, after_s=asked_pause_s(headers))
    return error


def _said(answer: Any) -> str:
    try:
        text = json.loads(answer.text)["requestStatus"]["statusDescription"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return redact_text(text).strip()[:200] if isinstance(text, str) else ""
