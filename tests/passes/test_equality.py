"""Comparing by value what holds tensors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zoo
from dipgo_fx.passes.equality import ComparedByValue


@dataclass(frozen=True, eq=False)
class Held(ComparedByValue):
    """What a class of the library may hold."""

    table: torch.Tensor | None
    name: str = ""
    parts: tuple[Held, ...] = ()
    seconds: float = field(default=0.0, compare=False)


class Other(Held):
    """A class of the same fields."""


TABLE = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


@given(
    shape=st.lists(st.integers(0, 3), max_size=3),
    dtype=st.sampled_from((torch.float32, torch.float64, torch.int64, torch.bool)),
    data=st.data(),
)
def test_a_copy_is_equal_and_one_changed_entry_shows(
    shape: list[int], dtype: torch.dtype, data: st.DataObject
) -> None:
    """Whatever the shape and the dtype, scalars and empty tables included."""
    table = (4 * torch.rand(shape, generator=zoo.generator(1))).to(dtype)
    one, same = Held(table, "a"), Held(table.clone(), "a")
    assert one == same
    if table.numel():
        changed = table.clone().view(-1)
        place = data.draw(st.integers(0, table.numel() - 1))
        changed[place] = changed[place] == 0
        assert one != Held(changed.view(shape), "a")


@pytest.mark.parametrize(
    "changes",
    [
        {"table": TABLE.double()},
        {"table": TABLE[:1]},
        {"table": TABLE.view(4)},
        {"table": None},
        {"name": "b"},
        {"parts": (Held(TABLE.clone()),)},
        {"parts": (Held(TABLE.clone()), Held(TABLE + 1))},
        {"parts": ()},
    ],
    ids=str,
)
def test_any_difference_shows(changes: dict[str, Any]) -> None:
    """Another dtype, shape, kind or value of any field, and of what its parts hold."""
    one = Held(TABLE, "a", (Held(TABLE), Held(TABLE)))
    assert one == replace(one, table=TABLE.clone(), parts=(Held(TABLE.clone()), Held(TABLE.clone())))
    assert one != replace(one, **changes)
    assert replace(one, **changes) != one


def test_a_field_that_does_not_count_is_left_out() -> None:
    """As a dataclass has it: `compare=False`."""
    assert Held(TABLE, seconds=1.0) == Held(TABLE, seconds=2.0)


@pytest.mark.parametrize(
    "other", [Other(TABLE), TABLE, "a", None], ids=["subclass", "tensor", "text", "none"]
)
def test_another_class_is_never_equal(other: Any) -> None:
    """Nor is a subclass of the same fields; asking is no error and gives a bool."""
    assert (Held(TABLE) == other) is False
    assert (other == Held(TABLE)) is False


def test_there_is_no_hash() -> None:
    """Tensors may be edited, so equal values could have other hashes later."""
    with pytest.raises(TypeError, match="unhashable type: 'Held'"):
        hash(Held(TABLE))
