"""What an answer over HTTP means: good, final, or worth another attempt. Pure, whoever read it."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

import httpx2

from mx.errors import MxError, PreconditionError, UnavailableError
from mx.providers.retry import TransientError

REFUSAL_BYTES = 64 << 10  # of the body of a refusal: reasons are short, pages of proxies are not
HOPS = 6
_TRANSIENT = frozenset({408, 425, 429})
_CHANGED = frozenset({412, 416})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

# Words an answer of 300 and above that is final, or says that another attempt may help; its body is
# there, as far as REFUSAL_BYTES.
Refusal = Callable[[httpx2.Response, str], MxError | TransientError]


def redirect_of(answer: httpx2.Response, what: str) -> httpx2.URL | None:
    """Where the answer sends us. UnavailableError for where we don't go."""
    location = answer.headers.get("location")
    if answer.status_code not in _REDIRECTS or location is None:
        return None
    try:
        following = answer.url.join(location)
    except (httpx2.InvalidURL, UnicodeError):
        raise UnavailableError(f"{what}: {answer.url.host} sent to a wrong address") from None
    if following.scheme not in ("http", "https") or not following.host:
        raise UnavailableError(
            f"{what}: {answer.url.host} redirects from {answer.url.scheme} to "
            f"{following.scheme or 'nowhere'}, which is refused"
        )
    if (answer.url.scheme, following.scheme) == ("https", "http"):
        raise UnavailableError(f"{what}: {answer.url.host} redirects from https to http, which is refused")
    return following


def require_good(answers: Sequence[httpx2.Response], what: str, *, refusal: Refusal, as_stored: bool) -> None:
    """Nothing for 200 and 206; TransientError where another attempt may help; else the MxError.

    ``as_stored``: a Content-Encoding is an attribute of the file, nobody encoded it on the way.
    """
    last = answers[-1]
    status, host = last.status_code, last.url.host
    if status in _TRANSIENT or status >= 500:
        remedy = (
            "it limits requests per address and account; a token raises the limit" if status == 429 else ""
        )
        raise TransientError(
            UnavailableError(
                f"{what}: {host} answered {status} {last.reason_phrase}".rstrip(), remedy=remedy
            ),
            after_s=asked_pause_s(last.headers),
        )
    if status in _CHANGED:
        raise PreconditionError(f"{what}: the file changed at the provider ({host} answered {status})")
    if status >= 400 and last.url.origin != answers[0].url.origin:
        # A signed address that has expired; the next attempt gets a new one.
        raise TransientError(UnavailableError(f"{what}: {host}, where the file lies, answered {status}"))
    if status >= 300:
        raise refusal(last, what)
    if status not in (200, 206):
        raise UnavailableError(f"{what}: {host} answered {status} where content was expected")
    if not as_stored and last.headers.get("content-encoding", "identity") != "identity":
        raise UnavailableError(
            f"{what}: {host} sent a compressed body though none was allowed",
            remedy="a proxy on the way may do it; switch that off",
        )


class Seen:
    """The validator a file has had so far. ``mirrored``: the ones in answers may be of another kind
    than the listing's, since mirrors make their own; then only like is compared with like."""

    def __init__(self, listed: str, *, mirrored: bool) -> None:
        self._etag = listed
        self._loose = bool(listed) and mirrored

    def check(self, etag: str, what: str) -> None:
        if not etag:
            return
        comparable = not self._loose or len(etag) == len(self._etag)
        if self._etag and comparable and etag != self._etag:
            raise PreconditionError(
                f"{what}: the file changed at the provider (ETag {etag[:80]!r}, before {self._etag!r})",
                remedy="ask again: it is then listed anew",
            )
        self._etag, self._loose = etag, False


def extent(answer: httpx2.Response, *, begin: int, end: int, size: int, what: str) -> tuple[int, int]:
    """How many bytes of the body to skip, and where it ends in the file."""
    if answer.status_code == 200:  # the whole file: ranges are not known there
        length = answer.headers.get("content-length", "")
        if length.isdecimal() and int(length) != size:
            raise PreconditionError(
                f"{what}: the file changed at the provider ({length} bytes, {size} were listed)"
            )
        return begin, size
    found = re.fullmatch(
        r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", answer.headers.get("content-range", "")
    )
    if found is None or int(found[1]) != begin or int(found[2]) >= end:
        raise UnavailableError(
            f"{what}: {answer.url.host} answered the range "
            f"{answer.headers.get('content-range', 'none')[:80]!r} where {begin}-{end - 1} was asked for"
        )
    if found[3] not in ("*", str(size)):
        raise PreconditionError(
            f"{what}: the file changed at the provider ({found[3]} bytes, {size} were listed)"
        )
    return 0, end


def asked_pause_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that the other side asks to wait: ``Retry-After`` in both forms, or ``RateLimit``."""
    limit = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})", headers.get("ratelimit", ""))
    asked = headers.get("retry-after", "").strip()
    if asked.isdecimal():
        return float(asked[:9])
    if asked:
        try:
            now = email.utils.parsedate_to_datetime(headers.get("date", ""))
            return max(0.0, (email.utils.parsedate_to_datetime(asked) - now).total_seconds())
        except (ValueError, TypeError):
            pass
    return float(limit[1]) if limit else None


def host_of(url: str) -> str:
    """Host and port for messages, without what a person may have put before the @."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or url[:80]
    except ValueError:
        return url[:80]
