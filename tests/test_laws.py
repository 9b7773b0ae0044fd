"""The laws of the design: properties that hold for every model, scheduler and plan.

"Equal" is bit for bit. A law that needs more than one file of the library is tested here and nowhere
else, each as one property over random loops and masks.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import structure
import zoo
from dipgo_fx.applying import build
from dipgo_fx.budget import TOLERANCE, kept_of, threshold
from dipgo_fx.deriving import at_ratio
from dipgo_fx.errors import PlanError
from dipgo_fx.guidance import Guidance
from dipgo_fx.loop import Loop, LoopFacts
from dipgo_fx.macs import count_macs
from dipgo_fx.passes import HISTORY, Backup, GateTable
from dipgo_fx.plan import Plan
from dipgo_fx.tracing import trace
from log_messages import log_messages
from loops import STEPS, calls, cost, eager_with_plan, inputs, loop, run, scattered, supernet

# Model, scheduler, granularity, guidance, steps, whether guidance is split. Every model, scheduler and
# granularity occurs; the schedulers that draw noise, edit in place, or call the model twice a step occur
# with reused heads.
LOOPS: tuple[tuple[Any, ...], ...] = (
    ("dit", "ddim", "block", None),
    ("dit", "pndm", "block", None),
    ("dit", "deis", "branch", 2.0),
    ("dit-variance", "ddpm", "stage", 4.0),
    ("dit-variance", "heun", "branch", None),
    ("unet", "pndm", "block", 2.0),
    ("unet", "euler-a", "stage", None),
    ("unet", "plms", "branch", None),
    ("unet-text", "unipc", "stage", 3.0),
    ("unet-text", "lcm", "branch", None),
    ("unet-text", "euler", "block", None),
    ("pixart", "dpm++", "block", 3.0),
    ("pixart", "flow-match", "branch", None),
    ("dit", "unipc", "block", 2.0, STEPS, True),
    ("dit-variance", "ddpm", "branch", 4.0, STEPS, True),
    ("unet", "pndm", "block", 2.0, STEPS, True),
    ("unet-text", "heun", "stage", 3.0, STEPS, True),
)
keys = st.sampled_from(LOOPS)
batches = st.integers(1, 3)
backups: st.SearchStrategy[Backup] = st.sampled_from(("reuse", "linear"))
histories = st.integers(1, HISTORY)
seeds = st.integers(0, 2**32 - 1)
ratios = st.floats(0, 1, exclude_max=True)


@st.composite
def tables(draw: st.DrawFn, graph: Loop, low: float, high: float) -> torch.Tensor:
    """Draw a `(T, N)` float64 table."""
    shape = (graph.num_steps, len(graph.blocks))
    generator = zoo.generator(draw(seeds))
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


@st.composite
def keeps(draw: st.DrawFn, graph: Loop) -> torch.Tensor:
    """Draw a keep table: any share of gates closed, any of them."""
    keep = draw(tables(graph, 0, 1)) <= draw(st.floats(0, 1))
    keep[0] = True
    return keep


@st.composite
def gate_tables(draw: st.DrawFn, graph: Loop, keep: torch.Tensor, history: int) -> GateTable:
    """Draw the table of repeats (history 1), of extrapolations, or of learned forecasts."""
    if history == 1:
        return GateTable.of(keep, "reuse")
    if history == 2 and draw(st.booleans()):
        return GateTable.of(keep, "linear")
    return GateTable(keep, scattered((graph.num_steps, len(graph.blocks)), history, draw(seeds)))


@st.composite
def plans(draw: st.DrawFn, graph: Loop) -> Plan:
    """Draw a plan of any history, its weights of a backup or as a search may learn them; its ratio is 0."""
    keep = draw(keeps(graph))
    return Plan(graph.facts, draw(gate_tables(graph, keep, draw(histories))), 0.0)


@settings(max_examples=12)  # tests/test_tracing.py goes through all of them
@given(
    model=st.sampled_from(zoo.MODELS),
    scheduler=st.sampled_from(tuple(zoo.SCHEDULERS)),
    granularity=st.sampled_from(("stage", "block", "branch")),
    guidance_scale=st.none() | st.floats(0, 10),
    split=st.booleans(),
    steps=st.integers(1, 6),
    batch=batches,
)
def test_law_1_a_traced_loop_equals_the_eager_loop(
    model: str,
    scheduler: str,
    granularity: Any,
    guidance_scale: float | None,
    split: bool,
    steps: int,
    batch: int,
) -> None:
    """A traced loop computes what the plain Python loop computes."""
    noise = zoo.SCHEDULERS[scheduler]()
    # A Runge-Kutta warm-up needs the steps that it warms up with.
    assume(scheduler != "pndm" or steps >= 4)
    guidance = Guidance(guidance_scale, split and guidance_scale is not None)
    graph = trace(
        zoo.model(model),
        noise,
        steps,
        granularity=granularity,
        guidance_scale=guidance.scale,
        split_guidance=guidance.split,
    )
    x, c = inputs(model, batch, guidance_scale)
    assert torch.equal(run(graph, x, c), zoo.eager(model, noise, steps, x, c, guidance))


@given(key=keys, batch=batches, history=histories, data=st.data())
def test_law_2_an_open_supernet_equals_the_loop(
    key: tuple[Any, ...], batch: int, history: int, data: st.DataObject
) -> None:
    """With every gate open a SuperNet computes what the loop computes, whatever its weights."""
    graph = loop(*key)
    x, c = inputs(key[0], batch, key[3])
    shape = graph.num_steps, len(graph.blocks)
    given_tables = {"gates": torch.ones(shape)}
    if history > 1:
        weights = scattered(shape, HISTORY, data.draw(seeds))
        given_tables["weights"] = weights[..., : data.draw(st.integers(history, HISTORY))]
    assert torch.equal(run(supernet(history, *key), x, c, **given_tables), run(graph, x, c))


@given(key=keys, batch=batches, data=st.data())
def test_law_2_a_hard_mask_equals_its_subnet(key: tuple[Any, ...], batch: int, data: st.DataObject) -> None:
    """With gates of 0 and 1 a SuperNet computes what the SubNet of that mask computes.

    So does a SuperNet of more history, which has more values at hand than the plan reads.
    """
    plan = data.draw(plans(loop(*key)))
    x, c = inputs(key[0], batch, key[3])
    history = data.draw(st.integers(plan.history, HISTORY))
    masks = {"gates": plan.keep.double()}
    if history > 1:
        masks["weights"] = plan.weights
    soft = run(supernet(history, *key), x, c, **masks)
    assert torch.equal(run(build(loop(*key), plan), x, c), soft)


@pytest.mark.parametrize("learned", [False, True], ids=["linear", "learned"])
@pytest.mark.parametrize("seed", range(6))
def test_law_2_holds_for_a_single_sample(seed: int, learned: bool) -> None:
    """The strides of one sample are ambiguous; gates hand on those of the tensor that they pass."""
    key = ("unet", "plms", "branch", None)
    graph = loop(*key)
    shape = graph.num_steps, len(graph.blocks)
    keep = torch.rand(shape, generator=zoo.generator(seed)) < 0.7
    keep[0] = True
    table = GateTable(keep, scattered(shape, HISTORY, seed)) if learned else GateTable.of(keep, "linear")
    plan = Plan(graph.facts, table, 0.0)
    x, c = inputs("unet", 1)
    soft = run(supernet(plan.history, *key), x, c, gates=keep.double(), weights=plan.weights)
    assert torch.equal(run(build(graph, plan), x, c), soft)


@settings(max_examples=12)
@given(key=keys, batch=batches, history=histories, backup=backups, data=st.data())
def test_law_3_a_plan_that_removes_nothing_equals_the_loop(
    key: tuple[Any, ...], batch: int, history: int, backup: Backup, data: st.DataObject
) -> None:
    """At ratio 0 every block is kept, and the SubNet is the loop, node by node."""
    graph = loop(*key)
    keep = threshold(data.draw(tables(graph, 0, 1)), 1.0, cost(*key), history)
    assert keep.all()
    subnet = build(graph, Plan.from_keep(graph, keep, backup))
    assert [node.name for node in subnet.graph.nodes] == [node.name for node in graph.graph.nodes]
    x, c = inputs(key[0], batch, key[3])
    assert torch.equal(run(subnet, x, c), run(graph, x, c))


@given(key=keys, data=st.data())
def test_law_4_predicted_macs_are_those_of_the_subnet(key: tuple[Any, ...], data: st.DataObject) -> None:
    """What a plan is said to cost, in both conventions, is what its SubNet's nodes cost."""
    plan = data.draw(plans(loop(*key)))
    structure.check_costs(loop(*key), plan, build(loop(*key), plan))


@given(key=keys, ratio=ratios, history=histories, data=st.data())
def test_law_5_a_subnet_never_exceeds_its_budget(
    key: tuple[Any, ...], ratio: float, history: int, data: st.DataObject
) -> None:
    """A thresholded plan costs at most 1 - ratio, and less than 0.0125 below that or it says why."""
    graph, costs = loop(*key), cost(*key)
    assume(ratio <= 1 - costs.smallest_kept)
    two = torch.zeros(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    two[:2] = True
    scores = data.draw(tables(graph, 0, 1))
    given_plan = Plan(graph.facts, data.draw(gate_tables(graph, two, history)), 0.0, scores)
    plan = at_ratio(given_plan, ratio, costs)
    share = count_macs(build(graph, plan)).total / costs.full.total
    assert share <= 1 - ratio + 0.5 / costs.full.total  # half a multiplication, for rounding
    assert plan.ratio == 1 - share
    assert plan.history <= given_plan.history


@given(key=keys, ratio=ratios, history=histories, data=st.data())
def test_law_5_any_forecast_of_a_thresholded_table_is_within_the_budget(
    key: tuple[Any, ...], ratio: float, history: int, data: st.DataObject
) -> None:
    """A table made for forecasts of `history` values costs at most 1 - ratio with whatever such weights."""
    graph, costs = loop(*key), cost(*key)
    assume(ratio <= 1 - costs.smallest_kept)
    keep = threshold(data.draw(tables(graph, 0, 1)), kept_of(ratio, costs), costs, history)
    plan = Plan(graph.facts, data.draw(gate_tables(graph, keep, history)), 0.0)
    counted = count_macs(build(graph, plan)).total
    assert counted / costs.full.total <= 1 - ratio + 0.5 / costs.full.total


@given(key=keys, ratio=ratios, data=st.data())
def test_law_5_a_miss_says_why(key: tuple[Any, ...], ratio: float, data: st.DataObject) -> None:
    """A plan that removes 0.0125 more than it was asked for logs that, and no other plan logs anything."""
    graph, costs = loop(*key), cost(*key)
    assume(ratio <= 1 - costs.smallest_kept)
    scores = data.draw(tables(graph, 0, 1))
    with log_messages() as messages:
        plan = at_ratio(Plan(graph.facts, GateTable.of(_all(graph)), 0.0, scores), ratio, costs)
    assert bool(messages) == (plan.ratio - ratio >= TOLERANCE)
    for message in messages:
        assert f"removes {plan.ratio:.4f} of the loop's MACs where {ratio:.4f} was asked" in message


@given(key=keys, data=st.data())
def test_law_5_a_ratio_out_of_reach_is_refused(key: tuple[Any, ...], data: st.DataObject) -> None:
    """Asking for more than closing every gate removes is an error that says how much that is."""
    largest = 1 - cost(*key).smallest_kept
    assume(largest < 0.9999)
    ratio = data.draw(st.floats(largest + 1e-4, 1, exclude_max=True))
    with pytest.raises(ValueError, match=f"at most {largest:.4f} of this loop's MACs"):
        kept_of(ratio, cost(*key))


@given(key=keys, data=st.data())
def test_law_6_a_subnet_holds_only_what_runs(key: tuple[Any, ...], data: st.DataObject) -> None:
    """A SubNet has no dead node, no gate, and no weight of a module that it does not call."""
    structure.check_holds_only_what_runs(loop(*key), build(loop(*key), data.draw(plans(loop(*key)))))


@given(key=keys, data=st.data())
def test_law_6_backup_edges_go_forward_within_a_block(key: tuple[Any, ...], data: st.DataObject) -> None:
    """A SubNet's node reads what it read in the loop, or what the plan says of that tensor's past."""
    graph = loop(*key)
    plan = data.draw(plans(graph))
    structure.check_reads(graph, plan, build(graph, plan))


@settings(max_examples=50)
@given(key=keys, batch=batches, data=st.data())
def test_law_9_a_plan_means_what_it_says(key: tuple[Any, ...], batch: int, data: st.DataObject) -> None:
    """A SubNet equals the plain loop whose modules are not called where the plan skips them."""
    plan = data.draw(plans(loop(*key)))
    subnet = build(loop(*key), plan)
    x, c = inputs(key[0], batch, key[3])
    expected, called = eager_with_plan(zoo.model(key[0]), zoo.SCHEDULERS[key[1]](), plan, x, c)
    assert torch.equal(run(subnet, x, c), expected)
    kept = {(plan.blocks[n], t) for t, n in plan.keep.nonzero().tolist()}
    assert sum(called.values()) == len(kept)
    assert calls(subnet) <= kept


@given(
    key=keys,
    data=st.data(),
    origin=st.dictionaries(
        st.text(),
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    ),
)
def test_law_10_a_plan_read_back_is_the_plan_that_was_written(
    key: tuple[Any, ...],
    data: st.DataObject,
    origin: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Facts, tables, ratio and origin survive a file to the last bit."""
    graph = loop(*key)
    drawn = data.draw(plans(graph))
    scores = data.draw(st.none() | tables(graph, -1e6, 1e6))
    known = data.draw(st.sampled_from((None, cost(*key))))
    ratio = drawn.ratio if known is None else 1 - known.kept(drawn.table)
    plan = Plan(drawn.facts, drawn.table, ratio, scores, cost=known, origin=origin)
    file = tmp_path_factory.mktemp("plan") / "plan.json"
    plan.save(file)
    read = Plan.load(file)
    assert read == plan
    assert json.loads(file.read_text(encoding="utf-8"))["facts"]["model"] == graph.facts.model


@given(mine=keys, other=keys)
def test_law_10_a_plan_for_another_loop_is_refused(mine: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    """A plan fits the loop that it was made for and no other, and the error names both."""
    assume(mine != other)
    plan, facts = Plan.from_keep(loop(*mine), _all(loop(*mine))), loop(*other).facts
    plan.check_fits(plan.facts)
    with pytest.raises(PlanError) as refusal:
        plan.check_fits(facts)
    names = [item.name for item in fields(LoopFacts)]
    item = next(name for name in names if getattr(plan.facts, name) != getattr(facts, name))
    for side in (plan.facts, facts):
        assert f"{item}={getattr(side, item)!r}"[:50] in str(refusal.value)  # long values are cut


def _all(graph: Loop) -> torch.Tensor:
    return torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
