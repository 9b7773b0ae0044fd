"""The denoising loop: the Python that is traced, which is also the reference for what it computes."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree


def denoise(
    model: nn.Module,
    scheduler: Any,
    sample: torch.Tensor,
    conditioning: Mapping[str, Any],
    *,
    guidance_scale: float | None = None,
    split_guidance: bool = False,
    generator: torch.Generator | None = None,
    on_step: Callable[[int, torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """Run the loop of a stock pipeline over `scheduler.timesteps` and return the final sample.

    Args:
        sample: `(batch, ...)`, already scaled by `scheduler.init_noise_sigma`.
        conditioning: keyword arguments of `model.forward`; 2 * batch rows, unconditional first, if
            `guidance_scale` is given, else batch rows.
        split_guidance: call the model once for the unconditional rows and once for the conditional ones.
        on_step: called before each step with its index and the sample it starts from.
    """
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    noise = {"generator": generator} if takes_generator else {}
    calls = halves(conditioning, sample.shape[0]) if split_guidance else (conditioning,)
    for index, t in enumerate(scheduler.timesteps):
        if on_step is not None:
            on_step(index, sample)
        doubled = guidance_scale is not None and not split_guidance
        latents = torch.cat([sample, sample]) if doubled else sample
        if hasattr(scheduler, "scale_model_input"):  # flow matching has none
            latents = scheduler.scale_model_input(latents, t)
        # One row a sample: DiT-like models want it so, U-Nets take either form.
        timestep = torch.full((latents.shape[0],), t.item(), dtype=t.dtype, device=latents.device)
        predictions = [predict(model, latents, timestep, given) for given in calls]
        prediction = predictions[0]
        if guidance_scale is not None:
            unconditional, conditional = predictions if split_guidance else prediction.chunk(2)
            prediction = guide(unconditional, conditional, sample.shape[1], guidance_scale)
        if drops_variance(scheduler) and prediction.shape[1] == 2 * sample.shape[1]:
            prediction = prediction[:, : sample.shape[1]]
        sample = scheduler.step(prediction, t, sample, **noise, return_dict=False)[0]
    return sample


def predict(
    model: nn.Module, latents: torch.Tensor, timestep: torch.Tensor, conditioning: Mapping[str, Any]
) -> torch.Tensor:
    """Call a denoiser once and return its prediction as a tensor."""
    extra = {"return_dict": False} if "return_dict" in forward_parameters(model) else {}
    result = model(latents, timestep=timestep, **conditioning, **extra)
    prediction: torch.Tensor = result[0] if isinstance(result, (tuple, list)) else result
    return prediction


def halves(conditioning: Mapping[str, Any], rows: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the first `rows` rows of every tensor, the unconditional ones, and the others."""

    def half(index: int) -> Mapping[str, Any]:
        def part(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.reshape(2, rows, *tensor.shape[1:])[index]

        taken: Mapping[str, Any] = pytree.tree_map_only(torch.Tensor, part, dict(conditioning))
        return taken

    return half(0), half(1)


def guide(
    unconditional: torch.Tensor, conditional: torch.Tensor, channels: int, scale: float
) -> torch.Tensor:
    """Classifier-free guidance of the first `channels`; a predicted variance is the conditional's."""
    if conditional.shape[1] == channels:
        return unconditional + scale * (conditional - unconditional)
    rest = conditional[:, channels:]
    unconditional, conditional = unconditional[:, :channels], conditional[:, :channels]
    return torch.cat([unconditional + scale * (conditional - unconditional), rest], dim=1)


def drops_variance(scheduler: Any) -> bool:
    """Tell whether a predicted variance has to be cut off before `scheduler.step`."""
    return getattr(scheduler.config, "variance_type", None) not in ("learned", "learned_range")


def forward_parameters(model: nn.Module) -> dict[str, inspect.Parameter]:
    """Return the parameters of `model.forward` by name."""
    return dict(inspect.signature(model.forward).parameters)


def prepared(scheduler: Any, num_inference_steps: int) -> Any:
    """Return a copy of `scheduler` with its timesteps set; the caller's is left as found.

    Raises `TypeError` for an object without `set_timesteps` and `ValueError` for a bad step count.
    """
    if not callable(getattr(scheduler, "set_timesteps", None)):
        raise TypeError(
            f"expected a diffusers scheduler with set_timesteps(), got {type(scheduler).__name__}; "
            "pass for example pipe.scheduler"
        )
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps must be at least 1, got {num_inference_steps}")
    own = copy.deepcopy(scheduler)
    own.set_timesteps(num_inference_steps)
    return own
