"""What a plan changes of the model's calls beside its gates, at no MACs: a table for each step."""

from __future__ import annotations

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
        first = self.first
        if first == len(self.told):
            raise ValueError("the model must be called at one step at least")
        if not bool((self.mix[first] == torch.tensor(NEUTRAL, dtype=torch.float64)).all()):
            raise ValueError(f"mix[{first}] must be {NEUTRAL} for every call: nothing came before")
        if bool((self.mix[first + 1 : first + 2, :, 3] != 0).any()):
            raise ValueError(f"mix[{first + 1}] must not read two steps earlier: nothing ran there")
        early = self.mix[:first, :, 0]
        if not bool((early == early[:, :1]).all()):
            raise ValueError("before the first run all calls of a step must take as much of the sample")

    @cached_property
    def first(self) -> int:
        """The first step that calls the model; before it the sample stands for predictions."""
        reads = (self.mix[..., 1:] != 0).flatten(1).any(1).long()
        return int((reads.cumsum(0) == 0).sum())

    @classmethod
    def neutral(cls, steps: int, calls: int, first: int = 0) -> Steering:
        """Return the steering that changes nothing but that steps before `first` take the sample."""
        mix = torch.tensor(NEUTRAL, dtype=torch.float64).repeat(steps, calls, 1)
        mix[:first] = torch.tensor(SAMPLE_ALONE, dtype=torch.float64)
        return cls(torch.ones(steps, dtype=torch.float64), mix)

    @cached_property
    def tells(self) -> bool:
        """Whether the model is told anything but the timesteps as they are."""
        return bool((self.told != 1).any())

    @property
    def is_neutral(self) -> bool:
        """Whether nothing is changed."""
        return self == Steering.neutral(*self.mix.shape[:2])

    def from_step(self, start: int) -> Steering:
        """Return the steering of a run that leaves the steps before `start` out; its first runs as it is.

        What would read a prediction before that reads the nearest there is, and no sample stands for one.
        """
        mix = self.mix[start:].clone()
        mix[: max(1, self.first - start)] = torch.tensor(NEUTRAL, dtype=torch.float64)
        mix[1:2, :, 2] += mix[1:2, :, 3]
        mix[1:2, :, 3] = 0
        return Steering(self.told[start:], mix)

    def of_call(self, call: int) -> list[list[float]]:
        """Return the T mixtures of a call of a step."""
        rows: list[list[float]] = self.mix[:, call].tolist()
        return rows
