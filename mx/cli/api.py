"""``mx api send``: one action to the server's ApiService."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mx.cli.options import invocation_of, with_client
from mx.cli.output import Format
from mx.errors import InvalidArgumentError, UsageError

app = typer.Typer(no_args_is_help=True)


@app.callback()
def api() -> None:
    """Send an action to the server's ApiService."""


@app.command()
def send(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="ACTION", help="What to do; every server knows `ping`.")],
    payload: Annotated[
        str | None,
        typer.Option("--payload", "-p", metavar="JSON", help="JSON to send; `-` reads it from stdin."),
    ] = None,
    payload_file: Annotated[
        str | None,
        typer.Option("--payload-file", "-P", metavar="FILE", help="File that holds the JSON to send."),
    ] = None,
    either: Annotated[
        list[str] | None,
        typer.Option(
            "-f", metavar="FORMAT|FILE", help="human, json or json-pretty: the format. Else: as -P."
        ),
    ] = None,
) -> None:
    """Send ACTION and print the data of the reply as JSON.

    Exits 1 with the server's words when the server refuses the action.
    """
    run = invocation_of(ctx)
    for value in either or ():
        if value in tuple(Format):
            run.out.format = Format(value)
        elif payload_file is None:
            payload_file = value
        else:
            raise UsageError(f"two payload files: {payload_file} and {value}", remedy="give one")
    body = _payload(payload, payload_file)
    reply = with_client(ctx, lambda client: client.send(action, payload=body))
    if not reply.success:
        raise InvalidArgumentError(
            reply.error or f"the server refused action {action!r} without a reason",
            remedy="`mx api send ping` is what every server knows",
        )
    data = decode(reply.data or b"")
    # The data is JSON in either form; a person gets it with line breaks.
    if run.out.format is Format.HUMAN:
        run.out.format = Format.JSON_PRETTY
    run.out.document(data)


def _payload(text: str | None, file: str | None) -> bytes | None:
    """The checked payload. Raises UsageError when it is no JSON or can't be read."""
    if text is not None and file is not None:
        raise UsageError("both --payload and --payload-file are given", remedy="give one of them")
    origin = "--payload"
    if file is not None:
        origin = file
        try:
            body = Path(file).read_bytes()
        except OSError as error:
            raise UsageError(f"payload file {file} can't be read: {error.strerror}") from None
    elif text == "-":
        origin = "stdin"
        body = sys.stdin.buffer.read()
    elif text is not None:
        body = text.encode(errors="surrogateescape")
    else:
        return None
    try:
        json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the payload from {origin} is not JSON: {error}") from None
    return body


def decode(data: bytes) -> object:
    """The reply's data: JSON as it is, text as a string, bytes as {"base64": …}, nothing as null."""
    if not data:
        return None
    try:
        return json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        pass
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _refuse(constant: str) -> object:
    """NaN and Infinity are no JSON; we would pass them on as such."""
    raise ValueError(constant)
