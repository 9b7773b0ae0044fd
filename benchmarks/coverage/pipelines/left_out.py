"""What has no tiny pipeline here, and why."""

from __future__ import annotations

LEFT_OUT: dict[str, str] = {
    "Flux3Transformer2DModel": "modular pipeline only",
    "MiniMaxH3Transformer3DModel": "modular pipeline only",
    "MiniMaxMusic3Transformer1DModel": "modular pipeline only",
    "WanAnimate2Transformer3DModel": "modular pipeline only",
    "OmniGenTransformer2DModel": "OmniGenPipeline needs torchvision",
    "SanaWMLTX2RefinerTransformer3DModel": "refines finished latents by blocks, with Gemma 3 as text encoder",
    "T5FilmDecoder": "SpectrogramDiffusionPipeline needs note_seq",
    "RFD4ProteinaTransformer": "makes proteins: two noisy inputs, each with a scheduler of its own",
    "DreamLiteTransformer2DModel": "a block of UNets",
    "DualTransformer2DModel": "a block of UNets",
    "Transformer2DModel": "a block of UNets",
    "TransformerTemporalModel": "a block of UNets",
    "MotionAdapter": "a part of UNetMotionModel",
    "MiniMaxMusic3RVQDepthDecoder": "not a denoiser: it writes tokens one by one",
}
"""Class name in `diffusers.models.transformers` or `unets` -> why no pipeline here has it."""

_NO_LOOP = "no denoising loop"
_ONNX = "ONNX"
_LANGUAGE = "a language model: it writes text"

NOT_BUILT: dict[str, str] = {
    "AudioDiffusionPipeline": "needs librosa",
    "BlipDiffusionControlNetPipeline": "not yet built: its Q-Former loads a tokenizer of its own by name",
    "BlipDiffusionPipeline": "not yet built: its Q-Former loads a tokenizer of its own by name",
    "Cosmos2_5_TransferPipeline": "its ControlNet needs torchvision",
    "DiffusionGemmaPipeline": _LANGUAGE,
    "EasyAnimateControlPipeline": "broken in diffusers 0.42: it gives its encode_prompt an unknown argument",
    "FluxPriorReduxPipeline": _NO_LOOP,
    "LLaDA2Pipeline": _LANGUAGE,
    "LTX2LatentUpsamplePipeline": _NO_LOOP,
    "LTX2VideoDiffusionDecodePipeline": "no denoising loop of its own: the steps are inside its decoder",
    "LTXLatentUpsamplePipeline": _NO_LOOP,
    "OmniGenPipeline": "needs torchvision",
    "OnnxStableDiffusionImg2ImgPipeline": _ONNX,
    "OnnxStableDiffusionInpaintPipeline": _ONNX,
    "OnnxStableDiffusionInpaintPipelineLegacy": _ONNX,
    "OnnxStableDiffusionPipeline": _ONNX,
    "OnnxStableDiffusionUpscalePipeline": _ONNX,
    "RFD4ProteinaPipeline": "makes proteins: two noisy inputs, each with a scheduler of its own",
    "SanaWMLTX2Refiner": "refines finished latents by blocks, with Gemma 3 as text encoder",
    "SpectrogramDiffusionPipeline": "needs note_seq",
    "StableDiffusionOnnxPipeline": _ONNX,
    "VersatileDiffusionDualGuidedPipeline": "broken in diffusers 0.42: its blocks get an unknown argument",
    "VersatileDiffusionPipeline": "hands over to its three others and has no call of its own",
}
"""Pipeline class name -> why no pipeline here is of it."""
