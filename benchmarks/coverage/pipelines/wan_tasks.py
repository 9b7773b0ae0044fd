"""Wan and SkyReels put to other tasks."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers import DiffusionPipeline

from benchmarks.coverage.pipelines.parts import (
    VIDEO,
    a_video,
    clip_images,
    clip_vision,
    embeddings,
    flow_solver,
    images,
    no_text,
    together,
)
from benchmarks.coverage.pipelines.registry import add, tiny
from benchmarks.coverage.pipelines.wan import (
    helios_parts,
    skyreels_transformer,
    wan_transformer,
    wan_vae,
)

add(
    "wan-v2v",
    d.WanVideoToVideoPipeline,
    lambda: no_text(
        transformer=wan_transformer(), scheduler=flow_solver(d.UniPCMultistepScheduler, 3.0), vae=wan_vae()
    ),
    inputs=together(embeddings(16), a_video()),
    single=True,
    height=64,
    width=64,
    strength=0.99,
)
add(
    "lucy-edit",
    d.LucyEditPipeline,
    lambda: no_text(
        transformer=wan_transformer(in_channels=8),
        scheduler=flow_solver(d.UniPCMultistepScheduler, 3.0),
        vae=wan_vae(),
    ),
    inputs=together(embeddings(16), a_video()),
    single=True,
    **VIDEO,
)


def _skyreels_parts(**config: Any) -> dict[str, Any]:
    return no_text(
        transformer=skyreels_transformer(**config),
        scheduler=flow_solver(d.UniPCMultistepScheduler, 8.0),
        vae=wan_vae(),
    )


def _skyreels_i2v_parts() -> dict[str, Any]:
    parts = _skyreels_parts(in_channels=12, image_dim=16, added_kv_proj_dim=24)
    return parts | {"image_encoder": clip_vision(), "image_processor": clip_images()}


def _forcing_parts() -> dict[str, Any]:
    return _skyreels_parts(inject_sample_info=True, num_frame_per_block=1)


add(
    "skyreels-i2v",
    d.SkyReelsV2ImageToVideoPipeline,
    _skyreels_i2v_parts,
    inputs=together(embeddings(16), lambda batch: {"image": images(1, 32)}),
    **VIDEO,
)
add(
    "skyreels-forcing",
    d.SkyReelsV2DiffusionForcingPipeline,
    _forcing_parts,
    inputs=embeddings(16),
    base_num_frames=9,
    **VIDEO,
    single=True,
    prompt=None,
)
add(
    "skyreels-forcing-i2v",
    d.SkyReelsV2DiffusionForcingImageToVideoPipeline,
    _forcing_parts,
    inputs=together(embeddings(16), lambda batch: {"image": images(1, 64)}),
    base_num_frames=9,
    **VIDEO,
    single=True,
    prompt=None,
)
add(
    "skyreels-forcing-v2v",
    d.SkyReelsV2DiffusionForcingVideoToVideoPipeline,
    _forcing_parts,
    inputs=together(embeddings(16), a_video()),
    single=True,
    height=64,
    width=64,
    num_frames=17,
    base_num_frames=9,
    overlap_history=1,
)


@tiny(
    "helios-pyramid",
    inputs=embeddings(16),
    steps_as=lambda number: {"pyramid_num_inference_steps_list": [number // 3] * 3},
    **VIDEO,
)
def _helios_pyramid() -> DiffusionPipeline:
    # The default gamma of a third leaves its noise a covariance that is no longer positive.
    return d.HeliosPyramidPipeline(**helios_parts(gamma=0.33))
