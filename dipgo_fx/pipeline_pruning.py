"""`prune_pipeline`: search a plan on what a stock pipeline makes of prompts."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from importlib import resources
from itertools import cycle, islice
from typing import Any

import torch
from diffusers import DiffusionPipeline

from .arguments import check, checked_prompts
from .budget import kept_of
from .cost import LoopCost
from .denoiser import only_denoiser
from .passes import Granularity
from .pipeline_tracing import capture, trace_pipeline
from .plan import Plan
from .pruning import frozen
from .search.batch import Batch
from .search.calibration import with_path
from .search.config import Config, PruneConfig, check_search_arguments
from .search.evaluator import Evaluator
from .search.recipe import search

logger = logging.getLogger(__name__)


def prune_pipeline(
    pipe: DiffusionPipeline,
    ratio: float = 0.8,
    *,
    prompts: Iterable[str] | None = None,
    split_guidance: bool = True,
    granularity: Granularity = "block",
    config: Config | None = None,
    generator: torch.Generator | None = None,
    progress: bool = True,
    **call: Any,
) -> Plan:
    """Return a plan that removes the share `ratio` of the MACs of `pipe(...)`, for `enable`.

    The pipeline's own loop is recorded, with its guidance, scaling and scheduler: whatever it does between
    two calls of its denoiser is what the search sees. Prompts go through its own encoders, and latents are
    drawn as its `prepare_latents` does.

    Args:
        pipe: a diffusers pipeline that draws latents for prompts; left as found.
        ratio: share of the loop's MACs to remove, in [0, 1), see `prune`.
        prompts: what the images of the search show, repeated if they are few; two hundred short ones that
            come with this package if omitted.
        split_guidance: let the two conditions of guidance run at steps of their own.
        granularity: which modules are blocks.
        config: how to search, as for `prune`.
        generator: source of all randomness; the same seed gives the same plan.
        progress: show a progress bar.
        **call: further arguments of `pipe(...)`: `num_inference_steps`, `guidance_scale`, `height`, `width`,
            `num_frames`, `negative_prompt`, ...; the pipeline's defaults if omitted.

    Raises:
        ValueError: a ratio out of range or out of reach, prompts that are empty.
        TypeError: an argument of another kind, by name.
        TraceError: Python that cannot be recorded; names the module.
    """
    check("pipe", pipe, DiffusionPipeline, "a diffusers pipeline")
    config = PruneConfig() if config is None else config
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    check_search_arguments(ratio, config, generator, progress)
    given = checked_prompts(prompts)
    model = only_denoiser(pipe)
    with frozen(model), torch.enable_grad():
        loop = trace_pipeline(pipe, model, call, split_guidance=split_guidance, granularity=granularity)
        cost = LoopCost.of(loop)
        kept = kept_of(ratio, cost)
        leaves = capture(
            pipe,
            model,
            [*islice(cycle(given or _shipped()), config.samples)],
            {**call, "generator": generator},
        ).leaves
        names = [str(node.target) for node in loop.graph.nodes if node.op == "placeholder"]
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        sample, conditioning = (
            leaves["sample"],
            {n: leaves[n] for n in names if n in leaves and n != "sample"},
        )
        batch = with_path(loop, Batch(sample, conditioning, sample[None], 1, seed))
        limit = config.full_runs if isinstance(config, PruneConfig) else float("inf")
        plan = search(Evaluator(loop, cost, batch, config, limit), kept, generator, progress)
    if given is None:
        logger.info("searched on %d prompts that come with dipgo_fx", config.samples)
    notes = {"pipeline": type(pipe).__name__, "prompts": "shipped" if given is None else len(given)}
    return replace(plan, origin={**plan.origin, **notes})


def _shipped() -> list[str]:
    return resources.files(__package__).joinpath("prompts.txt").read_text(encoding="utf-8").splitlines()
