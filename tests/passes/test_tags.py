"""What a node says of itself: its tags, and the shape of its value for one sample."""

from __future__ import annotations

import copy
import operator
import pickle
from typing import Any

import pytest
import torch
from torch import fx
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

import toy
import zoo
from dipgo_fx.passes.tags import TensorSpec, is_block_output, is_impure, spec_of, tag
from graphs import block_call, first, supernet
from loops import inputs, loop

CPU = torch.device("cpu")
KEYS: tuple[tuple[Any, ...], ...] = (
    ("dit", "ddpm"),
    ("unet", "pndm", "branch", 2.0),
    ("unet-text", "unipc", "block", 2.0, 5, True),
    ("pixart", "dpm++", "stage", 3.0),
)


class Witness(fx.Interpreter):
    """Runs a loop and keeps the value of every node."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.seen: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Keep the value."""
        self.seen[n] = super().run_node(n)
        return self.seen[n]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_spec_is_what_a_node_is_for_one_sample(key: tuple[Any, ...]) -> None:
    """Shape, dtype and device of every value in a loop, nested ones and sizes too."""
    graph = loop(*key)
    x, c = inputs(key[0], 1, key[3] if len(key) > 3 else None)
    witness = Witness(graph)
    order = [node.name for node in graph.graph.nodes if node.op == "placeholder"]
    given = {order[0]: x, **c, "generator": zoo.generator(3)}
    with torch.no_grad():
        witness.run(*(given[name] for name in order))
    named = {node: value for node, value in witness.seen.items() if "spec" in node.meta}
    assert len(named) > 0.9 * len(witness.seen)
    wrong = {
        node.name: node.meta["spec"] for node, value in named.items() if spec_of(value) != node.meta["spec"]
    }
    assert wrong == {}


def test_a_symbolic_size_is_that_of_one_sample() -> None:
    """A fake tensor of any batch size, twice that batch, and the size itself."""
    shape_env = ShapeEnv()
    context = StatelessSymbolicContext([DimDynamic.DYNAMIC, DimDynamic.STATIC])
    fake = FakeTensorMode(shape_env=shape_env).from_tensor(torch.zeros(7, 3), symbolic_context=context)
    assert isinstance(fake.shape[0], torch.SymInt)
    assert spec_of(fake) == TensorSpec((1, 3), torch.float32, CPU)
    twice = torch.cat([fake, fake])
    given = {
        "rows": [twice, twice.shape[0], fake.shape[0]],
        "width": fake.shape[1],
        "name": "text",
        "none": None,
    }
    assert spec_of(given) == {
        "rows": [TensorSpec((2, 3), torch.float32, CPU), 2, 1],
        "width": 3,
        "name": "text",
        "none": None,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64], ids=str)
@pytest.mark.parametrize("shape", [(), (1, 3), (2, 0)], ids=str)
def test_a_spec_makes_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Of its shape and dtype, on the CPU wherever the tensor was; a spec survives copies and files."""
    spec = spec_of(torch.ones(shape, dtype=dtype, device="meta"))
    assert spec == TensorSpec(shape, dtype, torch.device("meta"))
    zeros = spec.zeros()
    assert (zeros.device, zeros.dtype, tuple(zeros.shape)) == (CPU, dtype, shape)
    assert not zeros.any()
    assert copy.deepcopy(spec) == pickle.loads(pickle.dumps(spec)) == spec


def test_a_node_without_tags_has_none() -> None:
    """A tag of a node that nobody tagged, and one that its tags lack, is None."""
    node = fx.Graph().placeholder("x")
    assert tag(node, "step") is None
    node.meta["custom"] = {"step": 0}
    assert (tag(node, "step"), tag(node, "block")) == (0, None)


def test_noise_inputs_and_outputs_have_to_stay() -> None:
    """Drawing moves the generator on; everything else that nobody reads may go."""
    graph = loop("dit", "ddpm")
    kept = {
        node.op if node.op != "call_function" else node.target.__name__
        for node in graph.graph.nodes
        if is_impure(node)
    }
    assert kept == {"placeholder", "output", "randn_tensor"}
    draws = [node for node in graph.graph.nodes if "randn_tensor" in str(node.target)]
    assert draws
    assert all(map(is_impure, draws))


def test_a_block_output_is_the_tensor_that_a_block_returned() -> None:
    """Gates, histories and backups are none, nor is a call that returns several tensors, but those are."""
    gated = supernet(2, 3)
    outputs = [node for node in gated.graph.nodes if is_block_output(node)]
    assert outputs == [n for n in gated.graph.nodes if n.op == "call_module" and tag(n, "block")]
    assert len(outputs) == 3 * 2
    assert {tag(n, "role") for n in gated.graph.nodes} >= {"gate", "history", "backup"}

    graph = toy.loop()
    call = block_call(graph, 1)
    assert is_block_output(call)
    call.meta["spec"] = [call.meta["spec"], call.meta["spec"]]
    assert not is_block_output(call)
    assert not is_block_output(first(graph, lambda node: node.target is operator.add))


def test_each_tensor_of_a_block_is_an_output() -> None:
    """A down block returns its result and what the up blocks read: one output each, and not the tuple."""
    graph = loop("unet", "ddim", "stage")
    of_block = [n for n in graph.graph.nodes if tag(n, "block") == graph.blocks[0] and tag(n, "step") == 0]
    call, *parts = [n for n in of_block if n.op == "call_module" or is_block_output(n)]
    assert not is_block_output(call)
    assert len(parts) > 1
    assert {part.target for part in parts} == {operator.getitem}
