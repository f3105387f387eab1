"""The connection that both stores of a process share: opened, proven to be fit, closed with its last user."""

from __future__ import annotations

import copy
from typing import Self

from mx.errors import PreconditionError
from mx.ports import Clock
from mx.store.kubernetes.api import CALL_S, Answer, Api, Object
from mx.store.kubernetes.failures import INSTALL_KINDS
from mx.store.kubernetes.mirror import MirrorRules
from mx.store.kubernetes.names import Kind


def closed_words(cluster: Cluster) -> str:
    return f"the store in Kubernetes namespace {cluster.api.namespace} is closed"


class Cluster:
    """One namespace of one cluster. Every store that is opened with it takes part until it is closed."""

    def __init__(self, api: Api, rules: MirrorRules) -> None:
        self.api = api
        self.rules = rules
        self._users = 0

    @classmethod
    async def connect(
        cls,
        *,
        namespace: str,
        clock: Clock,
        kubeconfig: str = "",
        call_s: float = CALL_S,
        rules: MirrorRules = MirrorRules(),  # a frozen value
    ) -> Self:
        """Nothing is asked yet. UnavailableError when no configuration is found."""
        api = await Api.connect(namespace=namespace, kubeconfig=kubeconfig, clock=clock, call_s=call_s)
        return cls(api, rules)

    async def join(self, kind: Kind | None = None, probe: Object | None = None) -> None:
        """Take part. With a kind: prove that such objects can be made and keep what mx adds to them.

        Nothing is made for that.

        Raises PreconditionError for missing or older custom resources, PermissionDeniedError,
        UnauthenticatedError or UnavailableError; the connection is closed then if nobody else uses it.
        """
        self._users += 1
        if kind is None or probe is None:
            return
        self.api.opening = True
        try:
            await self._prove(kind, probe)
        except BaseException:
            await self.leave()
            raise
        finally:
            self.api.opening = False

    async def leave(self) -> None:
        self._users -= 1
        if self._users <= 0:
            await self.api.close()

    async def _prove(self, kind: Kind, probe: Object) -> None:
        try:
            found = await self.api.create(kind, copy.deepcopy(probe), dry_run=True)
        except Answer as answer:
            if answer.code == 409:  # somebody made an object of that name; then it can be made
                return
            raise answer.error from answer
        if found.get("spec") != probe["spec"]:
            raise PreconditionError(
                f"the custom resource {kind.plural} of Kubernetes at {self.api.server} is of another "
                "release: it drops what mx keeps in it",
                remedy=INSTALL_KINDS,
            )
