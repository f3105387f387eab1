"""JSON values as other servers read and write them (storage contract, 2.2 and 2.4)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx.core.source import (
    ArtifactSource,
    NixlMetadata,
    SourceEntry,
    SourceIdentity,
    TensorSource,
    TransferEngineSession,
    WorkerRecord,
)
from mx.store.published import (
    UnreadableError,
    WorkerSummary,
    dump_identity,
    dump_record,
    dump_summary,
    parse_identity,
    parse_record,
    parse_summary,
    summary_of,
)
from mx.testing.samples import FULL_WORKER, IDENTITY, entries, identities, workers


def test_an_identity_has_exactly_these_members() -> None:
    assert " ".join(sorted(json.loads(dump_identity(IDENTITY)))) == (
        "backend_framework backend_framework_version compile_config_digest cuda_version dtype "
        "expert_parallel_size extra_parameters gpu_arch model_name mx_source_type mx_version "
        "pipeline_parallel_size quantization revision tensor_parallel_size torch_version triton_version"
    )


def test_a_record_has_exactly_these_members() -> None:
    found = json.loads(dump_record(FULL_WORKER))
    assert " ".join(sorted(found)) == (
        "accelerator agent_name artifact_source backend_type metadata_endpoint nixl_metadata status tensors "
        "topology transfer_engine_session_id updated_at worker_grpc_endpoint worker_rank"
    )
    assert (found["backend_type"], found["nixl_metadata"]) == ("nixl", list(b"\x00nixl\xff"))
    assert (found["transfer_engine_session_id"], found["artifact_source"]) == (None, None)
    assert found["tensors"][0] == {
        "name": "model.embed",
        "addr": "18446744073709551615",
        "size": "9223372036854775808",
        "device_id": 0,
        "dtype": "torch.bfloat16",
    }
    artifact = replace(FULL_WORKER, payload=ArtifactSource("a", 1 << 60, 2, 3, 4), backend_metadata=None)
    found = json.loads(dump_record(artifact))
    assert found["artifact_source"] == {
        "artifact_id": "a",
        "total_size": str(1 << 60),
        "file_count": 2,
        "chunk_count": 3,
        "node_rank": 4,
    }
    assert found["backend_type"] == "none"


def test_an_unknown_load_is_not_written_and_idle_is() -> None:
    summary = WorkerSummary(1, 2, 3, "cuda", {"rack": "r"})
    assert json.loads(dump_summary(summary)) == {
        "worker_rank": 1,
        "status": 2,
        "updated_at": 3,
        "accelerator": "cuda",
        "topology": {"rack": "r"},
    }
    assert json.loads(dump_summary(replace(summary, source_load=0.0)))["source_load"] == 0.0


@given(identities)
def test_identities_come_back(identity: SourceIdentity) -> None:
    assert parse_identity(dump_identity(identity)) == identity


@given(workers)
def test_records_come_back(worker: WorkerRecord) -> None:
    # Without a payload and with one that is empty look the same.
    expected = replace(worker, payload=worker.payload or TensorSource())
    assert parse_record(dump_record(worker)) == expected


@given(entries())
def test_summaries_come_back(entry: SourceEntry) -> None:
    summary = summary_of(entry)
    assert parse_summary(dump_summary(summary)) == summary
    assert parse_summary(dump_record(entry.worker)) == replace(summary, source_load=None)


@pytest.mark.parametrize(
    ("members", "backend"),
    [
        ({"transfer_engine_session_id": "s", "nixl_metadata": [1]}, TransferEngineSession("s")),
        ({"transfer_engine_session_id": "", "nixl_metadata": [1, 255]}, NixlMetadata(b"\x01\xff")),
        ({"transfer_engine_session_id": None, "nixl_metadata": []}, None),
        ({"backend_type": "none", "nixl_metadata": [1]}, None),
        ({"backend_type": "nixl"}, NixlMetadata(b"")),
        ({"backend_type": "of tomorrow"}, None),
    ],
)
def test_the_backend_of_older_and_newer_records(members: dict[str, object], backend: object) -> None:
    text = json.dumps({"worker_rank": 0, **members}).encode()
    assert parse_record(text).backend_metadata == backend


def test_only_the_name_of_an_identity_is_mandatory_and_numbers_may_be_text() -> None:
    assert parse_identity(b'{"model_name": "m", "of_tomorrow": 1}') == SourceIdentity(model_name="m")
    tensors = b'[{"name": "t", "addr": 9, "size": "8", "device_id": 1, "dtype": "d"}]'
    found = parse_record(b'{"worker_rank": "3", "tensors": ' + tensors + b"}")
    assert isinstance(found.payload, TensorSource)
    (tensor,) = found.payload.tensors
    assert (found.worker_rank, tensor.addr, tensor.size, tensor.device_id) == (3, 9, 8, 1)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"7",
        b"[]",
        b"\xff",
        b"{}",
        b"[" * 100_000,
        b'{"worker_rank": 1.5}',
        b'{"worker_rank": true}',
        b'{"worker_rank": "1' + b"0" * 5000 + b'"}',
        b'{"worker_rank": 0, "topology": {"a": 1}}',
        b'{"worker_rank": 0, "accelerator": "\\ud800"}',
        b'{"worker_rank": 0, "nixl_metadata": [256]}',
        b'{"worker_rank": 0, "nixl_metadata": "abc"}',
        b'{"worker_rank": 0, "tensors": [1]}',
        b'{"worker_rank": 0, "tensors": {"a": 1}}',
        b'{"worker_rank": 0, "artifact_source": []}',
    ],
)
def test_what_has_none_of_the_forms_is_unreadable(text: bytes) -> None:
    with pytest.raises(UnreadableError):
        parse_record(text)
    with pytest.raises(UnreadableError):
        parse_identity(text)


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["worker_rank", "status", "topology", "tensors", "source_load", "model_name", "x"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=10,
    ).map(lambda value: json.dumps(value).encode())
)
def test_rubbish_never_raises_anything_else(text: bytes) -> None:
    for parse, dump in ((parse_record, dump_record), (parse_summary, dump_summary)):
        try:
            found = parse(text)
        except UnreadableError:
            continue
        dump(found)
