"""A start for a learned sampler: each update by least squares towards the unpruned sample of that moment.

OLSS fits coefficients to unpruned samples in this way; here the sampler's own predictions are what is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from .learning import Corrections, Lesson
from .multistep import THEORIES, Multistep

RIDGE = 1e-4  # pull towards theory, relative to the size of what is fitted


@dataclass(frozen=True)
class Path:
    """Samples of the unpruned loop.

    Attributes:
        noise: `(T + 1,)` falling ratios of sigma to alpha.
        samples: `(T + 1, n, ...)` divided by alpha, which between two steps is all but linear in the ratio.
    """

    noise: torch.Tensor
    samples: torch.Tensor

    def part(self, count: int) -> Path:
        """Return the first samples."""
        return replace(self, samples=self.samples[:, :count])

    def at(self, alpha: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Return the samples at a noise level."""
        ratio = (sigma / alpha).double()
        place = int((self.noise > ratio).sum().clamp(1, len(self.noise) - 1))
        high, low = self.noise[place - 1], self.noise[place]
        part = ((high - ratio) / (high - low)).clamp(0, 1).to(self.samples)
        return alpha.to(self.samples) * torch.lerp(self.samples[place - 1], self.samples[place], part)


@torch.no_grad()
def fit_to_path(lesson: Lesson, corrections: Corrections, path: Path) -> float:
    """Correct the coefficients in place, and return the mean squared error of the result; costs one run."""
    start = corrections()
    theory = THEORIES[corrections.recipe.theory](lesson.levels, corrections.times())
    sizes = corrections.sizes(theory)
    run = Multistep(lesson.levels, start.coefficients)
    call, sample = start.on(lesson.call), lesson.sample
    after = torch.cat([run.alpha[1:], run.alpha.new_tensor(lesson.levels.end[:1])])
    rest = torch.cat([run.sigma[1:], run.sigma.new_tensor(lesson.levels.end[1:])])
    for i, told in enumerate(start.coefficients.told):
        plain = run.update(lesson.predict(call, sample, told), sample)
        columns = [sizes[i].to(sample) * value for value in (sample, *run.known)]
        wanted = lesson.target if i + 1 == len(sizes) else path.at(after[i], rest[i])
        change = _ridge(torch.stack([column.flatten() for column in columns]), (wanted - plain).flatten())
        corrections.carry[i] = change[0]
        corrections.history[i, : i + 1] = change[1:]
        added = [weight.to(sample) * column for weight, column in zip(change, columns, strict=True)]
        sample = plain + torch.stack(added).sum(0)
    return (sample - lesson.target).square().mean().item()


def _ridge(columns: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    columns, wanted = columns.double(), wanted.double()
    gram, slope = (columns @ columns.T).cpu(), (columns @ wanted).cpu()
    pull = (RIDGE * gram.diagonal().mean() + 1e-30) * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram + pull, slope)
