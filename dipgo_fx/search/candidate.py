"""A candidate plan of a search."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch

from ..passes import GateTable
from ..passes.equality import ComparedByValue
from ..placement import Placement


@dataclass(frozen=True, eq=False)
class Candidate(ComparedByValue):
    """A gate table, how it was made, and what it scored.

    Attributes:
        table: its gates.
        history: how many computed values its gates may read when weights are fitted.
        placement: where `table.keep` came from, with what was left of the budget spent on further gates.
        name: for people.
        loss: distance of its samples to the unpruned ones; infinite before it was evaluated.
        unlikeness: 1 - SSIM (1 for samples that are no images).
    """

    table: GateTable
    history: int = 2
    placement: Placement = field(default=Placement(()), compare=False)
    name: str = ""
    loss: float = math.inf
    unlikeness: float = 1.0

    @property
    def rank(self) -> float:
        """What candidates are chosen by, the lower the better.

        A few samples that come out as something else make up most of an L2 loss, and say little about
        other samples; SSIM hardly notices them.
        """
        return self.loss * self.unlikeness

    def with_weights(self, weights: torch.Tensor) -> Candidate:
        """Return the candidate with other weights; its loss is still that of the old ones."""
        return replace(self, table=GateTable(self.table.keep, weights))
