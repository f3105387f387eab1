"""``python -m mx.transfer.probe``: whether NIXL starts here, and which transports UCX opens, as JSON.

A process of its own for ``mx doctor``: libraries that crash, hang or print must not do so in the
command. What they say goes to stderr. UCX's own list of transports has no Python face; the library
that NIXL loaded is asked directly.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Any

from mx.config import load_settings
from mx.errors import MxError

# From UCX's ucp_api.h, stable since 1.0: the only field that is given, and one-sided reads.
_FIELD_FEATURES = 1
_FEATURE_RMA = 2


def probe() -> dict[str, object]:
    """What was found; ``failure`` says why the rest is missing."""
    found: dict[str, object] = {"installed": False}
    try:
        found["version"] = importlib.metadata.version("nixl")
    except importlib.metadata.PackageNotFoundError:
        return found
    found["installed"] = True
    try:
        found |= _start()
    except MxError as error:
        found["failure"] = error.message
    return found


def _start() -> dict[str, object]:
    from mx.transfer.agent import ucx_environment
    from mx.transfer.nixl import NixlBackend, bindings

    settings = load_settings(scope="worker")
    engine = settings.transfer.nixl_backend
    found: dict[str, object] = {"backend": engine}
    with ucx_environment(settings):
        nixl = bindings()
        config = nixl.nixlAgentConfig()
        config.useProgThread = False
        found["plugins"] = list(nixl.nixlAgent("mx-doctor-plugins", config).getAvailPlugins())
        backend = NixlBackend("mx-doctor", engine=engine)
        if engine == "UCX":
            found |= ucx_transports()
        backend.close()
    return found


def ucx_transports() -> dict[str, object]:
    """The version of UCX that is loaded, and its resources as ``transport/device``; {} where none is."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    library = next((line.split()[-1] for line in maps.splitlines() if "/libucp" in line), None)
    if library is None:
        return {}
    ucp = ctypes.CDLL(library)
    version = tuple(ctypes.c_uint() for _ in range(3))
    ucp.ucp_get_version(*(ctypes.byref(part) for part in version))
    config, context = ctypes.c_void_p(), ctypes.c_void_p()
    # ucp_params_t is shorter than this in every version; what the mask does not name is not read.
    params = (ctypes.c_uint64 * 64)(_FIELD_FEATURES, _FEATURE_RMA)
    if ucp.ucp_config_read(None, None, ctypes.byref(config)):
        return {}
    try:
        if ucp.ucp_init_version(version[0], version[1], params, config, ctypes.byref(context)):
            return {}
    finally:
        ucp.ucp_config_release(config)
    try:
        text = _printed(ucp, context)
    finally:
        ucp.ucp_cleanup(context)
    return {"ucx_version": ".".join(str(part.value) for part in version), "transports": resources(text)}


def _printed(ucp: Any, context: ctypes.c_void_p) -> str:
    """What UCX writes of a context: to a C stream, which memory backs here."""
    libc = ctypes.CDLL(None)
    libc.open_memstream.restype = ctypes.c_void_p
    start, size = ctypes.c_char_p(), ctypes.c_size_t()
    stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(start), ctypes.byref(size)))
    ucp.ucp_context_print_info(context, stream)
    libc.fclose(stream)
    return (start.value or b"").decode(errors="replace")


def resources(text: str) -> list[str]:
    """``tcp/eth0`` and its like of lines as ``#  resource 1  :  md 1  dev 1  flags -- tcp/eth0``."""
    return [line.split()[-1] for line in text.splitlines() if line.lstrip("# ").startswith("resource ")]


def main() -> None:
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # UCX logs to stdout
    answer.write(json.dumps(probe()) + "\n")
    answer.close()
    sys.stderr.flush()
    os._exit(0)  # nothing of the libraries' endings is of interest, and some hang


if __name__ == "__main__":
    main()
