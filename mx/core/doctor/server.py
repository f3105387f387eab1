"""The server that this machine talks to, and the stores behind it."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mx.core.doctor.finding import Finding, error, info, ok, warning
from mx.core.server_state import BackendState, ServerStatus
from mx.core.units import format_age
from mx.errors import MxError, PermissionDeniedError, UnauthenticatedError

# A call within a cluster takes a millisecond or two; this is what a person begins to feel.
_SLOW_CALL_MS = 100.0
_SLOW_STORE_MS = 50.0
# Ages in listings are off by it; heartbeats count by the server's clock alone.
_SKEW_S = 5.0
_HEALTHY = ("ok", "healthy")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """``named``: somebody chose the endpoint, it isn't the default. ``status`` None is a published server.

    ``ahead_s`` is how much the server's clock is ahead of ours, give or take ``ahead_within_s``.
    """

    endpoint: str
    named: bool
    own_version: str
    failure: MxError | None = None
    latencies_ms: tuple[float, ...] = ()
    version: str = ""
    health: str = ""
    status: ServerStatus | None = None
    backends: tuple[BackendState, ...] = ()
    ahead_s: float | None = None
    ahead_within_s: float = 0.0


def judge_server(facts: ServerFacts) -> list[Finding]:
    if facts.failure is not None:
        return [_no_answer(facts, facts.failure)]
    found = [_latency(facts), _readiness(facts), *_version(facts), *_clock(facts)]
    if facts.status is None:
        found.append(
            info("the server has no admin service: listings, events and the terminal UI need mx's own")
        )
        return found
    if facts.status.read_only:
        found.append(info("this account may look and not change"))
    stale = {name.lower(): n for name, n in facts.status.sources_by_status.items()}.get("stale", 0)
    if stale:
        found.append(info(f"{stale} sources are stale", remedy="mx source list --status stale shows which"))
    return found + judge_backends(facts.status, facts.backends)


def _no_answer(facts: ServerFacts, failure: MxError) -> Finding:
    if isinstance(failure, (PermissionDeniedError, UnauthenticatedError)):
        return error(
            f"{facts.endpoint} refuses this account: {failure.message}",
            remedy=failure.remedy or "connection.auth_token_path names the token that is sent",
        )
    if facts.named:
        return error(
            f"no server at {facts.endpoint}: {failure.message}",
            remedy=failure.remedy or "start one with mx server start, or name another with --endpoint",
        )
    return warning(
        f"no server at {facts.endpoint}, where nobody named one: {failure.message}",
        remedy="name it with --endpoint or MODEL_EXPRESS_ENDPOINT; of no matter where none is wanted",
    )


def _latency(facts: ServerFacts) -> Finding:
    middle = statistics.median(facts.latencies_ms) if facts.latencies_ms else 0.0
    text = f"{facts.endpoint} answers in {middle:.1f} ms"
    if middle > _SLOW_CALL_MS:
        return warning(text, remedy="is it far away, or busy? mx server status shows its store's latency")
    return ok(text)


def _readiness(facts: ServerFacts) -> Finding:
    if facts.status is not None and facts.status.draining:
        return warning("the server is draining: it ends soon", remedy="wait for its successor")
    if facts.health not in _HEALTHY or (facts.status is not None and not facts.status.ready):
        return error(
            f"the server can't serve: {facts.health or 'not ready'}",
            remedy="mx server status says which store is away; its log says why",
        )
    return ok("the server can serve")


def _version(facts: ServerFacts) -> list[Finding]:
    if facts.version == facts.own_version:
        return [ok(f"server and this mx are {facts.version}")]
    text = f"the server is {facts.version or 'of unknown version'}, this mx is {facts.own_version}"
    if facts.status is None or _release(facts.version) == _release(facts.own_version):
        return [info(text)]
    return [warning(text, remedy="run one version on both sides: the older lacks what the newer asks for")]


def _release(version: str) -> tuple[str, ...]:
    """Major and minor: a patch changes nothing between two sides."""
    return tuple(re.split(r"[.+-]", version)[:2])


def _clock(facts: ServerFacts) -> list[Finding]:
    if facts.ahead_s is None:
        return []
    off = abs(facts.ahead_s)
    if off <= _SKEW_S + facts.ahead_within_s:
        return [ok("the clocks agree")]
    side = "ahead" if facts.ahead_s > 0 else "behind"
    return [
        warning(
            f"the server's clock is {format_age(off)} {side} of this machine's",
            remedy="set both by NTP; ages in listings are off by so much, tokens and leases may be refused",
        )
    ]


def judge_backends(status: ServerStatus, backends: Sequence[BackendState]) -> list[Finding]:
    """The stores; a server that does not tell of each tells of one."""
    found: list[Finding] = []
    if not backends:
        backends = (
            BackendState("sources", status.store_backend, "", status.store_ok, status.store_latency_ms),
        )
    for one in backends:
        name = f"the {one.backend} store of {one.duty}"
        where = f" at {one.address}" if one.address else ""
        if not one.ok:
            text = f"{name}{where} can't be reached: {one.error or 'no answer'}"
            found.append(error(text, remedy=_MEND.get(one.backend, "the server's log says more")))
        elif one.latency_ms > _SLOW_STORE_MS:
            found.append(
                warning(f"{name}{where} takes {one.latency_ms:.1f} ms", remedy="is it far away, or busy?")
            )
        else:
            found.append(ok(f"{name}{where} answers in {one.latency_ms:.1f} ms"))
    if any(one.backend == "memory" for one in backends):
        found.append(
            warning(
                "records are kept in the server's memory and end with it",
                remedy="metadata.backend sqlite, redis or kubernetes keeps them",
            )
        )
    return found


_MEND = {
    "redis": "does Redis run, and do redis.url and its password fit? The server looks again by itself",
    "kubernetes": "may the server's service account use mx's custom resources? See the chart's role",
    "sqlite": "is the disk of database.path full or read-only?",
}
