"""What a model keeps of its first call is found as it was after a recording."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch
from diffusers import ConfigMixin, FlowMatchEulerDiscreteScheduler, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils.torch_utils import lru_cache_unless_export
from torch import nn
from torch.fx.immutable_collections import immutable_list

import toy
from benchmarks.coverage.subject import Subject
from dipgo_fx.passes.forward_slot import parameters_of
from dipgo_fx.pipelines.denoiser import only_denoiser
from dipgo_fx.tracing import trace
from loops import run


@lru_cache(maxsize=4)
def beside_the_class(width: int) -> torch.Tensor:
    """Return a table that is made once for all models."""
    return torch.arange(width).float()


class Table(nn.Module):
    """Makes a table at its first call and keeps it in one of several places."""

    def __init__(self, kept: Callable[[Table], torch.Tensor]) -> None:
        super().__init__()
        self.kept, self.tables, self.listed = kept, {0: torch.zeros(1)}, list[torch.Tensor]()
        self.register_buffer("buffered", torch.zeros(toy.WIDTH), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the table."""
        return x + self.kept(self)

    @lru_cache(maxsize=4)  # noqa: B019
    def cached(self, width: int) -> torch.Tensor:
        """Return a table that is made once."""
        return torch.arange(width).float()

    @lru_cache_unless_export(maxsize=4)
    def wrapped(self, width: int) -> torch.Tensor:
        """Return a table that is made once, unless a compiler looks."""
        return torch.arange(width).float()


def _attribute(module: Any) -> torch.Tensor:
    if not hasattr(module, "made"):
        module.made = torch.arange(toy.WIDTH).float()
    return module.made  # type: ignore[no-any-return]


def _dictionary(module: Any) -> torch.Tensor:
    return module.tables.setdefault(1, torch.arange(toy.WIDTH).float())  # type: ignore[no-any-return]


def _listed(module: Any) -> torch.Tensor:
    module.listed[:] = module.listed or [torch.arange(toy.WIDTH).float()]
    return module.listed[0]  # type: ignore[no-any-return]


def _buffer(module: Any) -> torch.Tensor:
    module.buffered = torch.arange(toy.WIDTH).float()
    return module.buffered  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "kept",
    [
        _attribute,
        _dictionary,
        _listed,
        _buffer,
        lambda module: module.cached(toy.WIDTH),
        lambda module: module.wrapped(toy.WIDTH),
        lambda module: beside_the_class(toy.WIDTH),
    ],
    ids=["attribute", "dictionary", "list", "buffer", "cached method", "wrapped method", "function"],
)
def test_a_table_of_the_first_call_is_made_for_real_afterwards(kept: Any) -> None:
    """The model runs as if it had never been traced, and the loop as the model."""
    beside_the_class.cache_clear()
    model = toy.model(Table(kept), nn.Linear(toy.WIDTH, toy.WIDTH))
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    loop = toy.traced(model, 2)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    with torch.no_grad():
        found = model(toy.sample(), torch.zeros(2))
        assert type(found) is torch.Tensor
        step = toy.sample() + (toy.sample() + torch.arange(toy.WIDTH))
        assert torch.equal(found, step + model.layers[1](step))
    assert type(run(loop, toy.sample(), {})) is torch.Tensor


class Rotary(nn.Module):
    """Keeps its table beside the length that it is of, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.cached = 0
        self.table: Any = None
        self.held: list[list[Any]] = [[]]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the table, made anew for rows or columns that it is too short for."""
        if x.shape[0] > self.cached:
            self.cached = x.shape[0]
            self.table = torch.arange(x.shape[1]).float()
            self.held[0].append(x)
        return x + self.table


def test_what_stands_beside_a_table_is_put_back_with_it() -> None:
    """A length without its table would stop the model."""
    model = toy.model(Rotary(), nn.Linear(toy.WIDTH, toy.WIDTH))
    rotary: Any = model.layers[0]
    toy.traced(model, 1)
    assert (rotary.cached, rotary.table, rotary.held) == (0, None, [[]])
    with torch.no_grad():
        assert model(toy.sample(5), torch.zeros(5)).shape == (5, toy.WIDTH)


class Configured(ModelMixin, ConfigMixin):
    """Keeps a table itself, beside a configuration that cannot be edited."""

    @register_to_config
    def __init__(self, width: int = toy.WIDTH) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)])
        self.table: Any = None

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction for `(rows, WIDTH)`."""
        if self.table is None:
            self.table = sample.new_ones(self.config.width)
        for block in self.layers:
            sample = sample + block(sample + self.table)
        return sample


def test_a_configuration_stays_beside_a_table() -> None:
    """As it is one of diffusers' models that keeps the table."""
    model = Configured().eval()
    toy.traced(model, 1)
    assert model.table is None
    assert model.config.width == toy.WIDTH


def test_what_a_model_has_cached_for_real_stays() -> None:
    """Only what a recording leaves is taken back."""
    model = toy.model(Table(_dictionary), nn.Linear(toy.WIDTH, toy.WIDTH))
    model(toy.sample(), torch.zeros(2))
    own = model.layers[0].tables[1]
    toy.traced(model, 2)
    assert model.layers[0].tables[1] is own


class Logging(toy.Stack):
    """Keeps what it was called with in a list of its own, beside much that it never edits."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(toy.WIDTH, toy.WIDTH), nn.Linear(toy.WIDTH, toy.WIDTH))
        self.held: dict[str, Any] = {"calls": [], "own": [[1]], "fixed": immutable_list([2])}

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        self.held["calls"].append(timestep)
        return super().forward(sample, timestep)


def test_lists_of_a_model_stay_the_very_lists() -> None:
    """Others may hold them too; some cannot be edited, and need not be."""
    model = Logging().eval()
    held = dict(model.held)
    inner = model.held["own"][0]
    toy.traced(model, 2)
    assert all(model.held[name] is value for name, value in held.items())
    assert model.held["own"][0] is inner
    assert not model.held["calls"]


@pytest.mark.long
def test_a_traced_rotary_table_is_no_fake() -> None:
    """Qwen-Image keeps one for every size of an image."""
    subject = Subject.of("qwenimage")
    expected, pipe = subject.run(subject.build()), subject.build()
    model = only_denoiser(pipe)
    sample = torch.zeros(1, 16, model.config.in_channels)
    conditioning: dict[str, Any] = {
        "encoder_hidden_states": torch.zeros(1, 7, model.config.joint_attention_dim),
        "encoder_hidden_states_mask": torch.ones(1, 7, dtype=torch.bool),
        "img_shapes": [[(1, 4, 4)]],
        "txt_seq_lens": [7],
    }
    known = parameters_of(model)  # which depend on the version of diffusers
    conditioning = {name: value for name, value in conditioning.items() if name in known}
    trace(model, FlowMatchEulerDiscreteScheduler(), 2, sample=sample, conditioning=conditioning)
    assert torch.equal(subject.run(pipe), expected)
