"""Checks at the door: what kind of object every argument of a public function must be."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Iterable, Mapping
from numbers import Integral, Number, Real
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from .denoise import forward_parameters
from .passes.uncompiled import without_wrapper

LOOP_GIVES = ("timestep", "return_dict")
"""Arguments of `model.forward` that a loop gives itself, beside the sample."""
CONDITIONING = "argument names of model.forward to tensors"
SHOWN = 60
"""Characters of a wrong value that an error shows."""


def check(name: str, value: object, kinds: Any, wanted: str) -> None:
    """Raise `TypeError` saying what `name` must be and what came, unless `value` is of these kinds.

    Numbers are asked for as `numbers.Integral` and `numbers.Real`; a bool is none of them here.
    """
    is_number = kinds in (Integral, Real)
    if not isinstance(value, kinds) or (is_number and isinstance(value, bool)):
        raise TypeError(f"{name} must be {wanted}, got {_described(value)}")


def checked_model(model: object) -> nn.Module:
    """Return a denoiser, without the wrapper that `torch.compile(model)` puts around it."""
    check("model", model, nn.Module, "a denoiser, an nn.Module such as pipe.unet or pipe.transformer")
    assert isinstance(model, nn.Module)
    return without_wrapper(model)


def check_loop_arguments(
    model: nn.Module,
    scheduler: object,
    num_inference_steps: object,
    sample: object,
    conditioning: object,
    guidance_scale: object = None,
    split_guidance: object = False,
    shared: object = None,
) -> None:
    """Raise `TypeError` or `ValueError` for a wrong argument of those that `trace` takes."""
    methods = [getattr(scheduler, name, None) for name in ("set_timesteps", "step")]
    if isinstance(scheduler, type) or not all(map(callable, methods)):
        raise TypeError(
            "scheduler must be a diffusers scheduler with set_timesteps() and step(), such as "
            f"pipe.scheduler, got {_described(scheduler)}"
        )
    _check_step(scheduler)
    if not {"timestep", "kwargs"} & {*forward_parameters(model)}:
        raise ValueError(
            f"model must be a denoiser whose forward takes a timestep, {type(model).__name__}.forward takes "
            f"{list(forward_parameters(model))}"
        )
    check_steps(num_inference_steps)
    if sample is not None:
        check("sample", sample, torch.Tensor, "a tensor like the initial noise")
        assert isinstance(sample, torch.Tensor)
        if sample.dim() < 2 or not sample.is_floating_point():
            raise ValueError(
                "sample must be a floating-point tensor (any batch, channels, ...) like the initial noise, "
                f"got {sample.dtype} {tuple(sample.shape)}"
            )
    if conditioning is not None:
        _check_conditioning("conditioning", conditioning, model)
    check_guidance_scale(guidance_scale)
    check("split_guidance", split_guidance, bool, "True or False")
    check("shared", shared, (list, tuple, set, frozenset, type(None)), "a list of names of tensors, or None")
    for name in shared or ():  # type: ignore[attr-defined]
        check("each of shared", name, str, "the name of a tensor in conditioning")


def check_steps(num_inference_steps: Any) -> None:
    """Raise `TypeError` unless this is a whole number, `ValueError` unless it is at least 1."""
    check("num_inference_steps", num_inference_steps, Integral, "a whole number of steps")
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps must be at least 1, got {num_inference_steps}")


def check_guidance_scale(guidance_scale: Any) -> None:
    """Raise `TypeError` unless this is a number or `None`, `ValueError` unless it is finite."""
    if guidance_scale is None:
        return
    check("guidance_scale", guidance_scale, Real, "a number, or None for no guidance")
    if not abs(guidance_scale) <= sys.float_info.max:
        raise ValueError(f"guidance_scale must be finite, got {guidance_scale}")


def _check_step(scheduler: Any) -> None:
    try:
        inspect.signature(scheduler.step).bind(None, None, None, return_dict=False)
    except TypeError as error:
        raise TypeError(
            "scheduler must be one whose step() takes a prediction, a timestep and a sample, got "
            f"{type(scheduler).__name__} ({error})"
        ) from error


def _check_conditioning(name: str, given: object, model: nn.Module) -> None:
    """Raise `TypeError` or `ValueError` unless a loop can hand these arguments to a model."""
    check(name, given, Mapping, f"a mapping of {CONDITIONING}")
    assert isinstance(given, Mapping)
    parameters = forward_parameters(model)
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    sample, *free = parameters
    taken = [key for key in given if key in (sample, *LOOP_GIVES)]
    if taken:
        raise ValueError(f"{name} has {taken}, which the loop itself gives to {type(model).__name__}.forward")
    unknown = [key for key in given if key not in free]
    if unknown and not takes_all:
        accepted = sorted({*free} - {*LOOP_GIVES})
        raise ValueError(f"{name} has {unknown}, but {type(model).__name__}.forward takes {accepted}")
    needed = [
        p.name for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    missing = [key for key in needed if key not in (*given, sample, *LOOP_GIVES)]
    if missing:
        raise ValueError(f"{name} has {list(given)}, but {type(model).__name__}.forward also needs {missing}")
    for key, value in given.items():
        for leaf in pytree.tree_leaves(value, is_leaf=_is_namedtuple):
            kinds = (torch.Tensor, Number, str, type(None))
            check(f"{name}[{key!r}]", leaf, kinds, "a tensor, a number, a text, None, or nested ones")


def _is_namedtuple(value: object) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def check_shared_names(shared: Collection[str], given: Collection[str]) -> None:
    """Raise `ValueError` unless these are names of tensors that are given."""
    unknown = [name for name in shared if name not in given]
    if unknown:
        raise ValueError(f"shared names {unknown}, but the tensors in conditioning are {list(given)}")


def check_ratio(ratio: object) -> None:
    """Raise `TypeError` unless `ratio` is a number, `ValueError` unless it lies in [0, 1)."""
    check("ratio", ratio, Real, "a number, the share of MACs to remove")
    if not 0 <= ratio < 1:  # type: ignore[operator]
        raise ValueError(f"ratio is the share of MACs to remove and must lie in [0, 1), got {ratio}")


def checked_prompts(prompts: Any) -> list[str] | None:
    """Return prompts as a list. Raises `TypeError` or `ValueError` for what is none."""
    if prompts is None:
        return None
    if isinstance(prompts, (str, Mapping)):
        raise TypeError(f"prompts must be an iterable of texts, got {_described(prompts)}")
    check("prompts", prompts, Iterable, "an iterable of texts")
    given = list(prompts)
    for prompt in given:
        check("each of prompts", prompt, str, "a text")
    if not given:
        raise ValueError("prompts are empty: pass at least one, or None for those that come with dipgo_fx")
    return given


def checked_calibration(calibration: Any, model: nn.Module) -> Any:
    """Return calibration as a mapping or a list of mappings.

    Raises `TypeError` or `ValueError` for anything else.
    """
    if calibration is None:
        return None
    if isinstance(calibration, Mapping):
        _check_conditioning("calibration", calibration, model)
        return calibration
    wanted = f"a mapping of {CONDITIONING}, or an iterable of such mappings"
    if isinstance(calibration, (str, torch.Tensor)):
        raise TypeError(f"calibration must be {wanted}, got {_described(calibration)}")
    check("calibration", calibration, Iterable, wanted)
    items = list(calibration)
    for item in items:
        _check_conditioning("each item of calibration", item, model)
    if not items:
        raise ValueError("calibration is empty: pass at least one mapping of conditioning tensors")
    return items


def _described(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} itself: make an instance"
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, nn.Module):
        return f"the module {type(value).__name__}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= SHOWN else text[: SHOWN - 3] + '...'}"
