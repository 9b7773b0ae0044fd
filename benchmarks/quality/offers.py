"""What each method offers for a ratio, chosen on calibration inputs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from benchmarks import peers
from benchmarks.cases import CALIBRATION, Case
from benchmarks.plans import PLAN_METHODS, Effort, Found, OutOfReachError, PlanMethod, compiled
from benchmarks.results_store import ResultStore
from dipgo_fx.macs import Cost

from .rows import CurvePoint
from .targets import Targets

logger = logging.getLogger("benchmarks.quality")
OUT_OF_REACH = OutOfReachError.__name__

Sampler = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        targets: what results are held against.
        samples: held-out samples.
        chunk: of them that run together.
        tune: calibration samples on which a package's settings are tried.
        effort: what searches may spend.
    """

    targets: Targets
    samples: int = 256
    chunk: int = 64
    tune: int = 16
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True)
class Spent:
    """What finding a method's choice took; one search that serves several ratios counts whole for each.

    Attributes:
        full_runs: in unpruned runs of 48 samples.
        seconds: of the search, on the machine that measured.
        images: samples that were brought to the end on all samples of the search, or on those that settings
            were tried on; of a package that searches inside a setting, one set a setting.
    """

    full_runs: float = 0.0
    seconds: float = 0.0
    images: int = 0


@dataclass(frozen=True)
class Offer:
    """A method's choice for a ratio, to be run on held-out inputs.

    Attributes:
        run: the sampler.
        cost: MACs of its last run for one sample.
        spent: what finding it took.
        search_samples: that a search chose it on.
        tuning_samples: that settings were tried on.
        settings_tried: of a package.
        settings_failed: of these, those that could not run.
        error: why there is none; the others then mean nothing.
    """

    ratio: float
    run: Sampler | None = None
    cost: Callable[[], Cost] = Cost
    spent: Spent = Spent()
    search_samples: int | None = None
    tuning_samples: int | None = None
    settings_tried: int | None = None
    settings_failed: int | None = None
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
        start = time.perf_counter()
        try:
            found = method.find(case, ratio, options.effort)
        except ValueError as error:
            yield Offer(ratio, error=f"{type(error).__name__}: {error}")
        except Exception:  # a bug of ours: no row, so that the next run tries again, and the others go on
            logger.exception("%s: %s at %s", case.name, method.name, ratio)
        else:
            spent = spent_on(case, found, time.perf_counter() - start)
            loop = compiled(case, found.plan)
            yield Offer(ratio, loop, _always(loop.report.after), spent, found.samples)
        case.forget_evaluators()


def spent_on(case: Case, found: Found, seconds: float) -> Spent:
    """Return what a plan took.

    A search of `prune` says so itself, and stands for every plan that it left; of other methods the seconds
    were measured, and the case's evaluators know what they generated.
    """
    for origin in (found.plan.origin, *(plan.origin for plan in case.trained.values())):
        runs = origin.get("full_runs", 0.0) * origin.get("samples", 0) / CALIBRATION
        if "seconds" in origin and math.isclose(runs, found.full_runs):
            images = (1 + len(origin["curve"])) * int(origin["samples"])
            return Spent(found.full_runs, float(origin["seconds"]), images)
    return Spent(found.full_runs, seconds, case.generated)


def offers_of_peer(
    case: Case,
    method: peers.Method,
    options: Options,
    curves: ResultStore[CurvePoint] | None,
    ratios: Sequence[float],
) -> Iterator[Offer]:
    """Try all settings of a package on calibration noise and yield the best for every ratio."""
    start = time.perf_counter()
    curve = peers.Curve.of(peers.Task.of(case, options.tune, ratios, options.effort.full_runs), method)
    seconds = time.perf_counter() - start
    if curves is not None:
        for outcome in curve.outcomes:
            curves.add(_point(case, method, outcome))
    for ratio in ratios:
        best = curve.best(1 - ratio)
        if best is None:
            yield Offer(ratio, error=curve.error or f"{OUT_OF_REACH}: {curve.reach}")
        else:
            run, cost = best.sampler, _last_of(best.sampler)
            spent = spent_on_settings(curve, round(1 - ratio, 6), options.tune, seconds)
            yield Offer(ratio, run, cost, spent, None, options.tune, len(curve.outcomes), len(curve.failed))


def spent_on_settings(curve: peers.Curve, asked: float, samples: int, seconds: float) -> Spent:
    """Return what choosing a setting for a share took, of seconds that shares took together its part."""
    own, every = curve.full_runs_for(asked), curve.full_runs
    runs = sum(outcome.setting.asked in (None, asked) for outcome in curve.ran)
    part = own / every if every else 1.0
    return Spent(own * samples / CALIBRATION, seconds * part, (1 + runs) * samples)


def _always(cost: Cost) -> Callable[[], Cost]:
    return lambda: cost


def _last_of(sampler: peers.PeerSampler) -> Callable[[], Cost]:
    return lambda: sampler.macs


def _point(case: Case, method: peers.Method, outcome: peers.Outcome) -> CurvePoint:
    about = (case.name, case.scheduler_name, case.steps, method.name, str(outcome.setting))
    if outcome.error:
        return CurvePoint(*about, None, None, None, case.seed, outcome.error, case.other_guidance)
    numbers = (round(outcome.kept, 4), round(outcome.kept_without_attention, 4), round(outcome.psnr, 2))
    return CurvePoint(*about, *numbers, case.seed, guidance=case.other_guidance)
