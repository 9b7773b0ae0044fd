"""All settings of a method on a task's sample, and the best of them for a share of MACs."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dipgo_fx.search.losses import psnr

from .core import Method, PeerSampler, Setting, Task, quiet

# In the peers' favour: with few steps their settings are far apart, and a solver's own products count.
SLACK = 0.0125


@dataclass(frozen=True)
class Outcome:
    """One run of one setting; `error` holds the package's own words where it could not run.

    Attributes:
        sampler: runs the same setting on other samples.
        kept: share of the unpruned loop's MACs.
        kept_without_attention: likewise, in the other convention.
        psnr: to the unpruned result, in dB.
    """

    sampler: PeerSampler
    kept: float = float("nan")
    kept_without_attention: float = float("nan")
    psnr: float = float("nan")
    error: str = ""

    @property
    def setting(self) -> Setting:
        """What ran."""
        return self.sampler.setting

    @property
    def full_runs(self) -> float:
        """What finding and running it cost, in unpruned runs; of a run that failed what is not known is 0."""
        return self.setting.spent + (0.0 if math.isnan(self.kept) else self.kept)


@dataclass(frozen=True)
class Curve:
    """All settings of a method, each run once on the task's sample."""

    outcomes: tuple[Outcome, ...]

    @classmethod
    def of(cls, task: Task, method: Method) -> Curve:
        """Run every setting that a method has for a task."""
        return cls(tuple(_sweep(task, method)))

    @property
    def ran(self) -> list[Outcome]:
        """The settings that could run."""
        return [outcome for outcome in self.outcomes if not outcome.error]

    @property
    def failed(self) -> list[Outcome]:
        """The settings that could not."""
        return [outcome for outcome in self.outcomes if outcome.error]

    @property
    def full_runs(self) -> float:
        """What all of them cost, in unpruned runs of the task's sample."""
        return sum(outcome.full_runs for outcome in self.outcomes)

    def full_runs_for(self, asked: float) -> float:
        """Return what those cost that may be chosen for the share `asked`: not what others were found for."""
        own = (each for each in self.outcomes if each.setting.asked in (None, asked))
        return sum(outcome.full_runs for outcome in own)

    @property
    def error(self) -> str:
        """The package's own words if nothing ran."""
        return "" if self.ran else next((each.error for each in self.outcomes), "no setting")

    @property
    def reach(self) -> str:
        """How little the cheapest setting keeps."""
        least = min(outcome.kept for outcome in self.ran)
        return "skips nothing" if least >= 1 else f"keeps {least:.3f} or more"

    def best(self, kept: float, slack: float = SLACK) -> Outcome | None:
        """Return the outcome of highest PSNR among those that keep at most `kept + slack`, or `None`."""
        fitting = [outcome for outcome in self.ran if outcome.kept <= kept + slack]
        return max(fitting, key=lambda outcome: (outcome.psnr, outcome.kept), default=None)


def outcome_of(
    sampler: PeerSampler, sample: torch.Tensor, conditioning: Mapping[str, Any], target: torch.Tensor
) -> Outcome:
    """Run a sampler and compare its result with the unpruned one."""
    if sampler.setting.error:
        return Outcome(sampler, error=sampler.setting.error)
    try:
        latents = sampler(sample, **conditioning)
    except Exception as error:  # whatever a package raises is a finding
        return Outcome(sampler, error=words(error))
    macs, full = sampler.macs, sampler.task.full
    kept, without_attention = macs.total / full.total, macs.without_attention / full.without_attention
    if not bool(latents.isfinite().all()):
        return Outcome(sampler, kept, without_attention, error="ValueError: the samples are not finite")
    return Outcome(sampler, kept, without_attention, psnr(latents, target))


def words(error: Exception) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {error}"


def _sweep(task: Task, method: Method) -> Iterator[Outcome]:
    """Run every setting; where there is no next one for an error, that is the last outcome."""
    settings: Iterator[Setting] | None = None
    outcome: Outcome | None = None
    while True:
        try:
            with quiet():
                settings = iter(method.settings(task)) if settings is None else settings
                setting = _next(settings, outcome)
        except StopIteration:
            return
        except Exception as error:  # whatever a package raises is a finding
            yield Outcome(PeerSampler(task, method, Setting()), error=words(error))
            return
        sampler = PeerSampler(task, method, setting)
        outcome = outcome_of(sampler, task.sample, task.conditioning, task.target)
        yield outcome


def _next(settings: Iterator[Setting], outcome: Outcome | None) -> Setting:
    """Return the next setting, of a generator as its answer to the outcome of the last one."""
    return settings.send(outcome) if isinstance(settings, Generator) else next(settings)
