"""Which server an engine asks for peers, and when it goes without one."""

from __future__ import annotations

from typing import Final

from mx.client.sync import SyncClient
from mx.client.token import TokenFile
from mx.config import Settings
from mx.errors import MxError, UnavailableError
from mx.transfer.service import ServiceClient
from mx.wire.roles import WORKER

_PROBE_S: Final = 1.0
# Discovery stands between a cold worker and its disk: it may not take long to learn of a dead server.
_CALL_S: Final = 10.0


def connect(settings: Settings) -> SyncClient | ServiceClient:
    """The server, or the Kubernetes Service, that peers are found through.

    An address that nobody asked for is tried once, briefly: without a server there is no agent, no
    memory kept and no retry. One that was asked for is kept, and publishing waits for it.
    Raises UnavailableError when nobody answers at the default address.
    """
    worker, client = settings.worker, settings.client
    if worker.metadata_backend == "k8s-service":
        return ServiceClient(settings)
    token = TokenFile(client.auth_token_path, ttl_s=client.auth_token_ttl_s)
    address = worker.server_address
    if not settings.origins["worker.server_address"].explicit:
        with SyncClient(address, timeout_s=_PROBE_S, max_retries=0, token=token, role=WORKER) as probe:
            try:
                probe.health()
            except MxError as error:
                raise UnavailableError(
                    f"no mx server at {address}", remedy="set MODEL_EXPRESS_URL to use one"
                ) from error
    return SyncClient(address, timeout_s=min(client.timeout_s, _CALL_S), token=token, role=WORKER)
