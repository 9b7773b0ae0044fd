"""A candidate plan of a search."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch

from ..passes import GateTable, Steering
from ..passes.equality import ComparedByValue
from ..passes.insert_gates import WEIGHTS
from ..passes.steer_calls import MIX, TOLD
from ..placement import Placement
from .journal import fingerprint

Tables = dict[str, torch.Tensor]
"""What a net that is there to be fitted takes beside a batch: float32 tables by the names of its inputs."""
LEAST_UNLIKENESS = torch.finfo(torch.float32).eps
"""Below it 1 - SSIM is a rounding error, and candidates are told apart by their loss alone."""


@dataclass(frozen=True, eq=False)
class Candidate(ComparedByValue):
    """A gate table, how it was made, and what it scored.

    Attributes:
        table: its gates.
        history: how many computed values its gates may read when weights are fitted.
        placement: where `table.keep` came from, with what was left of the budget spent on further gates.
        name: for people.
        steering: of its calls; `None` where they are not to be steered.
        loss: distance of its samples to the unpruned ones; infinite before it was evaluated.
        unlikeness: 1 - SSIM (1 for samples that are no images).
    """

    table: GateTable
    history: int = 2
    placement: Placement = field(default=Placement(()), compare=False)
    name: str = ""
    steering: Steering | None = None
    loss: float = math.inf
    unlikeness: float = 1.0

    @property
    def rank(self) -> float:
        """What candidates are chosen by, the lower the better.

        A few samples that come out as something else make up most of an L2 loss, and say little about
        other samples; SSIM hardly notices them.
        """
        return self.loss * max(self.unlikeness, LEAST_UNLIKENESS)

    @property
    def scores(self) -> Tables:
        """What it scored, as tensors."""
        return {
            name: torch.tensor(getattr(self, name), dtype=torch.float64) for name in ("loss", "unlikeness")
        }

    def with_scores(self, scores: Tables) -> Candidate:
        """Return the candidate with what `scores` of it, or of another, says."""
        return replace(self, loss=scores["loss"].item(), unlikeness=scores["unlikeness"].item())

    @property
    def digest(self) -> str:
        """What tells it from other candidates: a digest of its tables."""
        steering = () if self.steering is None else (self.steering.told, self.steering.mix)
        return fingerprint((self.table.keep, self.table.weights, *steering))

    def with_weights(self, weights: torch.Tensor) -> Candidate:
        """Return the candidate with other weights; its loss is still that of the old ones."""
        return replace(self, table=GateTable(self.table.keep, weights))

    def tables(self, device: torch.device) -> Tables:
        """Return copies of all that may be fitted, on a device."""
        tables = {WEIGHTS: self.table.weights}
        if self.steering is not None:
            tables |= {TOLD: self.steering.told, MIX: self.steering.mix}
        return {name: table.to(device, torch.float32, copy=True) for name, table in tables.items()}

    def with_tables(self, tables: Tables) -> Candidate:
        """Return the candidate with what was fitted; its loss is still that from before."""
        fitted = self.with_weights(tables[WEIGHTS].double())
        if self.steering is None:
            return fitted
        return replace(fitted, steering=Steering(tables[TOLD].double(), tables[MIX].double()))
