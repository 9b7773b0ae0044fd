"""insert-gates: a traced loop becomes a SuperNet."""

from __future__ import annotations

import pytest
import torch
from expecttest import assert_expected_inline
from torch import nn

import toy
import zoo
from dipgo_fx.passes import InsertGates, InvariantError
from dipgo_fx.passes.tags import tag
from graphs import ALL_KEPT, bound, show, supernet
from loops import inputs, loop, run


def test_the_toy_loop() -> None:
    """A traced loop is the model's part and the scheduler's, step after step."""
    assert_expected_inline(
        show(toy.loop()),
        """\
sample = placeholder
generator = placeholder
_inputs = _inputs(sample)
layers_0 = model.layers.0(_inputs)
add = add(_inputs, layers_0)
layers_1 = model.layers.1(add)
add_1 = add(add, layers_1)
sub = sub(_inputs, add_1)
layers_2 = model.layers.0(sub)
add_2 = add(sub, layers_2)
layers_3 = model.layers.1(add_2)
add_3 = add(add_2, layers_3)
sub_1 = sub(sub, add_3)
return sub_1
""",
    )


def test_reuse_gates() -> None:
    """From the second step on readers take a gate between the last value and the fresh one."""
    assert_expected_inline(
        show(supernet()),
        """\
sample = placeholder
generator = placeholder
gates = placeholder
_inputs = _inputs(sample)
layers_0 = model.layers.0(_inputs)
add = add(_inputs, layers_0)
layers_1 = model.layers.1(add)
add_1 = add(add, layers_1)
sub = sub(_inputs, add_1)
layers_2 = model.layers.0(sub)
getitem = getitem(gates, (1, 0))
gate = gate(layers_0, layers_2, getitem)
add_2 = add(sub, gate)
layers_3 = model.layers.1(add_2)
getitem_1 = getitem(gates, (1, 1))
gate_1 = gate(layers_1, layers_3, getitem_1)
add_3 = add(add_2, gate_1)
sub_1 = sub(sub, add_3)
return sub_1
""",
    )


def test_gates_of_two_values() -> None:
    """A backup forecasts from two histories, which move on where the gate is open."""
    gated = InsertGates(2)(toy.loop(3, None, nn.Linear(3, 3))).graph_module
    assert_expected_inline(
        show(gated),
        """\
sample = placeholder
generator = placeholder
gates = placeholder
weights = placeholder
_inputs = _inputs(sample)
layers_0 = model.layers.0(_inputs)
add = add(_inputs, layers_0)
sub = sub(_inputs, add)
layers_1 = model.layers.0(sub)
getitem = getitem(gates, (1, 0))
getitem_1 = getitem(weights, (1, 0))
forecast = forecast(getitem_1, layers_0, layers_0)
gate = gate(forecast, layers_1, getitem)
gate_1 = gate(layers_0, layers_1, getitem)
gate_2 = gate(layers_0, layers_0, getitem)
add_1 = add(sub, gate)
sub_1 = sub(sub, add_1)
layers_2 = model.layers.0(sub_1)
getitem_2 = getitem(gates, (2, 0))
getitem_3 = getitem(weights, (2, 0))
forecast_1 = forecast(getitem_3, gate_1, gate_2)
gate_3 = gate(forecast_1, layers_2, getitem_2)
gate_4 = gate(gate_1, layers_2, getitem_2)
gate_5 = gate(gate_2, gate_1, getitem_2)
add_2 = add(sub_1, gate_3)
sub_2 = sub(sub_1, add_2)
return sub_2
""",
    )


def test_gates_of_three_values() -> None:
    """With a third value there is a third history, and nothing else changes."""
    gated = InsertGates(3)(toy.loop(3, None, nn.Linear(3, 3))).graph_module
    assert_expected_inline(
        show(gated),
        """\
sample = placeholder
generator = placeholder
gates = placeholder
weights = placeholder
_inputs = _inputs(sample)
layers_0 = model.layers.0(_inputs)
add = add(_inputs, layers_0)
sub = sub(_inputs, add)
layers_1 = model.layers.0(sub)
getitem = getitem(gates, (1, 0))
getitem_1 = getitem(weights, (1, 0))
forecast = forecast(getitem_1, layers_0, layers_0, layers_0)
gate = gate(forecast, layers_1, getitem)
gate_1 = gate(layers_0, layers_1, getitem)
gate_2 = gate(layers_0, layers_0, getitem)
gate_3 = gate(layers_0, layers_0, getitem)
add_1 = add(sub, gate)
sub_1 = sub(sub, add_1)
layers_2 = model.layers.0(sub_1)
getitem_2 = getitem(gates, (2, 0))
getitem_3 = getitem(weights, (2, 0))
forecast_1 = forecast(getitem_3, gate_1, gate_2, gate_3)
gate_4 = gate(forecast_1, layers_2, getitem_2)
gate_5 = gate(gate_1, layers_2, getitem_2)
gate_6 = gate(gate_2, gate_1, getitem_2)
gate_7 = gate(gate_3, gate_2, getitem_2)
add_2 = add(sub_1, gate_4)
sub_2 = sub(sub_1, add_2)
return sub_2
""",
    )


@pytest.mark.parametrize("history", [1, 2, 3])
def test_every_tensor_of_a_block_has_a_gate(history: int) -> None:
    """All tensors that a block returns share one entry of the table, at every step but the first."""

    class Forked(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return x + 1, {"twice": 2 * x}

    class Joined(toy.Stack):
        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            one, other = self.layers[0](sample)
            return one + other["twice"]

    gated = InsertGates(history)(toy.traced(Joined(Forked()), 3)).graph_module
    gates = [node for node in gated.graph.nodes if tag(node, "role") == "gate"]
    assert [tag(node, "step") for node in gates] == [1, 1, 2, 2]
    entries = [tag(node.args[2], "entry") for node in gates]
    assert entries == [("gates", t, 0) for t in (1, 1, 2, 2)]
    keep = torch.tensor([[1.0], [0.0], [1.0]])
    tables = {"weights": torch.eye(3)[0].expand(3, 1, 3)} if history > 1 else {}
    x = toy.sample()
    first = (x + 1) + 2 * x
    third = (x - first) - first
    expected = third - ((third + 1) + 2 * third)
    assert torch.equal(run(gated, x, {}, gates=keep, **tables), expected)


@pytest.mark.parametrize("name", ["dit", "unet"])
def test_an_open_gate_needs_no_particular_dtype(name: str) -> None:
    """Tables of float64 gate a float32 model without moving a bit."""
    graph = loop(name)
    gated = InsertGates(2)(graph).graph_module
    shape = graph.num_steps, len(graph.blocks)
    gates, weights = torch.ones(shape, dtype=torch.float64), torch.rand(*shape, 2, generator=zoo.generator())
    x, c = inputs(name, 2)
    assert torch.equal(run(gated, x, c, gates=gates, weights=weights.double()), run(graph, x, c))


@pytest.mark.parametrize(("history", "stage"), [(1, "supernet"), (2, "supernet")])
def test_a_supernet_says_what_it_is(history: int, stage: str) -> None:
    """Stage, history and facts are what later passes go by."""
    gated = supernet(history)
    assert (gated.meta["stage"], gated.meta["history"]) == (stage, history)
    assert gated.facts == toy.loop().facts


@pytest.mark.parametrize("history", [0, 4])
def test_a_history_that_does_not_exist_is_refused(history: int) -> None:
    """A forecast reads one to three values."""
    with pytest.raises(
        InvariantError, match=f"pass 'insert-gates' failed after .*history must lie in 1 to 3, got {history}"
    ):
        InsertGates(history)(toy.loop())


def test_only_a_traced_loop_gets_gates() -> None:
    """A graph that has or had gates is refused by its stage."""
    for graph, stage in ((supernet(), "supernet"), (bound(ALL_KEPT), "bound")):
        with pytest.raises(InvariantError, match=f"expected a traced loop, got stage '{stage}'"):
            InsertGates()(graph)
