"""Identity of vLLM weights: every fact that decides bytes decides the id, and nothing else does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from mx.core.source import canonical_identity, source_id
from mx.engines.checkpoint import (
    CheckpointName,
    checkpoint_digest,
    name_of,
    sampled_ranges,
    spread,
    weight_files,
    which_weights,
)
from mx.engines.vllm.identity import (
    ONE,
    Axis,
    WeightsFacts,
    WeightsForm,
    layout_digest,
    shard_index,
    weights_identity,
)
from mx.errors import InvalidArgumentError, NotFoundError, PreconditionError

FACTS = WeightsFacts(
    model_name="org/model",
    revision="a" * 40,
    checkpoint="",
    form=WeightsForm.PROCESSED,
    tensor_parallel_size=2,
    pipeline_parallel_size=1,
    expert_parallel_size=1,
    dtype="torch.bfloat16",
    quantization="fp8",
    platform="cuda-x86_64",
    vllm_version="0.32.0",
    torch_version="2.13.0",
    cuda_version="13.0",
    gpu_arch="SM90",
    layout={"kv_cache_dtype": "auto", "architectures": ["LlamaForCausalLM"]},
)
OTHER: dict[str, object] = {
    "model_name": "org/other",
    "revision": "b" * 40,
    "checkpoint": "c" * 32,
    "form": WeightsForm.LOADED,
    "dtype": "torch.float16",
    "quantization": "",
    "platform": "cuda-aarch64",
    "vllm_version": "0.31.0",
    "torch_version": "2.12.0",
    "cuda_version": "12.8",
    "gpu_arch": "SM100",
    "layout": {"kv_cache_dtype": "fp8", "architectures": ["LlamaForCausalLM"]},
    "tensor_parallel_size": 4,
    "pipeline_parallel_size": 2,
    "expert_parallel_size": 8,
}


@pytest.mark.parametrize("fact", [field.name for field in fields(WeightsFacts)])
def test_every_fact_decides_the_source_id(fact: str) -> None:
    changed = replace(FACTS, **{fact: OTHER[fact]})
    assert source_id(weights_identity(changed)) != source_id(weights_identity(FACTS))


@pytest.mark.parametrize("fact", ["cuda_version", "gpu_arch"])
def test_loaded_weights_are_shared_by_unlike_devices(fact: str) -> None:
    loaded = replace(FACTS, form=WeightsForm.LOADED)
    assert weights_identity(replace(loaded, **{fact: OTHER[fact]})) == weights_identity(loaded)


def test_the_identity_uses_the_published_fields() -> None:
    identity = weights_identity(FACTS)
    assert identity.dtype == "bfloat16"
    document = json.loads(canonical_identity(identity))
    assert document["backend_framework"] == 1
    assert document["mx_source_type"] == 0
    assert document["backend_framework_version"] == "0.32.0"
    assert document["extra_parameters"]["mx.form"] == "processed"


def test_the_order_of_layout_facts_makes_no_difference() -> None:
    assert layout_digest({"a": 1, "b": [2]}) == layout_digest({"b": [2], "a": 1})
    assert layout_digest({"a": 1}) != layout_digest({"a": "1"})


def test_ranks_of_a_replica_are_numbered_without_gaps() -> None:
    seen = [
        shard_index(Axis(d, 2), Axis(p, 3), Axis(c, 2), Axis(t, 4))
        for d in range(2)
        for p in range(3)
        for c in range(2)
        for t in range(4)
    ]
    assert seen == list(range(48))


def test_data_parallel_copies_of_a_dense_model_share_ranks() -> None:
    assert shard_index(ONE, Axis(1, 2), ONE, Axis(3, 4)) == 7


# --- which weights a folder holds ----------------------------------------------------------


def safetensors(path: Path, tensors: dict[str, bytes]) -> None:
    header, at = {}, 0
    for name, data in tensors.items():
        header[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(tensors.values()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text('{"hidden_size": 8}')
    safetensors(made / "a.safetensors", {"x": bytes(5000), "y": bytes(range(256)) * 40, "empty": b""})
    safetensors(made / "b.safetensors", {"z": b"z" * 10})
    return made


def test_equal_files_give_equal_digests_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder, copy)
    (copy / "tokenizer.json").write_text("{}")
    assert checkpoint_digest(copy) == checkpoint_digest(folder)


def change_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"hidden_size": 9}')


def change_one_tensor(folder: Path) -> None:
    safetensors(folder / "a.safetensors", {"x": bytes(5000), "y": b"\1" * 10240, "empty": b""})


def change_names(folder: Path) -> None:
    safetensors(folder / "b.safetensors", {"w": b"z" * 10})


def rename_file(folder: Path) -> None:
    (folder / "b.safetensors").rename(folder / "c.safetensors")


def remove_file(folder: Path) -> None:
    (folder / "b.safetensors").unlink()


@pytest.mark.parametrize("change", [change_config, change_one_tensor, change_names, rename_file, remove_file])
def test_other_weights_give_another_digest(folder: Path, change: object) -> None:
    before = checkpoint_digest(folder)
    assert callable(change)
    change(folder)
    assert checkpoint_digest(folder) != before


def test_every_tensor_is_sampled(folder: Path) -> None:
    data = (folder / "a.safetensors").read_bytes()
    base = 8 + int.from_bytes(data[:8], "little")
    inside = [(at, at + size) for at, size in sampled_ranges(folder / "a.safetensors")]
    assert any(base <= start and end <= base + 5000 for start, end in inside)
    assert any(base + 5000 <= start and end <= base + 15240 for start, end in inside)


def test_other_formats_are_sampled_evenly(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(100_000))
    before = checkpoint_digest(tmp_path)
    (tmp_path / "model.bin").write_bytes(bytes(50_000) + b"\1" * 50_000)
    assert checkpoint_digest(tmp_path) != before
    assert weight_files(tmp_path) == (tmp_path / "model.bin",)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 10_000])
def test_spread_stays_inside(size: int) -> None:
    offsets = spread(100, 100 + size, limit=16)
    assert offsets
    assert all(100 <= at <= max(100, 100 + size - 256) for at in offsets)
    assert len(offsets) <= 16


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no weights"):
        checkpoint_digest(tmp_path)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"short",
        b"\xff" * 100,
        (10).to_bytes(8, "little") + b"not json!!" + bytes(50),
        (12).to_bytes(8, "little") + b'{"x": [1,2]}' + bytes(50),
        (57).to_bytes(8, "little")
        + b'{"x":{"dtype":"U8","shape":[9],"data_offsets":[0,999999]}}'[:57]
        + bytes(9),
    ],
)
def test_a_broken_file_is_refused_with_its_name(tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(rubbish)
    with pytest.raises(InvalidArgumentError, match=r"model\.safetensors"):
        checkpoint_digest(tmp_path)


def test_a_truncated_file_is_refused(folder: Path) -> None:
    path = folder / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InvalidArgumentError, match="shorter"):
        checkpoint_digest(folder)


def test_names_do_not_depend_on_mount_points(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "hub" / "models--org--my--name" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    plain = tmp_path / "weights" / "llama"
    plain.mkdir(parents=True)
    assert name_of(str(snapshot)) == CheckpointName("org/my--name", commit)
    assert name_of(str(plain)) == CheckpointName("llama", "")
    assert name_of(f"{plain}/") == CheckpointName("llama", "")
    assert name_of("org/name") == CheckpointName("org/name", "")


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_operator_s_label_wins_over_everything(folder: Path) -> None:
    assert which_weights(str(folder), label="v7", commit=COMMIT, asked="main") == ("v7", "")


def test_a_folder_is_told_by_its_content(folder: Path) -> None:
    assert which_weights(str(folder), label="", commit=COMMIT, asked="") == ("", checkpoint_digest(folder))


def test_a_hub_model_is_told_by_its_commit() -> None:
    assert which_weights("org/name", label="", commit=COMMIT, asked="main") == (COMMIT, "")
    assert which_weights("org/name", label="", commit="", asked=COMMIT) == (COMMIT, "")


@pytest.mark.parametrize("asked", ["", "main", "v1.0", COMMIT[:12], COMMIT.upper()])
def test_a_moving_name_is_no_identity(asked: str) -> None:
    with pytest.raises(PreconditionError, match="MX_MODEL_REVISION"):
        which_weights("org/name", label="", commit="", asked=asked)


def test_the_entry_point_loads_nothing_heavy() -> None:
    code = (
        "import sys; import mx.engines.vllm;"
        "print([m for m in ('torch', 'vllm', 'grpc', 'nixl', 'dynaconf', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_registering_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    import mx.engines.vllm as plugin

    monkeypatch.setenv("MX_REGISTER_LOADERS", "0")
    before = set(sys.modules)
    plugin.register()
    assert "mx.engines.vllm.loader" not in set(sys.modules) - before
