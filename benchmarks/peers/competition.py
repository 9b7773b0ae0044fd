"""Each method's best setting for each share of MACs, run on inputs that it was not chosen on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .core import NOTHING, SLACK, Method, Outcome, PeerSampler, Setting, Task, best_within, outcome, sweep


@dataclass(frozen=True)
class Choice:
    """A method's best setting for a share of MACs, chosen on the task's sample and run on another.

    Attributes:
        method: its name.
        asked: share of the loop's MACs that may be kept.
        curve: all settings that were tried, on the task's sample.
        outcome: the chosen setting on the other sample, or `None` if no setting keeps so little.
    """

    method: str
    asked: float
    curve: tuple[Outcome, ...]
    outcome: Outcome | None

    @property
    def remark(self) -> str:
        """Say why there is no outcome, in the package's own words where it raised."""
        if self.outcome is not None:
            return self.outcome.error
        ran = [o for o in self.curve if not o.error]
        if not ran:
            return self.curve[0].error if self.curve else "no settings"
        least = min(o.kept for o in ran)
        return "skips nothing" if least >= 1 else f"keeps {least:.3f} or more"


def compete(
    task: Task,
    sample: torch.Tensor,
    conditioning: Mapping[str, Any],
    methods: Iterable[Method],
    slack: float = SLACK,
) -> Iterator[Choice]:
    """Choose each method's setting for each share that is asked for, and run it on inputs not seen before."""
    target = PeerSampler(task, NOTHING, Setting())(sample, **conditioning)
    for method in methods:
        curve = tuple(sweep(task, [method]))
        known: dict[int, Outcome] = {}
        for asked in task.asked:
            best = best_within(curve, asked, slack)
            if best is not None and id(best) not in known:
                known[id(best)] = outcome(best.sampler, sample, conditioning, target)
            yield Choice(method.name, asked, curve, known.get(id(best)))
