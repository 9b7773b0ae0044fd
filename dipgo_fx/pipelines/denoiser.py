"""The denoiser of a stock pipeline."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import PlanError
from ..passes.forward_slot import parameters_of
from ..passes.loop_recorder import TIMESTEP
from ..passes.uncompiled import is_wrapper, without_wrapper


def parts(pipe: Any) -> dict[str, nn.Module]:
    """Return the modules of a pipeline by the names of its components."""
    return {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}


def denoisers_of(pipe: Any, wanted: str) -> list[nn.Module]:
    """Return the components of a pipeline whose class is called `wanted`: Wan 2.2 has two that take turns.

    Raises `PlanError` if there is none, `ValueError` if one is compiled as a whole.
    """
    modules = parts(pipe)
    for name, part in modules.items():
        is_compiled = is_wrapper(part) or part._compiled_call_impl is not None
        if is_compiled and type(without_wrapper(part)).__name__ == wanted:
            raise ValueError(
                f"{type(pipe).__name__}.{name} is compiled as a whole, which leaves no room for a plan: give "
                "enable the plain module and compile=True, or compile its blocks (compile_repeated_blocks)"
            )
    found = [part for part in modules.values() if type(part).__name__ == wanted]
    if not found:
        classes = {name: type(part).__name__ for name, part in modules.items()}
        raise PlanError(f"this plan is for a {wanted}, {type(pipe).__name__} has none among {classes}")
    return [*dict.fromkeys(found)]


def refuse_caches(module: nn.Module) -> None:
    """Raise `ValueError` for a denoiser with hooks of diffusers that keep something from step to step."""
    for path, part in module.named_modules():
        hooks = getattr(getattr(part, "_diffusers_hook", None), "hooks", {})
        keeping = [name for name, hook in hooks.items() if getattr(hook, "_is_stateful", False)]
        if keeping:
            place = f"{type(module).__name__}.{path}" if path else type(module).__name__
            raise ValueError(
                f"{place} belongs to another cache already (the hooks {keeping}): disable that one first, "
                "with disable_cache() if enable_cache() made it"
            )


def denoisers(pipe: Any) -> list[nn.Module]:
    """Return the components of a pipeline that are called with a timestep, ControlNets aside.

    Raises `ValueError` if there is none, or some of different classes.
    """
    found = {
        name: part
        for name, part in parts(pipe).items()
        if {*TIMESTEP} & {*parameters_of(part)} and not name.startswith("controlnet")
    }
    classes = {type(part) for part in found.values()}
    if len(classes) != 1:
        raise ValueError(
            f"a plan is for the components of one class that take a timestep, {type(pipe).__name__} has "
            f"{len(found)} of {len(classes)} classes: {sorted(found)} among {sorted(parts(pipe))}"
        )
    return [*dict.fromkeys(found.values())]


def only_denoiser(pipe: Any) -> nn.Module:
    """Return the one component of a pipeline that is called with a timestep, ControlNets aside.

    Raises `ValueError` if there is none or more than one.
    """
    found = denoisers(pipe)
    if len(found) != 1:
        raise ValueError(
            f"{type(pipe).__name__} has {len(found)} denoisers, {type(found[0]).__name__}, and a search is "
            "for one: search a plan with dipgo_fx.prune(model, scheduler, ...), which can be enabled for all"
        )
    return found[0]
