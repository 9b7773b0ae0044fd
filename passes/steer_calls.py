"""Loop graph to steered loop graph: told timesteps and mixed predictions, at no MACs."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import torch
from torch import fx
from torch.nn import functional as F

from .base import GraphPass
from .drop_dead_blocks import erase_dead_nodes
from .errors import InvariantError
from .gate_table import terms
from .gates import forecast, write_forecast
from .loop_recorder import SAMPLE, TIMESTEP
from .model_calls import ModelCall, model_calls
from .steering import NEUTRAL, Steering
from .tags import TensorSpec, beside_the_model, tag

TOLD, MIX = "told", "mix"


@final
@dataclass(frozen=True)
class SteerCalls(GraphPass):
    """Change what the model is told of the timestep, and what is taken for its prediction.

    Before, at step t:  `p[t] = model(x, timestep, ...)`, readers take `p[t]`.
    After:              `p[t] = model(x, timestep * told[t], ...)`, readers take the sum of `x`, `p[t]`,
    `p[t-1]` and `p[t-2]`, weighted by `mix[t, c]`. Where a model predicts a variance too, `x` is added to the
    other channels only.

    Before the first run of a call readers take `mix[t, c, 0] * x`, and the model is not called.

    With `free` the tables become inputs of the graph: `told`, `(T,)`, and `mix`, `(T, C, 4)`, whose first
    column is not read where predictions have another shape than `x`; of `steering` only the first runs
    matter then.
    """

    name: ClassVar[str] = "steer-calls"
    steering: Steering
    free: bool = False

    def requires(self, gm: fx.GraphModule) -> None:
        """Raise `InvariantError` unless `gm` is a traced loop that the steering fits."""
        if gm.meta.get("stage") != "loop":
            raise InvariantError(f"expected a traced loop, got stage {gm.meta.get('stage')!r}")
        facts, steering = gm.meta["facts"], self.steering
        expected = len(facts.timesteps), len(facts.guidance.calls)
        if tuple(steering.mix.shape[:2]) != expected:
            raise InvariantError(
                f"expected a steering of {expected} steps and calls, got {tuple(steering.mix.shape[:2])}"
            )
        if bool(steering.mix[..., 0].any()) and not carries_sample(gm.graph):
            raise InvariantError("the steering mixes samples into predictions that have another shape")

    def rewrite(self, gm: fx.GraphModule) -> bool:
        """Steer the calls in order."""
        calls = list(model_calls(gm.graph))
        names = gm.meta["facts"].guidance.calls
        tables = _tables(gm.graph) if self.free else None
        told: dict[int, fx.Node] = {}
        past: dict[str, list[fx.Node]] = defaultdict(list)  # predictions of each call, newest first
        for call in calls:
            step, name = tag(call.body[0], "step"), tag(call.body[0], "call")
            index = names.index(name)
            if step < self.steering.first:
                self._mix(call, (step, index), [], tables)
                continue
            if step not in told:
                told[step] = self._told(call, tables)
            _read_instead(call.body, _given(call, TIMESTEP[0]), told[step])
            past[name].insert(0, prediction_of(call))
            self._mix(call, (step, index), past[name][:3], tables)
        erase_dead_nodes(gm.graph)
        gm.meta["first"] = self.steering.first
        if tables is not None:
            gm.meta["learnable"] = True
        return True

    def _told(self, call: ModelCall, tables: dict[str, fx.Node] | None) -> fx.Node:
        """Return what a step's calls read for the timestep."""
        step, timestep = tag(call.body[0], "step"), _given(call, TIMESTEP[0])
        graph = timestep.graph
        with graph.inserting_before(call.body[0]):
            if tables is not None:
                factor: Any = _entry(tables[TOLD], (step,), step)
            else:
                factor = self.steering.told[step].item()
                if factor == 1:
                    return timestep
            told = graph.call_function(operator.mul, (timestep, factor))
        spec = timestep.meta["spec"]
        dtype = spec.dtype if spec.dtype.is_floating_point else torch.float32
        return _made(told, replace(spec, dtype=dtype), step)

    def _mix(
        self,
        call: ModelCall,
        entry: tuple[int, int],
        past: list[fx.Node],
        tables: dict[str, fx.Node] | None,
    ) -> None:
        """Let what reads a call's prediction read the mixture of the sample and the predictions so far."""
        prediction, step = prediction_of(call), entry[0]
        readers = [user for user in prediction.users if user not in set(call.body)]
        weights = self.steering.mix[entry].tolist()
        if tables is None and tuple(weights) == NEUTRAL:
            return
        graph = prediction.graph
        with graph.inserting_before(prediction.next):
            sample = _sample_like(call, prediction)
            values = [*([] if sample is None else [sample]), *past]
            if tables is not None:
                columns = (*entry, slice(None if sample is not None else 1, None))
                made = [graph.call_function(forecast, (_entry(tables[MIX], columns, step), *values))]
            else:
                used = terms(weights[0 if sample is not None else 1 :], len(values))
                made = write_forecast(graph, [(values[k], weight) for k, weight in used])
        for node in made:
            _made(node, prediction.meta["spec"], step)
        for reader in readers:
            reader.replace_input_with(prediction, made[-1])


def mixture(
    weights: Sequence[float], sample: torch.Tensor, predictions: Sequence[torch.Tensor], channels: int
) -> torch.Tensor:
    """Return what a steered call hands on, bit for bit as the graph computes it.

    Args:
        weights: a row of `Steering.mix`.
        sample: what the call was given.
        predictions: of the call and of those before it, newest first; none where the sample stands alone.
        channels: of a prediction.
    """
    if not weights[0]:
        return forecast(torch.tensor(weights[1:], dtype=torch.float64), *predictions)
    more = channels - sample.shape[1]
    sample = F.pad(sample, _behind(sample.dim(), more)) if more else sample
    return forecast(torch.tensor(weights, dtype=torch.float64), sample, *predictions)


def can_steer(gm: fx.GraphModule) -> bool:
    """Tell whether the calls of a loop can be steered: one tensor comes out, and the timestep is a tensor."""
    try:
        for call in model_calls(gm.graph):
            _given(call, TIMESTEP[0])
            prediction_of(call)
    except InvariantError:
        return False
    return True


def prediction_of(call: ModelCall) -> fx.Node:
    """Return what a call predicts: the one value that nodes outside of it read.

    Raises `InvariantError` if they read several.
    """
    read = [call.body[place] for place in sorted(call.read)]
    if len(read) != 1:
        raise InvariantError(f"a steered call hands on one tensor, this one {[node.name for node in read]}")
    return read[0]


def carries_sample(graph: fx.Graph) -> bool:
    """Tell whether a loop's predictions have the shape of the samples that the model is given."""
    return all(_channels_more(call, prediction_of(call)) is not None for call in model_calls(graph))


def _channels_more(call: ModelCall, prediction: fx.Node) -> int | None:
    """Return how many channels a prediction has beyond the sample: as many, a variance, or none.

    `None` where the shapes or dtypes are others.
    """
    sample = _given(call, SAMPLE)
    one, other = (node.meta.get("spec") for node in (sample, prediction))
    if not (isinstance(one, TensorSpec) and isinstance(other, TensorSpec)) or one.dtype != other.dtype:
        return None
    if one.shape == other.shape:
        return 0
    channels = one.shape[1] if len(one.shape) > 1 else 0
    return channels if (one.shape[0], 2 * channels, *one.shape[2:]) == other.shape else None


def _sample_like(call: ModelCall, prediction: fx.Node) -> fx.Node | None:
    """Return the sample of a call in the shape of its prediction, `None` if it has another."""
    more = _channels_more(call, prediction)
    if more is None:
        return None
    sample = _given(call, SAMPLE)
    if not more:
        return sample
    behind = _behind(len(sample.meta["spec"].shape), more)
    padded = prediction.graph.call_function(F.pad, (sample, behind))
    return _made(padded, prediction.meta["spec"], tag(prediction, "step"))


def _behind(dims: int, channels: int) -> list[int]:
    """Return how to pad a sample with channels of zeros."""
    return [0, 0] * (dims - 2) + [0, channels]


def _given(call: ModelCall, what: str) -> fx.Node:
    found = next((node for node in call.inputs if tag(node, "given") == what), None)
    if found is None:
        raise InvariantError(
            f"the {what} of a steered call must be one of its tensors, none of its inputs is marked so"
        )
    return found


def _read_instead(body: list[fx.Node], old: fx.Node, new: fx.Node) -> None:
    if new is not old:
        for node in body:
            node.replace_input_with(old, new)


def _tables(graph: fx.Graph) -> dict[str, fx.Node]:
    """Add the inputs of a graph whose steering is free."""
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    tables: dict[str, fx.Node] = {}
    for name in (TOLD, MIX):
        with graph.inserting_after(last):
            last = tables[name] = graph.placeholder(name, default_value=None)
        last.meta["custom"] = beside_the_model(0, role="table")
    return tables


def _entry(table: fx.Node, entry: tuple[Any, ...], step: int) -> fx.Node:
    """Return a node that reads an entry of a table."""
    node = table.graph.call_function(operator.getitem, (table, entry))
    node.meta["custom"] = {**table.meta["custom"], "step": step}
    return node


def _made(node: fx.Node, spec: TensorSpec, step: int) -> fx.Node:
    node.meta = {"custom": beside_the_model(step), "spec": spec}
    return node
