"""Noise levels of a scheduler at any timestep, in between its integers too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

LEAST = 1e-3  # of sigma for flow matching and of alpha: their logarithms are taken


@dataclass(frozen=True)
class NoiseLevels:
    """A noisy sample at timestep t is alpha(t) * clean + sigma(t) * noise.

    Attributes:
        log_snr: half the logarithm of the signal-to-noise ratio at timesteps 0, 1, ...; `None` for flow
            matching, whose sigma is a thousandth of the timestep.
        prediction: what the network predicts: `epsilon`, `sample`, `v_prediction` or `flow`.
        end: alpha and sigma of what the last update returns.
        first: timestep at which the loop starts.
    """

    log_snr: torch.Tensor | None
    prediction: str
    end: tuple[float, float]
    first: float

    @classmethod
    def of(cls, scheduler: Any) -> NoiseLevels:
        """Return the noise levels of a scheduler whose timesteps are set.

        Raises `NotImplementedError` where samples are scaled otherwise or clean samples are clipped.
        """
        name, config, first = type(scheduler).__name__, scheduler.config, float(scheduler.timesteps[0])
        if config.get("thresholding") or config.get("clip_sample"):
            raise NotImplementedError(f"{name} clips clean samples, which no linear multistep method does")
        if "FlowMatch" in name:
            return cls(None, "flow", (1.0, 0.0), first)
        if abs(float(scheduler.init_noise_sigma) - 1) > 1e-6 or not hasattr(scheduler, "alphas_cumprod"):
            raise NotImplementedError(f"{name} scales its samples in a way of its own")
        alphas = scheduler.alphas_cumprod.double()
        last = float(getattr(scheduler, "final_alpha_cumprod", 1.0))
        return cls(
            (alphas / (1 - alphas)).log() / 2,
            config.get("prediction_type", "epsilon"),
            (last**0.5, (1 - last) ** 0.5),
            first,
        )

    @staticmethod
    def tensor(timesteps: Sequence[float]) -> torch.Tensor:
        """Return timesteps as what the others take."""
        return torch.tensor(timesteps, dtype=torch.float64)

    def at(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return alpha and sigma at timesteps, differentiable; between integers log-SNR is linear."""
        if self.log_snr is None:
            sigma = (timesteps.double() / 1000).clamp(LEAST, 1 - LEAST)
            return 1 - sigma, sigma
        times = timesteps.double().clamp(0, len(self.log_snr) - 1)
        low = times.detach().floor().long().clamp(max=len(self.log_snr) - 2)
        part = times - low
        log_snr = self.log_snr[low] * (1 - part) + self.log_snr[low + 1] * part
        return torch.sigmoid(2 * log_snr).sqrt(), torch.sigmoid(-2 * log_snr).sqrt()

    def timestep_of(self, log_snr: torch.Tensor) -> torch.Tensor:
        """Return the timesteps of some halves of log-SNR."""
        if self.log_snr is None:
            return torch.sigmoid(-log_snr) * 1000
        known = self.log_snr.flip(0).contiguous()  # rising
        high = torch.searchsorted(known, log_snr.double().contiguous()).clamp(1, len(known) - 1)
        part = (log_snr - known[high - 1]) / (known[high] - known[high - 1])
        return (len(known) - 1 - (high - 1 + part)).clamp(0, len(known) - 1)

    def parts(
        self, prediction: torch.Tensor, sample: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the clean sample and the noise that a prediction stands for."""
        if self.prediction == "epsilon":
            return (sample - sigma * prediction) / alpha, prediction
        if self.prediction == "sample":
            return prediction, (sample - alpha * prediction) / sigma
        if self.prediction == "v_prediction":
            return alpha * sample - sigma * prediction, sigma * sample + alpha * prediction
        return sample - sigma * prediction, sample + alpha * prediction
