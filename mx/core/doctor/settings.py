"""Settings and the files that hold secrets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mx.core.doctor.finding import Finding, error, info, ok, warning


@dataclass(frozen=True, slots=True)
class ScopeFacts:
    """What loading the settings of the server, the client or a worker gave; ``problems`` stop it."""

    scope: str
    file: str | None = None
    problems: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file that holds a secret, by what it is; ``mode`` its permission bits."""

    what: str
    path: str
    mode: int


def judge_settings(scopes: Sequence[ScopeFacts], secrets: Sequence[SecretFile]) -> list[Finding]:
    """``scopes`` with the client's first: commands of this machine need that one."""
    found: list[Finding] = []
    told: set[str] = set()
    for facts in scopes:
        found += [_problem(facts.scope, problem) for problem in facts.problems if problem not in told]
        found += [_notice(facts.scope, notice) for notice in facts.notices if notice not in told]
        told.update(facts.problems, facts.notices)
    found += [_open_secret(one) for one in secrets if one.mode & 0o077]
    if not any(facts.problems for facts in scopes):
        files = sorted({facts.file for facts in scopes if facts.file})
        found.insert(0, ok(f"every setting is valid ({', '.join(files) or 'no settings file'})"))
    return found


def _problem(scope: str, problem: str) -> Finding:
    if scope == "client":
        return error(problem, remedy="mx config validate --for client tells when it is right")
    return warning(
        f"a {scope} would not start: {problem}",
        remedy=f"mx config validate --for {scope} tells when it is right; of no matter where none starts",
    )


def _notice(scope: str, notice: str) -> Finding:
    # Of a server alone: which defaults it would choose.
    if scope == "server":
        return info(f"for a server here: {notice}")
    return warning(notice, remedy="mx config show tells each value and where it came from")


def _open_secret(one: SecretFile) -> Finding:
    who = "everybody" if one.mode & 0o007 else "its group"
    deed = "changed" if one.mode & 0o022 else "read"
    return warning(
        f"{one.what} {one.path} can be {deed} by {who} (mode {one.mode & 0o777:04o})",
        remedy=f"chmod 600 {one.path}",
    )
