"""The Kubernetes store while its API server, the network or somebody's clock misbehaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from kubernetes_support import cluster, model_store, source_store

from mx.core.model import Claim, EntryStatus, ModelRecord
from mx.core.source import SourceFilter, SourceStatus
from mx.core.transitions import Held, Ready, Won
from mx.errors import (
    InvalidArgumentError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnavailableError,
)
from mx.services.sources import SourcesService
from mx.store.kubernetes import KubernetesModelStore, KubernetesSourceStore
from mx.store.kubernetes.mirror import MirrorRules
from mx.testing.api_server import ApiServer
from mx.testing.flaky_proxy import Fault, FlakyProxy
from mx.testing.model_store_contract import KEY, claim, downloaded, finish, win
from mx.testing.samples import FULL_WORKER, IDENTITY, PEER, entry
from mx.testing.store_contract import READY, listed

WITHIN_S = 30.0
# Waits of a real outage, shortened.
SHORT = MirrorRules(patience_s=0.5, echo_s=1.0)


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await condition():
            await asyncio.sleep(0.02)


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    return api_server.new_namespace()


@pytest.fixture
async def proxy(api_server: ApiServer) -> AsyncIterator[FlakyProxy]:
    async with FlakyProxy(api_server.url) as proxy:
        yield proxy


@pytest.fixture
async def sources(
    api_server: ApiServer, namespace: str, proxy: FlakyProxy
) -> AsyncIterator[KubernetesSourceStore]:
    async with source_store(api_server, namespace, url=proxy.url, rules=SHORT, call_s=3.0) as store:
        yield store


@pytest.fixture
async def models(
    api_server: ApiServer, namespace: str, proxy: FlakyProxy
) -> AsyncIterator[KubernetesModelStore]:
    async with model_store(api_server, namespace, url=proxy.url, rules=SHORT, call_s=3.0) as store:
        yield store


# answers that mean: later


@pytest.mark.parametrize("status", [429, 503, 500, 504])
async def test_a_busy_server_is_asked_again_when_it_says(
    sources: KubernetesSourceStore, proxy: FlakyProxy, status: int
) -> None:
    await sources.publish(entry())
    fault = proxy.fail(Fault(times=2, method="PATCH", status=status, headers={"Retry-After": "1"}))
    began = time.monotonic()
    assert await sources.update_status(entry().key, status=READY, source_load=None, now_ms=2_000)
    assert fault.met == 2
    assert time.monotonic() - began >= 1.9


async def test_a_server_that_stays_busy_is_unavailable_in_time(
    sources: KubernetesSourceStore, proxy: FlakyProxy
) -> None:
    await sources.publish(entry())
    proxy.fail(Fault(times=999, method="PATCH", status=429))
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="asks for fewer requests"):
        await sources.update_status(entry().key, status=READY, source_load=None, now_ms=2_000)
    proxy.fail(Fault(times=1, method="POST", status=429, headers={"Retry-After": "600"}))
    with pytest.raises(UnavailableError, match="asks for fewer requests"):
        await sources.publish(entry("w1"))
    assert time.monotonic() - began < 3.0 + WITHIN_S


# answers that got lost


async def test_a_claim_whose_answer_was_lost_is_ours(models: KubernetesModelStore, proxy: FlakyProxy) -> None:
    lost = [proxy.fail(Fault(method=method, path=KEY_PATH, late=True)) for method in ("POST", "PATCH")]
    won = await claim(models)
    assert isinstance(won, Won)
    assert [fault.met for fault in lost] == [1, 1]
    assert await models.get(KEY) == won.record
    proxy.fail(Fault(method="PATCH", path=KEY_PATH, late=True))
    assert await finish(models, won.claim), "it was stored, though nobody said so"
    proxy.fail(Fault(method="DELETE", path=KEY_PATH, late=True))
    assert await models.delete(KEY)
    assert await models.get(KEY) is None


async def test_a_publication_whose_answers_were_lost_is_there(
    sources: KubernetesSourceStore, proxy: FlakyProxy
) -> None:
    for method in ("POST", "PATCH"):
        proxy.fail(Fault(method=method, path="modelmetadatas", late=True))
    await sources.publish(entry(peer=PEER))
    assert await sources.get(entry().source_id, "w0") == entry(peer=PEER)
    proxy.fail(Fault(method="PATCH", path="modelmetadatas", late=True))
    assert await sources.update_status(entry().key, status=READY, source_load=0.5, now_ms=2_000)
    proxy.fail(Fault(method="DELETE", path="modelmetadatas", late=True))
    assert await sources.remove(entry().key)
    assert await listed(sources) == []


KEY_PATH = "modelcacheentries"


# connections


async def test_cut_connections_are_made_anew_and_nothing_is_missed(
    api_server: ApiServer, namespace: str, sources: KubernetesSourceStore, proxy: FlakyProxy
) -> None:
    async with source_store(api_server, namespace) as other:
        for number in range(3):
            proxy.sever()
            await other.publish(entry(f"w{number}"))
            await until(lambda: _has(sources, number + 1), "what others published is seen")  # noqa: B023


async def _has(store: KubernetesSourceStore, count: int) -> bool:
    return len(await listed(store)) == count


async def test_an_outage_is_never_taken_for_an_absence(
    models: KubernetesModelStore, sources: KubernetesSourceStore, proxy: FlakyProxy
) -> None:
    await sources.publish(entry())
    held = await win(models)
    proxy.down = True
    proxy.sever()
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: listed(sources),
        lambda: sources.get(entry().source_id, "w0"),
        lambda: sources.update_status(entry().key, status=READY, source_load=None, now_ms=2_000),
        sources.check,
        models.list_models,
        lambda: models.get(KEY),
        lambda: claim(models, owner="b"),
        lambda: finish(models, held),
        models.check,
    ]

    async def refused(call: Callable[[], Awaitable[Any]]) -> None:
        with pytest.raises(UnavailableError):
            await call()

    await until(lambda: _is_lost(sources), "the loss is noticed")
    await asyncio.gather(*map(refused, calls))
    proxy.down = False
    await until(lambda: _is_there(sources), "it is back")
    assert await listed(sources) == ["w0"]
    assert await finish(models, held)


async def _is_lost(store: KubernetesSourceStore) -> bool:
    return not await _is_there(store)


async def _is_there(store: KubernetesSourceStore) -> bool:
    try:
        await listed(store)
    except UnavailableError:
        return False
    return True


async def test_a_frozen_network_is_noticed_by_what_does_not_come_back(
    api_server: ApiServer, namespace: str
) -> None:
    """Writes get through, but the watch is silent: it must not be believed."""
    async with (
        FlakyProxy(api_server.url) as proxy,
        source_store(api_server, namespace, url=proxy.url, rules=SHORT) as store,
        source_store(api_server, namespace) as other,
    ):
        await store.publish(entry())
        proxy.stall("watch=true")
        await other.publish(entry("w1"))
        await store.update_status(entry().key, status=READY, source_load=None, now_ms=2_000)
        await until(lambda: _has(store, 2), "a new watch took the place of the silent one")


async def test_a_slow_server_is_waited_for(sources: KubernetesSourceStore, proxy: FlakyProxy) -> None:
    proxy.delay_s = 0.3
    await asyncio.gather(*(sources.publish(entry(f"w{number}")) for number in range(40)))
    beats = (
        sources.update_status(
            entry(f"w{number % 4}").key, status=READY, source_load=None, now_ms=2_000 + number
        )
        for number in range(400)
    )
    proxy.seen.clear()
    assert all(await asyncio.gather(*beats))
    patches = [path for method, path in proxy.seen if method == "PATCH"]
    assert len(patches) <= 12, "heartbeats that wait give way to newer ones"


async def test_a_server_that_never_answers_costs_the_deadline_and_no_more(
    sources: KubernetesSourceStore, proxy: FlakyProxy
) -> None:
    await sources.publish(entry())
    proxy.freeze(True)
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="did not answer in time"):
        await sources.get(entry().source_id, "w0")
    assert time.monotonic() - began < 3.0 + WITHIN_S / 2
    proxy.freeze(False)
    assert await sources.get(entry().source_id, "w0") == entry()


async def test_a_forgotten_place_lists_anew(
    api_server: ApiServer, namespace: str, sources: KubernetesSourceStore, proxy: FlakyProxy
) -> None:
    gone = {"kind": "Status", "code": 410, "message": "too old resource version", "reason": "Expired"}
    await sources.publish(entry())
    async with source_store(api_server, namespace) as other:
        refused = proxy.fail(Fault(path="watch=true", status=410, body=gone))
        proxy.sever()
        await other.publish(entry("w1"))
        await other.remove(entry().key)
        await until(lambda: _lists(sources, ["w1"]), "the new list is taken over")
        assert refused.met == 1
        told = proxy.fail(Fault(path="watch=true", status=200, body={"type": "ERROR", "object": gone}))
        proxy.sever()
        await other.publish(entry("w2"))
        await until(lambda: _lists(sources, ["w1", "w2"]), "the new list is taken over")
        assert told.met == 1


async def _lists(store: KubernetesSourceStore, workers: list[str]) -> bool:
    return await listed(store) == workers


async def test_a_restarted_api_server_is_found_again(api_server: ApiServer, namespace: str) -> None:
    async with (
        source_store(api_server, namespace, rules=SHORT, call_s=2.0) as sources,
        model_store(api_server, namespace, rules=SHORT, call_s=2.0) as models,
    ):
        await sources.publish(entry())
        held = await win(models)
        await asyncio.to_thread(api_server.stop_server, kill=True)
        with pytest.raises(UnavailableError):
            await models.get(KEY)
        await asyncio.to_thread(api_server.start_server)
        await until(lambda: _is_there(sources), "the watch is back")
        assert await listed(sources) == ["w0"]
        assert await sources.update_status(entry().key, status=READY, source_load=None, now_ms=2_000)
        assert await finish(models, held)
        await sources.publish(entry("w1"))
        async with source_store(api_server, namespace) as other:
            await other.publish(entry("w2"))
            await until(lambda: _has(sources, 3), "the watch goes on")


# clocks


class SkewedClock:
    """A machine whose wall clock is wrong."""

    def __init__(self, *, ahead_s: float) -> None:
        self.ahead_s = ahead_s

    def now_ms(self) -> int:
        return round((time.time() + self.ahead_s) * 1000)

    def monotonic_s(self) -> float:
        return time.monotonic()


@pytest.mark.parametrize("ahead_s", [3600.0, -3600.0])
async def test_a_wrong_clock_harms_neither_sources_nor_claims(
    api_server: ApiServer, namespace: str, ahead_s: float
) -> None:
    async with AsyncExitStack() as stack:
        right, wrong = [
            await stack.enter_async_context(cluster(api_server, namespace, clock=SkewedClock(ahead_s=skew_s)))
            for skew_s in (0.0, ahead_s)
        ]
        services = []
        for one in (right, wrong):
            store = await KubernetesSourceStore.open(one)
            stack.push_async_callback(store.close)
            services.append(SourcesService(store, one.api.clock, heartbeat_timeout_s=90, gc_timeout_s=3600))
        for number, service in enumerate(services):
            worker = replace(FULL_WORKER, status=SourceStatus.READY)
            await service.publish(IDENTITY, worker, worker_id=f"w{number}")
        for service in services:
            await until(lambda: _fresh(service, 2), "both are offered, whoever is asked")  # noqa: B023
            assert (await service.reap_once()).marked == ()
        first, second = [await KubernetesModelStore.open(one) for one in (right, wrong)]
        for store_of_models in (first, second):
            stack.push_async_callback(store_of_models.close)
        held = await win(first, now_ms=right.api.clock.now_ms())
        answer = await claim(second, owner="b", now_ms=wrong.api.clock.now_ms())
        assert isinstance(answer, Held)
        assert isinstance(answer.record, ModelRecord)
        assert await finish(first, held, now_ms=right.api.clock.now_ms())
        await until(lambda: _is_ready(second, wrong.api.clock.now_ms()), "the end is seen")


async def _fresh(service: SourcesService, count: int) -> bool:
    return len(await service.list_sources(SourceFilter(status=SourceStatus.READY))) == count


async def _is_ready(store: KubernetesModelStore, now_ms: int) -> bool:
    return isinstance(await claim(store, owner="b", now_ms=now_ms), Ready)


class SteppedClock:
    """A clock of which both times move only when told to."""

    def __init__(self) -> None:
        self.wall_ms = round(time.time() * 1000)
        self.monotonic = 0.0

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic_s(self) -> float:
        return self.monotonic


async def test_a_claim_of_another_server_ends_when_it_was_seen_unchanged_for_its_lease(
    api_server: ApiServer, namespace: str
) -> None:
    clock = SteppedClock()
    async with (
        model_store(api_server, namespace) as owner,
        cluster(api_server, namespace, clock=clock) as watched,
    ):
        watcher = await KubernetesModelStore.open(watched)
        now = watched.api.clock.now_ms

        async def asked() -> Any:
            return await claim(watcher, owner="b", now_ms=now())

        held = await win(owner, now_ms=1)  # its own clock says 1970, and nobody minds
        await until(lambda: _is_held(watcher, now()), "the claim is seen")
        clock.monotonic += 29
        assert isinstance(await asked(), Held)
        clock.wall_ms += 7_200_000  # an operator sets the clock
        assert isinstance(await asked(), Held)
        renewed = await owner.refresh(KEY, held, lease_s=30, now_ms=2, bytes_done=5, bytes_total=9, files=1)
        assert renewed is not None
        await until(lambda: _done(watcher, 5), "the refresh is seen")
        clock.monotonic += 29
        assert isinstance(await asked(), Held)
        clock.monotonic += 2
        won = await asked()
        assert isinstance(won, Won)
        assert won.claim.token > held.token
        assert not await finish(owner, renewed, now_ms=3)
        await watcher.close()


async def _is_held(store: KubernetesModelStore, now_ms: int) -> bool:
    return isinstance(await claim(store, owner="b", now_ms=now_ms), Held)


async def _done(store: KubernetesModelStore, done: int) -> bool:
    return any(record.bytes_done == done for record in await store.list_models())


# rights and definitions


async def test_a_token_that_nobody_knows(api_server: ApiServer, namespace: str) -> None:
    with pytest.raises(UnauthenticatedError, match="does not know our credentials") as caught:
        async with source_store(api_server, namespace, token="rubbish"):
            pass
    assert "kubeconfig" in caught.value.remedy
    assert "rubbish" not in str(caught.value)


async def test_an_account_without_rights_is_told_which_role_it_needs(
    api_server: ApiServer, namespace: str
) -> None:
    for opening in (source_store, model_store):
        with pytest.raises(PermissionDeniedError, match="system:serviceaccount:default:mx") as caught:
            async with opening(api_server, namespace, token=api_server.token):
                pass
        assert namespace in caught.value.remedy


async def test_a_namespace_that_is_not_there(api_server: ApiServer) -> None:
    with pytest.raises(PreconditionError, match="no namespace nowhere") as caught:
        async with model_store(api_server, "nowhere"):
            pass
    assert "kubectl create namespace nowhere" in caught.value.remedy


async def test_custom_resources_that_are_missing_or_older(
    api_server: ApiServer, namespace: str, proxy: FlakyProxy
) -> None:
    proxy.fail(Fault(method="POST", status=404, body="404 page not found"))
    with pytest.raises(PreconditionError, match="does not know the custom resources") as caught:
        async with model_store(api_server, namespace, url=proxy.url):
            pass
    assert "kubectl apply -f charts/mx/crds" in caught.value.remedy
    proxy.fail(Fault(method="POST", status=201, body={"spec": {"modelName": "mx/probe"}}))
    with pytest.raises(PreconditionError, match="of another release"):
        async with source_store(api_server, namespace, url=proxy.url):
            pass


async def test_rights_that_are_taken_away_are_an_outage(
    sources: KubernetesSourceStore, proxy: FlakyProxy
) -> None:
    await sources.publish(entry())
    proxy.fail(Fault(times=9, method="PATCH", status=403, body={"message": "no"}))
    with pytest.raises(UnavailableError, match="forbids what mx needs: no"):
        await sources.update_status(entry().key, status=READY, source_load=None, now_ms=2_000)


async def test_values_that_no_object_can_hold_are_refused(
    sources: KubernetesSourceStore, models: KubernetesModelStore
) -> None:
    nasty = replace(entry(), worker=replace(entry().worker, agent_name="half \ud800"))
    with pytest.raises(InvalidArgumentError, match="can't be stored"):
        await sources.publish(nasty)
    held = await win(models)
    with pytest.raises(InvalidArgumentError, match="64 bits"):
        await models.refresh(KEY, held, lease_s=1, now_ms=1, bytes_done=1 << 64, bytes_total=0, files=0)
    assert isinstance(held, Claim)
    assert (await downloaded(models, replace(KEY, commit="f" * 40))).status is EntryStatus.DOWNLOADED
