"""``mx tui --web``: the terminal UI in a browser of this machine, by textual-serve.

Each browser gets a process of its own. Loopback is open to everybody who is logged in here, and to every
page that a browser has open: the address that is printed carries a token, and only who came by it gets in.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import shlex
import socket
import sys
from typing import TYPE_CHECKING, Any

from mx.cli.output import Output
from mx.errors import PreconditionError, UnavailableError

if TYPE_CHECKING:
    from aiohttp import web

HOST = "127.0.0.1"
_COOKIE = "mx-tui"


def serve(out: Output, *, port: int) -> None:
    """Serve the command line of this process until Ctrl-C. PreconditionError without textual-serve."""
    try:
        from textual_serve.server import Server
    except ImportError:
        raise PreconditionError(
            "mx tui --web needs the package textual-serve", remedy="pip install 'modelexpress-mx[web]'"
        ) from None
    from aiohttp import web

    token = secrets.token_urlsafe(16)
    port = _free_port(port)

    def known(given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), token.encode())

    class TokenServer(Server):
        def initialize_logging(self) -> None:
            """Logs stay as they are."""

        async def on_startup(self, app: web.Application) -> None:
            self._telling = asyncio.create_task(self._tell())

        async def _tell(self) -> None:
            """Who reads the address may open it at once: it is told when it answers."""
            while not await _answers(port):  # noqa: ASYNC110  # nothing of aiohttp tells it
                await asyncio.sleep(0.01)
            out.line(f"http://{HOST}:{port}/?token={token}")
            out.say("open this in a browser of this machine; Ctrl-C ends it")

        async def handle_index(self, request: web.Request) -> Any:
            if not known(request.query.get("token")) and not known(request.cookies.get(_COOKIE)):
                raise web.HTTPForbidden(text="open the address that mx tui --web printed, with its token\n")
            response = await super().handle_index(request)
            response.set_cookie(_COOKIE, token, httponly=True, samesite="Strict")
            return response

        async def handle_websocket(self, request: web.Request) -> Any:
            if not known(request.cookies.get(_COOKIE)):
                raise web.HTTPForbidden(text="no token\n")
            return await super().handle_websocket(request)

        async def handle_download(self, request: web.Request) -> Any:
            if not known(request.cookies.get(_COOKIE)):
                raise web.HTTPForbidden(text="no token\n")
            return await super().handle_download(request)

    command = shlex.join([sys.executable, "-m", "mx", *sys.argv[1:]])
    try:
        TokenServer(command, host=HOST, port=port, title="mx tui").serve()
    except OSError as error:
        raise _taken(port, error) from error


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


def _free_port(port: int) -> int:
    """This one, or any for 0. UnavailableError when somebody else has it: they would answer in our place."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise _taken(port, error) from error
        return int(probe.getsockname()[1])


def _taken(port: int, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"{HOST}:{port}: {error.strerror or error}", remedy="--web-port 0 takes a free port"
    )
