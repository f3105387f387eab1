"""Which manifest fills which target, and why not."""

from __future__ import annotations

from mx.core.tensors import REGION_DTYPE, Mismatch, TensorDescriptor, match


def tensor(name: str, size: int = 8, dtype: str = "torch.uint8") -> TensorDescriptor:
    return TensorDescriptor(name, 4096, size, 0, dtype)


A, B, EMPTY = tensor("a"), tensor("b"), tensor("empty", 0)


def refusal(local: list[TensorDescriptor], remote: list[TensorDescriptor]) -> Mismatch:
    result = match(local, remote)
    assert isinstance(result, Mismatch), result
    assert str(result)
    return result


def test_the_order_is_the_source_s_and_what_is_not_wanted_is_left_out() -> None:
    assert match([A, B], [B, tensor("more"), A]) == (1, -1, 0)


def test_a_missing_tensor_is_refused_by_name() -> None:
    assert refusal([A, B], [B]).missing_on_source == ("a",)


def test_an_empty_tensor_may_be_missing_since_there_is_nothing_to_fill() -> None:
    assert match([A, EMPTY], [A]) == (0,)
    assert match([A, EMPTY], [EMPTY, A]) == (1, 0)


def test_an_empty_tensor_of_another_dtype_is_refused() -> None:
    assert refusal([A, EMPTY], [A, tensor("empty", 0, "torch.int32")]).different_count == 1


def test_other_size_and_other_dtype_are_refused() -> None:
    assert refusal([A], [tensor("a", 16)]).different_count == 1
    assert refusal([A], [tensor("a", 8, "torch.int8")]).different_count == 1


def test_nothing_in_common_is_never_a_match() -> None:
    refusal([], [A])
    refusal([A], [])
    refusal([EMPTY], [])
    refusal([EMPTY], [A])


def test_names_twice_and_regions_are_refused() -> None:
    refusal([A, A], [A])
    refusal([A], [A, A])
    refusal([A], [A, tensor("__region_0__", 8, REGION_DTYPE)])
