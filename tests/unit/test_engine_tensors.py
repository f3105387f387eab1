"""Host state, the write guard, and what must stay in sight: on small torch modules."""

from __future__ import annotations

import types

import pytest

torch = pytest.importorskip("torch")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from mx.engines import host_state  # noqa: E402
from mx.engines.sight import check_nothing_hidden, look  # noqa: E402
from mx.engines.write_guard import WriteGuard, fingerprint, own_small_buffers  # noqa: E402
from mx.errors import IntegrityError, PreconditionError  # noqa: E402
from mx.transfer.torch_tensors import NamedTensor, list_tensors  # noqa: E402

Parameter = torch.nn.Parameter


class Config:
    def __init__(self) -> None:
        self.port = 1


class Method:
    __slots__ = ("__dict__", "hidden")

    def __init__(self) -> None:
        self.scale = 1.0
        self.table = {"zero_point": False}


class Layer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter(torch.zeros(4, 4))
        self.register_buffer("cache", torch.zeros(4))
        self.k_scale: float | None = None
        self.flag = False
        self.method = Method()
        self.config = Config()
        self.scale_cpu = torch.ones(2)


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([Layer(), Layer()])


def snapshot(model: torch.nn.Module, *, device_type: str = "cpu") -> dict[str, host_state.Scalar]:
    return host_state.snapshot(model, device_type=device_type, skip_packages=())


def loaded() -> Model:
    model = Model()
    layer = model.layers[1]
    layer.k_scale, layer.flag = 0.25, True
    layer.method.scale = float("inf")
    layer.method.table["zero_point"] = True
    return model


def test_what_loading_changed_travels_to_a_fresh_model() -> None:
    changes = host_state.changed(snapshot(Model()), snapshot(loaded()))
    assert set(changes) == {
        "layers.1/k_scale",
        "layers.1/flag",
        "layers.1/method/scale",
        "layers.1/method/table/zero_point",
    }
    target = Model()
    assert host_state.apply(target, host_state.unpack(host_state.pack(changes))) == 4
    assert snapshot(target) == snapshot(loaded())
    assert host_state.apply(target, changes) == 0, "values that are right already are left alone"


def test_addresses_and_shared_configuration_stay_at_home() -> None:
    before, model = snapshot(Model()), Model()
    model.layers[0].pointer = model.layers[0].weight.data_ptr() | 1 << 40
    model.layers[0].config.port = 2
    after = host_state.snapshot(model, device_type="cpu", skip_packages=(Config.__module__,))
    assert "layers.0/pointer" not in after
    assert "layers.0/config/port" not in after
    assert "layers.0/config/port" in host_state.changed(before, snapshot(model))


def test_new_attributes_are_changes_and_are_set() -> None:
    source = Model()
    source.layers[0].input_scale = 0.5
    changes = host_state.changed(snapshot(Model()), snapshot(source))
    target = Model()
    host_state.apply(target, changes)
    assert target.layers[0].input_scale == 0.5


def test_small_host_tensors_of_a_device_model_travel() -> None:
    source = Model()
    source.layers[0].scale_cpu = torch.tensor([0.5, 2.0])
    changes = host_state.changed(snapshot(Model(), device_type="cuda"), snapshot(source, device_type="cuda"))
    assert list(changes) == ["layers.0/scale_cpu"]
    target = Model()
    kept = target.layers[0].scale_cpu
    host_state.apply(target, host_state.unpack(host_state.pack(changes)))
    assert torch.equal(kept, torch.tensor([0.5, 2.0])), "written in place: others may hold the tensor"


def test_a_host_tensor_of_another_shape_is_refused() -> None:
    source, target = Model(), Model()
    source.layers[0].scale_cpu = torch.ones(3)
    changes = host_state.changed(snapshot(target, device_type="cuda"), snapshot(source, device_type="cuda"))
    with pytest.raises(IntegrityError, match=r"layers\.0/scale_cpu"):
        host_state.apply(target, changes)


def test_a_large_changed_host_tensor_is_refused_by_name() -> None:
    source, fresh = Model(), Model()
    source.table, fresh.table = torch.ones(5000), torch.zeros(5000)
    changes = host_state.changed(snapshot(fresh, device_type="cuda"), snapshot(source, device_type="cuda"))
    with pytest.raises(PreconditionError, match="/table"):
        host_state.pack(changes)


def test_too_much_state_is_refused() -> None:
    import random

    noise = random.Random(0)
    with pytest.raises(PreconditionError, match="can't be transferred"):
        host_state.pack({f"layers.{i}/scale": noise.random() for i in range(40_000)})


def test_paths_that_lead_nowhere_are_refused() -> None:
    for path in ("layers.7/k_scale", "layers.0/absent/scale", "layers.0", "layers.0/method/table/x/y"):
        with pytest.raises(IntegrityError):
            host_state.apply(Model(), {path: 1.0})


scalars = st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.floats(allow_nan=False) | st.text()


@given(st.dictionaries(st.text(), scalars, max_size=8))
def test_packing_round_trips(values: dict[str, host_state.Scalar]) -> None:
    blob = host_state.pack(values)
    assert len(blob) == host_state.CAPACITY_BYTES
    assert host_state.unpack(blob) == values


@given(st.binary(max_size=200))
def test_rubbish_is_an_integrity_error(blob: bytes) -> None:
    with pytest.raises(IntegrityError):
        host_state.unpack(len(blob).to_bytes(8, "little") + blob)


def test_unset_memory_is_an_integrity_error() -> None:
    with pytest.raises(IntegrityError):
        host_state.unpack(bytes(host_state.CAPACITY_BYTES))


# --- write guard ---------------------------------------------------------------------------


def guarded(*tensors: torch.Tensor) -> WriteGuard:
    return WriteGuard([NamedTensor(f"t{i}", tensor, is_buffer=False) for i, tensor in enumerate(tensors)])


@pytest.mark.parametrize(
    "write",
    [
        lambda t: t.mul_(2),
        lambda t: t.data.copy_(torch.ones_like(t)),
        lambda t: t.view(-1)[3:5].fill_(7),
        lambda t: torch.add(t, 1, out=t),
        lambda t: t.t().add_(1),
        lambda t: torch._foreach_add_([t], 1),
        lambda t: t.__setitem__(0, 5.0),
    ],
    ids=["mul_", "data.copy_", "view", "out", "transposed", "foreach", "setitem"],
)
def test_a_write_in_place_leaves_the_loaded_bytes_to_readers(write: object) -> None:
    weight = torch.arange(16, dtype=torch.float32).view(4, 4)
    other = torch.ones(4)
    loaded_bytes, address = weight.clone(), other.data_ptr()
    guard = guarded(weight, other)
    assert callable(write)
    with guard:
        write(weight)
    assert not torch.equal(weight, loaded_bytes), "the write itself must happen"
    served = guard.tensors()
    assert torch.equal(served[0].tensor, loaded_bytes)
    assert guard.copied == {"t0"}
    assert served[1].tensor.data_ptr() == address, "what nobody writes is not copied"
    assert guard.changed() == []


def test_replaced_and_emptied_parameters_live_on() -> None:
    model = torch.nn.Linear(8, 8, bias=False)
    expected = model.weight.detach().clone()
    guard = WriteGuard(list_tensors(model, device_type="cpu"))
    with guard:
        model.weight.data = model.weight.data.t().contiguous()
        model.weight = Parameter(torch.empty(0))
    assert torch.equal(guard.tensors()[0].tensor, expected)
    assert guard.copied == set()


def test_writes_that_torch_does_not_see_are_noticed() -> None:
    weight = torch.zeros(64)
    guard = guarded(weight, torch.zeros(4))
    with guard:
        weight.numpy()[7] = 1.0
    assert guard.changed() == ["t0"]


def test_reading_copies_nothing() -> None:
    weight = torch.ones(4, 4)
    guard = guarded(weight)
    with guard:
        _ = weight @ weight + weight.sum()
    assert guard.copied == set()


def test_the_fingerprint_of_a_large_tensor_sees_a_change_everywhere() -> None:
    large = torch.zeros(3 << 20, dtype=torch.uint8)
    assert fingerprint(large) != fingerprint(large + 1)
    assert fingerprint(large) == fingerprint(large.clone())


def test_small_buffers_are_private_and_parameters_are_not() -> None:
    model = Layer()
    rows = own_small_buffers(list_tensors(model, device_type="cpu"))
    live = {item.name: item.tensor.data_ptr() for item in list_tensors(model, device_type="cpu")}
    assert {item.name for item in rows if item.tensor.data_ptr() == live[item.name]} == {"weight"}


# --- in sight ------------------------------------------------------------------------------


def sight(model: torch.nn.Module, allocated: int | None = None) -> object:
    return look(model, list_tensors(model, device_type="cpu"), allocated_bytes=allocated)


def test_weights_in_a_closure_are_missed_and_named() -> None:
    model = Model()
    before = sight(model)
    packed = model.layers[1].weight.detach().clone()
    model.layers[1].forward = lambda x: x @ packed
    model.layers[1].weight = Parameter(torch.empty(0))
    model.layers[1].cache = None
    del model.layers[1].scale_cpu
    with pytest.raises(PreconditionError, match=r"layers\.1"):
        check_nothing_hidden(before, sight(model))


def test_a_renamed_weight_stays_in_sight() -> None:
    model = Model()
    before = sight(model)
    model.layers[1].packed = types.SimpleNamespace(w=model.layers[1].weight.detach().clone())
    del model.layers[1].weight
    check_nothing_hidden(before, sight(model))


def test_device_memory_that_no_list_explains_is_refused() -> None:
    model = Model()
    before = sight(model, 100 << 20)
    check_nothing_hidden(before, sight(model, 101 << 20))
    with pytest.raises(PreconditionError, match="no listed tensor explains"):
        check_nothing_hidden(before, sight(model, 200 << 20))
