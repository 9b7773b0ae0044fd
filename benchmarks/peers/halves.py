"""Guidance whose unconditional call is left out at some steps and forecast there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from dipgo_fx.conditioning import map_rows


class ForecastHalves:
    """A call of the model under guidance, good for one run.

    Where only the conditional half runs, its difference to the unconditional one is a weighted sum of the
    differences seen so far; repeating the last one is `LinearAG`'s simplest form.

    Args:
        call: the model on both halves, unconditional rows first.
        both: for each step whether both halves run.
        weights: `(m, m)`, row i holds what the difference seen at step j counts at step i.
        seen: differences of a run that this one continues, by step.
        step: the first to be called.
    """

    def __init__(
        self,
        call: Callable[..., torch.Tensor],
        both: Sequence[bool],
        weights: torch.Tensor,
        seen: Mapping[int, torch.Tensor] | None = None,
        step: int = 0,
    ) -> None:
        self.call, self.both, self.weights, self.step = call, both, weights, step
        self.seen = {at: value for at, value in (seen or {}).items() if at < step}

    def __call__(self, sample: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        """Return predictions of both halves."""
        step, self.step = self.step, self.step + 1
        if self.both[step]:
            both = self.call(sample, timestep=timestep, **conditioning)
            unconditional, conditional = both.chunk(2)
            self.seen[step] = conditional - unconditional
            return both
        half = len(sample) // 2
        rows = map_rows(lambda rows: rows[len(rows) // 2 :], conditioning, frozenset())
        conditional = self.call(sample[half:], timestep=timestep[half:], **rows)
        terms = [self.weights[step, at].to(sample) * seen for at, seen in self.seen.items()]
        return torch.cat([conditional - torch.stack(terms).sum(0), conditional])


def repeating(both: Sequence[bool]) -> torch.Tensor:
    """Return the weights that repeat the last difference seen."""
    weights = torch.zeros(len(both), len(both), dtype=torch.float64)
    for step, runs in enumerate(both):
        if not runs:
            weights[step, max(at for at in range(step) if both[at])] = 1
    return weights
