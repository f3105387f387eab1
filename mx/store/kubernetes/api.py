"""One API server and one namespace: requests with deadlines, new tries with back-off, watches.

The official client does authentication, TLS and configuration; objects stay the dictionaries that
they are on the wire, since their schema is ours and the client has no models for it.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import (
    KUBE_CONFIG_DEFAULT_LOCATION,
    ConfigException,
    load_incluster_config,
    load_kube_config,
)

import mx
from mx.errors import InvalidArgumentError, MxError, UnavailableError
from mx.ports import Clock
from mx.store.kubernetes.clock import ClusterClock
from mx.store.kubernetes.failures import LIBRARY_ERRORS, Refusal, read_refusal, refused, unreachable
from mx.store.kubernetes.names import Kind

Object = dict[str, Any]
Patch = list[dict[str, Any]]

CALL_S: Final = 10.0  # new tries included
_AT_ONCE: Final = 32  # requests in flight: an API server shares its patience among all its clients
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 2.0
_TRY_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
_ANSWERS: Final = frozenset({404, 409, 410, 422})
_JSON, _PATCH = "application/json", "application/json-patch+json"


class Answer(Exception):  # noqa: N818  # no error yet: the caller judges
    """What the API server said about one object: not there, already there, changed, forgotten.

    ``error`` is what to raise where that is of no use. ``again``: an earlier try of the same request
    may have been carried out although its answer was lost.
    """

    def __init__(self, code: int, error: MxError, *, again: bool) -> None:
        super().__init__(error.message)
        self.code = code
        self.error = error
        self.again = again

    @property
    def is_missing(self) -> bool:
        return self.code == 404

    @property
    def is_conflict(self) -> bool:
        return self.code in (409, 422)


class Api:
    """Open for the life of a store. Raises MxErrors, and ``Answer`` for what only callers can judge."""

    def __init__(self, client: ApiClient, *, namespace: str, clock: Clock, call_s: float = CALL_S) -> None:
        self.namespace = namespace
        self.clock = ClusterClock(clock)
        self.server = urlsplit(client.configuration.host).netloc
        self.opening = True
        self._client = client
        self._client.user_agent = f"mx/{mx.__version__}"
        self._call_s = call_s
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._closed = False

    @classmethod
    async def connect(cls, *, namespace: str, kubeconfig: str, clock: Clock, call_s: float = CALL_S) -> Api:
        """By ``kubeconfig`` if it is given, else as the pod that we are, else by ~/.kube/config."""
        client = ApiClient(await _configuration(kubeconfig))
        return cls(client, namespace=namespace, clock=clock, call_s=call_s)

    async def close(self) -> None:
        self._closed = True
        await self._client.close()

    def require_open(self) -> None:
        if self._closed:
            raise UnavailableError(f"the store in Kubernetes namespace {self.namespace} is closed")

    # --- objects ------------------------------------------------------------------------------
    async def read(self, kind: Kind, name: str) -> Object | None:
        try:
            return await self.call("GET", kind, name)
        except Answer as answer:
            if answer.is_missing:
                return None
            raise answer.error from answer

    async def create(self, kind: Kind, body: Object, *, dry_run: bool = False) -> Object:
        """``Answer`` 409 when there is one of that name."""
        query = {"dryRun": "All"} if dry_run else {}
        return await self.call("POST", kind, query=query, body=body, name=body["metadata"]["name"])

    async def patch(self, kind: Kind, name: str, patch: Patch, *, status: bool = True) -> Object:
        """``Answer`` 404, or 409 and 422 when a test of the patch fails."""
        return await self.call("PATCH", kind, name, status=status, body=patch)

    async def delete(self, kind: Kind, name: str, *, version: str | None = None) -> bool:
        """False when there is none; ``Answer`` 409 when it is not of this version any more.

        With a version, which somebody saw, gone is gone: our answer may have got lost.
        """
        body = {"preconditions": {"resourceVersion": version}} if version else {}
        try:
            await self.call("DELETE", kind, name, body=body)
        except Answer as answer:
            if answer.is_missing:
                return version is not None
            raise
        return True

    async def pages(
        self, kind: Kind, *, selector: str = "", limit: int = 500, metadata_only: bool = False
    ) -> AsyncIterator[Object]:
        """Lists of at most ``limit`` objects, all as of one moment; ``Answer`` 410 when that is over."""
        query = {"limit": str(limit)} | ({"labelSelector": selector} if selector else {})
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1" if metadata_only else ""
        while True:
            page = await self.call("GET", kind, query=query, accept=accept)
            yield page
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    # --- requests -----------------------------------------------------------------------------
    async def call(
        self,
        method: str,
        kind: Kind,
        name: str = "",
        *,
        status: bool = False,
        query: Mapping[str, str] | None = None,
        body: Object | Patch | None = None,
        accept: str = "",
    ) -> Object:
        """One request until it is answered, for ``call_s`` at most; the decoded body.

        Every write of ours is conditional, so that sending it twice does no harm.
        """
        self.require_open()
        if body is not None:
            _require_text(body)
        deadline = asyncio.get_running_loop().time() + self._call_s
        again = False
        attempt = 0
        path = self._path(kind, "" if method == "POST" else name, status=status, query=query)
        while True:
            try:
                async with self._slots, asyncio.timeout_at(deadline):
                    code, headers, found = await self._once(method, path, body=body, accept=accept)
            except LIBRARY_ERRORS as error:
                self.require_open()
                failure: MxError = unreachable(error, server=self.server)
                wait_s = None
                again = again or not isinstance(error, aiohttp.ClientConnectorError)
            else:
                if 200 <= code < 300:
                    done: Object = found
                    return done
                refusal = read_refusal(code, found, plural=kind.plural, name=name)
                failure = self._refused(refusal)
                if _is_answer(refusal):
                    raise Answer(code, failure, again=again)
                if code not in _TRY_AGAIN:
                    raise failure
                wait_s = _retry_after_s(headers)
                again = again or code != 429
            attempt += 1
            wait_s = _backoff_s(attempt) if wait_s is None else wait_s
            if asyncio.get_running_loop().time() + wait_s >= deadline:
                raise failure
            await asyncio.sleep(wait_s)

    async def open_watch(self, kind: Kind, *, since: str, last_s: int) -> aiohttp.ClientResponse:
        """A stream of events after version ``since``; ``Answer`` 410 when that is forgotten."""
        self.require_open()
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(last_s),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._call_s)
        try:
            async with asyncio.timeout(self._call_s):
                response = await self._send("GET", self._path(kind, query=query), timeout=timeout)
                if response.status == 200:
                    return response
                found = _decoded(await response.read())
        except LIBRARY_ERRORS as error:
            raise unreachable(error, server=self.server) from error
        refusal = read_refusal(response.status, found, plural=kind.plural, name="")
        failure = self._refused(refusal)
        raise Answer(410, failure, again=False) if refusal.code == 410 else failure

    def _refused(self, refusal: Refusal) -> MxError:
        return refused(refusal, server=self.server, namespace=self.namespace, opening=self.opening)

    async def _once(
        self, method: str, path: str, *, body: Object | Patch | None, accept: str
    ) -> tuple[int, Mapping[str, str], Any]:
        sent_ms = self.clock.elapsed_ms()
        timeout = aiohttp.ClientTimeout(total=self._call_s)
        response = await self._send(method, path, body=body, accept=accept, timeout=timeout)
        text = await response.read()
        self.clock.learn(response.headers.get("Date"), sent_ms=sent_ms, received_ms=self.clock.elapsed_ms())
        return response.status, response.headers, _decoded(text)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # aiohttp's own kind
        body: Object | Patch | None = None,
        accept: str = "",
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": accept or _JSON, **self._client.default_headers}
        if body is not None:
            headers["Content-Type"] = _PATCH if method == "PATCH" else _JSON
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self._client.configuration.host}{path}"
        answer = await self._client.rest_client.request(
            method, url, headers=headers, body=body, _request_timeout=timeout
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    def _path(
        self, kind: Kind, name: str = "", *, status: bool = False, query: Mapping[str, str] | None = None
    ) -> str:
        path = kind.path(self.namespace) + (f"/{name}" if name else "") + ("/status" if status else "")
        return f"{path}?{urlencode(query)}" if query else path


async def _configuration(kubeconfig: str) -> Configuration:
    found = Configuration()
    try:
        if kubeconfig:
            await load_kube_config(kubeconfig, client_configuration=found, persist_config=False)
            return found
        try:
            load_incluster_config(found)
        except ConfigException:
            if not _has_default_kubeconfig():
                raise
            await load_kube_config(client_configuration=found, persist_config=False)
    except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        where = f"kubeconfig {kubeconfig}" if kubeconfig else "a pod's service account or ~/.kube/config"
        raise UnavailableError(
            f"no way to Kubernetes by {where}: {error}",
            remedy="run mx in a pod with a service account, or set KUBECONFIG",
        ) from error
    return found


def _has_default_kubeconfig() -> bool:
    return Path(KUBE_CONFIG_DEFAULT_LOCATION).expanduser().is_file()


def _is_answer(refusal: Refusal) -> bool:
    match refusal.code:
        case 404:
            return refusal.about_object
        case 422:
            return not refusal.invalid
        case code:
            return code in _ANSWERS


def _require_text(body: object) -> None:
    """JSON can say half a surrogate pair, and an API server stores something else then."""
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"a value can't be stored: {error}") from error


def _decoded(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # a proxy's page, or plain text
        return text.decode("utf-8", "replace")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


def _backoff_s(attempt: int) -> float:
    longest_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(attempt - 1, 10))
    return longest_s * random.uniform(0.5, 1.0)  # noqa: S311  # spreads load, guards nothing
