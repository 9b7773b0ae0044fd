"""The models at full width with random weights, their inputs, and how much of them a device is asked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import diffusers as d
import torch
from torch import nn

import dipgo_fx
from benchmarks.architectures import ARCHITECTURES, FLUX_SIDE, SHARED, TOKENS, example_inputs
from dipgo_fx import Loop
from dipgo_fx.conditioning import map_named, map_rows
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.guidance import Guidance

MODELS = ("sd15", "sd21", "sdxl", "dit", "pixart", "sd3", "flux")
SCALE = 7.5
"""Of classifier-free guidance."""


@dataclass(frozen=True)
class Size:
    """How much of a model is measured.

    Attributes:
        side: of the latents, that of the model's own images if `None`.
        layers: of a transformer, all if `None`; Flux has twice as many single ones.
        tokens: of the text of SD3 and Flux, as many as their pipelines have if `None`.
        steps: of the loop.
        rounds: of timing.
    """

    side: int | None = None
    layers: int | None = None
    tokens: int | None = None
    steps: int = 20
    rounds: int = 5


SMALL = Size(side=32, tokens=77, steps=10, rounds=4)
SHORT = replace(SMALL, steps=5, rounds=2)
ON_CPU = {
    "sd15": SMALL,
    "dit": SMALL,
    "pixart": SHORT,
    "sd21": SHORT,
    "sdxl": SHORT,
    "sd3": replace(SHORT, side=16),
    "flux": replace(SHORT, side=16, layers=4, tokens=32),  # a fifth of its parameters: 10 GB of float32
}
"""So that a model takes about 10 minutes on one thread, and 14 GB."""


def size_of(key: str, options: argparse.Namespace) -> Size:
    """Return the size of a model on the device that is asked for, with what the options say."""
    size = ON_CPU[key] if torch.device(options.device).type == "cpu" else Size()
    asked = {name: getattr(options, name) for name in ("side", "layers", "tokens", "steps", "rounds")}
    return replace(size, **{name: value for name, value in asked.items() if value is not None})


def model_of(key: str, size: Size, device: torch.device | str = "cpu") -> nn.Module:
    """Build a denoiser with random weights."""
    setting = ARCHITECTURES[key]
    config = dict(setting.config)
    if size.side and "sample_size" in config:
        config["sample_size"] = size.side
    if size.layers and "num_layers" in config:
        config["num_layers"] = size.layers
        config |= {"num_single_layers": 2 * size.layers} if "num_single_layers" in config else {}
    if key == "pixart":
        config["use_additional_conditions"] = False  # sizes, which it takes at 1024 pixels
    with torch.device(device):
        model: nn.Module = setting.model(**config).eval()
    return model


@dataclass(frozen=True)
class Subject:
    """A model whose loops are measured.

    Attributes:
        name: with its size, for tables.
        model: in eval mode, on its device, in its dtype.
        steps: of the loop.
        inputs: sample and conditioning of a batch.
        scale: of guidance; conditioning then has two rows a sample.
    """

    name: str
    model: nn.Module
    steps: int
    inputs: dict[str, Any] = field(repr=False)
    scale: float | None = None

    @classmethod
    def of(cls, key: str, size: Size, options: argparse.Namespace) -> Subject:
        """Build a model, with noise of a batch."""
        device, dtype = torch.device(options.device), getattr(torch, options.dtype)
        torch.manual_seed(options.seed)
        model = model_of(key, size, device).to(device, dtype)  # tables made with numpy are on the CPU
        return cls(name_of(key, size), model, size.steps, random_inputs(model, size, options.batch))

    def guided(self) -> Subject:
        """Return the same under guidance."""
        rows = map_rows(lambda each: torch.cat([each, each]), self.conditioning, SHARED)
        return replace(self, inputs={"sample": self.sample, **rows}, scale=SCALE)

    @property
    def scheduler(self) -> Any:
        """DDIM, or Euler steps for models that flow."""
        flows = isinstance(self.model, (d.SD3Transformer2DModel, d.FluxTransformer2DModel))
        return d.FlowMatchEulerDiscreteScheduler(shift=3.0) if flows else d.DDIMScheduler()

    @property
    def is_unet(self) -> bool:
        """Tell whether it is a U-Net, which DeepCache takes."""
        return isinstance(self.model, d.UNet2DConditionModel)

    @property
    def sample(self) -> torch.Tensor:
        """The initial noise."""
        noise: torch.Tensor = self.inputs["sample"]
        return noise

    @property
    def conditioning(self) -> dict[str, Any]:
        """What the model takes besides."""
        return {name: value for name, value in self.inputs.items() if name != "sample"}

    @property
    def shared(self) -> frozenset[str]:
        """Names of the inputs that all samples share."""
        return SHARED & set(self.inputs)

    def eager(self) -> torch.Tensor:
        """Run the loop in Python."""
        scheduler = prepared(self.scheduler, self.steps)
        guidance = Guidance(self.scale)
        return denoise(self.model, scheduler, self.sample, self.conditioning, guidance, shared=self.shared)

    @cached_property
    def loop(self) -> Loop:
        """The traced loop."""
        return self.traced()

    @cached_property
    def split_loop(self) -> Loop:
        """The traced loop with the conditions of guidance in calls of their own."""
        return self.traced(split_guidance=True)

    def traced(self, **options: Any) -> Loop:
        """Trace the loop."""
        return dipgo_fx.trace(
            self.model,
            self.scheduler,
            self.steps,
            sample=self.sample,
            conditioning=self.conditioning,
            guidance_scale=self.scale,
            shared=self.shared,
            **options,
        )


def name_of(key: str, size: Size) -> str:
    """Return a model's name, with what is left of its blocks and the side of its latents."""
    setting = ARCHITECTURES[key]
    name, _, _ = setting.name.partition(",")
    own, single = setting.config.get("num_layers"), setting.config.get("num_single_layers")
    if size.layers and own:
        kept, every = [size.layers, 2 * size.layers], [own, single]
        count = 2 if single else 1
        name += f" ({' + '.join(map(str, kept[:count]))} of {' + '.join(map(str, every[:count]))} blocks)"
    side = size.side or setting.config.get("sample_size", FLUX_SIDE)
    text = f" and {size.tokens} tokens" if size.tokens and setting.model.__name__ in TOKENS else ""
    return f"{name}, {side} x {side}{text}"


def random_inputs(model: nn.Module, size: Size, batch: int) -> dict[str, Any]:
    """Return noise and conditioning of a batch, as arguments of a loop."""
    noise = torch.Generator().manual_seed(1)

    def rows(name: str, value: torch.Tensor) -> torch.Tensor:
        if name in SHARED:
            return value
        shape = (batch, *value.shape[1:])
        made = torch.randn(shape, generator=noise) if value.is_floating_point() else torch.zeros(shape)
        return made.to(value.device, value.dtype)

    made: dict[str, Any] = map_named(rows, example_inputs(model, size.side, size.tokens))
    return made
