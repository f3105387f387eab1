"""Who may do what: on a server whose operators may only look, nothing is changed by them.

Workers go on there: a fleet must load, publish and leave whatever its operators may. A worker of mx says
that it is one in the metadata of its calls. Published clients can't say so, and of the published calls
only DeleteModel is never a worker's: it is refused to everybody but workers, the others to nobody. This
keeps hands off, and is no protection from somebody who lies: that needs authentication.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc.aio

from mx.errors import PermissionDeniedError
from mx.wire.roles import ROLE_KEY, WORKER
from mx.wire.v1 import admin, model

Context = grpc.aio.ServicerContext[Any, Any]
_Changes = Callable[[Any], bool]  # whether this request changes something

# Every call of the service is in exactly one of these.
READS = frozenset(
    {
        "GetServerStatus",
        "FindPeers",
        "ListSourceRows",
        "GetSource",
        "ListTransfers",
        "ListModels",
        "ShowModel",
        "PlanRemoval",
        "PlanEviction",
        "GetCacheStats",
        "Watch",
        "ListEvents",
        "GetBackendStates",
        "GetRawSource",
        "GetRawModel",
        "ListSettings",
        # To read files, they are held while they are read.
        "OpenModelFiles",
        "RenewModelFiles",
        "CloseModelFiles",
    }
)
# What a worker says about itself; nobody else has reason to.
REPORTS = frozenset({"AnnouncePeer", "ReportTransfer"})
# Of operators, and of workers too: for their own load, for their own record.
SHARED = frozenset({"EnsureModel", "WithdrawSource"})
CHANGES: dict[str, _Changes] = {
    "RemoveModel": lambda _: True,
    "PinModel": lambda _: True,
    "RunEviction": lambda _: True,
    "VerifyModels": lambda request: request.on_fault not in ("", "report"),
    "MarkSourceStale": lambda _: True,
    "ReapSources": lambda request: not request.dry_run,
}
# Of published calls, by their whole name.
PUBLISHED = frozenset({f"/{model.ModelService_NAME}/DeleteModel"})
_PREFIX = f"/{admin.AdminService_NAME}/"


class Roles:
    """``read_only``: operators may look and not change."""

    def __init__(self, *, read_only: bool = False) -> None:
        self.read_only = read_only

    def is_read_only(self, context: Context) -> bool:
        """Whether this caller may look and not change."""
        return self.read_only and not _is_worker(context)

    def require(self, method: str, request: Any, context: Context) -> None:
        """PermissionDeniedError for what this caller may not do. ``method``: /package.Service/Method."""
        if not self.read_only:
            return
        name = method.removeprefix(_PREFIX)  # a published call keeps its whole name
        if name in SHARED or name in PUBLISHED:
            refused = not _is_worker(context)
        else:
            changes = CHANGES.get(name)
            refused = changes is not None and changes(request)
        if refused:
            raise PermissionDeniedError(
                f"{name.rpartition('/')[2]} is refused: this server is read-only for operators",
                remedy="ask a server without server.admin_read_only, or have it turned off",
            )


def _is_worker(context: Context) -> bool:
    return any(key == ROLE_KEY and value == WORKER for key, value in context.invocation_metadata() or ())
