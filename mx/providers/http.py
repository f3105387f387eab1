"""Reading over HTTP for providers: whole answers, and files with resume.

Credentials go to the origin they were meant for and to no other: redirects to another host leave
without them. Every failure is an MxError, or ``TransientError`` when another attempt may help.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import httpx2

import mx
from mx.errors import IntegrityError, PreconditionError, UnavailableError
from mx.providers.answers import (
    HOPS,
    REFUSAL_BYTES,
    Refusal,
    Seen,
    extent,
    host_of,
    redirect_of,
    require_good,
)
from mx.providers.connections import Connections, Exchange
from mx.providers.landing import Landing
from mx.providers.parts import Part, PartReads
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
_ANSWER_S = 60.0  # one answer, whole
_ANSWER_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20
# Storage networks refuse single answers above 50 GB; a window also bounds how old a signed address gets.
_WINDOW_BYTES = 8 << 30
_PROGRESS_BYTES = 1 << 20  # an attempt that brought this much is no failure in a row
_ALWAYS = {"User-Agent": f"mx/{mx.__version__}", "Accept-Encoding": "identity"}
_NOTHING: Mapping[str, str] = {}
_CALLS = 8  # threads for answers beside those for files


@dataclass(frozen=True, slots=True)
class HttpRules:
    """How often and how patiently; the network's times are inputs for tests.

    A file is read in windows of ``window_bytes``, ``ahead`` of them at once; more than one are held
    in memory until their turn comes. ``connections`` bounds windows of all files together.
    """

    metadata: RetryRule = METADATA_CALLS
    downloads: RetryRule = DOWNLOADS
    connect_s: float = _CONNECT_S
    silence_s: float = _SILENCE_S  # without a byte
    window_s: float | None = None  # one request for a window, whole
    window_bytes: int = _WINDOW_BYTES
    ahead: int = 1
    connections: int = 16
    sleep: Sleep = asyncio.sleep


# For stores that bound each connection (S3: 80 MB/s) and answer ranges without a redirect. What is in
# memory is 16 parts of 8 MiB.
PARTS = HttpRules(window_bytes=8 << 20, ahead=4)


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing to read. ``what`` names it in messages; ``headers`` are for the url's own origin."""

    url: str
    what: str
    headers: Mapping[str, str]


# How to ask may be another thing before each attempt: tokens, signatures and signed addresses age.
Ask = Callable[[], Awaitable[Asked]]


@dataclass(frozen=True, slots=True)
class JsonPage:
    """An answer, and where it goes on."""

    content: object
    next_url: str | None


class HttpReads:
    """A client for one provider. ``refusal`` words its answers of 300 and above that are final (or
    says that another attempt may help); ``etag`` picks the validator of the content from the answers on
    the way to it (see ``Seen`` for ``mirrored``, ``require_good`` for ``as_stored``)."""

    def __init__(
        self,
        *,
        refusal: Refusal,
        etag: Callable[[Sequence[httpx2.Response]], str],
        rules: HttpRules | None = None,
        mirrored: bool = True,
        as_stored: bool = False,
    ) -> None:
        self._refusal = refusal
        self._etag = etag
        self._mirrored = mirrored
        self._as_stored = as_stored
        self._rules = rules or HttpRules()
        self._connections = Connections(
            threads=self._rules.connections + _CALLS,
            connect_s=self._rules.connect_s,
            silence_s=self._rules.silence_s,
        )
        self._parts = PartReads(connections=self._rules.connections, ahead=self._rules.ahead)

    async def close(self) -> None:
        await self._connections.close()

    async def get_json(self, asked: Asked | Ask) -> JsonPage:
        """One answer, within bounds of size and time, with retries."""

        async def attempt() -> JsonPage:
            where = await _now(asked)
            answer, body = await self._get(where)
            try:
                content = json.loads(body)
            except (ValueError, RecursionError):
                raise TransientError(
                    UnavailableError(
                        f"{where.what}: {answer.url.host} answered something that is no JSON",
                        remedy="check the endpoint; a proxy or a login page may answer in its place",
                    )
                ) from None
            following = answer.links.get("next", {}).get("url")
            return JsonPage(content, str(answer.url.join(following)) if following else None)

        return await with_retries(attempt, rule=self._rules.metadata, sleep=self._rules.sleep)

    async def get_body(self, asked: Asked | Ask) -> bytes:
        """One answer as it is, within bounds of size and time, with retries."""

        async def attempt() -> bytes:
            return (await self._get(await _now(asked)))[1]

        return await with_retries(attempt, rule=self._rules.metadata, sleep=self._rules.sleep)

    async def get_head(self, asked: Asked | Ask, *, judged: bool = True) -> httpx2.Response:
        """The head of one answer, with retries. Not ``judged``: whatever it is, and no redirect followed."""

        async def attempt() -> httpx2.Response:
            where = await _now(asked)
            async with (
                self._timed(where, _ANSWER_S),
                self._answers(where, method="HEAD", judged=judged) as (answers, _),
            ):
                return answers[-1]

        return await with_retries(attempt, rule=self._rules.metadata, sleep=self._rules.sleep)

    async def _get(self, asked: Asked) -> tuple[httpx2.Response, bytes]:
        async with self._timed(asked, _ANSWER_S), self._answers(asked) as (answers, body):
            content = bytearray()
            while block := await body.block(_BLOCK_BYTES):
                content += block
                if len(content) > _ANSWER_BYTES:
                    raise IntegrityError(f"{asked.what}: the answer is larger than {_ANSWER_BYTES} bytes")
            return answers[-1], bytes(content)

    async def fill(self, landing: Landing, asked: Asked | Ask) -> None:
        """Bring what a file misses. PreconditionError, and nothing is kept, when it changed meanwhile.

        An attempt goes on where the last one was cut; attempts count only while nothing comes. Where
        ``asked`` is a call, it answers before each attempt.
        """
        size = landing.file.size_bytes
        seen = Seen(landing.file.etag, mirrored=self._mirrored)

        def windows() -> Iterator[Part]:
            begin = landing.offset
            while begin < size:
                part = Part(begin, min(size, begin + self._rules.window_bytes))
                yield part
                begin = part.end

        async def read(part: Part) -> None:
            await self._read(part, asked, seen, size=size)

        try:
            await self._parts.bring(windows(), read=read, land=landing.add)
        except PreconditionError:
            await landing.discard()
            raise

    async def _read(self, part: Part, asked: Asked | Ask, seen: Seen, *, size: int) -> None:
        attempts = Attempts(self._rules.downloads)
        while part.at < part.end:
            begin = part.at
            try:
                await self._read_once(part, await _now(asked), seen, size=size)
            except TransientError as failure:
                if part.at - begin >= _PROGRESS_BYTES:
                    attempts.progressed()
                pause_s = attempts.pause_s(failure)
            else:
                continue
            await self._rules.sleep(pause_s)

    async def _read_once(self, part: Part, asked: Asked, seen: Seen, *, size: int) -> None:
        begin, end = part.at, part.end
        ranged = {} if (begin, end) == (0, size) else {"Range": f"bytes={begin}-{end - 1}"}
        async with (
            self._timed(asked, self._rules.window_s),
            self._answers(asked, ranged=ranged) as (answers, body),
        ):
            seen.check(self._etag(answers), asked.what)
            skip, until = extent(answers[-1], begin=begin, end=end, size=size, what=asked.what)
            if skip or until != end:
                if self._rules.ahead > 1:
                    raise UnavailableError(
                        f"{asked.what}: {answers[-1].url.host} answers no ranges, and parts are read at once"
                    )
                part.end = until  # all of the rest comes with this answer
            await _pour(body, part, skip=skip)
            if part.at < part.end:
                raise TransientError(
                    IntegrityError(f"{asked.what}: the body ended after {part.at} of {size} bytes")
                )

    @asynccontextmanager
    async def _timed(self, asked: Asked, limit_s: float | None) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(limit_s):
                yield
        except TimeoutError:
            raise TransientError(
                UnavailableError(
                    f"{asked.what}: {host_of(asked.url)} gave no whole answer within {limit_s:g} s"
                )
            ) from None

    @asynccontextmanager
    async def _answers(
        self,
        asked: Asked,
        *,
        ranged: Mapping[str, str] = _NOTHING,
        method: str = "GET",
        judged: bool = True,
    ) -> AsyncIterator[tuple[list[httpx2.Response], Exchange]]:
        """Follow redirects by hand; the last answer is open and good, the ones before are closed."""
        answers: list[httpx2.Response] = []
        at_home = True
        try:
            url = home = httpx2.URL(asked.url)
        except httpx2.InvalidURL as error:
            raise UnavailableError(f"{asked.what}: {host_of(asked.url)} sent to a wrong address") from error
        while True:
            if len(answers) == HOPS:
                raise UnavailableError(f"{asked.what}: more than {HOPS} redirects")
            # Who has left the first origin comes back to it as a stranger.
            at_home = at_home and url.origin == home.origin
            own = asked.headers if at_home else _NOTHING
            exchange = await self._connections.send(
                url, {**_ALWAYS, **own, **ranged}, what=asked.what, method=method
            )
            try:
                answers.append(exchange.answer)
                following = redirect_of(exchange.answer, asked.what) if judged else None
                if following is None:
                    if judged and exchange.answer.status_code >= 300:
                        answers[-1] = await _with_reason(exchange)
                    if judged:
                        require_good(answers, asked.what, refusal=self._refusal, as_stored=self._as_stored)
                    yield answers, exchange
                    return
                await _drain(exchange)
            finally:
                await exchange.close()
            url = following


async def _now(asked: Asked | Ask) -> Asked:
    return asked if isinstance(asked, Asked) else await asked()


async def _pour(body: Exchange, part: Part, *, skip: int) -> None:
    while part.at < part.end:
        block = await body.block(min(_BLOCK_BYTES, skip + part.end - part.at))
        if not block:
            return
        cut = min(skip, len(block))
        skip -= cut
        if cut < len(block):
            await part.add(block[cut:])


async def _drain(exchange: Exchange) -> None:
    """Read a short body to its end, so that the connection can be used again."""
    length = exchange.answer.headers.get("content-length", "")
    if length.isdecimal() and int(length) <= REFUSAL_BYTES:
        with suppress(TransientError):
            while await exchange.block(REFUSAL_BYTES):
                pass


async def _with_reason(exchange: Exchange) -> httpx2.Response:
    """The answer with the beginning of its body, where a refusal says why."""
    answer, body = exchange.answer, b""
    with suppress(TransientError):
        body = bytes(await exchange.block(REFUSAL_BYTES))
    return httpx2.Response(answer.status_code, headers=answer.headers, content=body, request=answer.request)
