"""Weights of skipped steps by least squares: pruned loops that are led back to the unpruned path."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

import zoo
from dipgo_fx import Loop
from dipgo_fx.applying import build
from dipgo_fx.passes import HISTORY, GateTable
from dipgo_fx.search import least_squares
from dipgo_fx.search.batch import Batch
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.least_squares import RIDGE, fit_stepwise, mixed_entries, stepwise_entries
from dipgo_fx.search.sensitivity import whole_steps_candidate
from dipgo_fx.search.stepwise import _Recorded
from loops import scattered
from searches import (
    STOCHASTIC,
    Recording,
    candidate,
    case,
    eager_path,
    evaluator,
    plan_of,
    thinned,
    turning,
)


def fitted(judge: Recording, found: Candidate, batch: Batch | None = None) -> tuple[Candidate, torch.Tensor]:
    """Return the fitted candidate and the samples that its run gave."""
    return fit_stepwise(judge, found, batch), judge.result


def _path_with(
    weights: torch.Tensor, found: Candidate, scheduler: str, graph: Loop, batch: Batch
) -> torch.Tensor:
    plan = plan_of(graph, found.table.keep, weights)
    return eager_path(zoo.model("dit"), zoo.SCHEDULERS[scheduler](), graph, batch, plan)


# -- what can be reached


@pytest.mark.parametrize("start", ["reuse", "linear"])
@pytest.mark.parametrize(
    ("dimensions", "kept"), [(2, (0, 1)), (2, (0, 1, 5)), (3, (0, 1, 2)), (3, (0, 2, 3))]
)
def test_a_path_within_reach_is_met(
    dimensions: int, kept: tuple[int, ...], start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where kept values span the skipped ones, the pruned path is the unpruned one.

    But for the ridge, which is small, it is so to float rounding.
    """
    model, noise, judge = turning(dimensions)
    graph, batch = judge.loop, judge.batch
    # Not before enough values are known.
    skipped = [t for t in range(9) if t not in kept and sum(k < t for k in kept) >= dimensions]
    keep = torch.tensor([[t not in skipped] for t in range(9)])
    found = Candidate(GateTable.of(keep, start), history=3)
    assert sorted(stepwise_entries(judge, found)) == skipped
    for ridge, tolerance in ((RIDGE, 30 * RIDGE), (1e-12, 2e-6)):
        monkeypatch.setattr(least_squares, "RIDGE", ridge)
        led, result = fitted(judge, found)
        path = eager_path(model, noise, graph, batch, plan_of(graph, keep, led.table.weights))
        torch.testing.assert_close(path, batch.path, rtol=0, atol=tolerance)
        torch.testing.assert_close(result, batch.target, rtol=0, atol=tolerance)
    plain = eager_path(model, noise, graph, batch, plan_of(graph, keep, found.table.weights))
    assert (plain - batch.path).abs().max() > 0.1


def test_errors_so_far_are_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a sample that went astray the next skipped steps lead back as far as they can."""
    model, noise, judge = turning(3)
    one = judge.batch.part(torch.tensor([0]))  # three weights move one sample of width three anywhere
    found = candidate(judge.loop, (0, 1, 2))
    weights = found.table.weights.clone()
    weights[3, 0] = torch.tensor([5.0, 0.0, -3.0])
    found = found.with_weights(weights)
    entries = {step: [("weights", (step, 0, k)) for k in range(3)] for step in range(4, 9)}
    monkeypatch.setattr(least_squares, "stepwise_entries", lambda *_: entries)
    led, result = fitted(judge, found, one)
    assert torch.equal(led.table.weights[3], weights[3])
    plan = plan_of(judge.loop, found.table.keep, led.table.weights)
    path = eager_path(model, noise, judge.loop, one, plan)
    assert (path[3] - one.path[3]).abs().max() > 0.1
    torch.testing.assert_close(path[4:], one.path[4:], rtol=0, atol=1e-3)
    torch.testing.assert_close(path[5:], one.path[5:], rtol=0, atol=30 * RIDGE)
    assert torch.equal(result, path[-1])


def test_a_prediction_that_nobody_reads_keeps_its_weights() -> None:
    """A scheduler that gives the model no weight leaves nothing to fit."""
    _, _, judge = turning(2, 4, lambda p, x: 0.5 * x + 0.0 * p)
    found = candidate(judge.loop, (0, 1))
    led, result = fitted(judge, found)
    assert led.table == found.table
    assert torch.equal(result, judge.batch.target)
    assert led.loss == 0


# -- what is fitted, step by step

KEPT = [(0, 1, 2), (0, 3), (0, 2, 4), (0,)]
LOOPS = [
    *((name, None, False) for name in zoo.SCHEDULERS),
    *((name, 3.0, split) for name in ("ddim", "euler-a", "dpm++") for split in (False, True)),
]
# Every scheduler occurs, and every kept set without guidance, with it, and with it split.
FAST = [
    *((*plain, kept) for plain, kept in zip(LOOPS, KEPT * 3, strict=False)),
    *(
        (name, 3.0, split, kept)
        for split in (False, True)
        for name, kept in zip(("ddim", "euler-a", "dpm++", "ddim"), KEPT[:: -1 if split else 1], strict=True)
    ),
]


@pytest.mark.parametrize(
    ("scheduler", "guidance_scale", "split", "kept"),
    thinned([(*loop, kept) for loop, kept in product(LOOPS, KEPT)], FAST),
)
def test_no_step_gets_farther_from_the_path(
    scheduler: str, guidance_scale: float | None, split: bool, kept: tuple[int, ...]
) -> None:
    """Each skipped step ends at least as close to the path as with the weights that the fit started from.

    Both continue from where the fitted run is by then. Schedulers that clip are no exception.
    """
    graph, batch = case(scheduler, guidance_scale, split=split)
    judge, found = evaluator(scheduler, guidance_scale, split=split), candidate(graph, kept)
    start, weights = found.table.weights, fit_stepwise(judge, found).table.weights
    path = _path_with(weights, found, scheduler, graph, batch)
    for step in stepwise_entries(judge, found):
        other = _path_with(torch.cat([weights[:step], start[step:]]), found, scheduler, graph, batch)
        assert torch.equal(path[:step], other[:step])
        assert _distance(path, batch, step) <= _distance(other, batch, step)


def _distance(path: torch.Tensor, batch: Batch, step: int) -> float:
    return (path[step].double() - batch.path[step].double()).norm().item()


@pytest.mark.parametrize("scheduler", ["dpm++", "euler-a", "unipc", "flow-match"])
def test_weights_are_the_least_squares(scheduler: str) -> None:
    """Where the scheduler does not clip, no other weights do better than the ridge explains."""
    graph, batch = case(scheduler)
    judge, found = evaluator(scheduler), candidate(graph, (0, 1, 2))
    weights = fit_stepwise(judge, found).table.weights
    (head,) = judge.cost.reads.heads
    for step in stepwise_entries(judge, found):

        def after(entry: torch.Tensor, step: int = step) -> torch.Tensor:
            table = torch.cat([weights[:step], found.table.weights[step:]])
            table[step, head] = entry
            return _path_with(table, found, scheduler, graph, batch)[step].flatten().double()

        base = after(torch.zeros(3))
        columns = torch.stack([after(unit) - base for unit in torch.eye(3)], 1)
        wanted = batch.path[step].flatten().double() - base
        pull = RIDGE * columns.square().sum(0).mean()
        start = found.table.weights[step, head]

        def objective(
            entry: torch.Tensor,
            columns: torch.Tensor = columns,
            wanted: torch.Tensor = wanted,
            pull: torch.Tensor = pull,
            start: torch.Tensor = start,
        ) -> float:
            return ((columns @ entry - wanted).square().sum() + pull * (entry - start).square().sum()).item()

        reached = objective(weights[step, head])
        best = torch.linalg.lstsq(columns, wanted[:, None]).solution[:, 0]
        for share in (0.0, 0.5, 0.9, 1.0, 1.1):
            assert reached <= objective(start + share * (best - start)) * (1 + 1e-4)


@pytest.mark.parametrize(
    ("scheduler", "guidance_scale", "split"),
    [
        *((name, None, False) for name in ("ddim", "ddpm", "lcm", "pndm")),
        *((name, 3.0, split) for name in ("euler-a", "heun") for split in (False, True)),
        ("ddpm", 3.0, True),
    ],
)
def test_a_fitted_run_is_the_run_of_its_subnet(
    scheduler: str, guidance_scale: float | None, split: bool
) -> None:
    """The samples that are judged are those of the SubNet with the weights that are returned.

    Bit for bit, noise included: a forecast does what a SubNet's nodes do, with weights of one precision.
    """
    graph, batch = case(scheduler, guidance_scale, split=split)
    judge = evaluator(scheduler, guidance_scale, split=split)
    for kept in KEPT:
        found = candidate(graph, kept)
        led, result = fitted(judge, found)
        subnet = build(graph, plan_of(graph, found.table.keep, led.table.weights))
        with torch.no_grad():
            assert torch.equal(batch.run(subnet), result)
        assert led.loss == judge.evaluate(led).loss


@pytest.mark.parametrize("history", [2, 3])
@pytest.mark.parametrize("scheduler", ["ddim", "euler-a"])
def test_only_skipped_steps_are_fitted(scheduler: str, history: int) -> None:
    """Weights elsewhere stay, and so do those beyond the history and those of values not yet computed."""
    graph, batch = case(scheduler)
    judge = evaluator(scheduler)
    keep = candidate(graph, (0, 2)).table.keep.clone()
    keep[5, 1:] = True  # step 5 runs in part
    learned = scattered((graph.num_steps, len(graph.blocks)), history, 5).float()
    found = Candidate(GateTable(keep, learned), history)
    given = found.table.weights.clone()
    weights = fit_stepwise(judge, found, batch).table.weights
    assert torch.equal(found.table.weights, given)
    skipped = stepwise_entries(judge, found)
    assert sorted(skipped) == [1, 3, 4, 6]
    (head,) = judge.cost.reads.heads
    changed = (weights != given).nonzero().tolist()
    known = {step: min(int(keep[:step, head].sum()), history) for step in skipped}
    assert changed
    assert all(step in skipped and n == head and k < known[step] for step, n, k in changed)
    assert weights.dtype == torch.float64


@pytest.mark.parametrize("scheduler", ["ddim", *STOCHASTIC])
def test_fitting_is_deterministic(scheduler: str) -> None:
    """The same inputs give the same bits, and torch's own generator does not move."""
    judge, found = evaluator(scheduler), candidate(case(scheduler)[0], (0, 3))
    state = torch.get_rng_state()
    first = fit_stepwise(judge, found)
    torch.manual_seed(99)
    second = fit_stepwise(judge, found)
    torch.set_rng_state(state)
    third = fit_stepwise(judge, found)
    assert torch.equal(torch.get_rng_state(), state)
    assert first == second == third


def test_a_fit_costs_one_run() -> None:
    """What is charged is one run of the pruned loop, a share of it for a share of the samples."""
    judge, found = evaluator("ddim"), candidate(case("ddim")[0], (0, 3))
    kept = judge.cost.kept(found.table)
    for batch, share in ((None, 1.0), (judge.batch.first(1), 1 / 3)):
        before, evaluations = judge.budget.spent, len(judge.curve)
        fit_stepwise(judge, found, batch)
        assert judge.budget.spent - before == pytest.approx(kept * share)
        assert len(judge.curve) - evaluations == (batch is None)


def test_a_sample_that_nobody_reads_is_not_fitted() -> None:
    """Inside of a Runge-Kutta step only the model reads the sample: skipped, there is nothing to match."""
    judge = evaluator("pndm", None, "dit", 7)
    found = candidate(judge.loop, (0, 1, 2))
    before, after = judge.evaluate(found), fit_stepwise(judge, found)
    (head,) = judge.cost.reads.heads
    moved = (after.table.weights != found.table.weights)[:, head].any(1)
    # Twelve calls of the model make the three steps of the warm-up.
    assert moved[:12].tolist() == [t in (3, 7, 11) for t in range(12)]
    assert after.loss < before.loss


# -- steered calls

STEERED = [
    ("ddim", None, False),
    ("ddpm", None, False),
    ("lcm", None, False),
    ("pndm", None, False),
    ("dpm++", 3.0, False),
    ("euler-a", 3.0, True),
]


def steered(judge: Recording, runs: tuple[int, ...]) -> Candidate:
    """Return the candidate that makes all calls at some steps, steered."""
    found = whole_steps_candidate(judge, (runs,) * judge.cost.num_calls)
    assert found.steering is not None
    return found


@pytest.mark.parametrize("runs", [(0, 1, 2), (0, 3), (2, 3, 5), (1,)], ids=str)
@pytest.mark.parametrize("split", [False, True], ids=["plain", "split"])
def test_mixtures_are_fitted_where_they_matter(split: bool, runs: tuple[int, ...]) -> None:
    """Nothing at the first run; a skipped call's share of the sample; all where the next step runs too."""
    judge = evaluator("ddim", 3.0 if split else None, split=split)
    found, steps, first = steered(judge, runs), judge.cost.num_steps, runs[0]
    entries, heads = stepwise_entries(judge, found), judge.cost.reads.heads
    assert first not in entries
    for step in {*range(steps)} - {first}:
        if step in runs:
            mixed = min(step - first, 2) + 2 if step + 1 in runs or step + 1 == steps else 0
        else:
            mixed = int(step > first or not split)  # before that the calls have equal shares
        known = 0 if step in runs else min(sum(run < step for run in runs), HISTORY)
        expected = {("weights", (step, head, k)) for head in heads for k in range(known)}
        expected |= {("mix", (step, call, column)) for call in range(1 + split) for column in range(mixed)}
        own = entries.get(step, [])
        assert set(own) == expected
        assert len(own) == len(expected)
        assert [place for name, place in own if name == "mix"] == mixed_entries(judge, found, step)


@pytest.mark.parametrize("runs", [(0, 1, 2), (0, 3), (2, 3)], ids=str)
@pytest.mark.parametrize(("scheduler", "guidance_scale", "split"), STEERED)
def test_no_steered_step_gets_farther_from_the_path(
    scheduler: str, guidance_scale: float | None, split: bool, runs: tuple[int, ...]
) -> None:
    """Each step ends at least as close to the path as with the tables that the fit started from."""
    judge = evaluator(scheduler, guidance_scale, split=split)
    found = steered(judge, runs)
    fitted_tables = fit_stepwise(judge, found).tables(judge.batch.sample.device)
    given, entries = found.tables(judge.batch.sample.device), stepwise_entries(judge, found)
    path = _path(judge, found, fitted_tables)
    assert torch.equal(path[-1], judge.result)
    for step in entries:
        mixed = {name: torch.cat([fitted_tables[name][:step], given[name][step:]]) for name in given}
        other = _path(judge, found, mixed)
        assert torch.equal(path[:step], other[:step])
        assert _distance(path, judge.batch, step) <= _distance(other, judge.batch, step)


def _path(judge: Recording, found: Candidate, tables: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the samples after each step of a candidate's net, given its tables."""
    recorded = _Recorded(judge.learnable(found), judge.batch)
    with torch.no_grad():
        recorded.run_with(tables)
    return torch.stack(recorded.path)


@pytest.mark.parametrize(("scheduler", "guidance_scale", "split"), STEERED)
def test_only_what_is_fitted_changes(scheduler: str, guidance_scale: float | None, split: bool) -> None:
    """Tables elsewhere stay as they were, and what the model is told everywhere."""
    judge = evaluator(scheduler, guidance_scale, split=split)
    for runs in ((0, 1, 2), (2, 3)):
        found = steered(judge, runs)
        assert found.steering is not None
        led = fit_stepwise(judge, found)
        assert led.steering is not None
        assert torch.equal(led.steering.told, found.steering.told)
        given, after = found.tables(torch.device("cpu")), led.tables(torch.device("cpu"))
        places = [entry for own in stepwise_entries(judge, found).values() for entry in own]
        moved = [
            (name, tuple(place))
            for name in given
            for place in (after[name] != given[name]).nonzero().tolist()
        ]
        assert moved
        assert {*moved} <= {*places}
        assert any(name == "mix" for name, _ in moved)
        assert led.loss == judge.evaluate(led).loss


@pytest.mark.parametrize(
    ("scheduler", "guidance_scale", "split"),
    [
        ("dpm++", 3.0, False),
        ("euler-a", 3.0, True),
        ("lcm", None, False),
        ("unipc", None, False),
        ("flow-match", None, False),
    ],
)
@pytest.mark.parametrize("gone", [3, -1], ids=["middle", "last"])
def test_a_steered_step_gets_no_farther_than_a_plain_one(
    scheduler: str, guidance_scale: float | None, split: bool, gone: int
) -> None:
    """Of a plan that skips one step the fit is no worse there: it may take some of the sample too.

    So it is where the scheduler does not clip. At the last step, that is the loss of the samples.
    Where more are skipped later ones start from other samples, and nothing says which are better.
    """
    judge = evaluator(scheduler, guidance_scale, split=split)
    every = tuple(range(judge.cost.num_steps))
    found = steered(judge, tuple(step for step in every if step != every[gone]))
    distances = []
    for each in (found, replace(found, steering=None)):
        led = fit_stepwise(judge, each)
        path = _path(judge, led, led.tables(judge.batch.sample.device))
        distances.append(_distance(path, judge.batch, every[gone]))
    assert distances[0] <= distances[1]
