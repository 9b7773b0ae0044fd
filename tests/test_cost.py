"""What plans cost without their SubNet. That it is what the SubNet costs is law 4, in test_laws.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import toy
import zoo
from dipgo_fx.cost import LoopCost
from dipgo_fx.macs import Cost, count_macs
from dipgo_fx.passes import HISTORY, BindGates, GateTable
from graphs import ALL_KEPT, bound, supernet
from loops import STEPS, cost, loop, scattered

# Every model, with costs outside the model (UniPC's einsum), two calls a step, and blocks of every size.
KEYS: tuple[tuple[Any, ...], ...] = (
    ("dit", "ddim"),
    ("dit", "unipc", "block", 2.0, STEPS, True),
    ("dit-variance", "heun", "branch"),
    ("unet", "unipc", "stage"),
    ("unet-text", "euler", "branch", 2.0),
    ("pixart", "dpm++", "stage", 3.0),
)
keys = st.sampled_from(KEYS)
histories = st.integers(1, HISTORY)


@st.composite
def tables(draw: st.DrawFn, costs: LoopCost, history: int = HISTORY) -> GateTable:
    """Draw a gate table for a loop: any share of gates closed, any weights of up to `history` values."""
    shape, seed = (costs.num_steps, costs.num_blocks), draw(st.integers(0, 2**32 - 1))
    keep = torch.rand(shape, generator=zoo.generator(seed)) <= draw(st.floats(0, 1))
    keep[0] = True
    return GateTable.of(keep) if history == 1 else GateTable(keep, scattered(shape, history, seed))


def whole(costs: LoopCost) -> GateTable:
    """Return the table that keeps everything."""
    return GateTable.of(torch.ones(costs.num_steps, costs.num_blocks, dtype=torch.bool))


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_whole_table_costs_the_loop(key: tuple[Any, ...]) -> None:
    """The parts add up: what a step costs, times the steps, and what lies outside the model."""
    costs, graph = cost(*key), loop(*key)
    counted = count_macs(graph)
    assert costs.full == Cost(counted.total, counted.attention)
    assert costs.of_table(whole(costs)) == costs.full
    assert costs.kept(whole(costs)) == 1
    assert (
        sum((unit.total for unit in costs.units), 0) * costs.num_steps + costs.fixed.total == costs.full.total
    )
    assert (costs.fixed.total > 0) == (key[1] == "unipc")
    assert (costs.num_steps, costs.num_blocks) == (graph.num_steps, len(graph.blocks))
    assert costs.num_calls == (2 if graph.facts.guidance.split else 1)
    assert [unit.total for unit in costs.units[: costs.num_blocks]] == counted.per_block[0].tolist()


@given(key=keys, data=st.data(), history=histories)
def test_a_table_costs_at_least_the_smallest_and_at_most_the_most(
    key: tuple[Any, ...], data: st.DataObject, history: int
) -> None:
    """Whatever is closed and read: between all gates closed and every gate reading all it may."""
    costs = cost(*key)
    table = data.draw(tables(costs, history))
    most = costs.at_most(table.keep, history)
    assert costs.smallest_kept <= costs.kept(table) <= costs.kept_at_most(table.keep, history) <= 1
    assert costs.of_table(table).attention <= most.attention <= costs.full.attention
    assert costs.kept_at_most(table.keep, history) == most.total / costs.full.total
    full = torch.where(table.keep[..., None], 0.0, torch.ones(HISTORY)) * (torch.arange(HISTORY) < history)
    assert costs.of_table(GateTable(table.keep, full)) == most
    assert costs.at_most(table.keep, 1) == costs.of_table(GateTable.of(table.keep))


@given(key=keys, data=st.data())
def test_what_steps_cost_adds_up(key: tuple[Any, ...], data: st.DataObject) -> None:
    """The shares of the steps, as parts of an unpruned one, and what lies outside are what is kept."""
    costs = cost(*key)
    table = data.draw(tables(costs))
    shares = costs.kept_by_step(costs.reads.liveness(table))
    assert len(shares) == costs.num_steps
    outside = costs.fixed.total / costs.full.total
    assert sum(shares) / costs.num_steps + outside == pytest.approx(costs.kept(table))
    assert shares[0] == pytest.approx(max(shares))


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_the_smallest_share_is_that_of_the_first_step(key: tuple[Any, ...]) -> None:
    """Nothing of the model runs later but what lies behind its last blocks."""
    costs = cost(*key)
    keep = whole(costs).keep
    keep[1:] = False
    assert costs.smallest_kept == costs.kept(GateTable.of(keep))
    assert costs.smallest_kept >= (1 - costs.fixed.total / costs.full.total) / costs.num_steps


def test_a_loop_is_counted_once() -> None:
    """Asked again, a loop gives the very costs that it gave before; another loop has its own."""
    graph = toy.loop(3)
    costs = LoopCost.of(graph)
    assert LoopCost.of(graph) is costs
    assert LoopCost.of(toy.loop(3)) == costs
    assert LoopCost.of(toy.loop(4)) != costs
    assert costs.full == Cost(3 * 2 * toy.WIDTH**2)


@pytest.mark.parametrize(
    ("gm", "stage"),
    [
        (supernet(), "supernet"),
        (bound(ALL_KEPT), "bound"),
        (
            BindGates(GateTable.of(torch.ones(2, 2).bool()), free_weights=True)(supernet(2)).graph_module,
            "bound",
        ),
        (torch.fx.symbolic_trace(torch.nn.Linear(2, 2)), None),
    ],
    ids=["supernet", "bound", "free weights", "foreign"],
)
def test_only_a_traced_loop_is_counted(gm: torch.fx.GraphModule, stage: str | None) -> None:
    """A graph that passes have worked on no longer says who reads whom."""
    with pytest.raises(ValueError, match=f"counted on a traced loop, got stage {stage!r}"):
        LoopCost.of(gm)
