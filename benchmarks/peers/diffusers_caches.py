"""The caches that ship with diffusers, applied to the bare model."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import torch
from diffusers.hooks.first_block_cache import FirstBlockCacheConfig, apply_first_block_cache
from diffusers.hooks.hooks import CacheContext, _set_cache_context
from diffusers.hooks.mag_cache import MagCacheConfig, apply_mag_cache
from diffusers.hooks.pyramid_attention_broadcast import (
    PyramidAttentionBroadcastConfig,
    apply_pyramid_attention_broadcast,
)
from diffusers.hooks.taylorseer_cache import TaylorSeerCacheConfig, apply_taylorseer_cache
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from dipgo_fx.passes import find_blocks

from .core import ActsOnNothing, Method, PeerSampler, Setting, Stage, Task

THRESHOLDS = (0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.32, 0.5, 0.7, 1.0, 1.5, 3.0)
EVERYWHERE, STOCK_RANGE = (-1, 10**6), (100, 800)


def _open_context(model: nn.Module) -> None:
    """Do what `model.cache_context` does in a pipeline; models without that mixin need it too."""
    _set_cache_context(model, CacheContext("loop"))


# -- Pyramid Attention Broadcast


def pab_settings(task: Task) -> Iterator[Setting]:
    """Yield how many steps share an attention, over all timesteps or the default's range."""
    for limits in (EVERYWHERE, STOCK_RANGE):
        for skip in (*range(2, min(11, task.steps)), task.steps):
            yield Setting(
                {"skip_range": skip, "timesteps": "all" if limits == EVERYWHERE else limits}, limits
            )


def install_pab(stage: Stage, setting: Setting) -> None:
    """Broadcast self- and cross-attention."""
    skip, limits = setting.knobs["skip_range"], setting.data
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=skip,
        cross_attention_block_skip_range=skip,
        spatial_attention_timestep_skip_range=limits,
        cross_attention_timestep_skip_range=limits,
        spatial_attention_block_identifiers=("blocks", "mid_block"),
        cross_attention_block_identifiers=("blocks", "mid_block"),
        current_timestep_callback=lambda: int(stage.timestep),
    )
    apply_pyramid_attention_broadcast(stage.model, config)


# -- First Block Cache


def fbc_settings(task: Task) -> Iterator[Setting]:
    """Yield thresholds on the change of the first block's residual."""
    yield from (Setting({"threshold": threshold}) for threshold in THRESHOLDS)


def install_fbc(stage: Stage, setting: Setting) -> None:
    """Let the first block decide whether the others run."""
    apply_first_block_cache(stage.model, FirstBlockCacheConfig(**setting.knobs))
    _open_context(stage.model)


# -- MagCache


def mag_settings(task: Task) -> Iterator[Setting]:
    """Calibrate once on the task's sample, then yield thresholds, longest skips and warm-ups."""
    ratios = mag_ratios(task)
    for retention in (0.05, 0.2):
        for longest in (3, task.steps):
            for threshold in THRESHOLDS:
                knobs = {"threshold": threshold, "max_skip_steps": longest, "retention_ratio": retention}
                yield Setting(knobs, ratios)


def mag_ratios(task: Task) -> list[float]:
    """Return the magnitude ratios that the package's calibration run prints."""
    printed = io.StringIO()

    def install(stage: Stage, setting: Setting) -> None:
        calls = len(stage.scheduler.timesteps)
        apply_mag_cache(stage.model, MagCacheConfig(num_inference_steps=calls, calibrate=True))
        stage.call = _printing_to(printed, stage.call)

    PeerSampler(task, Method("MagCache calibration", "diffusers", mag_settings, install), Setting())(
        task.sample, **task.conditioning
    )
    found = re.search(r"\[[^\[\]]*\d[^\[\]]*\]\s*$", printed.getvalue())
    if found is None:
        raise ActsOnNothing(
            "calibration prints no ratios; a warning says that no transformer blocks were found"
        )
    ratios: list[float] = ast.literal_eval(found.group().strip())
    return ratios


def _printing_to(stream: io.StringIO, call: Any) -> Any:
    def forward(*args: Any, **kwargs: Any) -> torch.Tensor:
        with redirect_stdout(stream):
            result: torch.Tensor = call(*args, **kwargs)
        return result

    return forward


def install_mag(stage: Stage, setting: Setting) -> None:
    """Skip by the calibrated ratios."""
    calls = len(stage.scheduler.timesteps)
    config = MagCacheConfig(**setting.knobs, num_inference_steps=calls, mag_ratios=setting.data)
    apply_mag_cache(stage.model, config)


# -- TaylorSeer


def taylor_settings(task: Task) -> Iterator[Setting]:
    """Yield intervals, orders and warm-ups on three sets of modules.

    The default patterns end in `attn` and match nothing in models that say `attn1`. Ours name the
    attentions and feed-forwards (the method's paper), whole blocks, or, as its lite mode does,
    nothing but the output head.
    """
    for part in ("branch", "block", "lite"):
        matching = patterns(task.model, part)
        for order in (1, 2, 3, 4):
            # A higher order needs more computed steps before it is one.
            for warmup in sorted({1, 2, 3, task.steps // 3} if order < 3 else {3, task.steps // 3}):
                for interval in (*range(2, min(11, task.steps)), task.steps):
                    knobs = {"interval": interval, "order": order, "warmup": warmup, "modules": part}
                    yield Setting(knobs, matching)


def patterns(model: nn.Module, part: str) -> dict[str, list[str]]:
    """Return patterns that match a model's modules exactly."""
    if part != "lite":
        paths = find_blocks(model, "branch") if part == "branch" else _tensor_blocks(model)
        return {"cache_identifiers": [re.escape(path) for path in paths]}
    heads = [name for name in ("proj_out_2", "proj_out", "conv_out") if hasattr(model, name)]
    skipped = [re.escape(path) for path in _tensor_blocks(model)]
    return {"skip_predict_identifiers": skipped, "cache_identifiers": heads[:1]}


def _tensor_blocks(model: nn.Module) -> list[str]:
    """Return a model's blocks, and in place of one that returns a tuple of one tensor its parts.

    The hook hands back the tensor instead of the tuple, and the U-Net takes the first sample for it.
    """
    found: list[str] = []
    for path in find_blocks(model, "block"):
        module = model.get_submodule(path)
        if isinstance(module, Transformer2DModel):
            inner = [f"transformer_blocks.{index}" for index in range(len(module.transformer_blocks))]
            found += [f"{path}.{name}" for name in ("proj_in", *inner, "proj_out")]
        else:
            found.append(path)
    return found


def install_taylor(stage: Stage, setting: Setting) -> None:
    """Extrapolate the matching modules in float32."""
    config = TaylorSeerCacheConfig(
        cache_interval=setting.knobs["interval"],
        disable_cache_before_step=setting.knobs["warmup"],
        max_order=setting.knobs["order"],
        taylor_factors_dtype=torch.float32,
        **setting.data,
    )
    apply_taylorseer_cache(stage.model, config)
    _open_context(stage.model)


PAB = Method("Pyramid Attention Broadcast", "diffusers", pab_settings, install_pab)
FIRST_BLOCK = Method("First Block Cache", "diffusers", fbc_settings, install_fbc)
MAGCACHE = Method("MagCache", "diffusers", mag_settings, install_mag)
TAYLORSEER = Method("TaylorSeer", "diffusers", taylor_settings, install_taylor)
