"""What each method offers for a ratio, chosen on calibration inputs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

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
            yield Contender(plan.name, _plans(case, plan, options))
    for peer in peers.METHODS:
        if names is None or peer.name in names:
            yield Contender(peer.name, _settings(case, peer, options, curves))


def _plans(case: Case, method: PlanMethod, options: Options) -> Callable[[Sequence[float]], Iterator[Offer]]:
    return lambda ratios: offers_of_plans(case, method, ratios, options)


def _settings(
    case: Case, method: peers.Method, options: Options, curves: ResultStore[CurvePoint] | None
) -> Callable[[Sequence[float]], Iterator[Offer]]:
    return lambda ratios: offers_of_peer(case, method, ratios, options, curves)


def offers_of_plans(
    case: Case, method: PlanMethod, ratios: Sequence[float], options: Options
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
    ratios: Sequence[float],
    options: Options,
    curves: ResultStore[CurvePoint] | None,
) -> Iterator[Offer]:
    """Try all settings of a package on calibration noise and yield the best for every ratio."""
    outcomes = list(peers.sweep(_task(case, ratios, options), [method]))
    ran = [outcome for outcome in outcomes if not outcome.error]
    spent = sum(outcome.kept for outcome in ran) * options.tune / CALIBRATION
    if method is peers.SUBSET:
        spent += options.effort.full_runs  # at most, for each ratio
    if curves is not None:
        for outcome in ran:
            curves.add(_point(case, outcome))
    for ratio in ratios:
        best = peers.best_within(outcomes, 1 - ratio)
        if best is None:
            yield Offer(ratio, error=_reason(outcomes))
        else:
            yield Offer(ratio, best.sampler, _last_of(best.sampler), spent, tuning_samples=options.tune)


def _task(case: Case, ratios: Sequence[float], options: Options) -> peers.Task:
    tuning = case.inputs(options.tune, held_out=False)
    return peers.Task(
        case.model,
        case.scheduler,
        case.steps,
        tuning.sample,
        tuning.conditioning,
        case.guidance,
        asked=tuple(round(1 - ratio, 6) for ratio in ratios),
        # A package that searches may spend what our search spends, here on other samples.
        full_runs=options.effort.full_runs * case.samples / options.tune,
    )


def _always(cost: Cost) -> Callable[[], Cost]:
    return lambda: cost


def _last_of(sampler: peers.PeerSampler) -> Callable[[], Cost]:
    return lambda: sampler.macs


def _reason(outcomes: Sequence[peers.Outcome]) -> str:
    """Say why no setting serves, in the package's own words where it raised."""
    kept = [outcome.kept for outcome in outcomes if not outcome.error]
    if not kept:
        return outcomes[0].error if outcomes else f"{OUT_OF_REACH}: no settings"
    return f"{OUT_OF_REACH}: keeps {min(kept):.3f} or more"


def _point(case: Case, outcome: peers.Outcome) -> CurvePoint:
    return CurvePoint(
        case.name,
        case.scheduler_name,
        case.steps,
        outcome.method,
        str(outcome.setting),
        round(outcome.kept, 4),
        round(outcome.kept_without_attention, 4),
        round(outcome.psnr, 2),
        case.seed,
    )
