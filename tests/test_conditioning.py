"""Which of a model's inputs have a row a sample: told by tracing, said by the caller, checked at the door."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import dipgo_fx
import toy
import zoo
from benchmarks.coverage.pipelines.flux import flux_transformer
from dipgo_fx import Plan, PruneConfig, TraceError
from dipgo_fx.applying import build
from dipgo_fx.conditioning import leaves, map_named, map_rows, tensors
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.guidance import Guidance
from dipgo_fx.tracing import trace

NESTED = {"a": torch.zeros(2, 3), "b": {"c": [torch.ones(2), None], "d": 4}, "e": "text"}
IDS = frozenset({"txt_ids", "img_ids"})


class Conditioned(toy.Stack):
    """Adds what has a row a sample, and multiplies by what all samples share."""

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, added: Any = (), factors: Any = (), power: int = 1
    ) -> torch.Tensor:
        """Return the prediction."""
        for rows in added:
            sample = sample + rows
        for matrix in factors:
            sample = (sample @ matrix) ** power
        return super().forward(sample, timestep)


def flux_inputs(rows: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return latents and conditioning as the pipeline of Flux makes them."""
    noise = zoo.generator(1)
    ids = torch.zeros(4, 4, 3)
    ids[..., 1] += torch.arange(4)[:, None]
    ids[..., 2] += torch.arange(4)[None]
    return torch.randn(rows, 16, 16, generator=noise), {
        "encoder_hidden_states": torch.randn(rows, 6, 16, generator=noise),
        "pooled_projections": torch.randn(rows, 16, generator=noise),
        "guidance": torch.full((rows,), 3.5),
        "txt_ids": torch.zeros(6, 3),
        "img_ids": ids.reshape(16, 3),
    }


def test_leaves_have_dotted_names() -> None:
    """Keys and places, joined by dots."""
    assert [*leaves(NESTED)] == ["a", "b.c.0", "b.c.1", "b.d", "e"]
    assert [*tensors(NESTED)] == ["a", "b.c.0"]


def test_rows_are_mapped_and_the_rest_is_left() -> None:
    """A shared tensor, a number, a text and None stay as they are, and the nesting too."""
    mapped = map_rows(lambda t: t[:1], NESTED, {"b.c.0"})
    assert mapped["a"].shape == (1, 3)
    assert mapped["b"] == NESTED["b"]
    assert map_named(lambda name, one, other: (name, one, other), {"a": 1}, {"a": 2}) == {"a": ("a", 1, 2)}


@given(
    kinds=st.lists(st.booleans(), max_size=4),
    batch=st.integers(1, 5),
    split=st.sampled_from([None, False, True]),
)
def test_shared_tensors_are_told_by_tracing(kinds: list[bool], batch: int, split: bool | None) -> None:
    """Any mixture of tensors with rows and without runs at any batch size as the eager loop does."""
    model = Conditioned(nn.Linear(3, 3), nn.Linear(3, 3)).eval()
    guidance = Guidance() if split is None else Guidance(2.0, split)

    def inputs(rows: int) -> dict[str, Any]:
        noise = zoo.generator(2)
        made = [torch.randn(*((guidance.rows * rows, 3) if r else (3, 3)), generator=noise) for r in kinds]
        return {
            "added": [tensor for tensor, has_rows in zip(made, kinds, strict=True) if has_rows],
            "factors": [tensor for tensor, has_rows in zip(made, kinds, strict=True) if not has_rows],
            "power": 2,
        }

    loop = trace(
        model,
        toy.Step(),
        2,
        sample=toy.sample(),
        conditioning=inputs(2),
        guidance_scale=guidance.scale,
        split_guidance=guidance.split,
    )
    shared = {f"factors.{n}" for n in range(kinds.count(False))}
    assert loop._inputs.shared == shared
    with torch.no_grad():
        expected = denoise(
            model, prepared(toy.Step(), 2), toy.sample(batch), inputs(batch), guidance, shared=shared
        )
    assert torch.equal(loop(toy.sample(batch), **inputs(batch)), expected)


def test_flux_by_itself() -> None:
    """Position ids have no row a sample: a loop, a plan and a search of Flux run at other batch sizes."""
    model, scheduler = (
        flux_transformer(num_layers=1, num_single_layers=1),
        diffusers.FlowMatchEulerDiscreteScheduler(),
    )
    sample, conditioning = flux_inputs(2)
    loop = trace(model, scheduler, 3, sample=sample, conditioning=conditioning)
    assert loop._inputs.shared == IDS
    keep = torch.tensor([[True] * 3, [False, True, True], [False] * 3])
    plan = Plan.from_keep(loop, keep)
    for rows in (1, 3):
        sample, conditioning = flux_inputs(rows)
        with torch.no_grad():
            expected = denoise(model, prepared(scheduler, 3), sample, conditioning)
        assert torch.equal(loop(sample, **conditioning), expected)
        applied = dipgo_fx.apply(model, scheduler, plan, sample=sample, conditioning=conditioning)
        assert torch.equal(applied(sample, **conditioning), build(loop, plan)(sample, **conditioning))


@pytest.mark.long
@pytest.mark.parametrize("is_given", [False, True])
def test_flux_is_searched(is_given: bool) -> None:
    """On calibration, or on random rows and what all samples share as in the examples."""
    sample, conditioning = flux_inputs(2)
    given = {"calibration": conditioning, "shared": IDS} if is_given else {"conditioning": conditioning}
    pruned = dipgo_fx.prune(
        flux_transformer(num_layers=1, num_single_layers=1),
        diffusers.FlowMatchEulerDiscreteScheduler(),
        0.5,
        num_inference_steps=2,
        sample=sample,
        **given,
        config=PruneConfig(samples=2, full_runs=2),
        progress=False,
    )
    assert pruned(sample, **conditioning).shape == sample.shape
    assert pruned._inputs.shared == IDS
    assert torch.equal(pruned._inputs.example["img_ids"], conditioning["img_ids"])


def _loop(**conditioning: Any) -> Any:
    model = Conditioned(nn.Linear(3, 3), nn.Linear(3, 3)).eval()
    return trace(model, toy.Step(), 2, sample=toy.sample(), conditioning=conditioning)


def test_what_is_no_tensor_is_part_of_the_graph() -> None:
    """Another number than the one that was traced is refused by name, not ignored."""
    loop = _loop(added=[toy.sample()], power=2, factors=[torch.eye(3)])
    with pytest.raises(ValueError, match=r"power is 3, but this loop was traced for 2"):
        loop(toy.sample(), added=[toy.sample()], power=3, factors=[torch.eye(3)])
    with pytest.raises(ValueError, match=r"factors\.0 has shape \(4, 3\), but .* for \(3, 3\)"):
        loop(toy.sample(), added=[toy.sample()], power=2, factors=[torch.ones(4, 3)])
    with pytest.raises(ValueError, match=r"factors\.0 is missing: expected a tensor of shape \(3, 3\)"):
        loop(toy.sample(), added=[toy.sample()], power=2, factors=[])


@pytest.mark.parametrize(
    ("traced", "given"), [([], [toy.sample()]), (None, [toy.sample()]), ([toy.sample()], [toy.sample()] * 2)]
)
def test_what_was_not_there_when_a_loop_was_traced_is_refused(traced: Any, given: Any) -> None:
    """One residual more would not be added."""
    loop = _loop(added=traced or (), factors=[torch.eye(3)], power=2)
    with pytest.raises(ValueError, match=r"\['added\.\d'\] were not among what this loop was traced for"):
        loop(toy.sample(), added=given, factors=[torch.eye(3)], power=2)


def test_numbers_are_compared_as_numbers() -> None:
    """Not-a-number is itself, a tensor is none, and booleans are no floating-point numbers."""
    loop = _loop(factors=[torch.eye(3)], power=float("nan"))
    assert loop(toy.sample(), factors=[torch.eye(3)], power=float("nan")).isnan().all()
    with pytest.raises(ValueError, match="power is"):
        loop(toy.sample(), factors=[torch.eye(3)], power=torch.ones(2))
    with pytest.raises(ValueError, match=r"factors\.0 holds booleans, but .* floating-point numbers"):
        loop(toy.sample(), factors=[torch.eye(3) > 0], power=float("nan"))


def test_a_namedtuple_is_refused() -> None:
    """Its parts have names, and a graph reads them by number."""
    pair = namedtuple("pair", "a b")(toy.sample(), toy.sample())
    with pytest.raises(TypeError, match=r"conditioning\['added'\] must be a tensor"):
        _loop(added=pair)


def test_shared_tensors_may_have_other_values() -> None:
    """Only their shape is part of the graph."""
    loop = _loop(factors=[torch.eye(3)])
    model = Conditioned(nn.Linear(3, 3), nn.Linear(3, 3)).eval()
    model.load_state_dict(loop.model.state_dict())
    with torch.no_grad():
        expected = denoise(model, prepared(toy.Step(), 2), toy.sample(), {"factors": [2 * torch.eye(3)]})
    assert torch.equal(loop(toy.sample(), factors=[2 * torch.eye(3)]), expected)


def test_wrong_names_of_shared_tensors_are_refused() -> None:
    """By name; and a tensor with rows that is said to have none fails as it would in the model."""
    model = Conditioned(nn.Linear(3, 3)).eval()

    def asked(shared: Any, **conditioning: Any) -> Any:
        return trace(model, toy.Step(), 1, sample=toy.sample(), conditioning=conditioning, shared=shared)

    with pytest.raises(TypeError, match=r"shared must be a list of names of tensors, .* got str 'added'"):
        asked("added", added=[toy.sample()])
    with pytest.raises(ValueError, match=r"shared names \['ids'\], but the tensors .* \['added.0'\]"):
        asked(["ids"], added=[toy.sample()])
    with pytest.raises(TraceError, match=r"Conditioned, step 0"):
        asked(["added.0"], added=[toy.sample()])


def test_a_model_that_no_guess_serves_says_what_to_name() -> None:
    """Three tensors without rows, whose examples look like rows."""
    with pytest.raises(TraceError, match=r"name in shared= those of \['factors.0', .* that have no row"):
        _loop(factors=[torch.eye(3)[:2].expand(2, 3)] * 3)
    factors = [torch.eye(3)] * 3
    model = Conditioned(nn.Linear(3, 3), nn.Linear(3, 3)).eval()
    given = {"sample": toy.sample(3), "conditioning": {"factors": factors}}
    with pytest.raises(TraceError, match="name in shared="):
        trace(model, toy.Step(), 1, **given)
    names = [f"factors.{n}" for n in range(3)]
    assert trace(model, toy.Step(), 1, **given, shared=names)._inputs.shared == {*names}


def test_a_tensor_without_dimensions_is_shared() -> None:
    """It cannot have rows."""
    assert _loop(factors=[torch.eye(3)], power=torch.tensor(2))._inputs.shared == {"factors.0", "power"}
