"""When two calls are the same work: whatever the weights and the values, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import zoo
from dipgo_fx.passes.blocks import find_blocks
from dipgo_fx.passes.signature import call_signature, module_signature
from dipgo_fx.passes.tags import spec_of


class Mode(Enum):
    """An option that is no number."""

    FIRST, SECOND = 1, 2


@dataclass
class Options:
    """Options of an object's own, as attention processors have them."""

    size: int

    def double(self) -> int:
        """Return what depends on an option."""
        return 2 * self.size


class Scaled(nn.Linear):
    """A linear layer with an option of each kind."""

    def __init__(
        self, factor: float = 1.0, mode: str = "a", sizes: tuple[int, ...] = (1, 2), inner: Any = None
    ) -> None:
        super().__init__(3, 3)
        self.factor, self.mode, self.sizes, self.inner = factor, mode, sizes, inner


class Renamed(Scaled):
    """Another class with all of its options."""


# -- modules


@pytest.mark.parametrize(
    "make",
    [
        Scaled,
        lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU()),
        lambda: nn.BatchNorm2d(4),
        lambda: nn.MultiheadAttention(8, 2),
        lambda: Scaled(inner=Options(1)),
    ],
    ids=["options", "nested", "buffers", "attention", "object"],
)
def test_weights_do_not_matter(make: Callable[[], nn.Module]) -> None:
    """Two modules made alike have one key, whatever their weights are and whether they are trained."""
    one, other = make(), make().requires_grad_(False)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    assert module_signature(one) == module_signature(other)
    assert hash(module_signature(one)) == hash(module_signature(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.Linear(3, 3), nn.Linear(3, 4)),
        (nn.Linear(3, 3), nn.Linear(3, 3, bias=False)),
        (nn.Linear(3, 3), nn.Linear(3, 3).double()),
        (nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, stride=2)),
        (nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=2)),
        (nn.Dropout(), nn.Dropout().eval()),
        (nn.ReLU(), nn.SiLU()),
        (nn.Sequential(nn.ReLU(), nn.SiLU()), nn.Sequential(nn.SiLU(), nn.ReLU())),
        (nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU(), nn.ReLU())),
        (nn.BatchNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False)),
        (Scaled(), Renamed()),
        (Scaled(), Scaled(factor=2.0)),
        (Scaled(), Scaled(mode="b")),
        (Scaled(), Scaled(sizes=(1, 3))),
        (Scaled(), Scaled(inner=nn.ReLU())),
        (Scaled(inner=nn.ReLU()), Scaled(inner=nn.SiLU())),
        (Scaled(inner=[1]), Scaled(inner={1})),
        (Scaled(inner=torch.float32), Scaled(inner=torch.float64)),
        (Scaled(inner=Mode.FIRST), Scaled(inner=Mode.SECOND)),
        (Scaled(inner=np.int64(1)), Scaled(inner=np.int64(2))),
        (Scaled(inner=Options(1)), Scaled(inner=Options(2))),
        (Scaled(inner=F.gelu), Scaled(inner=F.silu)),
        (
            Scaled(inner=partial(F.gelu, approximate="none")),
            Scaled(inner=partial(F.gelu, approximate="tanh")),
        ),
        (Scaled(inner=Options(1).double), Scaled(inner=Options(2).double)),
    ],
    ids=lambda module: str(module).replace("\n", " "),
)
def test_structure_matters(one: nn.Module, other: nn.Module) -> None:
    """Another class, option, shape, dtype or child is another key."""
    assert module_signature(one) != module_signature(other)


@pytest.mark.parametrize("name", ["dit", "pixart"])
def test_the_blocks_of_a_transformer_are_alike(name: str) -> None:
    """They are one structure many times, so they are run and counted once, while a head is none of them."""
    model = zoo.model(name)
    blocks = [model.get_submodule(path) for path in find_blocks(model, "stage")]
    assert len(blocks) > 1
    assert len({module_signature(block) for block in blocks}) == 1
    assert module_signature(model.get_submodule("pos_embed")) != module_signature(blocks[0])


def test_blocks_of_a_unet_differ() -> None:
    """What lies at another width is other work."""
    model = zoo.model("unet")
    blocks = [model.get_submodule(path) for path in find_blocks(model, "stage")]
    assert len({module_signature(block) for block in blocks}) == len(blocks)


# -- calls

LINEAR = nn.Linear(3, 3)
X = torch.zeros(2, 3)
CALL: tuple[Any, dict[str, Any]] = (X, [X, 1]), {"scale": 2.0, "mask": None, "mode": "a"}


def test_values_do_not_matter() -> None:
    """Tensors of the same shapes, dtypes and devices are the same work."""
    again = (X + 1, [X - 1, 1]), {"scale": 2.0, "mask": None, "mode": "a"}
    assert call_signature(LINEAR, *CALL) == call_signature(nn.Linear(3, 3), *again)
    assert hash(call_signature(LINEAR, *CALL)) == hash(call_signature(nn.Linear(3, 3), *again))


@pytest.mark.parametrize(
    ("args", "changes"),
    [
        ((torch.zeros(3, 3), [X, 1]), {}),
        ((X.double(), [X, 1]), {}),
        ((X.to("meta"), [X, 1]), {}),
        ((X[None], [X, 1]), {}),
        ((X, (X, 1)), {}),
        ((X, [X, 2]), {}),
        ((X, [X]), {}),
        ((X, X, 1), {}),
        (CALL[0], {"scale": 3.0}),
        (CALL[0], {"mask": X}),
        (CALL[0], {"mode": "b"}),
        (CALL[0], {"extra": None}),
    ],
    ids=str,
)
def test_what_a_call_is_made_of_matters(args: Any, changes: dict[str, Any]) -> None:
    """Another shape, dtype, device, nesting or constant is other work."""
    assert call_signature(LINEAR, args, {**CALL[1], **changes}) != call_signature(LINEAR, *CALL)


def test_another_module_is_other_work() -> None:
    """The same arguments of a module of another structure have another key."""
    assert call_signature(nn.Linear(3, 4), *CALL) != call_signature(LINEAR, *CALL)


def test_objects_are_the_same_work_only_if_they_are_the_same() -> None:
    """What is neither a tensor nor a plain value is told by its identity."""
    one, other = object(), object()
    assert call_signature(LINEAR, (X, one), {}) == call_signature(LINEAR, (X, one), {})
    assert call_signature(LINEAR, (X, one), {}) != call_signature(LINEAR, (X, other), {})


def test_specs_stand_for_their_tensors() -> None:
    """Of a graph only specs are known; equal ones are the same work, others are not."""
    specs = [call_signature(LINEAR, (spec_of(torch.zeros(shape)),), {}) for shape in ((2, 3), (2, 3), (4, 3))]
    assert specs[0] == specs[1]
    assert specs[0] != specs[2]


@pytest.mark.parametrize("name", ["times", "_times"])
def test_options_in_lists_and_private_attributes_count(name: str) -> None:
    """Modules that differ in what a list or a private attribute holds compute otherwise."""
    one, two = nn.Linear(3, 3), nn.Linear(3, 3)
    setattr(one, name, [1])
    setattr(two, name, [2])
    assert module_signature(one) != module_signature(two)
    setattr(two, name, [1])
    assert module_signature(one) == module_signature(two)
