"""drop-dead-blocks: what nobody reads is gone, with its weights."""

from __future__ import annotations

import operator
from typing import Any

import torch
from expecttest import assert_expected_inline
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

import toy
from dipgo_fx.passes import DropDeadBlocks
from graphs import bound, show
from loops import run


def test_dropped_dead_blocks() -> None:
    """What only a closed gate's fresh value needed is gone."""
    dropped = DropDeadBlocks()(bound(((1, 1), (1, 0)))).graph_module
    assert_expected_inline(
        show(dropped),
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
add_3 = add(add_2, layers_1)
sub_1 = sub(sub, add_3)
return sub_1
""",
    )


@st.composite
def graphs(draw: st.DrawFn) -> fx.GraphModule:
    """Draw a module of cheap calls, many of which nobody reads."""
    graph = fx.Graph()
    nodes = [graph.placeholder("x")]
    for _ in range(draw(st.integers(1, 12))):
        calls: list[Any] = [operator.add, operator.mul, operator.sub, torch.maximum]
        arguments = tuple(draw(st.sampled_from(nodes)) for _ in range(2))
        nodes.append(graph.call_function(draw(st.sampled_from(calls)), arguments))
    graph.output(draw(st.sampled_from(nodes)))
    return fx.GraphModule(nn.Module(), graph)


@given(gm=graphs())
def test_dropping_dead_nodes_keeps_the_result(gm: fx.GraphModule) -> None:
    """On any graph: same result, no dead node left, honest about it, and done after once."""
    result = DropDeadBlocks()(gm)
    after = result.graph_module
    x = toy.sample()
    assert torch.equal(after(x), gm(x))
    assert all(node.users for node in after.graph.nodes if node.op == "call_function")
    assert result.modified == (len(after.graph.nodes) < len(gm.graph.nodes))
    assert not DropDeadBlocks()(after).modified


def test_a_dead_call_takes_its_weights_along() -> None:
    """The module then holds what it still calls, shared with the graph that went in."""

    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unread, self.read = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.unread(x)
            return self.read(x)

    before = fx.symbolic_trace(Blind())
    after = DropDeadBlocks()(before).graph_module
    names = {name for name, _ in before.named_parameters()}
    assert names == {"unread.weight", "unread.bias", "read.weight", "read.bias"}
    assert {name for name, _ in after.named_parameters()} == {"read.weight", "read.bias"}
    assert after.get_submodule("read") is before.get_submodule("read")


def test_inputs_and_noise_stay() -> None:
    """Noise that nobody reads moves the generator on, so the noise after it is what it was."""
    scheduler = toy.Step(lambda prediction, sample: _noisy(prediction, sample))
    graph = toy.loop(2, scheduler)
    drawn = [n for n in graph.graph.nodes if getattr(n.target, "__name__", "") == "randn_tensor"]
    assert len(drawn) == 4
    assert any(not node.users for node in drawn)
    after = DropDeadBlocks()(graph).graph_module
    assert len([n for n in after.graph.nodes if n.name in {d.name for d in drawn}]) == 4
    assert torch.equal(run(after, toy.sample(), {}), run(graph, toy.sample(), {}))


def _noisy(prediction: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    torch.randn_like(sample)
    return sample - prediction + torch.randn_like(sample)
