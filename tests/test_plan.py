"""The plan: which loops it fits, what it refuses, and what it means. Its file is in test_plan_file.py."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any, cast

import pytest
import torch

import toy
from dipgo_fx import PlanError
from dipgo_fx.applying import build
from dipgo_fx.loop import Loop
from dipgo_fx.passes import GateTable
from dipgo_fx.plan import Plan
from dipgo_fx.tracing import trace
from loops import loop, run
from plans import KEEP, plan

# -- plans that fit no loop


@pytest.mark.parametrize(
    ("key", "item"),
    [
        (("unet",), "model"),
        (("dit", "euler"), "scheduler"),
        (("dit", "ddim", "block", None, 6), "num_inference_steps"),
        (("dit", "ddim", "branch"), "blocks"),
        (("dit", "ddim", "block", 3.0), "guidance"),
    ],
)
def test_a_plan_for_another_loop_is_refused(key: tuple[Any, ...], item: str) -> None:
    """The error names what differs, on both sides, and what to do."""
    other = loop(*key)
    with pytest.raises(PlanError) as error:
        build(other, plan())
    for facts in (loop("dit").facts, other.facts):
        assert f"{item}={repr(getattr(facts, item))[:40]}" in str(error.value)
    assert "search a plan for this loop" in str(error.value)


def test_a_plan_for_other_timesteps_is_refused() -> None:
    """The same scheduler class with other noise levels is another scheduler."""
    facts = replace(loop("dit").facts, timesteps=(900, 700, 500, 300, 100))
    with pytest.raises(PlanError, match=r"timesteps=\(.*the loop has timesteps=\(900"):
        plan().check_fits(facts)


# -- plans that are none


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"table": GateTable.of(KEEP[:4])},
            r"keep must have shape \(5, 4\) \(calls of the model, blocks\), got \(4, 4\)",
        ),
        ({"scores": torch.ones(4)}, r"scores must have shape \(5, 4\)"),
        ({"scores": torch.full(KEEP.shape, torch.nan)}, "scores must be finite"),
    ],
)
def test_tables_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    """A plan is checked when it is made."""
    with pytest.raises(PlanError, match=message):
        replace(plan(), **changes)


@pytest.mark.parametrize("keep", [KEEP.long(), KEEP[0]], ids=["int", "row"])
def test_a_hand_written_table_is_checked(keep: Any) -> None:
    """`from_keep` wants a bool table."""
    with pytest.raises(ValueError, match="keep must be a bool tensor"):
        Plan.from_keep(loop("dit"), keep)


@pytest.mark.parametrize("keep", [KEEP[:, :3], KEEP[:4]], ids=["narrow", "short"])
def test_a_hand_written_table_has_the_loops_shape(keep: Any) -> None:
    """A table of another loop is refused with both shapes."""
    with pytest.raises(PlanError, match=r"keep must have shape \(5, 4\)"):
        Plan.from_keep(loop("dit"), keep)


def test_a_list_is_no_table() -> None:
    """Another kind of object is named."""
    with pytest.raises(TypeError, match=r"keep must be a bool tensor .* got list"):
        Plan.from_keep(loop("dit"), cast(Any, KEEP.tolist()))


@pytest.mark.parametrize("shape", [(5, 4), (5, 3), (5, 4, 2), (5, 3, 3), (1, 5, 4, 3), ()], ids=str)
def test_weights_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    """Hand-written weights have the shape of the keep table, three values deep."""
    with pytest.raises(
        ValueError, match=rf"weights must have shape \(5, 4, 3\), got {re.escape(str(shape))}"
    ):
        Plan.from_keep(loop("dit"), KEEP, weights=torch.ones(shape))


# -- what a plan means


def test_a_linear_backup_goes_on_in_a_straight_line() -> None:
    """A block whose value grows evenly over the steps is extrapolated to where it would be."""

    class Clock(toy.Stack):
        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return self.layers[0](timestep[:, None].to(sample.dtype)) + 0 * sample

    graph = trace(
        Clock(torch.nn.Linear(1, 3)),
        toy.Step(lambda prediction, sample: prediction),
        6,
        sample=toy.sample(),
        conditioning={},
        granularity="stage",
    )
    keep = torch.tensor([[1], [0], [1], [0], [0], [0]]).bool()
    pruned = build(graph, Plan.from_keep(graph, keep, "linear"))
    torch.testing.assert_close(run(pruned, toy.sample(), {}), run(graph, toy.sample(), {}))
    reused = run(build(graph, Plan.from_keep(graph, keep)), toy.sample(), {})
    assert not torch.allclose(reused, run(graph, toy.sample(), {}), atol=1e-3)


@pytest.mark.parametrize("kept", [(0, 1, 2), (0, 2, 3), (0, 1, 4), (0, 1, 2, 4)], ids=str)
def test_three_values_go_on_in_a_parabola(kept: tuple[int, ...]) -> None:
    """Lagrange's weights of the last three values, newest first, hit whatever is quadratic in time."""

    class Thrown(toy.Stack):
        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            time = timestep[:, None].to(sample.dtype)
            return self.layers[0](torch.cat([time**2, time], 1)) + 0 * sample

    x = toy.sample().double()
    last = toy.Step(lambda prediction, sample: prediction)
    for steps in range(kept[-1] + 2, 8):
        model = Thrown(torch.nn.Linear(2, 3)).double()
        graph = trace(model, last, steps, sample=x, conditioning={}, granularity="stage")
        newest = kept[:-4:-1]
        weights = torch.zeros(steps, 1, 3, dtype=torch.float64)
        for k, at in enumerate(newest):
            others = [other for other in newest if other != at]
            weights[-1, 0, k] = math.prod((steps - 1 - other) / (at - other) for other in others)
        keep = torch.tensor([[t in kept] for t in range(steps)])
        written = Plan.from_keep(graph, keep, weights=weights)
        assert written.history == 3
        torch.testing.assert_close(run(build(graph, written), x, {}), run(graph, x, {}))


def test_the_history_is_read_off_the_weights() -> None:
    """A plan that repeats everything reads one value, one that extrapolates reads two."""
    assert plan("reuse").history == 1
    assert plan("linear").history == 2
    assert Plan.from_keep(loop("dit"), torch.ones_like(KEEP), "linear").history == 1


def test_the_ratio_is_that_of_the_subnet() -> None:
    """A plan that keeps all removes nothing, one that keeps step 0 alone all but one step."""
    graph = loop("dit")
    assert Plan.from_keep(graph, torch.ones_like(KEEP)).ratio == 0
    first = torch.zeros_like(KEEP)
    first[0] = True
    # What blocks do not hold (embeddings that still run) is part of the rest.
    assert 0.7 < Plan.from_keep(graph, first).ratio <= 0.8


def test_a_plan_prints_as_a_table() -> None:
    """One line a block: what runs, is dead, repeats, forecasts; then MACs by step, and a legend."""
    lines = str(plan()).splitlines()
    assert lines[0].startswith("DiTTransformer2DModel, DDIMScheduler, ")
    drawn = [line.split()[-1] for line in lines[1:-2]]
    live = plan().cost.reads.liveness(plan().table)
    for n, row in enumerate(drawn):
        for t, glyph in enumerate(row):
            assert (glyph == "#") == live.runs(t, n)
            assert (glyph in "./") == live.reads_backup(t, n)
    assert lines[-2].startswith("MACs kept")
    assert "- dead, nobody reads it" in lines[-1]


def test_a_dead_block_is_drawn_as_dead() -> None:
    """A skipped step forecasts its head; the blocks before it are read by nobody, open or closed."""
    keep = torch.ones_like(KEEP)
    keep[2, -1] = False
    rows = str(Plan.from_keep(loop("dit"), keep)).splitlines()[1:]
    assert [row.split()[-1] for row in rows[:4]] == ["##-##"] * 3 + ["##.##"]
    assert rows[4].split()[-1] == "##0##"


def test_plans_compare_by_value() -> None:
    """Equal plans are equal, and any difference shows."""
    assert plan() == plan()
    assert plan() != plan("reuse")
    assert plan() != replace(plan(), ratio=0.1, cost=None)
    assert plan() != replace(plan(), scores=torch.ones(KEEP.shape, dtype=torch.float64))
    assert plan() != replace(plan(), frontier=())
    assert plan() != "a plan"


def test_a_loop_tells_its_blocks() -> None:
    """Facts of a loop are those of its plan."""
    graph: Loop = loop("dit")
    assert plan().blocks == graph.blocks
    assert graph.num_steps == len(plan().timesteps) == 5


def test_tables_of_a_plan_are_copies() -> None:
    """Another plan is written from them, and this one is as it was."""
    graph = loop("dit")
    skipped = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    skipped[2] = False
    made = Plan.from_keep(graph, skipped)
    keep, weights = made.keep, made.weights
    keep[1:], weights[1:] = False, 5
    assert made == Plan.from_keep(graph, skipped)
