"""Samples with their unpruned results."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..conditioning import map_rows


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of the loop and its unpruned samples, n each.

    `path` holds the samples after each step, `(T, n, ...)`, on the host; the last are the `target`.
    `conditioning` has `rows` rows per sample, unconditional ones first if `rows` is 2; its tensors named in
    `shared` have none.
    `seeds`, one per sample, give the noise that a stochastic scheduler draws: the same in every run of a
    sample, whichever others run with it.
    """

    sample: torch.Tensor
    conditioning: dict[str, Any]
    path: torch.Tensor
    rows: int
    seeds: tuple[int, ...]
    shared: frozenset[str] = frozenset()

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.sample)

    @property
    def target(self) -> torch.Tensor:
        """The unpruned result."""
        return self.path[-1]

    def at(self, place: float) -> torch.Tensor:
        """Return the unpruned samples before step `place`, 0 to T; between two steps a mixture of both."""
        step = int(place)
        if step == place:
            return self.path[step - 1] if step else self.sample.cpu()
        return torch.lerp(self.at(step), self.at(step + 1), place - step)

    def generators(self) -> list[torch.Generator]:
        """Return the sources of the noise that a run of the batch draws, one per sample."""
        return [torch.Generator().manual_seed(seed) for seed in self.seeds]

    def run(self, loop: nn.Module, **tables: Any) -> torch.Tensor:
        """Run a loop on the batch."""
        result: torch.Tensor = loop(self.sample, **self.conditioning, generator=self.generators(), **tables)
        return result

    def first(self, count: int) -> Batch:
        """Return the first `count` samples, at least one, as a batch."""
        return self.part(torch.arange(max(1, count)))

    def part(self, indices: torch.Tensor) -> Batch:
        """Return the samples at `indices` as a batch."""
        count = len(self.sample)
        rows = torch.cat([indices + i * count for i in range(self.rows)])
        return replace(
            self,
            sample=self.sample[indices],
            conditioning=map_rows(lambda t: t[rows.to(t.device)], self.conditioning, self.shared),
            path=self.path[:, indices],
            seeds=tuple(self.seeds[index] for index in indices.tolist()),
        )

    @staticmethod
    def drawn_seeds(samples: int, generator: torch.Generator) -> tuple[int, ...]:
        """Return a seed for each sample."""
        first = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        return tuple(range(first, first + samples))

    def chunks(self, size: int) -> list[Batch]:
        """Return batches of at most `size` samples that are this one together."""
        return [self.part(indices) for indices in torch.split(torch.arange(len(self)), size)]
