"""Addresses to listen on, and why one can't be had."""

from __future__ import annotations

import errno
import ipaddress
import socket

from mx.errors import SettingsError


def join_address(host: str, port: int) -> str:
    """``host:port`` as gRPC and people write it; a bare IPv6 address gets its brackets."""
    bare = host.removeprefix("[").removesuffix("]")
    try:
        if ipaddress.ip_address(bare.partition("%")[0]).version == 6:
            return f"[{bare}]:{port}"
    except ValueError:
        pass  # a name
    return f"{bare}:{port}"


def check_address(
    host: str, port: int, *, option: str = "--port", variable: str = "MODEL_EXPRESS_SERVER_PORT"
) -> None:
    """Raises SettingsError, saying why, when nothing can listen there; ``option`` chooses another port.

    gRPC only says "failed to bind", after lines of its own on stderr; the system knows the reason.
    """
    bare = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise SettingsError(
            (f"server.host = {host}: this name has no address: {getattr(error, 'strerror', error)}",),
            remedy="use 0.0.0.0 for every interface, or an address of this machine",
        ) from error
    failures = [problem for family, _, _, _, where in found if (problem := _bind_problem(family, where))]
    in_use = next((failure for failure in failures if failure.errno == errno.EADDRINUSE), None)
    # A name may stand for several addresses; one that works is enough, one that is taken is not.
    if in_use is None and len(failures) < len(found):
        return
    raise _explain(in_use or failures[0], host, port, option=option, variable=variable)


def _bind_problem(family: int, where: object) -> OSError | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(where)  # type: ignore[arg-type]  # as getaddrinfo gave it
    except OSError as error:
        return error
    return None


def _explain(error: OSError, host: str, port: int, *, option: str, variable: str) -> SettingsError:
    address = join_address(host, port)
    match error.errno:
        case errno.EADDRINUSE:
            problem = f"can't listen on {address}: another process already does"
            remedy = f"stop it, or choose another port with {option} or {variable}"
        case errno.EACCES | errno.EPERM:
            problem = f"can't listen on {address}: permission denied"
            remedy = f"ports below 1024 need privileges; choose another with {option}"
        case errno.EADDRNOTAVAIL:
            problem = f"can't listen on {address}: {host} is not an address of this machine"
            remedy = "use 0.0.0.0 for every interface, or an address of this machine"
        case _:
            problem = f"can't listen on {address}: {error.strerror or error}"
            remedy = ""
    return SettingsError((problem,), remedy=remedy)
