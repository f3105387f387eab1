"""``mx.ports.Duties`` over ConfigMaps, one per duty, changed under a test of who has it."""

from __future__ import annotations

import hashlib
from typing import Final, Self

from mx.errors import UnavailableError
from mx.store.kubernetes.api import Answer, Object
from mx.store.kubernetes.cluster import Cluster, closed_words
from mx.store.kubernetes.configmaps import config_map
from mx.store.kubernetes.fence import OBJECT_LABEL
from mx.store.kubernetes.names import CONFIG_MAPS

_TRIES: Final = 20


class KubernetesDuties:
    """Duties in one namespace. Their leases are judged by the API server's clock."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._api = cluster.api
        self._closed = False

    @property
    def namespace(self) -> str:
        return self._api.namespace

    @classmethod
    async def open(cls, cluster: Cluster) -> Self:
        await cluster.join()
        return cls(cluster)

    async def take(self, duty: str, *, owner: str, lease_s: float, now_ms: int) -> bool:
        self._require_open()
        name = _name(duty)
        wanted = {"duty": duty, "owner": owner, "expiresAtMs": str(now_ms + round(lease_s * 1000))}
        for _ in range(_TRIES):
            found = await self._api.read(CONFIG_MAPS, name)
            try:
                if found is None:
                    body = config_map(name, labels={OBJECT_LABEL: "duty"}, data=wanted)
                    await self._api.create(CONFIG_MAPS, body)
                    return True
                held = found.get("data") or {}
                if held.get("owner", owner) != owner and _number(held.get("expiresAtMs")) > now_ms:
                    return False
                patch = [_test(found), {"op": "add", "path": "/data", "value": wanted}]
                await self._api.patch(CONFIG_MAPS, name, patch, status=False)
            except Answer as answer:
                if not (answer.is_conflict or answer.is_missing):
                    raise answer.error from answer
            else:
                return True
        raise UnavailableError(f"ConfigMap {name} was changed by others again and again", remedy="try again")

    async def give_up(self, duty: str, *, owner: str) -> None:
        self._require_open()
        name = _name(duty)
        found = await self._api.read(CONFIG_MAPS, name)
        if found is None or (found.get("data") or {}).get("owner") != owner:
            return
        try:
            await self._api.delete(CONFIG_MAPS, name, version=found["metadata"]["resourceVersion"])
        except Answer as answer:
            if not answer.is_conflict:  # else somebody took it meanwhile
                raise answer.error from answer

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._cluster.leave()

    def _require_open(self) -> None:
        if self._closed:
            raise UnavailableError(closed_words(self._cluster))


def _name(duty: str) -> str:
    return f"mx-duty-{hashlib.sha256(duty.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def _test(found: Object) -> Object:
    return {"op": "test", "path": "/metadata/resourceVersion", "value": found["metadata"]["resourceVersion"]}


def _number(text: object) -> int:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else 0
