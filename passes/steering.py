"""What a plan changes of the model's calls beside its gates, at no MACs: a table for each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from .equality import ComparedByValue

NEUTRAL = (0.0, 1.0, 0.0, 0.0)
"""The mixture that hands a prediction on as it is."""
SAMPLE_ALONE = (1.0, 0.0, 0.0, 0.0)
"""The mixture that takes the sample for the prediction."""
MIXED = len(NEUTRAL)


@dataclass(frozen=True, eq=False)
class Steering(ComparedByValue):
    """How T steps of C calls of the model each are steered.

    A plan that skips steps is a multistep sampler; with these it can be all that a learned one can.

    Attributes:
        told: `(T,)` float64, above 0: the model is told the timestep times this.
        mix: `(T, C, 4)` float64: what is taken for a call's prediction is this much of the sample that the
            call is given, of its own prediction, of the same call's prediction one step earlier and two
            steps earlier (before they were mixed). `(0, 1, 0, 0)` is the prediction as it is, which that of
            a call's first run has to be. Rows before that are `(a, 0, 0, 0)`: noise is most of what a sample
            is at the start, so some of the sample may stand for the prediction.

    Raises `ValueError` for tables of other shapes, or for what they must not hold.
    """

    told: torch.Tensor
    mix: torch.Tensor

    def __post_init__(self) -> None:
        """Check both tables."""
        for name in ("told", "mix"):
            table = torch.as_tensor(getattr(self, name)).detach().cpu()
            if table.dtype == torch.bool or table.is_complex():
                raise ValueError(f"{name} must be real numbers, got {table.dtype}")
            if not bool(torch.isfinite(table).all()):
                raise ValueError(f"{name} must be finite")
            object.__setattr__(self, name, table.double().clone())
        if self.told.dim() != 1 or not len(self.told) or not bool((self.told > 0).all()):
            raise ValueError(f"told must be T numbers above 0, got shape {tuple(self.told.shape)}")
        if self.mix.dim() != 3 or self.mix.shape[::2] != (len(self.told), MIXED) or not self.mix.shape[1]:
            raise ValueError(
                f"mix must have shape ({len(self.told)}, calls of a step, {MIXED}), got "
                f"{tuple(self.mix.shape)}"
            )
        for call, first in enumerate(self.firsts):
            if first == len(self.told):
                raise ValueError("each call of a step must run at one step at least")
            if tuple(self.mix[first, call].tolist()) != NEUTRAL:
                raise ValueError(f"mix[{first}, {call}] must be {NEUTRAL}: nothing came before")
            if bool((self.mix[first + 1 : first + 2, call, 3] != 0).any()):
                raise ValueError(
                    f"mix[{first + 1}, {call}] must not read two steps earlier: nothing ran there"
                )
        if len({*self.firsts}) > 1:
            raise ValueError(f"all calls of a step must begin at the same one, got {self.firsts}")
        early = self.mix[: self.firsts[0], :, 0]
        if not bool((early == early[:, :1]).all()):
            raise ValueError("before the first run all calls of a step must take as much of the sample")

    @cached_property
    def firsts(self) -> tuple[int, ...]:
        """The first step that makes each call; before it the sample stands for its prediction."""
        reads = (self.mix[..., 1:] != 0).any(-1).long()
        return tuple(int((reads[:, call].cumsum(0) == 0).sum()) for call in range(reads.shape[1]))

    @classmethod
    def neutral(cls, steps: int, firsts: Sequence[int]) -> Steering:
        """Return the steering that changes nothing, but for the steps before the first run of each call.

        There the sample is taken for the prediction.
        """
        mix = torch.tensor(NEUTRAL, dtype=torch.float64).repeat(steps, len(firsts), 1)
        for call, first in enumerate(firsts):
            mix[:first, call] = torch.tensor(SAMPLE_ALONE, dtype=torch.float64)
        return cls(torch.ones(steps, dtype=torch.float64), mix)

    @cached_property
    def tells(self) -> bool:
        """Whether the model is told anything but the timesteps as they are."""
        return bool((self.told != 1).any())

    @property
    def is_neutral(self) -> bool:
        """Whether nothing is changed."""
        return self == Steering.neutral(len(self.told), [0] * self.mix.shape[1])

    def from_step(self, start: int) -> Steering:
        """Return the steering of a run that leaves the steps before `start` out; its first runs as it is.

        What would read a prediction before that reads the nearest there is, and no sample stands for one.
        """
        mix = self.mix[start:].clone()
        mix[: max(1, self.firsts[0] - start)] = torch.tensor(NEUTRAL, dtype=torch.float64)
        mix[1:2, :, 2] += mix[1:2, :, 3]
        mix[1:2, :, 3] = 0
        return Steering(self.told[start:], mix)

    def of_call(self, call: int) -> list[list[float]]:
        """Return the T mixtures of a call of a step."""
        rows: list[list[float]] = self.mix[:, call].tolist()
        return rows
