"""The arguments of a pipeline's call: what a search is given of them, and what it gives itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..arguments import check, check_guidance_scale, check_steps

ArgumentsFor = Callable[[int], Mapping[str, Any]]
"""The arguments of a pipeline's call for so many samples."""

PLAIN = (str, int, float)
"""Kinds of arguments of a call that a plan notes."""
OWN = {
    "prompt": "a search takes prompts=[...], a trace needs none",
    "latents": "a search draws them",
    "num_images_per_prompt": "a search draws one image of each",
    "output_type": "a search ends at the latents",
}
"""Arguments of a pipeline's call that a search gives."""


def blank_prompts(samples: int) -> dict[str, Any]:
    """Return prompts without words: what is recorded of a loop does not depend on them."""
    return {"prompt": [""] * samples}


def check_call(pipe: Any, call: Mapping[str, Any], has_inputs: bool) -> None:
    """Raise `TypeError` for arguments that the pipeline's call does not take, or takes from the search.

    Steps and guidance are looked at as `prune` looks at them, the others are left to the pipeline.
    """
    if "num_inference_steps" in call:
        check_steps(call["num_inference_steps"])
    check_guidance_scale(call.get("guidance_scale"))
    name, parameters = type(pipe).__name__, inspect.signature(type(pipe).__call__).parameters
    if "prompt" not in parameters and not has_inputs:
        raise TypeError(
            f"{name} takes no prompts: pass inputs=, or search a plan with dipgo_fx.prune(model, scheduler, "
            "...), which can be enabled"
        )
    unknown = [word for word in call if word not in parameters]
    if unknown:
        raise TypeError(f"further arguments must be those of {name}.__call__, got {unknown}")
    for word in call:
        if word in OWN:
            raise TypeError(f"leave {word} out: {OWN[word]}")
        if word.startswith(("negative_prompt", "prompt_")) and isinstance(call[word], (list, tuple)):
            raise TypeError(
                f"{word} must be one text for all samples, got {len(call[word])}: texts that differ belong "
                "to inputs="
            )


def check_inputs(inputs: Any) -> None:
    """Raise `TypeError` unless these can be the arguments for so many samples, or `None`."""
    kinds = (Callable, type(None))
    check("inputs", inputs, kinds, "a function of a number of samples that returns arguments, or None")


def completed(inputs: ArgumentsFor, call: Mapping[str, Any]) -> ArgumentsFor:
    """Return all arguments of a pipeline's call: those that differ by sample, and those that do not.

    A text that goes with the prompt (`negative_prompt`, `prompt_2`) is repeated, as some want one each.
    """

    def arguments_for(samples: int) -> Mapping[str, Any]:
        """Return the arguments for so many samples."""
        given = inputs(samples)
        check(f"what inputs({samples}) returns", given, Mapping, "a mapping of arguments of the pipeline")
        fixed = {
            name: [value] * samples
            if name.startswith(("negative_prompt", "prompt_")) and isinstance(value, str)
            else value
            for name, value in call.items()
        }
        return {**given, **fixed}

    return arguments_for
