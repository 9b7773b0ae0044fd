"""A pipeline lent for a run that is cut short: afterwards it is as it was."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from .denoiser import parts


class Enough(BaseException):
    """Ends a call of a pipeline from inside; no `except Exception` of its own may stop it."""


@contextmanager
def as_found(pipe: Any) -> Iterator[dict[str, Any]]:
    """Lend a pipeline's attributes, with a scheduler of their own; afterwards it is as it was."""
    state = vars(pipe)
    before = dict(state)
    state["scheduler"] = copy.deepcopy(pipe.scheduler)
    state["_progress_bar_config"] = {**getattr(pipe, "_progress_bar_config", {}), "disable": True}
    try:
        yield state
    finally:
        state.clear()
        state.update(before)


@contextmanager
def cut_short(pipe: Any, step: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Lend a pipeline as `as_found` does, for a run without gradients that ends where `Enough` is raised.

    Its scheduler steps by `step(own_step, *args, **kwargs)`.
    """
    with suppress(Enough), torch.no_grad(), as_found(pipe) as state:
        own_step = state["scheduler"].step
        # Pipelines read its signature.
        state["scheduler"].step = functools.wraps(own_step)(functools.partial(step, own_step))
        yield state
    pipe.maybe_free_model_hooks()  # as the end of the run does, which was cut off


@contextmanager
def attention_as_found(pipe: Any) -> Iterator[None]:
    """Put the attention processors of a pipeline's models back at the end.

    A run that perturbs attention replaces them, and one that is cut off leaves its own, by which the recorded
    loop has to run meanwhile.
    """
    attending: list[Any] = [part for part in parts(pipe).values() if hasattr(part, "attn_processors")]
    before = [(part, part.attn_processors) for part in attending]
    try:
        yield
    finally:
        for part, own in before:
            if part.attn_processors != own:
                part.set_attn_processor({**own})  # which takes the mapping apart
