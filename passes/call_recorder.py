"""Record one call of a model with the very shapes it is called with, as a stock pipeline calls it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from .blocks import Blocks, find_blocks
from .call_state import Scales, plain_state, scaled, scales_of
from .graph_writer import MODEL, attribute, parts_of
from .known_values import KnownValues
from .loop_recorder import LoopRecorder, tensors_in
from .tags import is_block_output, tag


@dataclass(frozen=True, eq=False)
class CallGraph:
    """A model's call as a graph from its tensors to the tensors that it returns.

    Attributes:
        module: takes the tensors among the arguments and returns a tuple, the tensors of the result.
        blocks: names of the N blocks, in the order in which the model calls them.
        outputs: the nodes of the tensors that blocks return, each with the number of its block.
        result: what the model returns, its tensors replaced by `TENSOR`.
        values: of the inputs that the model's Python looked at, by their place among the tensors: the graph
            is one for these values.
        scales: of adapters' layers, which the model sets for the time of a call, and those between calls.
        state: what else lies on the model that its Python may look at, by path, see `plain_state`.
    """

    module: fx.GraphModule
    blocks: tuple[str, ...]
    outputs: Mapping[fx.Node, int]
    result: Any
    values: Mapping[int, torch.Tensor]
    scales: tuple[Scales, Scales]
    state: Mapping[str, Any]

    @property
    def channels(self) -> int:
        """Size of the second dimension of the first tensor that the model returns."""
        (returned,) = next(node for node in self.module.graph.nodes if node.op == "output").args
        return int(returned[0].meta["spec"].shape[1])

    def holds_for(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Tell whether the model's Python would go the same way for these inputs."""
        return all(torch.equal(tensors[place], value) for place, value in self.values.items())

    def is_of(self, model: nn.Module) -> bool:
        """Tell whether the model still has the parts that the graph calls and is in the state it was in."""
        parts = parts_of(self.module.graph, model, {})
        same_parts = all(
            attribute(self.module, target) is part
            for target, part in parts.items()
            if target.startswith(f"{MODEL}.")
        )
        during, between = self.scales
        same_scales = not during or scales_of(model) == between
        return same_parts and same_scales and plain_state(model, self.state) == self.state

    def scaled(self) -> AbstractContextManager[None]:
        """Return a context in which adapters' layers have the scales that the model gives them in a call."""
        return scaled(self.scales[0])

    def wrapped(self, tensors: Sequence[torch.Tensor]) -> Any:
        """Return tensors in the structure in which the model returns them."""
        given = iter(tensors)
        leaves, spec = pytree.tree_flatten(self.result)
        return pytree.tree_unflatten([next(given) if leaf is TENSOR else leaf for leaf in leaves], spec)


def _stored(recorder: LoopRecorder, target: str) -> torch.Tensor:
    """Return a constant of a recording, or a tensor of its model."""
    if target in recorder.constants:
        return recorder.constants[target]
    return attribute(recorder.model, target.removeprefix(f"{MODEL}."))  # type: ignore[no-any-return]


TENSOR = object()
"""Stands for a tensor in `CallGraph.result`."""


@torch.inference_mode(False)  # its tensors could not tell whether they were edited
def record_call(
    model: nn.Module,
    blocks: Blocks,
    arguments: Mapping[str, Any],
    changing: Container[str] = (),
    parts: Container[str] | None = None,
) -> CallGraph:
    """Return the graph of `model(**arguments)`; the model is not computed.

    Whatever is no tensor among the arguments becomes part of the graph, and so do the values of tensors that
    the model's Python looks at, such as the lengths behind a mask.

    Args:
        blocks: which modules are blocks.
        changing: names of the arguments that differ at every step, whose values must not be looked at.
        parts: names of the model's children that hold blocks, all if omitted; what an adapter has added
            beside them always runs.

    Raises `TraceError` for Python that cannot be recorded; names the module.
    """
    paths = find_blocks(model, blocks)
    if parts is not None:
        paths = tuple(path for path in paths if path.partition(".")[0] in parts)
    recorder = LoopRecorder(model, paths, blocks != "stage")
    given: dict[str, Any] = {}
    inputs: dict[fx.Node, torch.Tensor] = {}
    known: dict[fx.Node, torch.Tensor] = {}
    for name, argument in arguments.items():
        given[name], own = recorder.placeholders(argument)
        inputs |= own
        known |= {} if name in changing else own
    recorder.known = KnownValues(known, lambda target: _stored(recorder, target))
    with recorder.recording():
        result = model(**given)
    recorder.output(tuple(tensors_in(result)))
    module = fx.GraphModule(parts_of(recorder.graph, model, recorder.constants), recorder.graph)
    module.training = model.training
    called = tuple(recorder.called_blocks)
    number = {block: n for n, block in enumerate(called)}
    outputs = {n: number[tag(n, "block")] for n in module.graph.nodes if is_block_output(n)}
    places = {node: place for place, node in enumerate(inputs)}
    values = {places[node]: inputs[node].clone() for node in recorder.known.read}
    shown = pytree.tree_map_only(torch.Tensor, lambda _: TENSOR, result)
    scales = recorder.scales, scales_of(model)
    return CallGraph(module, called, outputs, shown, values, scales, recorder.state)
