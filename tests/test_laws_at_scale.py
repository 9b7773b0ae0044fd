"""The laws of the design on random models with random schedulers: what is drawn is their configs too.

A hundred laws on three dozen loops; `DIPGO_FX_CASES=5000 pytest tests/test_laws_at_scale.py` draws that many
loops, and tries every law on each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import dipgo_fx
import structure
from dipgo_fx import PaperConfig, PruneConfig
from dipgo_fx.applying import build
from dipgo_fx.budget import TOLERANCE, kept_of, threshold
from dipgo_fx.deriving import at_ratio
from dipgo_fx.errors import PlanError
from dipgo_fx.macs import count_macs
from dipgo_fx.passes import HISTORY, SteerCalls
from dipgo_fx.plan import Plan
from log_messages import log_messages
from loops import calls, scattered
from random_loops import Case, Subject, cases
from random_models import FAMILIES

IS_LONG = "DIPGO_FX_CASES" in os.environ
CASES = int(os.environ.get("DIPGO_FX_CASES", "36"))
pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers and numpy, about some of the settings


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether two tensors are equal bit for bit; random settings may divide by 0, then in both."""
    return one.dtype == other.dtype and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


# -- what holds for every subject


def law_1(subject: Subject) -> None:
    """A traced loop computes what the plain Python loop computes."""
    assert same(subject.run(subject.loop), subject.expected)


def law_2(subject: Subject) -> None:
    """An open SuperNet is the loop, one with a hard mask the SubNet of that mask."""
    opened = {"gates": torch.ones(subject.shape)}
    masks = {"gates": subject.plan.keep.double()}
    if subject.plan.history > 1:
        weights = scattered(subject.shape, HISTORY, subject.case.seed)
        opened["weights"], masks["weights"] = weights, subject.plan.weights
    assert same(subject.run(subject.supernet, **opened), subject.expected)
    assert same(subject.run(subject.supernet, **masks), subject.run(subject.subnet))


def law_3(subject: Subject) -> None:
    """A plan that removes nothing is the loop, node by node."""
    keep = threshold(subject.numbers(1), 1.0, subject.cost, subject.case.history)
    assert keep.all()
    whole = build(subject.loop, Plan(subject.loop.facts, subject.table(keep), 0.0))
    assert [node.name for node in whole.graph.nodes] == [node.name for node in subject.loop.graph.nodes]
    assert same(subject.run(whole), subject.expected)


def law_4(subject: Subject) -> None:
    """What a plan is said to cost is what its SubNet costs."""
    structure.check_costs(subject.loop, subject.plan, subject.subnet)
    assert count_macs(subject.loop).total == subject.cost.full.total


def law_5(subject: Subject) -> None:
    """A thresholded plan keeps its budget, and one that misses it says so; more than all is refused."""
    costs, full = subject.cost, subject.cost.full.total
    largest = 1 - costs.smallest_kept
    ratio = subject.case.removed * largest
    given_plan = replace(subject.plan, scores=subject.numbers(2))
    with log_messages() as messages:
        plan = at_ratio(given_plan, ratio, costs)
    share = count_macs(build(subject.loop, plan)).total / full
    assert share <= 1 - ratio + 0.5 / full  # half a multiplication, for rounding
    assert plan.ratio == 1 - share
    assert bool(messages) == (plan.ratio - ratio >= TOLERANCE)
    if largest < 0.99:
        with pytest.raises(ValueError, match=f"at most {largest:.4f} of this loop's MACs"):
            kept_of(largest + 0.001, costs)


def law_6(subject: Subject) -> None:
    """A SubNet holds only what runs, and reads what the plan says."""
    structure.check_holds_only_what_runs(subject.loop, subject.subnet)
    structure.check_reads(subject.loop, subject.plan, subject.subnet)


def law_7(subject: Subject) -> None:
    """Under `enable` a pipeline's samples are those of the SubNet; afterwards it is the stock pipeline."""
    pipe: Any = subject.pipeline()
    with dipgo_fx.enabled(pipe, subject.plan):
        assert same(pipe(), subject.run(subject.subnet))
    assert same(pipe(), subject.expected)


def law_8(subject: Subject) -> None:
    """The same scores give the same plan and the same loop; torch's random state is nobody's."""
    state = torch.get_rng_state()
    kept = kept_of(subject.case.removed * (1 - subject.cost.smallest_kept), subject.cost)
    tables = [threshold(subject.numbers(3), kept, subject.cost, subject.case.history) for _ in range(2)]
    assert torch.equal(*tables)
    again = build(subject.loop, subject.plan)
    assert again.code == subject.subnet.code
    assert same(subject.run(again), subject.run(subject.subnet))
    assert torch.equal(torch.get_rng_state(), state)


def law_9(subject: Subject) -> None:
    """A SubNet is the plain loop whose modules are not called where the plan skips them."""
    expected, called = subject.eager_with_plan()
    kept = {(subject.plan.blocks[n], t) for t, n in subject.plan.keep.nonzero().tolist()}
    assert same(subject.run(subject.subnet), expected)
    assert sum(called.values()) == len(kept)
    assert calls(subject.subnet) <= kept


def law_9_steered(subject: Subject) -> None:
    """A steered loop is the plain loop with told timesteps and mixed predictions."""
    assert same(subject.run(SteerCalls(subject.steering)(subject.loop).graph_module), subject.steered())


def law_10(subject: Subject) -> None:
    """A plan read back is the plan that was written; another loop's is refused by name."""
    costs, facts = subject.cost, subject.loop.facts
    ratio = 1 - costs.kept(subject.plan.table)
    plan = replace(subject.plan, ratio=ratio, cost=costs, scores=subject.numbers(4))
    with TemporaryDirectory() as folder:
        plan.save(Path(folder, "plan.json"))
        assert Plan.load(Path(folder, "plan.json")) == plan
    plan.check_fits(facts)
    for name, other in {"model": "Another", "scheduler": "Another"}.items():
        with pytest.raises(PlanError) as refusal:
            plan.check_fits(replace(facts, **{name: other}))
        assert f"{name}={getattr(facts, name)!r}" in str(refusal.value)
        assert f"{name}={other!r}" in str(refusal.value)


# -- the cases

LAWS: tuple[Callable[[Subject], None], ...] = (
    law_1,
    law_2,
    law_3,
    law_4,
    law_5,
    law_6,
    law_8,
    law_9,
    law_9_steered,
    law_10,
)
FEW = 2
"""Laws that a loop is tried for beside the first in a short run; in a long one it is all of them."""
each_family = pytest.mark.parametrize("family", FAMILIES)


def share(of: int) -> Any:
    """Return settings for a test of one family: its part of that many cases, drawn anew in a long run."""
    return settings(
        max_examples=max(1, of // len(FAMILIES)),
        derandomize=not IS_LONG,
        print_blob=True,
        # A case is printed as it was drawn: a smaller one takes minutes to find and says hardly more.
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        # To draw a model takes a while, and settings that diffusers does not run are drawn again.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


@each_family
@share(CASES)
@given(data=st.data())
def test_every_law_holds(family: str, data: st.DataObject) -> None:
    """What was drawn is printed; `Subject(Case(...))` in its words has all that a law speaks of."""
    subject = Subject(data.draw(cases(family)))
    law_1(subject)
    for law in LAWS[1:] if IS_LONG else data.draw(st.permutations(LAWS[1:]))[:FEW]:
        law(subject)


@each_family
@share(CASES // 4)
@given(data=st.data())
def test_law_7_holds(family: str, data: st.DataObject) -> None:
    """A pipeline's calls of a model are recorded apart from the loop's, so this is dear."""
    law_7(Subject(data.draw(cases(family, most_steps=4))))


# -- what a search finds

RATIOS = (0.3, 0.6)


@contextmanager
def _rows_of(model: Any) -> Iterator[list[int]]:
    """Note how many rows a transformer's first block gets, but for those of a recording."""
    seen: list[int] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        rows = (*args, *kwargs.values())[0].shape[0]
        seen.extend([rows] if isinstance(rows, int) else [])

    handle = model.transformer_blocks[0].register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@settings(share(CASES // 9), max_examples=max(1, CASES // 36))
@given(case=cases("dit", most_steps=6), paper=st.booleans())
def test_the_laws_of_a_search_hold(case: Case, paper: bool) -> None:
    """Laws 5, 8, 11 and 12: within budgets, repeatable, no dearer plan is worse, one chunk in the model."""
    subject, chunk = Subject(replace(case, dtype=torch.float32)), 2
    short = PaperConfig(samples=2, iterations=2, width=32, loss="l2", batch_size=chunk)
    config = short if paper else PruneConfig(samples=3, full_runs=3, chunk=chunk)
    largest = 1 - subject.cost.smallest_kept
    state = torch.get_rng_state()
    with _rows_of(subject.model) as seen:
        low, high, again = (subject.search(ratio * largest, config) for ratio in (*RATIOS, RATIOS[1]))
    assert max(seen) <= chunk * subject.guidance.rows
    assert torch.equal(torch.get_rng_state(), state)
    assert high.plan.table == again.plan.table
    assert high.plan.steering == again.plan.steering
    for found, ratio in zip((low, high), RATIOS, strict=True):
        assert found.plan.ratio >= ratio * largest - 1e-12
        assert count_macs(found).total == found.report.after.total
    if not paper:
        assert low.plan.origin["loss"] <= high.plan.origin["loss"]
