"""The denoising loop: the Python that is traced, which is also the reference for what it computes."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Container, Mapping
from typing import Any

import torch
from torch import nn

from .guidance import NO_GUIDANCE, Guidance


def denoise(
    model: nn.Module,
    scheduler: Any,
    sample: torch.Tensor,
    conditioning: Mapping[str, Any],
    guidance: Guidance = NO_GUIDANCE,
    *,
    shared: Container[str] = (),
    generator: torch.Generator | list[torch.Generator] | None = None,
    on_step: Callable[[int, torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """Run the loop of a stock pipeline over `scheduler.timesteps` and return the final sample.

    Args:
        sample: `(batch, ...)`, already scaled by `scheduler.init_noise_sigma`.
        conditioning: keyword arguments of `model.forward`; 2 * batch rows, unconditional first, under
            guidance, else batch rows.
        shared: names of those that all samples share.
        generator: source of the noise that the scheduler draws, or one per sample.
        on_step: called before each step with its index and the sample it starts from.
    """
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    noise = {"generator": generator} if takes_generator else {}
    channels = sample.shape[1]
    conditions = guidance.conditions(conditioning, sample.shape[0], shared)
    for index, t in enumerate(scheduler.timesteps):
        if on_step is not None:
            on_step(index, sample)
        latents = guidance.latents(sample)
        if hasattr(scheduler, "scale_model_input"):  # flow matching has none
            latents = scheduler.scale_model_input(latents, t)
        # One row per sample: DiT-like models want it so, U-Nets take either form.
        timestep = torch.full((latents.shape[0],), t.item(), dtype=t.dtype, device=latents.device)
        prediction = guidance.combine([_predict(model, latents, timestep, c) for c in conditions], channels)
        if drops_variance(scheduler) and prediction.shape[1] == 2 * channels:
            prediction = prediction[:, :channels]
        sample = scheduler.step(prediction, t, sample, **noise, return_dict=False)[0]
    return sample


def _predict(
    model: nn.Module, latents: torch.Tensor, timestep: torch.Tensor, conditioning: Mapping[str, Any]
) -> torch.Tensor:
    """Call a denoiser once and return its prediction as a tensor."""
    extra = {"return_dict": False} if "return_dict" in forward_parameters(model) else {}
    result = model(latents, timestep=timestep, **conditioning, **extra)
    prediction: torch.Tensor = result[0] if isinstance(result, (tuple, list)) else result
    return prediction


def drops_variance(scheduler: Any) -> bool:
    """Tell whether a predicted variance has to be cut off before `scheduler.step`."""
    return getattr(scheduler.config, "variance_type", None) not in ("learned", "learned_range")


def forward_parameters(model: nn.Module) -> dict[str, inspect.Parameter]:
    """Return the parameters of `model.forward` by name."""
    return dict(inspect.signature(model.forward).parameters)


def prepared(scheduler: Any, num_inference_steps: int) -> Any:
    """Return a copy of `scheduler` with its timesteps set; the caller's is left as found."""
    own = copy.deepcopy(scheduler)
    own.set_timesteps(num_inference_steps)
    return own


def noise_scale(scheduler: Any, num_inference_steps: int) -> float:
    """Return what initial noise is multiplied by, 1 for schedulers that do not say (flow matching).

    Those that go by their largest sigma know it once timesteps are set.
    """
    return float(getattr(prepared(scheduler, num_inference_steps), "init_noise_sigma", 1.0))
