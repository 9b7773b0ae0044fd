"""Skipped steps by least squares on the unpruned predictions, nearest to OLSS, IIA and L2P.

Each skipped step's prediction is a weighted sum of the last three that were computed, with the weights that
fit it best on unpruned runs: errors of the pruned run itself are not seen, which is what our search differs
in. Steps are spread evenly, by measured sensitivity, or by dynamic programming over the same fits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import torch

from benchmarks.cases import Case
from dipgo_fx.budget import kept_of
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.frontier import whole_steps_table
from dipgo_fx.guidance import Guidance
from dipgo_fx.passes import HISTORY, GateTable
from dipgo_fx.passes.gate_table import last_kept
from dipgo_fx.search.batch import Batch
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.effort import EXPONENTS, LAST_GAPS
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.refine import SENSITIVITY_SHARE
from dipgo_fx.search.sensitivity import sensitivities
from dipgo_fx.search.spacing import even_steps, most_steps, place_steps

from .method import Effort, Found, PlanMethod, found_by

RIDGE = 1e-5  # pull towards linear extrapolation, relative to the size of the predictions
FINALISTS = 4

Placer = Callable[[Evaluator, torch.Tensor, int, Effort], Iterator[tuple[int, ...]]]


def fitted_plan(case: Case, ratio: float, effort: Effort, places: Placer) -> Found:
    """Return the best of some plans of whole steps whose weights were fitted to unpruned predictions.

    All are evaluated on a third of the calibration samples, the best few on all.
    """
    evaluator = case.evaluator()
    cost, batch = evaluator.cost, evaluator.batch
    gram = gram_of(predictions(case, batch))
    count = max(1, most_steps(cost, (), kept_of(ratio, cost), HISTORY)[-1])
    chosen = dict.fromkeys(places(evaluator, gram, count, effort))
    candidates = [Candidate(fitted_table(evaluator, gram, steps), HISTORY) for steps in chosen]
    few = batch.first(max(1, len(batch) // 3))
    short = sorted((evaluator.evaluate(each, few) for each in candidates), key=lambda each: each.loss)
    return found_by(evaluator, [evaluator.evaluate(each) for each in short[:FINALISTS]])


@torch.no_grad()
def predictions(case: Case, batch: Batch) -> torch.Tensor:
    """Return what the unpruned loop hands to its scheduler at each step, `(T, values)`.

    That is the run which the evaluator has charged for.
    """
    own, found = prepared(case.scheduler, case.steps), []
    step = own.step

    @functools.wraps(step)
    def noting(prediction: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        found.append(prediction.flatten().double())
        return step(prediction, *args, **kwargs)

    own.step = noting
    guidance = Guidance(case.guidance)
    denoise(case.model, own, batch.sample, batch.conditioning, guidance, generator=batch.generators())
    return torch.stack(found)


def gram_of(values: torch.Tensor) -> torch.Tensor:
    """Return all products of two steps' predictions, which is all that least squares needs."""
    return (values @ values.T / values.shape[1]).cpu()


def fitted_weights(gram: torch.Tensor, step: int, known: Sequence[int], start: torch.Tensor) -> torch.Tensor:
    """Return the weights of the computed steps `known` that fit the prediction of `step`, from a start."""
    rows = list(known)
    own = gram[rows][:, rows]
    pull = RIDGE * own.diagonal().mean() * torch.eye(len(rows), dtype=gram.dtype)
    return start + torch.linalg.solve(own + pull, gram[rows, step] - own @ start)


def fitted_table(evaluator: Evaluator, gram: torch.Tensor, steps: tuple[int, ...]) -> GateTable:
    """Return the table that runs `steps` and forecasts the others' predictions by fitted weights."""
    cost = evaluator.cost
    linear = whole_steps_table(cost, (steps,) * cost.num_calls)
    weights, head = linear.weights.clone(), cost.reads.heads[0]
    for step, past in enumerate(last_kept(linear.keep_rows)):
        known = list(dict.fromkeys(past[head]))
        if not linear.keep_rows[step][head]:
            start = linear.weights[step, head, : len(known)]
            for each in cost.reads.heads:
                weights[step, each, : len(known)] = fitted_weights(gram, step, known, start)
    return GateTable(linear.keep, weights)


# -- which steps


def evenly(evaluator: Evaluator, gram: torch.Tensor, count: int, effort: Effort) -> Iterator[tuple[int, ...]]:
    """Yield ways to spread steps evenly."""
    return even_steps(evaluator.cost.num_steps, count)


def by_sensitivity(
    evaluator: Evaluator, gram: torch.Tensor, count: int, effort: Effort
) -> Iterator[tuple[int, ...]]:
    """Yield the places that our search has, at the same cost."""
    (sensitivity, *_) = sensitivities(evaluator, SENSITIVITY_SHARE * effort.of_default)
    for exponent, last_gap in product(EXPONENTS, LAST_GAPS):
        yield place_steps(sensitivity, count, exponent, last_gap)


def by_programming(
    evaluator: Evaluator, gram: torch.Tensor, count: int, effort: Effort
) -> Iterator[tuple[int, ...]]:
    """Yield the steps of least summed error of the fits, plain and relative to the predictions' change."""
    change = (gram.diagonal()[1:] + gram.diagonal()[:-1] - 2 * gram.diagonal(1)).clamp(min=1e-12)
    slow = torch.cat([change[:1], change])
    for power in (0.0, 0.25, 0.5, 0.75):
        yield programmed(gram, count, slow**-power)


def programmed(gram: torch.Tensor, count: int, weights: torch.Tensor) -> tuple[int, ...]:
    """Return the `count` steps with the least weighted sum of squared errors at the others.

    Dynamic programming over the last three computed steps, which are all that a fit reads.
    """
    total = len(gram)

    @functools.cache
    def gap(known: tuple[int, ...], stop: int) -> float:
        start = torch.zeros(len(known), dtype=gram.dtype)
        start[0] = 1
        return sum(float(weights[t]) * _error(gram, t, known, start) for t in range(known[0] + 1, stop))

    best: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {(0,): (0.0, (0,))}
    for _ in range(count - 1):
        following: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {}
        for known, (error, chosen) in best.items():
            for step in range(known[0] + 1, total):
                reached = (error + gap(known, step), (*chosen, step))
                state = (step, *known)[:HISTORY]
                following[state] = min(following.get(state, reached), reached)
        best = following
    return min((error + gap(known, total), chosen) for known, (error, chosen) in best.items())[1]


def _error(gram: torch.Tensor, step: int, known: Sequence[int], start: torch.Tensor) -> float:
    """Return the mean squared error of a fit."""
    fit = fitted_weights(gram, step, known, start)
    rows = list(known)
    return float(gram[step, step] - 2 * fit @ gram[rows, step] + fit @ gram[rows][:, rows] @ fit)


def _method(name: str, places: Placer) -> PlanMethod:
    return PlanMethod(
        f"fitted to unpruned values, {name}",
        lambda case, ratio, effort: fitted_plan(case, ratio, effort, places),
    )


FITTED_EVENLY = _method("even steps", evenly)
FITTED_BY_SENSITIVITY = _method("steps by sensitivity", by_sensitivity)
FITTED_BY_PROGRAMMING = _method("steps by dynamic programming", by_programming)
