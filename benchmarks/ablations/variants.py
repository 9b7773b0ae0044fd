"""The variants that are compared, and the rows that measuring them gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

PAPER, DEFAULT = "paper", "default"
RANDOM, GENETIC = "random search", "genetic search"
SAMPLERS = ("DDIM", "PNDM", "DPM-Solver++", "LCM")


@dataclass(frozen=True)
class Variant:
    """One way to search.

    Attributes:
        study: what is varied.
        name: what it is set to.
        recipe: `paper`, `default`, `random search` or `genetic search`.
        changes: options of the recipe's config that differ from its defaults.
        scheduler: the sampler.
        paper_clip: the paper's CLIP score of this variant.
    """

    study: str
    name: str
    recipe: str
    changes: dict[str, Any] = field(default_factory=dict)
    scheduler: str = "DDIM"
    paper_clip: float | None = None


@dataclass(frozen=True)
class Row:
    """One measurement; PSNR and SSIM are to the unpruned result of held-out noise."""

    model: str
    scheduler: str
    steps: int
    study: str
    variant: str
    recipe: str
    ratio_asked: float
    macs_kept: float | None = None
    psnr_db: float | None = None
    ssim: float | None = None
    class_accuracy: float | None = None
    search_full_runs: float | None = None
    search_seconds: float | None = None
    paper_clip: float | None = None
    seed: int = 0
    error: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes a row the same measurement."""
        about = (self.model, self.scheduler, self.steps, self.study, self.variant, self.recipe)
        return (*about, self.ratio_asked, self.seed)


def variants() -> Iterator[Variant]:
    """Yield everything that is compared."""
    for loss, clip in (("l1", 29.94), ("l2", 29.71), ("ssim", 30.29), ("l1+ssim", 29.77)):
        yield Variant("consistency loss", loss, PAPER, {"loss": loss}, paper_clip=clip)
        yield Variant("consistency loss", loss, DEFAULT, {"loss": loss})
    for alpha, clip in ((0.1, 29.77), (0.5, 29.93), (1.0, 30.29), (2.0, 30.17)):
        yield Variant("sparsity weight alpha", f"{alpha:g}", PAPER, {"alpha": alpha}, paper_clip=clip)
    for weighted, clip in ((True, 30.29), (False, 29.50)):
        name = "by MACs" if weighted else "none"
        yield Variant("gate weights gamma", name, PAPER, {"mac_weights": weighted}, paper_clip=clip)
    for encoder in ("attention", "linear", "table"):
        yield Variant("pruner network", encoder, PAPER, {"encoder": encoder})
    for sampler in SAMPLERS:
        for recipe in (DEFAULT, PAPER):
            yield Variant("sampler", sampler, recipe, scheduler=sampler)
    for recipe, clip in ((RANDOM, 28.73), (GENETIC, 29.37), (PAPER, 30.29)):
        yield Variant("search", recipe, recipe, paper_clip=clip)
    yield Variant("search", DEFAULT, DEFAULT)
