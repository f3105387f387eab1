"""What operators and published servers see in Kubernetes, and what mx makes of what those have written."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes_support import model_store, source_store

from mx.core.model import (
    TO_BE_VERIFIED,
    Claim,
    EntryKey,
    EntryStatus,
    ModelRecord,
    Pin,
    ProviderName,
    ReadLease,
)
from mx.core.source import (
    ArtifactSource,
    NixlMetadata,
    PodReference,
    SourceIdentity,
    SourceStatus,
    SourceType,
    TensorSource,
)
from mx.core.tensors import TensorDescriptor
from mx.core.transitions import Held, Ready, Won
from mx.errors import UnavailableError
from mx.store.kubernetes import configmaps
from mx.store.kubernetes.names import cache_entry_name, entry_key, parse_entry_key
from mx.testing.api_server import ApiServer
from mx.testing.flaky_proxy import FlakyProxy
from mx.testing.model_store_contract import KEY, claim, downloaded, finish, win
from mx.testing.samples import COMMIT, PEER, entry, model_key
from mx.testing.store_contract import READY, listed, scanned
from mx.wiring import SystemClock

GROUP = "modelexpress.nvidia.com"
SOURCE_ID = "0123456789abcdef"
SEEN = "2026-08-20T10:00:00Z"
MERGE = "application/merge-patch+json"


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    return api_server.new_namespace()


def put(server: ApiServer, namespace: str, plural: str, body: dict[str, Any], status: Any = None) -> None:
    """As another server does it: create, then patch the status."""
    kinds = {"modelmetadatas": "ModelMetadata", "modelcacheentries": "ModelCacheEntry"}
    if plural in kinds:
        body = {"apiVersion": f"{GROUP}/v1alpha1", "kind": kinds[plural], **body}
    server.ask("POST", server.path(namespace, plural), body)
    if status is not None:
        patch_status(server, namespace, plural, body["metadata"]["name"], status)


def patch_status(server: ApiServer, namespace: str, plural: str, name: str, status: Any) -> None:
    path = f"{server.path(namespace, plural, name)}/status"
    server.ask("PATCH", path, {"status": status}, kind=MERGE)


def published_source(worker_id: str, **worker: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Object and status as the published server of the contract writes them, without identity."""
    body = {
        "metadata": {
            "name": f"mx-source-{SOURCE_ID}-{worker_id}",
            "labels": {f"{GROUP}/mx-source-id": SOURCE_ID, f"{GROUP}/mx-worker-id": worker_id},
        },
        "spec": {"modelName": "org/Model", "sourceType": "weights"},
    }
    status = {
        "worker": {
            "workerRank": 0,
            "backendType": "nixl",
            "nixlMetadata": base64.b64encode(b"blob").decode(),
            "tensorCount": 0,
            "metadataEndpoint": "10.0.0.1:5555",
            "agentName": "agent",
            "workerGrpcEndpoint": "10.0.0.1:6555",
            "accelerator": "cuda",
            "status": "Ready",
            "updatedAt": SEEN,
            **worker,
        },
        "publishedAt": SEEN,
        "conditions": [{"type": "Ready", "status": "True", "reason": "WorkerReady", "message": ""}],
    }
    return body, status


# sources, as operators see them


async def test_a_source_looks_as_published_servers_write_it(api_server: ApiServer, namespace: str) -> None:
    pod = PodReference("vllm-0", "0f4c1b3a-0000-0000-0000-000000000000", namespace)
    async with source_store(api_server, namespace) as store:
        await store.publish(entry(peer=PEER, source_load=0.25, pod=pod, updated_at_ms=1_700_000_000_123))
        elsewhere = entry("w1", pod=replace(pod, namespace="elsewhere"))
        await store.publish(elsewhere)
    one, other = api_server.objects(namespace, "modelmetadatas")
    source_id = entry().source_id
    assert one["metadata"]["name"] == f"mx-source-{source_id}-w0"
    assert one["metadata"]["labels"] == {f"{GROUP}/mx-source-id": source_id, f"{GROUP}/mx-worker-id": "w0"}
    (owner,) = one["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", pod.name, pod.uid)
    assert (owner["controller"], owner["blockOwnerDeletion"]) == (False, False)
    assert "ownerReferences" not in other["metadata"]
    assert (one["spec"]["modelName"], one["spec"]["sourceType"]) == ("org/Model-7B", "weights")
    worker = one["status"]["worker"]
    assert worker | {"updatedAt": "2023-11-14T22:13:20.123Z"} == worker
    assert (worker["workerRank"], worker["status"], worker["backendType"]) == (0, "Ready", "nixl")
    assert base64.b64decode(worker["nixlMetadata"]) == b"\x00nixl\xff"
    assert (worker["tensorCount"], worker["sourceLoad"]) == (2, 0.25)
    (condition,) = one["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "True", "WorkerReady")
    assert one["status"]["observedGeneration"] == one["metadata"]["generation"]
    config_map = next(
        found
        for found in api_server.objects(namespace, "configmaps")
        if found["metadata"]["name"] == f"mx-source-{source_id}-w0-tensors-worker-0"
    )
    assert worker["tensorConfigMap"] == config_map["metadata"]["name"]
    assert config_map["metadata"]["labels"] == {f"{GROUP}/mx-source-id": source_id, f"{GROUP}/worker": "0"}
    (map_owner,) = config_map["metadata"]["ownerReferences"]
    assert (map_owner["kind"], map_owner["uid"]) == ("ModelMetadata", one["metadata"]["uid"])
    assert (map_owner["controller"], map_owner["blockOwnerDeletion"]) == (True, True)
    (first, _) = json.loads(config_map["data"]["tensors.json"])
    assert first == {
        "name": "model.embed",
        "addr": str((1 << 64) - 1),
        "size": str(1 << 63),
        "device_id": 0,
        "dtype": "torch.bfloat16",
    }


async def test_a_condition_keeps_its_time_until_it_changes(api_server: ApiServer, namespace: str) -> None:
    def condition() -> Any:
        (one,) = api_server.objects(namespace, "modelmetadatas")
        return one["status"]["conditions"][0]

    start = 1_700_000_000_000
    async with source_store(api_server, namespace) as store:
        await store.publish(entry(updated_at_ms=start))
        began = condition()
        await store.update_status(entry().key, status=READY, source_load=None, now_ms=start + 30_000)
        assert condition() == began
        await store.mark_stale(entry().key, observed_ms=start + 30_000, now_ms=start + 130_000)
        stale = condition()
        assert (stale["status"], stale["reason"]) == ("False", "WorkerStale")
        assert stale["lastTransitionTime"] > began["lastTransitionTime"]
        await store.update_status(entry().key, status=0, source_load=None, now_ms=start + 140_000)
        assert (condition()["status"], condition()["reason"]) == ("Unknown", "WorkerUnknown")


async def test_a_heartbeat_is_one_small_request(api_server: ApiServer, namespace: str) -> None:
    large = entry(worker=replace(entry().worker, backend_metadata=NixlMetadata(bytes(400_000))))
    async with (
        FlakyProxy(api_server.url) as proxy,
        source_store(api_server, namespace, url=proxy.url) as store,
    ):
        await store.publish(large)
        proxy.seen.clear()
        proxy.bodies.clear()
        assert await store.update_status(large.key, status=READY, source_load=None, now_ms=2_000)
        ((method, _),) = proxy.seen
        (body,) = proxy.bodies
    assert method == "PATCH"
    assert len(body) < 500
    assert {change["path"] for change in json.loads(body) if change["op"] != "test"} == {
        "/status/worker/status",
        "/status/worker/updatedAt",
    }


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
async def test_kubectl_shows_sources_and_models(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    config = api_server.kubeconfig(tmp_path / "kubeconfig")

    def get(what: str, *options: str) -> list[list[str]]:
        command = ["kubectl", "--kubeconfig", str(config), "-n", namespace, "get", what, *options]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [line.split() for line in out.splitlines()]

    async with source_store(api_server, namespace) as sources, model_store(api_server, namespace) as models:
        await sources.publish(entry())
        await win(models, owner="server-1")
    for name in ("mxmeta", "mm", "modelmetadata", "modelmetadatas"):
        heads, row = await asyncio.to_thread(get, name)
        assert heads == ["NAME", "MODEL", "TYPE", "AGE"]
        assert row[1:3] == ["org/Model-7B", "weights"]
    for name in ("mxcache", "modelcacheentry", "modelcacheentries"):
        heads, row = await asyncio.to_thread(get, name)
        assert heads == ["NAME", "MODEL", "PHASE", "LASTUSED", "AGE"]
        assert row[1:3] == [f"mx1:{COMMIT}:-:org/Model-7B", "Downloading"]
    heads, row = await asyncio.to_thread(get, "mxcache", "-o", "wide")
    assert heads == ["NAME", "MODEL", "PHASE", "LASTUSED", "CLAIM", "LEASE", "AGE"]
    assert "server-1#1" in row


# large sources


async def test_descriptors_are_split_over_config_maps_and_come_back(
    api_server: ApiServer, namespace: str
) -> None:
    def tensors(count: int) -> TensorSource:
        rows = (
            TensorDescriptor(f"model.layers.{n}.mlp.experts.weight_scale_inv", n, n, 0, "torch.bfloat16")
            for n in range(count)
        )
        return TensorSource(tuple(rows))

    large = entry(worker=replace(entry().worker, payload=tensors(20_000)))
    large = replace(
        large, worker=replace(large.worker, backend_metadata=NixlMetadata(bytes(range(256)) * 4_000))
    )
    async with source_store(api_server, namespace) as store:
        await store.publish(large)
        assert await store.get(large.source_id, "w0") == large
        (found,) = api_server.objects(namespace, "modelmetadatas")
        names = {one["metadata"]["name"] for one in api_server.objects(namespace, "configmaps")}
        base = f"{found['metadata']['name']}-tensors-worker-0"
        assert found["status"]["worker"]["tensorConfigMap"] == base
        assert names >= {base, f"{base}-1", f"{base}-2", f"{base}-blob", f"{base}-blob-1"}
        assert found["status"]["mx"]["tensorConfigMaps"][:2] == [base, f"{base}-1"]
        small = entry(worker=replace(entry().worker, payload=tensors(3), backend_metadata=None))
        await store.publish(small)
        assert await store.get(small.source_id, "w0") == small
        assert {one["metadata"]["name"] for one in api_server.objects(namespace, "configmaps")} == {base}
        await store.remove(small.key)
        assert api_server.objects(namespace, "configmaps") == []


async def test_descriptors_of_another_moment_are_never_handed_out(
    api_server: ApiServer, namespace: str
) -> None:
    async with source_store(api_server, namespace) as store:
        await store.publish(entry())
        name = f"mx-source-{entry().source_id}-w0-tensors-worker-0"
        path = api_server.path(namespace, "configmaps", name)
        changed = {"data": {"tensors.json": "[]"}}
        api_server.ask("PATCH", path, changed, kind=MERGE)
        with pytest.raises(UnavailableError, match="published last"):
            await store.get(entry().source_id, "w0")
        api_server.ask("DELETE", path)
        with pytest.raises(UnavailableError, match=f"ConfigMap {name} .* is gone"):
            await store.get(entry().source_id, "w0")
        await store.publish(entry())
        assert await store.get(entry().source_id, "w0") == entry()


def test_parts_of_descriptors_are_json_and_below_their_limit() -> None:
    tensors = [TensorDescriptor("näme" * 20, n, n, 0, "x") for n in range(500)]
    parts = configmaps.pack_tensors(tensors, part_bytes=10_000)
    assert all(len(part.encode()) <= 10_000 for part in parts)
    assert len(parts) > 5
    assert configmaps.unpack_tensors(parts) == tuple(tensors)
    assert configmaps.pack_tensors([]) == ["[]"]


# what published servers have written


async def test_published_sources_are_read(api_server: ApiServer, namespace: str) -> None:
    body, status = published_source("a1b2c3d4", workerRank=3, sourceLoad=0.5, topology={"zone": "z1"})
    put(api_server, namespace, "modelmetadatas", body, status)
    async with source_store(api_server, namespace) as store:
        (row,) = await scanned(store)
        assert (row.source_id, row.worker_id, row.worker_rank) == (SOURCE_ID, "a1b2c3d4", 3)
        assert (row.model_name, row.status, row.source_load) == ("org/Model", SourceStatus.READY, 0.5)
        assert row.updated_at_ms == 1_787_220_000_000
        assert (row.training_step, row.peer) == (None, None)
        found = await store.get(SOURCE_ID, "a1b2c3d4")
        assert found is not None
        assert found.identity == SourceIdentity("org/Model")
        assert found.worker.backend_metadata == NixlMetadata(b"blob")
        assert found.worker.payload == TensorSource()
        assert await store.announce(row.key, PEER)
        now_ms = row.updated_at_ms + 30_000
        assert await store.update_status(row.key, status=READY, source_load=None, now_ms=now_ms)
        assert [(row.peer, row.source_load) for row in await scanned(store)] == [(PEER, None)]
        assert await store.remove(row.key, observed_ms=now_ms)
    assert api_server.objects(namespace, "modelmetadatas") == []


@pytest.mark.parametrize(
    ("worker", "expected"),
    [
        ({"backendType": None, "nixlMetadata": "", "transferEngineSessionId": "h:1"}, "h:1"),
        ({"backendType": None}, NixlMetadata(b"blob")),
        ({"backendType": None, "nixlMetadata": ""}, None),
        ({"backendType": "none"}, None),
    ],
)
async def test_the_backend_of_older_records_follows_from_what_is_there(
    api_server: ApiServer, namespace: str, worker: dict[str, Any], expected: object
) -> None:
    body, status = published_source("w", **worker)
    put(api_server, namespace, "modelmetadatas", body, status)
    async with source_store(api_server, namespace) as store:
        found = await store.get(SOURCE_ID, "w")
        assert found is not None
        metadata = found.worker.backend_metadata
        assert getattr(metadata, "session_id", metadata) == expected


async def test_published_tensors_and_artifacts_are_read(api_server: ApiServer, namespace: str) -> None:
    name = f"mx-source-{SOURCE_ID}-t-tensors-worker-0"
    tensor = {"name": "w", "addr": "18446744073709551615", "size": 7, "device_id": 1, "dtype": "torch.int8"}
    data = {"tensors.json": json.dumps([tensor])}
    put(api_server, namespace, "configmaps", {"metadata": {"name": name}, "data": data})
    body, status = published_source("t", tensorCount=1, tensorConfigMap=name)
    put(api_server, namespace, "modelmetadatas", body, status)
    artifact = {"artifactId": "a" * 64, "totalSize": 5, "fileCount": 1, "chunkCount": 2, "nodeRank": 3}
    body, status = published_source("a", artifactSource=artifact)
    body["spec"]["sourceType"] = "triton_cache"
    put(api_server, namespace, "modelmetadatas", body, status)
    async with source_store(api_server, namespace) as store:
        tensors, artifacts = [await store.get(SOURCE_ID, worker) for worker in ("t", "a")]
    assert tensors is not None
    assert tensors.worker.payload == TensorSource((TensorDescriptor("w", (1 << 64) - 1, 7, 1, "torch.int8"),))
    assert artifacts is not None
    assert artifacts.identity.mx_source_type == SourceType.TRITON_CACHE
    assert artifacts.worker.payload == ArtifactSource("a" * 64, 5, 1, 2, 3)


async def test_what_mx_knew_is_void_once_a_published_server_published_over_it(
    api_server: ApiServer, namespace: str
) -> None:
    async with source_store(api_server, namespace) as store:
        await store.publish(entry(peer=PEER, status=77))
        name = f"mx-source-{entry().source_id}-w0"
        _, status = published_source("w0", agentName="theirs")
        patch_status(api_server, namespace, "modelmetadatas", name, status)
        found = await store.get(entry().source_id, "w0")
        assert found is not None
        assert (found.worker.agent_name, found.worker.status, found.peer) == ("theirs", READY, None)
        assert found.identity == entry().identity, "it is the same source still"


async def test_objects_of_somebodys_own_making_are_left_alone(
    api_server: ApiServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec = {"modelName": "org/Model"}
    put(api_server, namespace, "modelmetadatas", {"metadata": {"name": "by-hand"}, "spec": spec})
    begun, _ = published_source("begun")
    put(api_server, namespace, "modelmetadatas", begun)
    for name, body, status in (
        ("odd", {"modelName": "../../etc/passwd", "provider": "HuggingFace"}, {"phase": "Downloaded"}),
        ("rubbish", {"modelName": "gs://b/m", "provider": "Gcs"}, {"phase": "Error", "mx": {"leases": 7}}),
        ("begun", {"modelName": "org/begun", "provider": "HuggingFace"}, None),
    ):
        put(api_server, namespace, "modelcacheentries", {"metadata": {"name": name}, "spec": body}, status)
    async with source_store(api_server, namespace) as sources, model_store(api_server, namespace) as models:
        assert await listed(sources) == []
        assert await sources.get(SOURCE_ID, "begun") is None
        assert await models.list_models() == ()
        await sources.publish(entry())
        await downloaded(models)
    assert len(api_server.objects(namespace, "modelmetadatas")) == 3
    assert len(api_server.objects(namespace, "modelcacheentries")) == 4
    left = [record.message for record in caplog.records if "left alone" in record.message]
    assert len(left) == 3


# models


def test_names_and_keys_of_the_contract() -> None:
    hub, gcs = ProviderName.HUGGING_FACE, ProviderName.GCS
    assert (
        cache_entry_name(hub, "google-t5/t5-small")
        == "mx-cache-huggingface--google-t5--t5-small-6df3f658ccca"
    )
    assert (
        cache_entry_name(gcs, "gs://bucket/org/model")
        == "mx-cache-gcs--gs-----bucket--org--model-52daacabb4d7"
    )
    long = cache_entry_name(hub, "x" * 400)
    assert len(long) == 253
    odd = cache_entry_name(ProviderName.LOCAL, "/a/.b")
    assert odd == f"mx-cache-{hashlib.sha256(b'Local//a/.b').hexdigest()[:12]}"
    for key, text in (
        (EntryKey(gcs, "gs://b/m", ""), "gs://b/m"),
        (EntryKey(gcs, "gs://b/m", "", False), "mx1::m:gs://b/m"),
        (EntryKey(hub, "a/b", COMMIT), f"mx1:{COMMIT}:-:a/b"),
        (EntryKey(hub, "mx1:odd", ""), "mx1::-:mx1:odd"),
    ):
        assert entry_key(key) == text
        assert parse_entry_key(key.provider, text) == key
    for malformed in ("mx1:", "mx1:a:b", "mx1:a:x:name", "mx1:a:-:"):
        assert parse_entry_key(hub, malformed) == EntryKey(hub, malformed, "")


async def test_a_record_looks_as_published_servers_write_it(api_server: ApiServer, namespace: str) -> None:
    async with model_store(api_server, namespace) as store:
        held = await win(store, owner="server-1")
        (found,) = api_server.objects(namespace, "modelcacheentries")
        assert found["metadata"]["name"] == cache_entry_name(KEY.provider, entry_key(KEY))
        assert found["spec"]["modelName"] == f"mx1:{COMMIT}:-:org/Model-7B"
        assert found["spec"]["provider"] == "HuggingFace"
        status = found["status"]
        assert (status["phase"], status["claimId"]) == ("Downloading", f"server-1#{held.token}")
        assert status["createdAt"] == status["lastUsedAt"] == "2023-11-14T22:13:20.000Z"
        assert status["leaseExpiresAt"] == "2023-11-14T22:13:50.000Z"
        renewed = await store.refresh(
            KEY, held, lease_s=30, now_ms=1_700_000_010_000, bytes_done=1, bytes_total=2, files=1
        )
        assert renewed is not None
        assert (
            api_server.objects(namespace, "modelcacheentries")[0]["status"]["leaseExpiresAt"]
            > (status["leaseExpiresAt"])
        )
        await finish(store, renewed, message="done")
        status = api_server.objects(namespace, "modelcacheentries")[0]["status"]
        assert (status["phase"], status["message"]) == ("Downloaded", "done")
        assert "claimId" not in status
        assert "leaseExpiresAt" not in status
        marked = await store.mark_evicting(KEY, observed=await _record(store), now_ms=1_700_000_020_000)
        status = api_server.objects(namespace, "modelcacheentries")[0]["status"]
        assert marked is not None
        assert status["phase"] == "Downloading", "a published server waits for the end of a removal"
        assert status["claimId"] == f"eviction#{marked.token}"


async def _record(store: Any) -> ModelRecord:
    found = await store.get(KEY)
    assert isinstance(found, ModelRecord)
    return found


def published_model(
    name: str, phase: str | None, *, provider: str = "HuggingFace", **status: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    text = f"{provider}/{name}"
    clean = cache_entry_name(
        {"HuggingFace": ProviderName.HUGGING_FACE, "Gcs": ProviderName.GCS, "Ngc": ProviderName.NGC}[
            provider
        ],
        name,
    )
    body = {"metadata": {"name": clean}, "spec": {"modelName": name, "provider": provider}}
    assert text
    return body, {"phase": phase, "createdAt": SEEN, "lastUsedAt": SEEN} | status


async def test_published_records_are_read(api_server: ApiServer, namespace: str) -> None:
    for body, status in (
        published_model(f"mx1:{COMMIT}:-:org/done", "Downloaded", message="ok"),
        published_model(f"mx1:{COMMIT}:m:org/empty", ""),
        published_model("org/unknown-revision", "Downloaded"),
        published_model("org/future", "Paused"),
        published_model("gs://bucket/m", "Downloaded", provider="Gcs"),
        published_model("ngc://org/model:1", "Error", provider="Ngc", message="no space"),
    ):
        put(api_server, namespace, "modelcacheentries", body, status)
    async with model_store(api_server, namespace) as store:
        records = {record.key: record for record in await store.list_models()}
        assert {key: (record.status, record.message) for key, record in records.items()} == {
            model_key("org/done"): (EntryStatus.DOWNLOADED, "ok"),
            model_key("org/empty", weights=False): (EntryStatus.DOWNLOADING, ""),
            model_key("org/unknown-revision", commit=""): (EntryStatus.DOWNLOADING, TO_BE_VERIFIED),
            model_key("org/future", commit=""): (EntryStatus.ERROR, ""),
            EntryKey(ProviderName.GCS, "gs://bucket/m", ""): (EntryStatus.DOWNLOADED, ""),
            EntryKey(ProviderName.NGC, "org/models/model/1", ""): (EntryStatus.ERROR, "no space"),
        }
        assert {record.created_at_ms for record in records.values()} == {1_787_220_000_000}
        assert isinstance(await claim(store, model_key("org/done")), Ready)
        assert await store.pin(model_key("org/done"), Pin(reason="mine"))
        assert await store.lease(model_key("org/done"), ReadLease("l", "h", 1 << 50), now_ms=1 << 41)


async def test_a_record_under_an_older_name_is_taken_over(api_server: ApiServer, namespace: str) -> None:
    body, status = published_model("ngc://org/model:1", "Error", provider="Ngc", message="no space")
    body["metadata"]["name"] = "mx-cache-org-model-1"
    put(api_server, namespace, "modelcacheentries", body, status)
    key = EntryKey(ProviderName.NGC, "org/models/model/1", "")
    async with model_store(api_server, namespace) as store:
        won = await claim(store, key)
        assert isinstance(won, Won)
        assert won.record.created_at_ms == 1_787_220_000_000
        assert [record.key for record in await store.list_models()] == [key]
    (found,) = api_server.objects(namespace, "modelcacheentries")
    assert found["metadata"]["name"] == cache_entry_name(key.provider, entry_key(key))


async def test_a_published_claim_is_respected_and_a_published_takeover_noticed(
    api_server: ApiServer, namespace: str
) -> None:
    theirs = {"claimId": "7a1c9e52-uuid", "leaseExpiresAt": SEEN}
    put(
        api_server,
        namespace,
        "modelcacheentries",
        *published_model(f"mx1:{COMMIT}:-:org/theirs", "Downloading", **theirs),
    )
    async with model_store(api_server, namespace) as store:
        now_ms = SystemClock().now_ms()
        answer = await claim(store, model_key("org/theirs"), now_ms=now_ms)
        assert isinstance(answer, Held), "its time is long past, but it was seen just now"
        assert answer.record.claim is not None
        assert "7a1c9e52-uuid" in answer.record.claim.owner
        held = await win(store)
        name = cache_entry_name(KEY.provider, entry_key(KEY))
        patch_status(api_server, namespace, "modelcacheentries", name, theirs)
        assert (
            await store.refresh(KEY, held, lease_s=30, now_ms=now_ms, bytes_done=0, bytes_total=0, files=0)
            is None
        )
        assert not await finish(store, held)
        assert isinstance(held, Claim)


async def test_a_counter_that_was_deleted_goes_on_above_the_claims_there_are(
    api_server: ApiServer, namespace: str
) -> None:
    path = api_server.path(namespace, "configmaps", "mx-fence")
    async with model_store(api_server, namespace) as store:
        for number in range(3):
            last = await win(store, model_key(f"org/m{number}"))
        api_server.ask("DELETE", path)
        again = await win(store)
        assert again.token == last.token + 1
        api_server.ask("PATCH", path, {"data": {"last": "rubbish"}}, kind=MERGE)
        with pytest.raises(UnavailableError, match="holds no number"):
            await win(store, model_key("org/other"))


# two servers


async def test_each_sees_what_the_other_did_within_a_second(api_server: ApiServer, namespace: str) -> None:
    async with source_store(api_server, namespace) as one, source_store(api_server, namespace) as other:
        loop = asyncio.get_running_loop()
        lags = []
        for number in range(20):
            await one.publish(entry(f"w{number}"))
            began = loop.time()
            while len(await listed(other)) <= number:
                await asyncio.sleep(0.001)
            lags.append(loop.time() - began)
        assert sorted(lags)[10] < 1.0
