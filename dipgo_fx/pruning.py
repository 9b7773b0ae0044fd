"""`prune`: search a plan and compile it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .applying import PrunedLoop, build
from .arguments import check_loop_arguments, checked_calibration, checked_model
from .denoise import noise_scale
from .frozen import frozen
from .passes import Blocks
from .passes.stored_weights import awake
from .search.calibration import Conditioning, calibrate
from .search.config import Config, PruneConfig, check_search_arguments
from .search.recipe import search
from .tracing import trace


@torch.inference_mode(False)  # its tensors could not tell whether they were edited
def prune(
    model: nn.Module,
    scheduler: Any,
    ratio: float = 0.8,
    *,
    num_inference_steps: int = 50,
    calibration: Conditioning | None = None,
    guidance_scale: float | None = None,
    split_guidance: bool | None = None,
    granularity: Blocks = "block",
    sample: torch.Tensor | None = None,
    conditioning: Mapping[str, Any] | None = None,
    shared: Collection[str] | None = None,
    config: Config | None = None,
    generator: torch.Generator | None = None,
    progress: bool = True,
    journal: str | Path | None = None,
) -> PrunedLoop:
    """Return the denoising loop of a frozen model with the share `ratio` of its MACs removed.

    Args:
        model: a diffusers denoiser; left as found.
        scheduler: a diffusers scheduler; left as found.
        ratio: share of the loop's MACs to remove, in [0, 1). The result never costs more than
            `1 - ratio` and misses it by less than 0.0125, or a warning says why.
        num_inference_steps: steps as the scheduler counts them, at least 1.
        calibration: rows for the arguments of `model.forward` (for example `{"encoder_hidden_states":
            (n, 77, 768)}`), or an iterable of such mappings; made up if omitted.
        guidance_scale: classifier-free guidance; conditioning then has 2 * batch rows, unconditional
            first.
        split_guidance: let the two conditions of guidance run at steps of their own, see `trace`; where
            both run the same blocks the result calls the model once for both. By default where guidance is
            given, something is to be removed and the recipe is the default one, but not for stages.
        granularity: which modules are blocks, as for `trace`.
        sample: example of the initial noise where `model.config` does not give its shape.
        conditioning: examples of the other arguments, likewise.
        shared: names of the tensors in `conditioning` that all samples share; found by trying if omitted.
        config: how to search: `PruneConfig()`, the default, or `PaperConfig()`, the paper's recipe.
        generator: source of all randomness; the same seed gives the same plan.
        progress: show a progress bar, on a terminal or in a notebook.
        journal: a file in which the search notes what it measures, made if it is missing. The same call with
            the same file goes on where one that was stopped or killed was, to the same plan.

    The result is a `torch.fx.GraphModule`: `pruned(sample, **conditioning)` runs the whole loop, and
    `pruned.plan` and `pruned.report` say what was done. It takes any batch size.

    Raises:
        ValueError: a ratio out of range or out of reach, calibration that does not fit, unknown shapes, a
            journal of another search.
        TypeError: an argument of another kind, by name.
        TraceError: Python that cannot be recorded; names the module.
        FloatingPointError: the loss of the search became infinite or NaN.
        OSError: the journal cannot be written, told before anything is measured, or the disk is full.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> model, scheduler = load("dit")  # draws digits of 8 by 8 pixels; shipped with this package
        >>> quick = dipgo_fx.PruneConfig(samples=2, full_runs=3)  # leave it out for a real search
        >>> options = {"num_inference_steps": 4, "config": quick, "progress": False}
        >>> pruned = dipgo_fx.prune(model, scheduler, 0.5, **options)
        >>> pruned(torch.randn(2, 1, 8, 8), class_labels=torch.tensor([3, 7])).shape
        torch.Size([2, 1, 8, 8])
        >>> f"{pruned.report.ratio:.0%} of the MACs removed"
        '50% of the MACs removed'
    """
    config = PruneConfig() if config is None else config
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    model = checked_model(model)
    check_search_arguments(ratio, config, generator, progress, journal)
    if split_guidance is None:
        split_guidance = guidance_scale is not None and gains_by_split(ratio, config, granularity)
    check_loop_arguments(
        model, scheduler, num_inference_steps, sample, conditioning, guidance_scale, split_guidance, shared
    )
    calibration = checked_calibration(calibration, model)
    with frozen(model), awake(model), torch.enable_grad():
        loop = trace(
            model,
            scheduler,
            num_inference_steps,
            sample=sample,
            conditioning=conditioning if conditioning is not None else _first(calibration),
            guidance_scale=guidance_scale,
            split_guidance=split_guidance,
            granularity=granularity,
            shared=shared,
        )
        scale = noise_scale(scheduler, num_inference_steps)
        batch = partial(calibrate, loop, model, calibration, config.samples, scale, generator, config.chunk)
        plan = search(loop, batch, ratio, config, generator, progress, journal)
    return build(loop, plan, join=split_guidance)


def gains_by_split(ratio: float, config: Config, granularity: Blocks) -> bool:
    """Tell whether the two conditions of guidance are calls of their own unless somebody says otherwise."""
    return ratio > 0 and isinstance(config, PruneConfig) and granularity != "stage"


def _first(calibration: Any) -> Mapping[str, Any] | None:
    """Return conditioning that calibration gives the shapes of."""
    if calibration is None or isinstance(calibration, Mapping):
        return calibration
    first: Mapping[str, Any] = calibration[0]
    return first
