"""How a step calls the model under classifier-free guidance."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .conditioning import map_rows


@dataclass(frozen=True)
class Guidance:
    """One condition without guidance; two with it, in one call of the model or in two.

    Attributes:
        scale: how far the prediction is moved from the unconditional to the conditional one; `None`
            is no guidance. Conditioning then has two rows per sample, all unconditional ones first.
        split: call the model once a condition, so that each has blocks of its own which a plan can skip.
    """

    scale: float | None = None
    split: bool = False

    def __post_init__(self) -> None:
        """Raise `ValueError` for a split without guidance."""
        if self.split and self.scale is None:
            raise ValueError(
                "split_guidance needs a guidance_scale: without guidance a step calls the model once"
            )

    @property
    def rows(self) -> int:
        """Rows of conditioning a sample."""
        return 1 if self.scale is None else 2

    @property
    def calls(self) -> tuple[str, ...]:
        """Names of the calls of the model in a step, which are part of block names."""
        return ("unconditional", "") if self.split else ("",)

    def latents(self, sample: torch.Tensor) -> torch.Tensor:
        """Return what a call of the model gets for `sample`: its rows twice if both conditions share it."""
        return torch.cat([sample, sample]) if self.scale is not None and not self.split else sample

    def conditions(
        self, conditioning: Mapping[str, Any], batch: int, shared: Container[str] = ()
    ) -> list[Mapping[str, Any]]:
        """Return the conditioning of each call of the model for `batch` samples.

        Tensors that all samples share, by name, go to each call.
        """
        if not self.split:
            return [conditioning]

        def half(index: int) -> Mapping[str, Any]:
            return map_rows(lambda t: t.reshape(2, batch, *t.shape[1:])[index], conditioning, shared)

        return [half(0), half(1)]

    def combine(self, predictions: list[torch.Tensor], channels: int) -> torch.Tensor:
        """Return the guided prediction; of a predicted variance, beyond `channels`, the conditional one's."""
        if self.scale is None:
            return predictions[0]
        unconditional, conditional = predictions if self.split else predictions[0].chunk(2)
        if conditional.shape[1] == channels:
            return unconditional + self.scale * (conditional - unconditional)
        variance = conditional[:, channels:]
        unconditional, conditional = unconditional[:, :channels], conditional[:, :channels]
        return torch.cat([unconditional + self.scale * (conditional - unconditional), variance], dim=1)


NO_GUIDANCE = Guidance()
