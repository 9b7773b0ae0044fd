"""A local pipeline: loaded, called for one image, with the libraries' progress bars shown or not."""

from __future__ import annotations

import argparse
import inspect
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from transformers.utils import logging as transformers_logging

from ..arguments import check_guidance_scale, check_steps
from ..pipelines.pipeline_call import OWN, PLAIN
from ..plan import Plan
from ..plan_schema import shown

INDEX = "model_index.json"
SCALES = ("true_cfg_scale", "guidance_scale")
"""Arguments that guide: where a model has a guidance of its own, the pipeline's is the "true" one."""
NOT_A_PLANS = {*OWN, "generator", "return_dict", "num_inference_steps"}
"""Arguments of a pipeline's call that commands give themselves, whatever a plan says of its search."""
LIBRARIES: tuple[Any, ...] = (diffusers_logging, transformers_logging)


def shows_progress(options: argparse.Namespace) -> bool:
    """Tell whether progress bars are shown: on a terminal, unless somebody wants quiet."""
    return not options.quiet and sys.stderr.isatty()


def load_pipeline(options: argparse.Namespace) -> Any:
    """Return the pipeline in a local folder, on the device and in the precision that are asked for.

    Raises `ValueError` for a folder without a pipeline, or a device that is not there.
    """
    folder, device = Path(options.folder), _device(options.device)
    if not (folder / INDEX).is_file():
        raise ValueError(f"{folder} is no folder of a diffusers pipeline: it holds no {INDEX}")
    shown = shows_progress(options)
    dtype = options.dtype or ("bfloat16" if device.type == "cuda" else "float32")
    with _bars(shown), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # `torch_dtype` has a new name in new versions only
        pipe = DiffusionPipeline.from_pretrained(
            folder, torch_dtype=getattr(torch, dtype), local_files_only=True
        )
    pipe.set_progress_bar_config(disable=not shown, leave=False)
    return pipe.to(device)


def check_takes_prompts(pipe: Any) -> None:
    """Raise `ValueError` for a pipeline that is not called with prompts."""
    if "prompt" not in _parameters(pipe):
        raise ValueError(
            f"{type(pipe).__name__} takes no prompts: call it from Python, with dipgo_fx.enable(pipe, plan)"
        )


def call_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of the pipeline's call that are asked for; the others stay its own."""
    if options.steps is not None:
        check_steps(options.steps)
    check_guidance_scale(options.guidance)
    sides = {side: getattr(options, side) for side in ("height", "width")}
    call = {"num_inference_steps": options.steps, "guidance_scale": options.guidance, **sides}
    return {name: value for name, value in call.items() if value is not None}


@dataclass(frozen=True)
class Call:
    """How a pipeline is called for each image.

    Attributes:
        steps: number of inference steps.
        guidance: the argument `guidance_scale`; `None` leaves it to the plan, or to the pipeline.
        seed: of the first image; image `n` has `seed + n`, whatever is drawn before it.
        searched: what else the search of the plan called its pipeline with, by name.
        scale: the plan's scale of guidance, whichever argument that is, for where the search named none;
            `None` if another one is asked for.
    """

    steps: int
    guidance: float | None
    seed: int
    searched: tuple[tuple[str, Any], ...] = ()
    scale: float | None = None

    @classmethod
    def of(cls, options: argparse.Namespace, plan: Plan) -> Call:
        """Return what is asked for, the plan's own where nothing is."""
        steps = plan.facts.num_inference_steps if options.steps is None else options.steps
        check_steps(steps)
        check_guidance_scale(options.guidance)
        scale = plan.facts.guidance.scale if options.guidance is None else None
        call = plan.search_origin.get("call")
        found = {k: v for k, v in call.items() if isinstance(v, PLAIN)} if isinstance(call, dict) else {}
        asked = set() if options.guidance is None else {"guidance_scale"}
        searched = tuple(sorted((k, v) for k, v in found.items() if k not in NOT_A_PLANS | asked))
        return cls(steps, options.guidance, options.seed, searched, scale)

    def from_plan(self, pipe: Any) -> dict[str, Any]:
        """Return the arguments of a pipeline's call that it is given because the plan's search was."""
        return {name: value for name, value in self.searched if name in _parameters(pipe)}

    def arguments(self, pipe: Any) -> dict[str, Any]:
        """Return the arguments of a pipeline's call but for prompt and noise."""
        given: dict[str, Any] = {}
        if self.scale is not None:
            is_true = SCALES[0] in _parameters(pipe)
            given[SCALES[0] if is_true else SCALES[1]] = self.scale
        given |= self.from_plan(pipe)
        if self.guidance is not None:
            given["guidance_scale"] = self.guidance
        return {**given, "num_inference_steps": self.steps}

    def image(self, pipe: Any, prompt: str, number: int) -> Image.Image:
        """Return the image of one prompt, the `number`-th. Raises `ValueError` if none comes out."""
        return image_of(pipe, prompt, self.seed + number, self.arguments(pipe))


def lines_about(from_plan: Mapping[str, Any]) -> list[str]:
    """Return a line about arguments that came from a plan, if any did: its file decides what is drawn."""
    named = ", ".join(f"{name}={shown(value)}" for name, value in from_plan.items())
    return [f"Called as the plan's search: {named}"] if named else []


def image_of(pipe: Any, prompt: str, seed: int, arguments: Mapping[str, Any]) -> Image.Image:
    """Return the image that a pipeline draws of a prompt. Raises `ValueError` if none comes out."""
    generator = torch.Generator().manual_seed(seed)
    image = getattr(pipe(prompt=prompt, generator=generator, **arguments), "images", [None])[0]
    if not isinstance(image, Image.Image):
        name = type(pipe).__name__
        raise ValueError(f"{name} makes no images: call it from Python, by dipgo_fx.enable(pipe, plan)")
    return image.convert("RGB")


def _parameters(pipe: Any) -> list[str]:
    return list(inspect.signature(type(pipe).__call__).parameters)


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"--device must be one that torch has here, got {name} ({reason})") from error
    return device


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """Let diffusers and transformers show bars while they load, or not; afterwards they are as before."""
    silenced = [] if shown else [library for library in LIBRARIES if library.is_progress_bar_enabled()]
    for library in silenced:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in silenced:
            library.enable_progress_bar()
