"""What is said of one gate is what the SubNet does there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn
from torch.nn import functional as F

import toy
from dipgo_fx import Plan, explain
from dipgo_fx.applying import PrunedLoop, build
from dipgo_fx.explaining import SHOWN
from dipgo_fx.loop import Loop
from dipgo_fx.passes import GateTable, Steering
from dipgo_fx.passes.tags import tag
from loops import calls, cost, loop, scattered
from plans import plan
from steerings import steering_of
from tables import keeps

DATA = Path(__file__).parent / "data"


def plan_of(graph: Loop, keep: torch.Tensor, seed: int) -> Plan:
    """Return a plan with random weights, some of which repeat, are linear or read nothing."""
    return Plan.from_keep(graph, keep, weights=scattered(tuple(keep.shape), 3, seed))  # type: ignore[arg-type]


def read_by_hand(plan: Plan, step: int, block: int) -> dict[int, float]:
    """Return the steps of the values that a closed gate takes, and how much of each."""
    kept = [t for t in range(step - 1, -1, -1) if plan.keep[t, block]]
    past = [*kept, *[kept[-1]] * 3][:3]
    read: dict[int, float] = {}
    for source, weight in zip(past, plan.weights[step, block].tolist(), strict=True):
        if weight != 0:
            read[source] = read.get(source, 0) + weight
    return read or {past[0]: 0.0}


def said_to_be_read(said: str) -> dict[int, float]:
    """Return the same as a text says it."""
    if repeated := re.search(r"its value of step (\d+) as it is \(repeat\)", said):
        return {int(repeated[1]): 1.0}
    return {int(step): float(weight) for weight, step in re.findall(r"(-?[\d.e+-]+) of step (\d+)", said)}


def listed(said: str, start: str) -> set[str]:
    """Return the names that a sentence lists."""
    line = next((line for line in said.splitlines() if line.startswith(start)), start)
    return {name or number for name, number in re.findall(r"'([^']+)'|\b(\d+)", line)}


def direct_readers(pruned: PrunedLoop) -> dict[tuple[str, int], set[str]]:
    """Return for every block call of a SubNet the blocks that read it at its step, found in the graph."""
    readers: dict[tuple[str, int], set[str]] = {}
    for node in pruned.graph.nodes:
        if not is_call(node):
            continue
        block, step = tag(node, "block"), tag(node, "step")
        readers.setdefault((block, step), set())
        for source in sources(node, set()):
            if tag(source, "step") == step:
                readers[tag(source, "block"), step].add(block)
    return readers


def is_call(node: fx.Node) -> bool:
    """Tell whether a node calls a block."""
    return node.op == "call_module" and tag(node, "block") is not None


def sources(node: fx.Node, seen: set[fx.Node]) -> Iterator[fx.Node]:
    """Yield the block calls that a node reads, through whatever is no block call."""
    for read in node.all_input_nodes:
        if read in seen:
            continue
        seen.add(read)
        if is_call(read):
            yield read
        else:
            yield from sources(read, seen)


@pytest.mark.parametrize("name", ["dit", "unet"])
@given(data=st.data())
def test_what_is_said_is_what_the_subnet_does(name: str, data: st.DataObject) -> None:
    """It runs, reads these steps with these weights, or nobody reads it: as liveness and the graph say."""
    graph = loop(name)
    keep = data.draw(keeps(graph.num_steps, len(graph.blocks)))
    made = plan_of(graph, keep, data.draw(st.integers(0, 99)))
    pruned = build(graph, made)
    live, readers = cost(name).reads.liveness(made.table), direct_readers(pruned)
    for step in range(graph.num_steps):
        for block, path in enumerate(graph.blocks):
            said = explain(made, step, block)
            runs, closed = (path, step) in calls(pruned), live.reads_backup(step, block)
            assert ("It runs: " in said) == runs
            assert ("gate is closed, and its readers take " in said) == closed
            assert ("but nobody reads it" in said) == (not runs and not closed)
            assert ("gate is open, but nobody" in said) == (not runs and bool(keep[step, block]))
            if runs:
                assert listed(said, "Read at this step by") == readers[path, step]
                later = {
                    str(t)
                    for t in range(step + 1, graph.num_steps)
                    if live.reads_backup(t, block) and step in read_by_hand(made, t, block)
                }
                assert listed(said, "Read later by") == later
            if closed:
                assert said_to_be_read(said) == pytest.approx(read_by_hand(made, step, block), rel=1e-3)


@given(data=st.data())
def test_a_name_is_as_good_as_an_index(data: st.DataObject) -> None:
    """Both say the same, and the first line says which gate it is."""
    step, block = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 3))
    name = plan().blocks[block]
    said = explain(plan(), step, name)
    assert said == explain(plan(), step, block)
    assert said.startswith(f"{name!r} at step {step} (timestep {plan().timesteps[step]:g})\n")


@pytest.mark.parametrize(
    ("step", "block", "lines"),
    [
        (
            0,
            "proj_out_2",
            ["It runs: 0.10% of the MACs of the unpruned loop.", "Read at this step by the prediction."],
        ),
        (
            0,
            "transformer_blocks.2",
            [
                "It runs: 6.43% of the MACs of the unpruned loop.",
                "Read at this step by 'proj_out_2'.",
                "Read later by its own closed gate at steps 1, 3.",
            ],
        ),
        (
            1,
            "transformer_blocks.0",
            [
                "It does not run: its gate is open, but nobody reads it.",
                "Its readers: 'transformer_blocks.1' (dead too).",
                "What it leads to ends at closed gates: 'transformer_blocks.2'.",
            ],
        ),
        (
            1,
            "transformer_blocks.1",
            [
                "It does not run: its gate is closed, but nobody reads it.",
                "Its readers: 'transformer_blocks.2' (closed, repeats).",
            ],
        ),
        (
            2,
            "transformer_blocks.1",
            [
                "It does not run: its gate is closed, and its readers take its value of step 0 as it is "
                "(repeat).",
                "Read at this step by 'transformer_blocks.2'.",
            ],
        ),
        (
            3,
            "transformer_blocks.2",
            [
                "It does not run: its gate is closed, and its readers take a sum of its earlier values: "
                "1.5 of step 2, -0.5 of step 0 (linear).",
                "Read at this step by 'proj_out_2'.",
            ],
        ),
    ],
)
def test_sentences_by_hand(step: int, block: str, lines: list[str]) -> None:
    """A plan whose table can be read: what runs, for whom, and what died of what."""
    assert explain(plan("linear"), step, block).splitlines()[1:] == lines


def test_a_block_may_run_for_later_steps_alone() -> None:
    """Its gate is open and no reader at its step runs, but a closed gate of its own takes the value later."""
    keep = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 1, 1]]).bool()
    graph = loop("dit", "ddim", "block", None, 3)
    said = explain(Plan.from_keep(graph, keep), 1, 0)
    assert said.splitlines()[2:] == [
        "Nobody reads it at this step itself.",
        "Read later by its own closed gate at step 2.",
    ]


def test_weights_are_told_apart_by_where_they_come_from() -> None:
    """Those of `linear`, any others, and what repeats."""
    keep = torch.ones(5, 4).bool()
    keep[3] = False
    weights = GateTable.of(keep, "linear").weights.clone()
    said = [explain(Plan.from_keep(loop("dit"), keep, weights=weights), 3, "proj_out_2")]
    for changed in ([1.0, 0.0, 0.0], [1.5, -0.5, 0.25], [0.0, 0.0, 0.0]):
        weights[3, 3] = torch.tensor(changed, dtype=torch.float64)
        said.append(explain(Plan.from_keep(loop("dit"), keep, weights=weights), 3, "proj_out_2"))
    assert [re.findall(r"\((repeat|linear|fitted)\)", text) for text in said] == [
        ["linear"],
        ["repeat"],
        ["fitted"],
        ["fitted"],
    ]
    assert "1.5 of step 2, -0.5 of step 1, 0.25 of step 0" in said[2]
    assert ": 0 of step 2" in said[3]


class Headed(toy.Stack):
    """Its head is no block and costs something."""

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction for `(rows, WIDTH)`."""
        return F.linear(self.layers[0](sample), self.layers[0].weight)


def test_readers_outside_of_blocks_are_counted() -> None:
    """They have no names in a plan."""
    graph = toy.traced(Headed(nn.Linear(3, 3)).eval(), 2)
    whole = Plan.from_keep(graph, torch.ones(2, 1).bool())
    assert "Read at this step by 1 call outside the blocks." in explain(whole, 1, 0)


def test_a_block_that_nothing_reads_is_said_to_be_one() -> None:
    """No gate is to blame where there is no reader; a file may say so of its model."""
    bare = plan()
    assert bare.cost is not None
    reads = bare.cost.reads
    cut = replace(reads, reads=tuple(() if unit == 3 else read for unit, read in enumerate(reads.reads)))
    cost = replace(bare.cost, reads=cut)
    alone = replace(bare, cost=cost, ratio=1 - cost.kept(bare.table), frontier=())
    assert explain(alone, 0, 2).splitlines()[1:] == [
        "It does not run: its gate is open, but nobody reads it.",
        "Nothing in the model reads it at any step.",
    ]
    assert "What it leads to ends" not in explain(alone, 0, 1)


class Fan(toy.Stack):
    """All blocks but the first read the first one alone."""

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction for `(rows, WIDTH)`."""
        first = self.layers[0](sample)
        return sum((block(first) for block in self.layers[1:]), start=0 * sample)


def test_long_lists_are_cut() -> None:
    """A sentence names a few readers and counts the others."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        graph = toy.traced(Fan(*(nn.Linear(3, 3) for _ in range(SHOWN + 4))).eval(), 2)
    said = explain(Plan.from_keep(graph, torch.ones(2, SHOWN + 4).bool()), 1, 0)
    assert said.endswith("'layers.6' and 3 more.")
    assert said.count("'layers.") == SHOWN + 1


# -- steering


def steered(seed: int, first: int, split: bool = False) -> Plan:
    """Return a steered plan that runs all from step `first` on, but for step 3."""
    graph = loop("dit", "ddim", "block", 2.0 if split else None, 5, split)
    keep = torch.zeros(5, len(graph.blocks), dtype=torch.bool)
    keep[first:] = True
    keep[3] = False
    bare = Plan.from_keep(graph, torch.ones_like(keep))
    table, steering = GateTable.of(keep), steering_of(graph.facts, seed, first)
    assert bare.cost is not None
    return replace(bare, table=table, ratio=1 - bare.cost.kept(table), steering=steering)


@pytest.mark.parametrize("split", [False, True])
@given(seed=st.integers(0, 99), first=st.integers(0, 2))
def test_what_is_steered_is_said(split: bool, seed: int, first: int) -> None:
    """The timestep told where something runs, the mixture of the block's own call, the sample at first."""
    made = steered(seed, first, split)
    assert made.steering is not None
    for step in range(5):
        for block in (0, len(made.blocks) - 1):
            said, mix = explain(made, step, block), made.steering.mix[step, int(split and block > 0)]
            if step < first:
                assert f"not called before step {first}: {mix[0]:.4g} of the sample stands for" in said
                assert "gate" not in said
                continue
            told = re.findall(r"told (\S+) times the timestep", said)
            assert told == ([] if step == 3 else [f"{made.steering.told[step]:.6g}"])
            call = f"the {'conditional' if block else 'unconditional'} call" if split else "the call"
            shares = re.findall(r"(\S+) of (?:the sample|its own|that)", said.partition(f"of {call} is ")[2])
            expected = [] if step == first else [f"{part:.4g}" for part in mix.tolist() if part]
            assert shares == expected


def test_what_changes_nothing_is_not_said() -> None:
    """A neutral steering is none."""
    made = replace(plan(), steering=Steering.neutral(5, 1))
    assert all(explain(made, t, n) == explain(plan(), t, n) for t in range(5) for n in range(4))


# -- old files


@pytest.mark.parametrize("name", ["plan-format-3-halves.json", "plan-format-3-paper.json"])
def test_an_old_plan_says_what_it_does_not_know(name: str) -> None:
    """Whether a gate is open and what a closed one takes is known, who reads whom is not."""
    old = Plan.load(DATA / name)
    for step in range(len(old.timesteps)):
        for block in range(len(old.blocks)):
            said = explain(old, step, block)
            assert "Who reads it is not known" in said
            assert "dipgo_fx.apply" in said
            if old.keep[step, block]:
                assert "Its gate is open." in said
            else:
                assert said_to_be_read(said) == pytest.approx(read_by_hand(old, step, block), rel=1e-3)
