"""P2pService by raw calls, as published clients send them (wire contract, section 7)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from running import HEARTBEAT_TIMEOUT_S, Running, running

from mx.store.memory import MemorySourceStore
from mx.store.sqlite import SqliteSourceStore
from mx.wire.v1 import p2p

READY, STALE, INITIALIZING = p2p.SOURCE_STATUS_READY, p2p.SOURCE_STATUS_STALE, p2p.SOURCE_STATUS_INITIALIZING


@pytest.fixture(params=["memory", "sqlite"])
async def mx(request: pytest.FixtureRequest, tmp_path: Any) -> AsyncIterator[Running]:
    if request.param == "memory":
        async with running(MemorySourceStore()) as server:
            yield server
        return
    store = await SqliteSourceStore.open(tmp_path / "models.db")
    try:
        async with running(store) as server:
            yield server
    finally:
        await store.close()


def identity(model: str = "org/Model-7B", **changes: Any) -> p2p.SourceIdentity:
    return p2p.SourceIdentity(
        mx_version="0.7.0",
        model_name=model,
        backend_framework=p2p.BACKEND_FRAMEWORK_VLLM,
        tensor_parallel_size=8,
        pipeline_parallel_size=1,
        dtype="bfloat16",
        **changes,
    )


def publishing(worker_id: str = "0a1b2c3d", *, rank: int = 0, **changes: Any) -> p2p.PublishMetadataRequest:
    """Lightweight, as the published worker sends it: status 0, updated_at 0, no payload."""
    worker = p2p.WorkerMetadata(
        worker_rank=rank,
        metadata_endpoint="10.0.0.7:5555",
        agent_name="agent",
        worker_grpc_endpoint="10.0.0.7:6555",
        accelerator="cuda",
    )
    fields: dict[str, Any] = {"identity": identity(), "worker": worker, "worker_id": worker_id}
    return p2p.PublishMetadataRequest(**(fields | changes))


async def publish(mx: Running, request: p2p.PublishMetadataRequest) -> str:
    reply = await mx.p2p.PublishMetadata(request)
    assert reply.success, reply.message
    return reply.mx_source_id


async def heartbeat(
    mx: Running, source: str, worker: str, rank: int = 0, status: int = READY, **more: Any
) -> bool:
    request = p2p.UpdateStatusRequest(
        mx_source_id=source, worker_id=worker, worker_rank=rank, status=status, **more
    )
    return (await mx.p2p.UpdateStatus(request)).success


async def listed(mx: Running, **filters: Any) -> list[p2p.SourceInstanceRef]:
    return list((await mx.p2p.ListSources(p2p.ListSourcesRequest(**filters))).instances)


class TestPublish:
    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            (p2p.PublishMetadataRequest(), "identity is missing"),
            (p2p.PublishMetadataRequest(identity=p2p.SourceIdentity()), "model_name"),
            (p2p.PublishMetadataRequest(identity=identity()), "worker_id"),
            (p2p.PublishMetadataRequest(identity=identity(), worker_id="w"), "worker is missing"),
            (publishing(""), "worker_id"),
        ],
    )
    async def test_validation_is_in_band_and_in_order(
        self, mx: Running, request_: p2p.PublishMetadataRequest, message: str
    ) -> None:
        reply = await mx.p2p.PublishMetadata(request_)
        assert not reply.success
        assert message in reply.message
        assert (reply.mx_source_id, reply.worker_id) == ("", "")
        assert await listed(mx) == []

    async def test_source_ids_are_the_published_vectors(self, mx: Running) -> None:
        deepseek = p2p.SourceIdentity(
            mx_version="0.5.0",
            model_name="deepseek-ai/DeepSeek-V3",
            backend_framework=1,
            tensor_parallel_size=8,
            pipeline_parallel_size=1,
            dtype="bfloat16",
        )
        assert await publish(mx, publishing(identity=deepseek)) == "5a5f555570065064"
        reply = await mx.p2p.PublishMetadata(publishing("w", identity=deepseek))
        assert (reply.mx_source_id, reply.worker_id) == ("5a5f555570065064", "w")

    async def test_both_oneofs_and_the_identity_come_back_unchanged(self, mx: Running) -> None:
        who = identity(extra_parameters={"Foo": "Bar"}, revision="ABC", gpu_arch="SM90")
        tensors = [
            p2p.TensorDescriptor(name="a", addr=2**64 - 1, size=2, device_id=3, dtype="torch.bfloat16")
        ]
        worker = p2p.WorkerMetadata(
            worker_rank=5,
            nixl_metadata=b"\x00blob\xff",
            tensors=tensors,
            tensor_source=p2p.TensorSourceMetadata(tensors=tensors),
            metadata_endpoint="10.0.0.7:5555",
            agent_name="agent",
            worker_grpc_endpoint="10.0.0.7:6555",
            accelerator="cuda",
            topology={"zone": "a", "rack": "7"},
            updated_at=0,
        )
        source = await publish(mx, publishing("w", identity=who, worker=worker))
        reply = await mx.p2p.GetMetadata(p2p.GetMetadataRequest(mx_source_id=source, worker_id="w"))
        assert reply.found
        assert reply.identity == who
        # The server's time; the deprecated copy of the tensors is off by default.
        worker.updated_at = mx.clock.now_ms()
        worker.ClearField("tensors")
        assert reply.worker == worker

    async def test_artifacts_and_other_sessions_come_back_unchanged(self, mx: Running) -> None:
        worker = p2p.WorkerMetadata(
            transfer_engine_session_id="10.0.0.7:1234",
            artifact_source=p2p.ArtifactSourceMetadata(
                artifact_id="x" * 64, total_size=2**40, file_count=3, chunk_count=4, node_rank=1
            ),
        )
        who = identity(mx_source_type=p2p.MX_SOURCE_TYPE_TORCH_COMPILE_CACHE)
        source = await publish(mx, publishing("w", identity=who, worker=worker))
        reply = await mx.p2p.GetMetadata(p2p.GetMetadataRequest(mx_source_id=source, worker_id="w"))
        worker.updated_at = mx.clock.now_ms()
        assert reply.worker == worker

    async def test_without_a_payload_the_deprecated_tensors_are_it(self, mx: Running) -> None:
        tensors = [p2p.TensorDescriptor(name="a", addr=1, size=2, dtype="torch.uint8")]
        source = await publish(mx, publishing("old", worker=p2p.WorkerMetadata(tensors=tensors)))
        reply = await mx.p2p.GetMetadata(p2p.GetMetadataRequest(mx_source_id=source, worker_id="old"))
        assert list(reply.worker.tensor_source.tensors) == tensors
        assert not reply.worker.tensors
        await publish(mx, publishing("light"))
        reply = await mx.p2p.GetMetadata(p2p.GetMetadataRequest(mx_source_id=source, worker_id="light"))
        assert reply.worker.WhichOneof("source_payload") == "tensor_source"

    async def test_publishing_again_replaces_the_record_and_its_status(self, mx: Running) -> None:
        source = await publish(mx, publishing("w"))
        assert await heartbeat(mx, source, "w", source_load=0.5)
        assert await publish(mx, publishing("w")) == source
        rows = await listed(mx)
        assert len(rows) == 1
        assert not rows[0].HasField("source_load")
        assert await listed(mx, status_filter=READY) == []

    async def test_unknown_enum_numbers_are_carried(self, mx: Running) -> None:
        who = identity(mx_source_type=77)
        source = await publish(mx, publishing("w", identity=who))
        reply = await mx.p2p.GetMetadata(p2p.GetMetadataRequest(mx_source_id=source, worker_id="w"))
        assert reply.identity.mx_source_type == 77

    async def test_a_manifest_of_many_megabytes_fits(self, mx: Running) -> None:
        tensors = [
            p2p.TensorDescriptor(name=f"{i:050}", addr=i, size=i, dtype="torch.bfloat16")
            for i in range(60_000)
        ]
        worker = p2p.WorkerMetadata(tensor_source=p2p.TensorSourceMetadata(tensors=tensors))
        request = publishing("w", worker=worker)
        assert request.ByteSize() > 4 * 1024 * 1024
        source = await publish(mx, request)
        with pytest.raises(grpc.aio.AioRpcError):  # a client with default limits can't take the answer
            await mx.p2p.GetMetadata(p2p.GetMetadataRequest(mx_source_id=source, worker_id="w"))
        options = [("grpc.max_receive_message_length", 100 * 1024 * 1024)]
        async with grpc.aio.insecure_channel(mx.server.listen, options=options) as channel:
            stub = p2p.P2pServiceAsyncStub(channel)
            reply = await stub.GetMetadata(p2p.GetMetadataRequest(mx_source_id=source, worker_id="w"))
        assert len(reply.worker.tensor_source.tensors) == 60_000


class TestList:
    async def test_an_identity_restricts_unless_it_has_no_name(self, mx: Running) -> None:
        one = await publish(mx, publishing("a"))
        await publish(mx, publishing("b", identity=identity("org/other")))
        assert [row.mx_source_id for row in await listed(mx, identity=identity())] == [one]
        assert [row.mx_source_id for row in await listed(mx, identity=identity("ORG/model-7b"))] == [one]
        assert len(await listed(mx, identity=p2p.SourceIdentity(dtype="float8"))) == 2
        assert len(await listed(mx)) == 2

    async def test_all_filters_hold_together(self, mx: Running) -> None:
        for worker, rank, extra in (
            ("a", 0, {"training_step": "10"}),
            ("b", 1, {"version": "20"}),
            ("c", 0, {"training_step": "no number", "layout_signature": "L1"}),
        ):
            who = identity(extra_parameters=extra)
            source = await publish(mx, publishing(worker, rank=rank, identity=who))
            assert await heartbeat(mx, source, worker, rank)
            mx.clock.advance(1)
        now = mx.clock.now_ms()

        async def names(**filters: Any) -> list[str]:
            return [row.worker_id for row in await listed(mx, **filters)]

        assert await names() == ["c", "b", "a"]
        assert await names(worker_rank_filter=0) == ["c", "a"]
        assert await names(min_training_step=0) == ["b", "a"]
        assert await names(min_training_step=11) == ["b"]
        assert await names(min_training_step=2**64 - 1) == []
        assert await names(min_updated_at=now - 2000) == ["c", "b"]
        assert await names(model_name_filter="org/Model-7B", worker_rank_filter=1) == ["b"]
        assert await names(model_name_filter="org/model-7b") == []
        assert await names(limit=2) == ["c", "b"]
        assert await names(limit=0) == ["c", "b", "a"]
        assert await names(status_filter=READY, limit=1) == ["c"]
        assert await names(status_filter=STALE) == []
        # A number that is no status filters nothing.
        assert await names(status_filter=99) == ["c", "b", "a"]

    async def test_rows_carry_what_was_published(self, mx: Running) -> None:
        request = publishing(
            "w", identity=identity(extra_parameters={"version": "7", "layout_signature": "L"})
        )
        request.worker.topology["zone"] = "a"
        source = await publish(mx, request)
        (row,) = await listed(mx)
        assert row == p2p.SourceInstanceRef(
            mx_source_id=source,
            worker_id="w",
            model_name="org/Model-7B",
            worker_rank=0,
            accelerator="cuda",
            updated_at=mx.clock.now_ms(),
            training_step=7,
            layout_signature="L",
            topology={"zone": "a"},
        )

    async def test_a_step_is_unsigned_64_bits(self, mx: Running) -> None:
        who = identity(extra_parameters={"training_step": str(2**64 - 1)})
        await publish(mx, publishing("w", identity=who))
        (row,) = await listed(mx, min_training_step=2**64 - 1)
        assert row.training_step == 2**64 - 1

    async def test_ready_means_fresh_and_expired_rows_do_not_use_up_the_limit(self, mx: Running) -> None:
        source = await publish(mx, publishing("old"))
        await publish(mx, publishing("young"))
        await heartbeat(mx, source, "old")
        mx.clock.advance(HEARTBEAT_TIMEOUT_S)
        await heartbeat(mx, source, "young")
        mx.clock.advance(0.001)
        assert [row.worker_id for row in await listed(mx, status_filter=READY)] == ["young"]
        assert [row.worker_id for row in await listed(mx, status_filter=READY, limit=1)] == ["young"]
        assert len(await listed(mx)) == 2

    async def test_load_is_unset_when_unknown_and_zero_when_idle(self, mx: Running) -> None:
        source = await publish(mx, publishing("w"))
        for load in (None, 0.0, 0.75, None):
            await heartbeat(mx, source, "w", source_load=load)
            (row,) = await listed(mx)
            assert (row.source_load if row.HasField("source_load") else None) == load

    async def test_load_that_is_no_number_is_unknown(self, mx: Running) -> None:
        source = await publish(mx, publishing("w"))
        assert await heartbeat(mx, source, "w", source_load=float("nan"))
        (row,) = await listed(mx)
        assert not row.HasField("source_load")


class TestGet:
    async def test_empty_ids_are_not_found_with_nothing_else(self, mx: Running) -> None:
        for source, worker in (("", ""), ("x", ""), ("", "w")):
            request = p2p.GetMetadataRequest(mx_source_id=source, worker_id=worker)
            assert await mx.p2p.GetMetadata(request) == p2p.GetMetadataResponse(found=False)

    async def test_unknown_ids_are_echoed(self, mx: Running) -> None:
        request = p2p.GetMetadataRequest(mx_source_id="x", worker_id="w")
        reply = await mx.p2p.GetMetadata(request)
        assert reply == p2p.GetMetadataResponse(found=False, mx_source_id="x", worker_id="w")

    async def test_the_lowest_rank_answers(self, mx: Running) -> None:
        for rank in (3, 1, 2):
            source = await publish(mx, publishing("w", rank=rank))
        reply = await mx.p2p.GetMetadata(p2p.GetMetadataRequest(mx_source_id=source, worker_id="w"))
        assert reply.worker.worker_rank == 1


class TestUpdateStatus:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({}, "mx_source_id"),
            ({"mx_source_id": "x"}, "worker_id"),
            ({"mx_source_id": "x", "worker_id": "w", "status": 4}, "status 4"),
            ({"mx_source_id": "x", "worker_id": "w", "status": -1}, "status -1"),
            ({"mx_source_id": "x", "worker_id": "w", "status": 2}, "x/w/rank 0 is not known"),
        ],
    )
    async def test_problems_are_in_band(self, mx: Running, fields: dict[str, Any], message: str) -> None:
        reply = await mx.p2p.UpdateStatus(p2p.UpdateStatusRequest(**fields))
        assert not reply.success
        assert message in reply.message

    async def test_never_creates_a_rank(self, mx: Running) -> None:
        source = await publish(mx, publishing("w"))
        assert not await heartbeat(mx, source, "w", rank=1)
        assert len(await listed(mx)) == 1

    async def test_any_status_follows_any_other(self, mx: Running) -> None:
        source = await publish(mx, publishing("w"))
        for status in (READY, STALE, READY, 0, INITIALIZING, READY):
            assert await heartbeat(mx, source, "w", status=status)
            assert len(await listed(mx, status_filter=status)) == 1


class TestOutage:
    async def test_every_call_is_unavailable_and_comes_back(self, mx: Running) -> None:
        source = await publish(mx, publishing("w"))
        mx.store.down = True
        calls = (
            (mx.p2p.PublishMetadata, publishing("w")),
            (mx.p2p.ListSources, p2p.ListSourcesRequest()),
            (mx.p2p.GetMetadata, p2p.GetMetadataRequest(mx_source_id=source, worker_id="w")),
            (
                mx.p2p.UpdateStatus,
                p2p.UpdateStatusRequest(mx_source_id=source, worker_id="w", status=READY),
            ),
        )
        for call, request in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(request)  # type: ignore[operator]
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            trailing = dict(caught.value.trailing_metadata() or ())
            assert trailing["mx-error-code"] == "unavailable"
            assert trailing["mx-remedy"]
        mx.store.down = False
        assert await heartbeat(mx, source, "w")


async def test_legacy_tensors_are_a_switch() -> None:
    tensors = [p2p.TensorDescriptor(name="a", addr=1, size=2, dtype="torch.uint8")]
    async with running(legacy_tensors=True) as mx:
        worker = p2p.WorkerMetadata(tensor_source=p2p.TensorSourceMetadata(tensors=tensors))
        source = await publish(mx, publishing("w", worker=worker))
        reply = await mx.p2p.GetMetadata(p2p.GetMetadataRequest(mx_source_id=source, worker_id="w"))
    assert list(reply.worker.tensors) == list(reply.worker.tensor_source.tensors) == tensors
