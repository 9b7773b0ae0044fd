"""LTX-Video put to other tasks, without and with sound."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers import DiffusionPipeline
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition

from benchmarks.coverage.pipelines.ltx import (
    ltx2_audio_vae,
    ltx2_connectors,
    ltx2_transformer,
    ltx2_vae,
    ltx_transformer,
)
from benchmarks.coverage.pipelines.parts import (
    MASKED,
    PROMPT,
    VIDEO,
    a_picture,
    an_image,
    embeddings,
    flow,
    flow_dynamic,
    no_text,
    pictures,
    randn,
    random_model,
    t5_text,
    t5_tokenizer,
    together,
)
from benchmarks.coverage.pipelines.registry import add, tiny

_TEXT = embeddings(16, mask=MASKED)


def _ltx_vae() -> Any:
    """Build the VAE of LTX-Video."""
    return random_model(
        d.AutoencoderKLLTXVideo,
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False),
        decoder_spatio_temporal_scaling=(True, True, True, False),
        decoder_inject_noise=(False,) * 5,
    )


def _parts(**parts: Any) -> dict[str, Any]:
    return no_text(**{"transformer": ltx_transformer(), "scheduler": flow(), "vae": _ltx_vae(), **parts})


add("ltx-i2v", d.LTXImageToVideoPipeline, _parts, inputs=together(_TEXT, an_image(side=64)), **VIDEO)
add("ltx-condition", d.LTXConditionPipeline, _parts, inputs=together(_TEXT, a_picture), single=True, **VIDEO)


@tiny(
    "ltx-long",
    inputs=lambda batch: {"prompt": PROMPT, "cond_image": pictures(1, side=64)[0]},
    single=True,
    generator=None,
    temporal_tile_size=16,
    temporal_overlap=8,
    **VIDEO,
)
def _ltx_long() -> DiffusionPipeline:
    return d.LTXI2VLongMultiPromptPipeline(**_parts(text_encoder=t5_text(), tokenizer=t5_tokenizer()))


_SOUNDING = {"spatio_temporal_guidance_blocks": [1], "frame_rate": 24.0, **VIDEO}
_TEXT_2 = embeddings(32, mask=MASKED)


def _parts_2(scheduler: Any = flow_dynamic, **config: Any) -> dict[str, Any]:
    return no_text(
        transformer=ltx2_transformer(**config),
        scheduler=scheduler(),
        vae=ltx2_vae(),
        audio_vae=ltx2_audio_vae(),
        connectors=ltx2_connectors(),
        vocoder=None,
    )


add(
    "ltx2-i2v",
    d.LTX2ImageToVideoPipeline,
    _parts_2,
    inputs=together(_TEXT_2, an_image(side=64)),
    image_crf=0,
    **_SOUNDING,
)
add(
    "ltx2-condition",
    d.LTX2ConditionPipeline,
    _parts_2,
    inputs=together(
        _TEXT_2,
        lambda batch: {
            "conditions": LTX2VideoCondition(frames=pictures(1, side=64)[0], index=0, strength=1.0, crf=0)
        },
    ),
    **_SOUNDING,
)
add(
    "ltx2-in-context",
    d.LTX2InContextPipeline,
    _parts_2,
    inputs=together(
        _TEXT_2,
        lambda batch: {
            "reference_conditions": LTX2ReferenceCondition(frames=pictures(9, side=64), strength=1.0)
        },
    ),
    **_SOUNDING,
)
add(
    "ltx2-hdr",
    d.LTX2HDRPipeline,
    _parts_2,
    inputs=together(
        _TEXT_2,
        lambda batch: {
            "reference_conditions": LTX2ReferenceCondition(frames=pictures(9, side=64), strength=1.0)
        },
    ),
    frame_rate=24.0,
    **VIDEO,
)

add(
    "ltx2-dfr",
    d.LTX2DFRPipeline,
    lambda: _parts_2(flow, use_keyframes_abs_pos_embedding=True),
    inputs=embeddings(32, mask=MASKED, negative=False),
    frame_rate=24.0,
    steps_as=lambda number: {"sigmas": [1 - step / number for step in range(number)]},
    **VIDEO,
)


def _refine_parts() -> dict[str, Any]:
    parts = _parts_2(lambda: d.LTXEulerAncestralRFScheduler(eta=0.5), use_keyframes_abs_pos_embedding=True)
    return parts | {
        "temporal_latent_upsampler": random_model(
            LTX2LatentUpsamplerModel,
            in_channels=4,
            mid_channels=32,
            num_blocks_per_stage=1,
            spatial_upsample=False,
            temporal_upsample=True,
        )
    }


add(
    "ltx2-dfr-refine",
    d.LTX2DFRTemporalRefinePipeline,
    _refine_parts,
    inputs=together(
        embeddings(32, mask=MASKED, negative=False),
        lambda batch: {
            "latents": randn(batch, 4, 5, 8, 8),
            "keyframes_latents": randn(batch, 4, 1, 8, 8),
            "audio_latents": randn(batch, 2, 6, 2),
        },
    ),
    keyframe_positions=[8],
    frame_rate=24.0,
    steps_as=lambda number: {"sigmas": [1 - step / number for step in range(number)]},
    **VIDEO,
)
