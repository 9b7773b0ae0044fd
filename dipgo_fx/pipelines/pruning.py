"""`prune_pipeline`: search a plan on what a stock pipeline makes of prompts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib import resources
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn

from ..arguments import check, checked_prompts
from ..budget import kept_of
from ..cost import LoopCost
from ..frozen import frozen
from ..loop import Loop
from ..passes import Blocks, find_blocks
from ..passes.stored_weights import awake
from ..plan import Plan
from ..pruning import gains_by_split
from ..search.batch import Batch
from ..search.calibration import with_path
from ..search.chunks import Chunks
from ..search.config import Config, PruneConfig, check_search_arguments
from ..search.journal import Journal
from ..search.recipe import search
from .capturing import capture
from .denoiser import only_denoiser
from .lending import attention_as_found
from .pipeline_call import PLAIN, ArgumentsFor, blank_prompts, check_call, check_inputs, completed
from .tracing import check_first_step, inputs_of, record_pipeline

logger = logging.getLogger(__name__)


@torch.inference_mode(False)  # its tensors could not tell whether they were edited
def prune_pipeline(
    pipe: DiffusionPipeline,
    ratio: float = 0.8,
    *,
    prompts: Iterable[str] | None = None,
    inputs: ArgumentsFor | None = None,
    split_guidance: bool | None = None,
    granularity: Blocks = "block",
    config: Config | None = None,
    generator: torch.Generator | None = None,
    progress: bool = True,
    journal: str | Path | None = None,
    **call: Any,
) -> Plan:
    """Return a plan that removes the share `ratio` of the MACs of `pipe(...)`, for `enable`.

    The pipeline's own loop is recorded, with its guidance, scaling and scheduler: whatever it does between
    two calls of its denoiser is what the search sees. Prompts go through its own encoders, and latents are
    drawn as its `prepare_latents` does.

    Args:
        pipe: a diffusers pipeline that has `prepare_latents`; left as found.
        ratio: share of the loop's MACs to remove, in [0, 1), see `prune`.
        prompts: what the images of the search show, repeated if they are few; two hundred short ones that
            come with this package if omitted.
        inputs: for pipelines that take more than prompts, or none: given a number of samples it returns the
            arguments that have an entry for each, `lambda n: {"prompt": prompts[:n], "image": images[:n]}`
            say, for 2 and 3, for up to 19 while the loop is recorded, and for `config.samples`.
        split_guidance: let the two conditions of guidance run at steps of their own; by default as for
            `prune`.
        granularity: which modules are blocks, as for `trace`.
        config: how to search, as for `prune`.
        generator: source of all randomness; the same seed gives the same plan.
        progress: show a progress bar, on a terminal or in a notebook.
        journal: a file in which the search notes what it measures, as for `prune`.
        **call: further arguments of `pipe(...)`: `num_inference_steps`, `guidance_scale`, `height`, `width`,
            `num_frames`, `negative_prompt`, ...; the pipeline's defaults if omitted.

    Raises:
        ValueError: a ratio out of range or out of reach, prompts that are empty or come with `inputs`.
        TypeError: an argument of another kind or that the pipeline does not take, by name.
        TraceError: Python that cannot be recorded; names the module.

    Example:
        >>> from diffusers import StableDiffusionPipeline
        >>> pipe = StableDiffusionPipeline.from_pretrained("stable-diffusion-v1-5/stable-diffusion-v1-5")
        >>> quick = dipgo_fx.PruneConfig(samples=2, full_runs=3)  # leave it out for a real search
        >>> plan = dipgo_fx.prune_pipeline(pipe, 0.5, num_inference_steps=4, config=quick, progress=False)
        >>> plan.facts.model, plan.ratio >= 0.5
        ('UNet2DConditionModel', True)
        >>> plan.save("sd15.json")
    """
    check("pipe", pipe, DiffusionPipeline, "a diffusers DiffusionPipeline (a modular one will not do)")
    config = PruneConfig() if config is None else config
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    check_search_arguments(ratio, config, generator, progress, journal)
    if split_guidance is None:
        split_guidance = gains_by_split(ratio, config, granularity)
    check("split_guidance", split_guidance, bool, "True or False")
    given = checked_prompts(prompts)
    check_inputs(inputs)
    if given is not None and inputs is not None:
        raise ValueError("inputs hold the prompts too: pass prompts or inputs, not both")
    model = only_denoiser(pipe)
    find_blocks(model, granularity)  # refuses an unknown one
    check_call(pipe, call, inputs is not None)
    shown = given or shipped_prompts()
    full = inputs or (lambda samples: {"prompt": [*islice(cycle(shown), samples)]})
    with frozen(model), attention_as_found(pipe), torch.enable_grad():
        blank = completed(inputs or blank_prompts, call)
        loop = record_pipeline(pipe, model, blank, split_guidance=split_guidance, granularity=granularity)
        check_first_step(pipe, model, loop, lambda noise: completed(full, {**call, "generator": noise}))
        kept_of(ratio, LoopCost.of(loop))  # refuses what is out of reach before prompts are encoded
        made = _made_inputs(pipe, model, loop, full, {**call, "generator": generator}, config.samples)
        _check_all_came(made, config.samples)
        batch = partial(_calibrated, loop, made, generator, config.chunk)
        with awake(model):
            plan = search(loop, batch, ratio, config, generator, progress, journal)
    if given is None and inputs is None:
        logger.info("searched on %d prompts that come with dipgo_fx", config.samples)
    source = "inputs" if inputs else "shipped" if given is None else len(given)
    plain = {name: value for name, value in call.items() if isinstance(value, PLAIN)}
    notes = {"pipeline": type(pipe).__name__, "prompts": source, "call": plain}
    return replace(plan, origin={**plan.origin, **notes})


def _check_all_came(made: Mapping[str, torch.Tensor], samples: int) -> None:
    """Raise `ValueError` if the caller's `inputs` made fewer or more samples than it was asked for."""
    found = len(made["sample"])
    if found != samples:
        raise ValueError(
            f"inputs({samples}) made {found} samples: it must return {samples} entries (config.samples) of "
            "each argument; itertools.cycle repeats those you have"
        )


def _made_inputs(
    pipe: Any, model: nn.Module, loop: Loop, inputs: ArgumentsFor, call: Mapping[str, Any], samples: int
) -> dict[str, torch.Tensor]:
    """Return what a pipeline makes of all prompts: of fewer at once, in turn, where memory runs out."""
    given, generator = inputs(samples), call["generator"]
    start = generator.get_state()

    def made(size: int) -> list[dict[str, torch.Tensor]]:
        generator.set_state(start)
        return [
            inputs_of(loop, capture(pipe, model, completed(part, call), min(size, samples - first)))
            for first, part in _parts(given, samples, size)
        ]

    parts = Chunks(samples).retried(made, samples, shared=False)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _parts(given: Mapping[str, Any], samples: int, size: int) -> Iterator[tuple[int, ArgumentsFor]]:
    """Yield the arguments of `size` samples at a time, each with the place of its first."""
    for first in range(0, samples, size):
        some = (
            {name: entries[first : first + size] for name, entries in given.items()}
            if size < samples
            else given
        )
        yield first, partial(_as_given, some)


def _as_given(given: Mapping[str, Any], samples: int) -> Mapping[str, Any]:
    return given


def _calibrated(
    loop: Loop, leaves: dict[str, torch.Tensor], generator: torch.Generator, chunk: int, journal: Journal
) -> Batch:
    """Return what a pipeline made of prompts, with what its unpruned loop makes of that."""
    sample = leaves.pop("sample")
    seeds = Batch.drawn_seeds(len(sample), generator)
    return with_path(loop, Batch(sample, leaves, sample[None], 1, seeds), chunk, journal)


def shipped_prompts() -> list[str]:
    """Return the prompts that come with this package, which a search takes the first of."""
    return resources.files(__package__).joinpath("prompts.txt").read_text(encoding="utf-8").splitlines()
