"""What each method offers for a ratio, chosen on calibration inputs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from benchmarks import peers
from benchmarks.cases import CALIBRATION, Case
from benchmarks.plans import PLAN_METHODS, Effort, OutOfReachError, PlanMethod, compiled
from benchmarks.results_store import ResultStore
from dipgo_fx.macs import Cost

from .rows import CurvePoint

logger = logging.getLogger("benchmarks.quality")
OUT_OF_REACH = OutOfReachError.__name__

Sampler = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        samples: held-out samples.
        chunk: of them that run together.
        tune: calibration samples on which a package's settings are tried.
        effort: what searches may spend.
    """

    samples: int = 256
    chunk: int = 64
    tune: int = 16
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True)
class Offer:
    """A method's choice for a ratio, to be run on held-out inputs.

    Attributes:
        run: the sampler.
        cost: MACs of its last run for one sample.
        full_runs: what finding it cost, in unpruned runs of 48 samples.
        search_samples: that a search chose it on.
        tuning_samples: that settings were tried on.
        error: why there is none; the others then mean nothing.
    """

    ratio: float
    run: Sampler | None = None
    cost: Callable[[], Cost] = Cost
    full_runs: float = 0.0
    search_samples: int | None = None
    tuning_samples: int | None = None
    error: str = ""


@dataclass(frozen=True)
class Contender:
    """A method by name, and what yields its offers for ratios."""

    name: str
    offers: Callable[[Sequence[float]], Iterator[Offer]]


def contenders(
    case: Case, names: Sequence[str] | None, options: Options, curves: ResultStore[CurvePoint] | None
) -> Iterator[Contender]:
    """Yield the methods of these names that suit a case, all if `None`: ours first, then packages."""
    for plan in PLAN_METHODS:
        if plan.suits(case) and (names is None or plan.name in names):
            yield Contender(plan.name, partial(offers_of_plans, case, plan, options))
    for peer in peers.METHODS:
        if names is None or peer.name in names:
            yield Contender(peer.name, partial(offers_of_peer, case, peer, options, curves))


def offers_of_plans(
    case: Case, method: PlanMethod, options: Options, ratios: Sequence[float]
) -> Iterator[Offer]:
    """Yield the plans of a method, compiled."""
    for ratio in ratios:
        try:
            found = method.find(case, ratio, options.effort)
        except ValueError as error:
            yield Offer(ratio, error=f"{type(error).__name__}: {error}")
        except Exception:  # a bug of ours: no row, so that the next run tries again, and the others go on
            logger.exception("%s: %s at %s", case.name, method.name, ratio)
        else:
            loop = compiled(case, found.plan)
            yield Offer(ratio, loop, _always(loop.report.after), found.full_runs, found.samples)


def offers_of_peer(
    case: Case,
    method: peers.Method,
    options: Options,
    curves: ResultStore[CurvePoint] | None,
    ratios: Sequence[float],
) -> Iterator[Offer]:
    """Try all settings of a package on calibration noise and yield the best for every ratio."""
    curve = peers.Curve.of(peers.Task.of(case, options.tune, ratios, options.effort.full_runs), method)
    spent = curve.full_runs * options.tune / CALIBRATION
    if method is peers.SUBSET:
        spent += options.effort.full_runs  # at most, for each ratio
    if curves is not None:
        for outcome in curve.ran:
            curves.add(_point(case, method, outcome))
    for ratio in ratios:
        best = curve.best(1 - ratio)
        if best is None:
            yield Offer(ratio, error=curve.error or f"{OUT_OF_REACH}: {curve.reach}")
        else:
            yield Offer(ratio, best.sampler, _last_of(best.sampler), spent, tuning_samples=options.tune)


def _always(cost: Cost) -> Callable[[], Cost]:
    return lambda: cost


def _last_of(sampler: peers.PeerSampler) -> Callable[[], Cost]:
    return lambda: sampler.macs


def _point(case: Case, method: peers.Method, outcome: peers.Outcome) -> CurvePoint:
    return CurvePoint(
        case.name,
        case.scheduler_name,
        case.steps,
        method.name,
        str(outcome.setting),
        round(outcome.kept, 4),
        round(outcome.kept_without_attention, 4),
        round(outcome.psnr, 2),
        case.seed,
    )
