"""All settings of a method on a task's sample, and the best of them for a share of MACs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    def full_runs(self) -> float:
        """What all of them cost, in unpruned runs of the task's sample."""
        return sum(outcome.kept for outcome in self.ran)

    @property
    def error(self) -> str:
        """The package's own words if nothing ran."""
        return "" if self.ran else self.outcomes[0].error

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
    try:
        latents = sampler(sample, **conditioning)
    except Exception as error:  # whatever a package raises is a finding
        return _failed(sampler, error)
    macs, full = sampler.macs, sampler.task.full
    without_attention = macs.without_attention / full.without_attention
    return Outcome(sampler, macs.total / full.total, without_attention, psnr(latents, target))


def _sweep(task: Task, method: Method) -> Iterator[Outcome]:
    """Run every setting, or yield the error of a method that has none."""
    try:
        with quiet():
            settings = list(method.settings(task))
    except Exception as error:
        yield _failed(PeerSampler(task, method, Setting()), error)
        return
    for setting in settings:
        sampler = PeerSampler(task, method, setting)
        yield outcome_of(sampler, task.sample, task.conditioning, task.target)


def _failed(sampler: PeerSampler, error: Exception) -> Outcome:
    return Outcome(sampler, error=f"{type(error).__name__}: {error}")
