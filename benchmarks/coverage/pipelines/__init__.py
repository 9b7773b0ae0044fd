"""Tiny stock diffusers pipelines with random weights, one or more per denoiser class.

Each denoiser has the block types of the real model at a small width, and each pipeline runs through its own
`__call__`, so a denoiser sees the masks, pooled embeddings and position ids that it sees in real use. Nothing
is downloaded. Text embeddings come from a fixed generator where the pipeline takes them; elsewhere, and where
the key ends in "-text", tiny text encoders and tokenizers make them.

Importing this package imports every family of pipelines, which fills the registry.
"""

from __future__ import annotations

from importlib import import_module

from diffusers import __version__
from packaging.version import Version

from benchmarks.coverage.pipelines.left_out import LEFT_OUT, NOT_BUILT
from benchmarks.coverage.pipelines.parts import PROMPT, TOKENS, Inputs
from benchmarks.coverage.pipelines.registry import DENOISERS, PIPELINES, SINGLE, WRITTEN_FOR, Tiny

__all__ = ["DENOISERS", "LEFT_OUT", "NOT_BUILT", "PIPELINES", "PROMPT", "SINGLE", "TOKENS", "Inputs", "Tiny"]

FAMILIES = (  # in the order in which the registry is filled
    "stable_diffusion",
    "stable_diffusion_xl",
    "pixels",
    "stable_diffusion_3",
    "flux",
    "pixart",
    "qwen",
    "kandinsky",
    "cascade",
    "images",
    "cogvideo",
    "hunyuan",
    "wan",
    "ltx",
    "cosmos",
    "video_unets",
    "video",
    "audio",
    "controlled",
    "pag",
    "stable_diffusion_tasks",
    "stable_diffusion_3_tasks",
    "flux_tasks",
    "pixart_tasks",
    "qwen_tasks",
    "wan_tasks",
    "kandinsky_tasks",
    "video_tasks",
    "audio_tasks",
    "unet_tasks",
    "ltx_tasks",
    "prior_tasks",
    "editing",
)
for family in FAMILIES:
    try:
        import_module(f"{__name__}.{family}")
    except (AttributeError, ImportError):
        if Version(__version__) >= WRITTEN_FOR:
            raise
