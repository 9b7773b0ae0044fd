"""What runs under a gate table, against the unrolled loop walked node by node."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import toy
import zoo
from dipgo_fx.passes import HISTORY, GateTable
from dipgo_fx.passes.gate_table import last_kept
from dipgo_fx.passes.liveness import Liveness, StepReads, units_of
from dipgo_fx.passes.tags import tag
from loops import scattered

Read = Callable[[int, int], list[int]]
histories = st.integers(1, HISTORY)
# Seeds, because what hypothesis draws by itself is too small and too regular for units to die.
seeds = st.integers(0, 2**32 - 1)


def step_reads(seed: int) -> StepReads:
    """Return who reads whom in a step: any graph without a circle, its blocks numbered first."""
    pick = random.Random(seed)
    count = pick.randint(2, 6)
    order = pick.sample(range(count), count)
    reads: list[tuple[int, ...]] = [()] * count
    for place, unit in enumerate(order):
        reads[unit] = tuple(sorted(other for other in order[:place] if pick.random() < 0.5))
    output = pick.sample(range(count), pick.randint(1, 2))
    return StepReads(pick.randint(1, count), tuple(reads), tuple(sorted(output)), tuple(order))


def keep_of(reads: StepReads, seed: int) -> torch.Tensor:
    """Return a keep table for a step's blocks, half of its gates closed."""
    steps = random.Random(seed).randint(1, 8)
    keep = torch.rand((steps, reads.num_blocks), generator=zoo.generator(seed)) < 0.5
    keep[0] = True
    return keep


def table_of(keep: torch.Tensor, history: int, seed: int) -> GateTable:
    """Return a gate table that reads sums of up to `history` values."""
    return GateTable(keep, scattered((len(keep), keep.shape[1]), history, seed))


def walked(
    reads: StepReads, keep: torch.Tensor, read: Read
) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Return (step, unit) of what runs and of the backups that are read: the unrolled loop, from its ends."""
    past = last_kept(keep.tolist())
    pending = [(step, unit) for step in range(len(keep)) for unit in reads.output]
    running, backed_up = set[tuple[int, int]](), set[tuple[int, int]]()
    while pending:
        step, unit = pending.pop()
        if (step, unit) in running | backed_up:
            continue
        if unit < reads.num_blocks and not keep[step, unit]:
            backed_up.add((step, unit))
            pending.extend((past[step][unit][k], unit) for k in read(step, unit))
        else:
            running.add((step, unit))
            pending.extend((step, other) for other in reads.reads[unit])
    return running, backed_up


def units(live: Liveness, reads: StepReads, steps: int) -> set[tuple[int, int]]:
    """Return (step, unit) of everything that runs."""
    return {(t, unit) for t in range(steps) for unit in range(len(reads.reads)) if live.runs(t, unit)}


@settings(max_examples=200)
@given(seed=seeds, history=histories)
def test_what_runs_is_what_the_unrolled_loop_needs(seed: int, history: int) -> None:
    """Units that are open and read, and backups that are read, whatever the weights are."""
    reads = step_reads(seed)
    keep = keep_of(reads, seed)
    table = table_of(keep, history, seed)

    def read(step: int, block: int) -> list[int]:
        return [k for k, weight in enumerate(table.weight_rows[step][block]) if weight] or [0]

    running, backed_up = walked(reads, keep, read)
    live = reads.liveness(table)
    assert units(live, reads, len(keep)) == running
    assert {(t, n) for t, n in live.backed_up.nonzero().tolist()} == backed_up


@settings(max_examples=200)
@given(seed=seeds, history=histories)
def test_at_most_is_what_full_forecasts_need(seed: int, history: int) -> None:
    """It is what runs where every closed gate reads all its values, and no table needs more."""
    reads = step_reads(seed)
    keep = keep_of(reads, seed)
    most = reads.liveness_at_most(keep, history)
    running, backed_up = walked(reads, keep, lambda step, block: list(range(history)))
    assert units(most, reads, len(keep)) == running
    assert {(t, n) for t, n in most.backed_up.nonzero().tolist()} == backed_up
    live = reads.liveness(table_of(keep, history, seed))
    assert units(live, reads, len(keep)) <= running
    assert bool((live.backed_up <= most.backed_up).all())


@given(seed=seeds)
def test_a_liveness_says_one_thing_in_several_ways(seed: int) -> None:
    """Tables, single entries, counts and the last step agree, and a block either runs or is backed up."""
    reads = step_reads(seed)
    keep = keep_of(reads, seed)
    live = reads.liveness(table_of(keep, HISTORY, seed))
    steps, blocks = keep.shape
    assert live.running.tolist() == [[live.runs(t, n) for n in range(blocks)] for t in range(steps)]
    assert live.backed_up.tolist() == [[live.reads_backup(t, n) for n in range(blocks)] for t in range(steps)]
    assert not bool((live.running & ~keep).any())
    assert not bool((live.backed_up & keep).any())
    alive = units(live, reads, steps)
    count = len(reads.reads)
    assert live.counts(count) == [sum(unit == u for _, u in alive) for unit in range(count)]
    assert live.last_running_step == max(t for t, _ in alive)


def test_a_block_that_only_a_later_forecast_reads_runs_for_it() -> None:
    """A chain whose end is closed keeps its start alive at just the steps whose values are read."""
    chain = StepReads(2, ((), (0,)), (1,), (0, 1))
    keep = torch.tensor([[1, 1], [1, 0], [1, 0], [0, 1]]).bool()
    weights = GateTable.of(keep).weights.clone()
    weights[3, 0] = torch.tensor([0.0, 2.0, 0.0])  # of the values at steps 2, 1 and 0
    live = chain.liveness(GateTable(keep, weights))
    assert live.running.tolist() == [[True, True], [True, False], [False, False], [False, True]]
    assert live.backed_up.tolist() == [[False, False], [False, True], [False, True], [True, False]]


# -- read off a graph


class Forked(nn.Module):
    """A stem outside the blocks, two blocks on it, and a third on the second that goes nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(toy.WIDTH, toy.WIDTH)
        self.layers = nn.ModuleList(nn.Linear(toy.WIDTH, toy.WIDTH) for _ in range(3))

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction for `(rows, WIDTH)`."""
        stem = self.stem(sample).relu()
        return self.layers[0](stem) + self.layers[2](self.layers[1](2 * stem))


class Headed(toy.Stack):
    """Two blocks and a head behind them, which is no block of the toy loop."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(toy.WIDTH, toy.WIDTH), nn.Linear(toy.WIDTH, toy.WIDTH))
        self.head = nn.Linear(toy.WIDTH, toy.WIDTH)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction for `(rows, WIDTH)`."""
        return self.head(self.layers[1](self.layers[0](sample)))


@pytest.mark.parametrize(
    ("model", "reads", "output"),
    [
        (toy.model(), ((), (0,)), (0, 1)),
        (Forked(), ((3,), (3,), (1,), ()), (0, 2)),
        (Headed(), ((), (0,), (1,)), (2,)),
    ],
    ids=["stack", "forked", "headed"],
)
def test_reads_are_those_of_the_model(
    model: nn.Module, reads: tuple[tuple[int, ...], ...], output: tuple[int, ...]
) -> None:
    """Through whatever costs nothing; units that are no blocks come after them."""
    graph = toy.traced(model, 3)
    costly = [n for n in graph.graph.nodes if n.op == "call_module" and tag(n, "block") is None]
    of_step = units_of(graph.graph, graph.blocks, [n for n in costly if tag(n, "in_model")])
    assert [tag(node, "block") for node in of_step[: len(graph.blocks)]] == list(graph.blocks)
    assert {tag(node, "step") for node in of_step} == {0}
    found = StepReads.of(graph.graph, of_step, len(graph.blocks))
    assert (found.reads, found.output) == (reads, output)
    assert found.heads == [n for n in output if n < found.num_blocks]
    places = {unit: place for place, unit in enumerate(found.order)}
    assert sorted(places) == list(range(len(reads)))
    assert all(places[read] < places[unit] for unit, of in enumerate(reads) for read in of)
