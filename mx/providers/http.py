"""Reading over HTTP for providers: JSON answers, and files with resume.

Credentials go to the origin they were meant for and to no other: redirects to another host leave
without them. Every failure is an MxError, or ``TransientError`` when another attempt may help.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2

import mx
from mx.core.redact import redact_text
from mx.errors import IntegrityError, MxError, PreconditionError, UnavailableError
from mx.providers.landing import Landing
from mx.providers.retry import (
    DOWNLOADS,
    METADATA_CALLS,
    Attempts,
    RetryRule,
    Sleep,
    TransientError,
    with_retries,
)

_CONNECT_S = 10.0
_SILENCE_S = 30.0
_ANSWER_S = 60.0  # one JSON answer, whole
_ANSWER_BYTES = 64 << 20
_HOPS = 6
# Storage networks refuse single answers above 50 GB; a window also bounds how old a signed address gets.
_WINDOW_BYTES = 8 << 30
_PROGRESS_BYTES = 1 << 20  # an attempt that brought this much is no failure in a row
_TRANSIENT = frozenset({408, 425, 429})
_CHANGED = frozenset({412, 416})


@dataclass(frozen=True, slots=True)
class HttpRules:
    """How often and how patiently; the network's times are inputs for tests."""

    metadata: RetryRule = METADATA_CALLS
    downloads: RetryRule = DOWNLOADS
    connect_s: float = _CONNECT_S
    silence_s: float = _SILENCE_S  # without a byte
    window_bytes: int = _WINDOW_BYTES
    sleep: Sleep = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing to read. ``what`` names it in messages; ``headers`` are for the url's own origin."""

    url: str
    what: str
    headers: Mapping[str, str]


# Where a file lies may have to be asked for anew before each attempt: signed addresses expire.
Ask = Callable[[], Awaitable[Asked]]


@dataclass(frozen=True, slots=True)
class JsonPage:
    """An answer, and where it goes on."""

    content: object
    next_url: str | None


class HttpReads:
    """A client for one provider. ``refusal`` words its answers of 400 and above that are final (or says
    that another attempt may help); ``etag`` picks the validator of the content from the answers on the
    way to it."""

    def __init__(
        self,
        *,
        refusal: Callable[[httpx2.Response, str], MxError | TransientError],
        etag: Callable[[Sequence[httpx2.Response]], str],
        rules: HttpRules | None = None,
    ) -> None:
        self._refusal = refusal
        self._etag = etag
        self._rules = rules or HttpRules()
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(self._rules.silence_s, connect=self._rules.connect_s),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=16),
            headers={"User-Agent": f"mx/{mx.__version__}", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def get_json(self, asked: Asked) -> JsonPage:
        """One answer, within bounds of size and time, with retries."""

        async def attempt() -> JsonPage:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    return await self._get_json(asked)
            except TimeoutError:
                raise TransientError(
                    UnavailableError(f"{asked.what}: no whole answer within {_ANSWER_S:.0f} s")
                ) from None

        return await with_retries(attempt, rule=self._rules.metadata, sleep=self._rules.sleep)

    async def _get_json(self, asked: Asked) -> JsonPage:
        async with self._answers(asked, {}) as answers:
            body = bytearray()
            async for part in answers[-1].aiter_raw():
                body += part
                if len(body) > _ANSWER_BYTES:
                    raise IntegrityError(f"{asked.what}: the answer is larger than {_ANSWER_BYTES} bytes")
            following = answers[-1].links.get("next", {}).get("url")
            base = answers[-1].url
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            raise TransientError(
                UnavailableError(
                    f"{asked.what}: {base.host} answered something that is no JSON",
                    remedy="check the endpoint; a proxy or a login page may answer in its place",
                )
            ) from None
        return JsonPage(content, str(base.join(following)) if following else None)

    async def fill(self, landing: Landing, asked: Asked | Ask) -> None:
        """Bring what a file misses. PreconditionError, and nothing is kept, when it changed meanwhile.

        An attempt goes on where the last one was cut; attempts count only while nothing comes. Where
        ``asked`` is a call, it answers before each attempt.
        """
        attempts = Attempts(self._rules.downloads)
        seen = _Seen(landing.file.etag)
        while landing.missing_bytes:
            begin = landing.offset
            try:
                where = asked if isinstance(asked, Asked) else await asked()
                await self._fill_once(landing, where, seen)
            except TransientError as failure:
                if landing.offset - begin >= _PROGRESS_BYTES:
                    attempts.progressed()
                pause_s = attempts.pause_s(failure)
            except PreconditionError:
                await landing.discard()
                raise
            else:
                attempts.progressed()
                continue
            await self._rules.sleep(pause_s)

    async def _fill_once(self, landing: Landing, asked: Asked, seen: _Seen) -> None:
        begin, size = landing.offset, landing.file.size_bytes
        end = min(size, begin + self._rules.window_bytes)
        headers = {} if (begin, end) == (0, size) else {"Range": f"bytes={begin}-{end - 1}"}
        async with self._answers(asked, headers) as answers:
            seen.check(self._etag(answers), asked.what)
            skip, end = _extent(answers[-1], begin=begin, end=end, size=size, what=asked.what)
            async for part in answers[-1].aiter_raw():
                if skip:
                    skip, part = max(0, skip - len(part)), part[skip:]
                if part:
                    await landing.add(part)
            if landing.offset < end:
                raise TransientError(
                    IntegrityError(f"{asked.what}: the body ended after {landing.offset} of {size} bytes")
                )

    @asynccontextmanager
    async def _answers(
        self, asked: Asked, headers: Mapping[str, str]
    ) -> AsyncIterator[list[httpx2.Response]]:
        """Follow redirects by hand; the last answer is open and good, the ones before are closed."""
        answers: list[httpx2.Response] = []
        try:
            request: httpx2.Request | None = self._client.build_request(
                "GET", asked.url, headers={**asked.headers, **headers}
            )
            while request is not None:
                if len(answers) == _HOPS:
                    raise UnavailableError(f"{asked.what}: more than {_HOPS} redirects")
                answers.append(await self._client.send(request, stream=True))
                request = answers[-1].next_request
                if request is not None:
                    await answers[-1].aclose()
                    _require_safe(answers[-1].url, request.url, asked.what)
            self._require_good(answers, asked.what)
            yield answers
        except httpx2.HTTPError as error:
            raise _translate(error, asked) from error
        except httpx2.InvalidURL as error:
            raise UnavailableError(f"{asked.what}: {_host(asked.url)} sent to a wrong address") from error
        finally:
            if answers:
                await answers[-1].aclose()

    def _require_good(self, answers: Sequence[httpx2.Response], what: str) -> None:
        last = answers[-1]
        status, host = last.status_code, last.url.host
        if status in _TRANSIENT or status >= 500:
            remedy = (
                "it limits requests per address and account; a token raises the limit"
                if status == 429
                else ""
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
        if status >= 400:
            raise self._refusal(last, what)
        if status not in (200, 206):
            raise UnavailableError(f"{what}: {host} answered {status} where content was expected")
        if last.headers.get("content-encoding", "identity") != "identity":
            raise UnavailableError(
                f"{what}: {host} sent a compressed body though none was allowed",
                remedy="a proxy on the way may do it; switch that off",
            )


class _Seen:
    """The validator a file has had so far."""

    def __init__(self, listed: str) -> None:
        self._etag = listed
        self._is_listed = bool(listed)

    def check(self, etag: str, what: str) -> None:
        if not etag:
            return
        # Mirrors make validators of their own kind: only like is compared with the listing's.
        comparable = not self._is_listed or len(etag) == len(self._etag)
        if self._etag and comparable and etag != self._etag:
            raise PreconditionError(
                f"{what}: the file changed at the provider (ETag {etag[:80]!r}, before {self._etag!r})",
                remedy="ask again: it is then listed anew",
            )
        self._etag, self._is_listed = etag, False


def _extent(answer: httpx2.Response, *, begin: int, end: int, size: int, what: str) -> tuple[int, int]:
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


def _require_safe(current: httpx2.URL, following: httpx2.URL, what: str) -> None:
    if following.scheme not in ("http", "https") or (current.scheme, following.scheme) == ("https", "http"):
        raise UnavailableError(
            f"{what}: {current.host} redirects from {current.scheme} to {following.scheme}, which is refused"
        )


def _translate(error: httpx2.HTTPError, asked: Asked) -> MxError | TransientError:
    host = _host(asked.url)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UnavailableError(
                f"{asked.what}: the certificate of {host} is not trusted: {cause.verify_message}",
                remedy="SSL_CERT_FILE names a file with further authorities",
            )
        cause = cause.__cause__ or cause.__context__
    reason = redact_text(str(error)).strip() or type(error).__name__
    match error:
        case httpx2.ConnectTimeout() | httpx2.ConnectError() | httpx2.ProxyError():
            text = f"{asked.what}: {host} can't be reached: {reason}"
        case httpx2.TimeoutException():
            text = f"{asked.what}: {host} stopped sending"
        case httpx2.TransportError():
            text = f"{asked.what}: the connection to {host} broke: {reason}"
        case _:
            text = f"{asked.what}: {host} answered wrongly: {reason}"
    return TransientError(
        UnavailableError(text, remedy="check the network and the endpoint, or try again later")
    )


def _host(url: str) -> str:
    try:
        return httpx2.URL(url).netloc.decode("ascii")
    except (httpx2.InvalidURL, UnicodeError):
        return url[:80]
