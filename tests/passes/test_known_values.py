"""Python that looks at values: one call of a model is recorded for the values that its masks have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import toy
import zoo
from dipgo_fx.passes import TraceError
from dipgo_fx.passes.call_recorder import CallGraph, record_call
from dipgo_fx.passes.known_values import indexed, is_discrete, leaves, map_tensors, written

Rule = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
CHANGING = ("sample", "timestep")


class Masked(toy.Stack):
    """Applies a rule to what its blocks return and a mask of the sample's columns."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(nn.Linear(toy.WIDTH, toy.WIDTH), nn.Linear(toy.WIDTH, toy.WIDTH))
        self.rule = rule

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        return self.rule(super().forward(sample, timestep), mask)


def _padded(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    result = torch.zeros(len(x), toy.WIDTH)
    for row, length in enumerate(mask.sum(1).tolist()):
        result[row, :length] = x[row, :length]
    return result


def _by_tensors(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    result = x.new_zeros(x.shape)
    for row, length in enumerate(mask.sum(1)):
        result[row, :length] = x[row, :length]
    return result


def _doubled(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    x[:, 1:] = x[:, 1:] + x[:, :-1]
    x[mask] = 0
    return x


RULES: dict[str, Rule] = {
    "lists of lengths": _padded,
    "lengths as ends of slices": _by_tensors,
    "an edit of a part": _doubled,
    "rows of a mask": lambda x, mask: x[mask].repeat(2).sum() + x,
    "places": lambda x, mask: x + x.flatten()[mask.flatten().nonzero(as_tuple=True)[0]].mean(),
    "a branch": lambda x, mask: x + 1 if bool(mask.all()) else x - 1,
    "an array": lambda x, mask: x * float(mask.numpy().mean()),
    "a size": lambda x, mask: x.new_ones(int(mask.sum()) + 1).sum() + x,
    "sizes as tensors": lambda x, mask: x[:, : mask[0].sum()].reshape(len(x), mask[0].sum(), 1).sum(1) + x,
    "repeats": lambda x, mask: x + x.flatten().repeat_interleave(mask.flatten().long()).sum(),
    "values of its own": lambda x, mask: x + x[torch.ones(len(x), dtype=torch.bool)].sum(),
}


def _call(
    rule: Rule, mask: torch.Tensor, changing: tuple[str, ...] = CHANGING
) -> tuple[nn.Module, CallGraph]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Masked(rule).eval()
    arguments = {"sample": toy.sample(len(mask)), "timestep": torch.tensor(3), "mask": mask}
    with torch.no_grad():
        return model, record_call(model, "stage", arguments, changing)


@pytest.mark.parametrize("rule", RULES)
@given(mask=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=3))
def test_a_graph_is_the_model_for_any_sample(rule: str, mask: list[list[bool]]) -> None:
    """Bit for bit, for the mask that it was recorded with."""
    given_mask = torch.tensor(mask)
    model, call = _call(RULES[rule], given_mask)
    for seed in (1, 2):
        sample = torch.randn(len(mask), toy.WIDTH, generator=zoo.generator(seed))
        with torch.no_grad():
            expected = model(sample.clone(), torch.tensor(3), given_mask)
            (found,) = call.module(sample, torch.tensor(3), given_mask)
        assert torch.equal(found, expected) or (found.isnan() == expected.isnan()).all()
    assert call.holds_for([toy.sample(), torch.tensor(5), given_mask.clone()])


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "values of its own"])
def test_a_graph_holds_for_no_other_values(rule: str) -> None:
    """Those that the model's Python looked at; an edit by a mask is part of the graph, and holds for any."""
    mask = torch.tensor([[True, True, False], [True, False, False]])
    model, call = _call(RULES[rule], mask)
    tensors = [toy.sample(), torch.tensor(3), ~mask]
    if call.values:
        assert not call.holds_for(tensors)
    else:
        assert rule == "an edit of a part"
        assert torch.equal(call.module(*tensors)[0], model(*tensors))


@pytest.mark.parametrize("rule", ["lists of lengths", "a branch", "an array", "rows of a mask"])
def test_values_that_change_at_every_step_are_not_looked_at(rule: str) -> None:
    """Nor are those that a module returns: the error says so."""
    with pytest.raises(TraceError, match="changes at every step"):
        _call(RULES[rule], torch.ones(2, 3, dtype=torch.bool), (*CHANGING, "mask"))
    with pytest.raises(TraceError, match=r"values of a tensor that model\.layers"):
        _call(lambda x, mask: RULES[rule](x, x > 0), torch.ones(2, 3, dtype=torch.bool), ("timestep",))


def test_an_edit_that_a_view_would_see_is_refused() -> None:
    """A view that nobody can reach any more does not matter."""

    def seen(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        view = x[:, 1:]
        x[:, 0] = 0
        return view.sum() + x

    def of_a_view(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        whole = torch.zeros(2, 3)
        row = whole[0]
        row[:] = x[0]
        return whole + x

    for rule, said in ((seen, "other tensors of the loop are views of"), (of_a_view, "a view of a constant")):
        with pytest.raises(TraceError, match=said):
            _call(rule, torch.ones(2, 3, dtype=torch.bool))


def test_a_part_of_the_model_is_not_edited() -> None:
    """Whose next call would see it."""

    class Counting(Masked):
        def forward(self, sample: torch.Tensor, timestep: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            self.layers[0].weight[0] = sample[0]
            return super().forward(sample, timestep, mask)

    arguments = {"sample": toy.sample(), "timestep": torch.tensor(3), "mask": torch.ones(2, 3)}
    with pytest.raises(TraceError, match="a part of the model"):
        record_call(Counting(lambda x, mask: x), "stage", arguments)


def test_a_block_that_looks_at_values_is_recorded_whole() -> None:
    """As experts do that are chosen by row: what it returns has a shape all the same."""

    class Experts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Handle rows by the sign of their sum."""
            result = torch.empty_like(x)
            for sign in (x.sum(1) > 0).unique():
                rows = ((x.sum(1) > 0) == sign).nonzero()[:, 0]
                result[rows] = x[rows] * (2 if sign else 3)
            return result

    model = toy.model(Experts(), nn.Linear(toy.WIDTH, toy.WIDTH))
    arguments = {"sample": toy.sample(), "timestep": torch.tensor(3)}
    call = record_call(model, "stage", arguments, CHANGING)
    assert call.blocks == ("layers.0", "layers.1")
    for batch in (toy.sample(), -toy.sample()):
        assert torch.equal(call.module(batch, torch.tensor(3))[0], model(batch, torch.tensor(3)))


@given(st.lists(st.booleans(), min_size=1, max_size=6))
def test_a_mask_as_places_selects_the_same(mask: list[bool]) -> None:
    """Beside other parts of an index."""
    x, chosen = torch.arange(12.0).reshape(2, 6), torch.tensor(mask)
    x = x[:, : len(mask)]
    assert torch.equal(x[indexed((0, chosen))], x[0, chosen])
    assert torch.equal(x.t()[indexed(chosen)], x.t()[chosen])


def test_written_leaves_what_it_was_given() -> None:
    """An assignment gives a new tensor."""
    before = torch.zeros(3)
    assert written(before, (1,), 5.0).tolist() == [0, 5, 0]
    assert before.tolist() == [0, 0, 0]


def test_ends_of_slices_are_found_and_become_numbers() -> None:
    """Whatever they are nested in."""
    nested: Any = {"a": (slice(None, torch.tensor(3)), [torch.tensor([1.0])])}
    assert sum(isinstance(leaf, torch.Tensor) for leaf in leaves(nested)) == 2
    mapped = map_tensors(lambda tensor: tensor + 1, nested)
    assert mapped["a"][0] == slice(None, 4)
    assert mapped["a"][1][0].tolist() == [2.0]


@pytest.mark.parametrize("value", [torch.tensor(1.0), torch.tensor(1j), 3, None], ids=str)
def test_what_is_not_discrete(value: Any) -> None:
    """Numbers with a point, and what is no tensor."""
    assert not is_discrete(value)
    assert is_discrete(torch.tensor(1))
    assert is_discrete(torch.tensor(True))
