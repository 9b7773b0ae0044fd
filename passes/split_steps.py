"""One graph to one submodule a step: what a search interprets, resumes and checkpoints step by step."""

from __future__ import annotations

from torch import fx
from torch.fx._lazy_graph_module import _use_lazy_graph_module
from torch.fx.passes.split_module import split_module

from .tags import tag


def split_steps(gm: fx.GraphModule) -> fx.GraphModule:
    """Return a module that computes the same through submodules `submod_0`, `submod_1`, ...: the steps.

    Not a rewrite of the graph but a new one around it (torch's own `split_module`), hence a function:
    values that later steps read become outputs of a step's submodule and inputs of theirs. A step that is
    only interpreted is never compiled to Python.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> loop = dipgo_fx.trace(*load("dit"), num_inference_steps=4)
        >>> [name for name, _ in dipgo_fx.passes.split_steps(loop).named_children()]
        ['submod_0', 'submod_1', 'submod_2', 'submod_3']
    """
    with _use_lazy_graph_module(True):
        split: fx.GraphModule = split_module(gm, gm, lambda node: int(tag(node, "step")))
    split.meta = dict(gm.meta)
    return split
