"""Names, order and duplicates of listed tensors, coverage, and the digest."""

from __future__ import annotations

import types

import pytest

torch = pytest.importorskip("torch")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from mx.core.tensors import TensorDescriptor  # noqa: E402
from mx.errors import InternalError, PreconditionError  # noqa: E402
from mx.transfer.torch_tensors import (  # noqa: E402
    TILE_WORDS,
    bytes_at,
    check_coverage,
    descriptors,
    device_digester,
    list_tensors,
    positional_sum64,
    positional_sum64_host,
    same_bytes,
)

Module = torch.nn.Module
Parameter = torch.nn.Parameter


def names(model: Module) -> list[str]:
    return [item.name for item in list_tensors(model, device_type="cpu")]


class Layer(Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter(torch.ones(4, 6))
        self.register_buffer("scale", torch.ones(3))


def test_parameters_come_before_buffers_in_module_order() -> None:
    model = Module()
    model.first, model.second = Layer(), Layer()
    model.bias = Parameter(torch.zeros(2))
    assert names(model) == ["bias", "first.weight", "second.weight", "first.scale", "second.scale"]


def test_descriptor_holds_address_size_and_dtype_text() -> None:
    model = Module()
    model.weight = Parameter(torch.zeros(5, dtype=torch.bfloat16))
    assert descriptors(list_tensors(model, device_type="cpu")) == (
        TensorDescriptor("weight", model.weight.data_ptr(), 10, 0, "torch.bfloat16"),
    )


def test_plain_attributes_are_listed_like_buffers_after_the_module_s_own() -> None:
    model = Module()
    model.layer = Layer()
    model.layer.late = torch.ones(2)
    model.layer.register_buffer("last", torch.ones(1))
    assert names(model) == ["layer.weight", "layer.scale", "layer.last", "layer.late"]
    assert isinstance(vars(model.layer)["late"], torch.Tensor), "listing must not change the model"


def test_hidden_tensors_get_the_published_names() -> None:
    model = Module()
    model.layer = Layer()
    model.layer.quant_config = {"a1_gscale": torch.ones(2), "w.x[0]": (torch.ones(3),)}
    model.layer.impl = types.SimpleNamespace(
        inner=[types.SimpleNamespace(table=torch.ones(4))], __secret=torch.ones(5)
    )
    assert names(model) == [
        "layer.weight",
        "layer.scale",
        "layer._mx_quant_config_a1_gscale_t",
        "layer._mx_quant_config_w__dot__x0_0_t",
        "layer._mx_impl_inner_0_table_t",
    ]


def test_a_taken_hidden_name_gets_a_number() -> None:
    model = Module()
    model.store = {"a_b": torch.ones(1), "a": {"b": torch.ones(2)}, "c": [torch.ones(3)]}
    assert names(model) == ["_mx_store_a_b_t", "_mx_store_a_b_t_0", "_mx_store_c_0_t"]


def test_hidden_search_skips_known_empty_and_cyclic_things() -> None:
    model = Module()
    model.layer = Layer()
    loop: dict[str, object] = {"known": model.layer.weight.detach(), "empty": torch.empty(0)}
    loop["self"] = loop
    loop["module"] = model.layer
    loop["class"] = Layer
    model.layer.state = loop
    assert names(model) == ["layer.weight", "layer.scale"]


def test_hidden_search_visits_a_shared_object_once() -> None:
    shared = types.SimpleNamespace(table=torch.ones(4))
    model = Module()
    model.a, model.b = Module(), Module()
    model.a.config = model.b.config = shared
    assert names(model) == ["a._mx_config_table_t"]


def test_tied_weights_travel_once_under_the_first_name() -> None:
    model = Module()
    model.embed, model.head = Module(), Module()
    model.embed.weight = Parameter(torch.ones(4, 4))
    model.head.weight = model.embed.weight
    model.view = Module()
    model.view.weight = Parameter(model.embed.weight.detach().view(16))  # same pointer, other object
    assert names(model) == ["embed.weight"]


def test_a_non_contiguous_tensor_travels_as_its_storage() -> None:
    model = Module()
    model.weight = Parameter(torch.arange(24, dtype=torch.float32).view(4, 6).t())
    (item,) = list_tensors(model, device_type="cpu")
    (descriptor,) = descriptors([item])
    assert descriptor == TensorDescriptor(
        "weight.__storage", model.weight.untyped_storage().data_ptr(), 96, 0, "torch.uint8"
    )


def test_empty_tensors_keep_their_names() -> None:
    model = Module()
    model.a = Parameter(torch.empty(0))
    model.b = Parameter(torch.empty(0, 4))
    assert [(d.name, d.size) for d in descriptors(list_tensors(model, device_type="cpu"))] == [
        ("a", 0),
        ("b", 0),
    ]


def test_tensors_elsewhere_are_not_listed_and_refused_by_coverage() -> None:
    model = Module()
    model.here = Parameter(torch.ones(2))
    model.there = Parameter(torch.empty(2, device="meta"))
    listed = list_tensors(model, device_type="cpu")
    assert [item.name for item in listed] == ["here"]
    with pytest.raises(PreconditionError, match="there on meta"):
        check_coverage(model, listed, device_type="cpu")


def test_coverage_finds_a_longer_tensor_that_starts_where_a_listed_one_does() -> None:
    storage = torch.ones(10)
    model = Module()
    model.short = Parameter(storage[:4])
    model.long = Parameter(storage)
    listed = list_tensors(model, device_type="cpu")
    assert [item.name for item in listed] == ["short"]
    with pytest.raises(PreconditionError, match="long, which shares memory"):
        check_coverage(model, listed, device_type="cpu")


def test_coverage_accepts_a_view_inside_a_listed_tensor() -> None:
    storage = torch.ones(10)
    model = Module()
    model.whole = Parameter(storage)
    model.part = Parameter(storage[2:5])
    check_coverage(model, list_tensors(model, device_type="cpu"), device_type="cpu")


def test_coverage_notices_a_listing_of_another_model() -> None:
    model, other = Layer(), Layer()
    with pytest.raises(PreconditionError, match="weight"):
        check_coverage(model, list_tensors(other, device_type="cpu"), device_type="cpu")


# --- digest ---------------------------------------------------------------------------------


def digest(data: bytes) -> int:
    if not data:
        return positional_sum64(torch.empty(0, dtype=torch.uint8))
    return positional_sum64(torch.frombuffer(bytearray(data), dtype=torch.uint8))


@given(st.binary(max_size=300))
def test_device_and_host_digest_agree(data: bytes) -> None:
    assert digest(data) == positional_sum64_host(data)


@settings(max_examples=8, deadline=None)
@given(st.integers(-20, 20), st.integers(0, 2**32 - 1))
def test_device_and_host_digest_agree_across_tiles(extra: int, seed: int) -> None:
    size = TILE_WORDS * 8 * 2 + extra
    data = torch.randint(0, 256, (size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    assert positional_sum64(data) == positional_sum64_host(bytes(data.numpy()))


def test_digest_of_known_bytes_never_changes() -> None:
    # Peers of other releases compare with these.
    assert positional_sum64_host(b"") == KNOWN[0]
    assert positional_sum64_host(b"modelexpress") == KNOWN[1]
    assert positional_sum64_host(bytes(range(256)) * 8) == KNOWN[2]


KNOWN = (0x5F4E3DE2A99FC242, 0xB5710954D4A84B20, 0x1B2B2258FCBFE70E)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_changed_byte_is_found(data: bytes, draw: st.DataObject) -> None:
    index = draw.draw(st.integers(0, len(data) - 1))
    flip = draw.draw(st.integers(1, 255))
    changed = bytearray(data)
    changed[index] ^= flip
    assert digest(bytes(changed)) != digest(data)


@given(st.binary(min_size=16, max_size=200), st.data())
def test_swapped_words_are_found(data: bytes, draw: st.DataObject) -> None:
    count = len(data) // 8
    i, j = draw.draw(st.integers(0, count - 1)), draw.draw(st.integers(0, count - 1))
    words = [data[k : k + 8] for k in range(0, len(data), 8)]
    words[i], words[j] = words[j], words[i]
    swapped = b"".join(words)
    assert (digest(swapped) == digest(data)) == (swapped == data)


@given(st.binary(min_size=1, max_size=200), st.integers(1, 17))
def test_shifted_and_padded_bytes_are_found(data: bytes, shift: int) -> None:
    shifted = bytes(shift) + data[:-shift] if shift < len(data) else bytes(len(data))
    assert (digest(shifted) == digest(data)) == (shifted == data)
    assert digest(data + bytes(shift)) != digest(data)


def test_tiles_swapped_are_found() -> None:
    tile = TILE_WORDS * 8
    data = torch.randint(0, 256, (tile * 3,), dtype=torch.uint8)
    swapped = torch.cat([data[tile : 2 * tile], data[:tile], data[2 * tile :]])
    assert positional_sum64(swapped) != positional_sum64(data)


def test_digest_takes_any_dtype_and_any_alignment() -> None:
    base = torch.randint(0, 256, (1003,), dtype=torch.uint8)
    for start in range(9):
        part = base[start : start + 800]
        assert positional_sum64(part) == positional_sum64_host(bytes(part.numpy()))
    half = torch.randn(33).to(torch.bfloat16)
    assert positional_sum64(half) == positional_sum64_host(bytes(half.view(torch.uint8).numpy()))
    with pytest.raises(InternalError):
        positional_sum64(torch.ones(4, 4).t())


def test_bytes_at_reads_memory_by_address() -> None:
    tensor = torch.randint(0, 256, (100,), dtype=torch.uint8)
    view = bytes_at(tensor.data_ptr() + 10, 50, device_type="cpu")
    assert torch.equal(view, tensor[10:60])
    assert bytes_at(0, 0, device_type="cpu").numel() == 0


def test_same_bytes_compares_nan_as_bytes() -> None:
    nan = torch.tensor([float("nan"), 1.0])
    assert same_bytes(nan, nan.clone())
    assert not same_bytes(nan, torch.tensor([float("nan"), 2.0]))
    assert not same_bytes(nan, nan[:1])


def test_the_digest_of_ranges_does_not_see_the_joints() -> None:
    tensor = torch.randint(0, 256, (1000,), dtype=torch.uint8)
    digest_of = device_digester(device_type="cpu", device_id=0)
    start = tensor.data_ptr()
    whole = digest_of([(start, 1000)])
    assert whole == positional_sum64_host(bytes(tensor.numpy()))
    assert digest_of([(start, 333), (start + 333, 1), (start + 334, 666)]) == whole
    assert digest_of([(start + 333, 667), (start, 333)]) != whole
