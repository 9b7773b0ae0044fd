"""torch.compile and torch.export take loops whole, and compute what the uncompiled loop computes."""

from __future__ import annotations

import shutil

import pytest
import torch
import torch._dynamo.testing

import dipgo_fx
import zoo
from dipgo_fx.applying import build

# The default backend needs a C++ compiler; without one the graph is still captured whole.
BACKEND = "inductor" if shutil.which("g++") or shutil.which("clang++") else "aot_eager"


def pruned(name: str, history: int = 1) -> dipgo_fx.Loop:
    """Return a SubNet of a tiny model whose last step runs its last block alone.

    The steps before it run whole, and the other blocks are forecasts of their last `history` values there.
    """
    loop = dipgo_fx.trace(zoo.model(name), zoo.SCHEDULERS["ddim"](), history + 1)
    keep = torch.ones(loop.num_steps, len(loop.blocks), dtype=torch.bool)
    keep[-1, :-1] = False
    weights = torch.zeros(*keep.shape, 3)
    weights[..., :history] = torch.tensor([[1.0], [1.75, -0.75], [2.5, -2.0, 0.5]][history - 1])
    plan = dipgo_fx.Plan.from_keep(loop, keep, weights=weights)
    assert plan.history == history
    return build(loop, plan)


@pytest.mark.parametrize(
    ("name", "history"),
    [
        ("dit", 1),
        pytest.param("dit", 3, marks=pytest.mark.long),
        pytest.param("unet", 1, marks=pytest.mark.long),
    ],
)
def test_compiles_without_a_graph_break(name: str, history: int) -> None:
    """`torch.compile(pruned, fullgraph=True)` runs and agrees with the SubNet."""
    torch._dynamo.reset()
    loop = pruned(name, history)
    x, inputs = zoo.sample(name), zoo.conditioning(name)
    with torch.no_grad():
        expected = loop(x, **inputs)
        got = torch.compile(loop, fullgraph=True, backend=BACKEND)(x, **inputs)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["dit", "unet"])
def test_one_compilation_serves_the_same_shapes(name: str) -> None:
    """A second call with other noise does not compile again."""
    torch._dynamo.reset()
    loop = pruned(name)
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(loop, fullgraph=True, backend=counter)
    with torch.no_grad():
        for seed in (1, 2):
            x = torch.randn(zoo.sample(name).shape, generator=zoo.generator(seed))
            assert torch.equal(loop(x, **zoo.conditioning(name)), compiled(x, **zoo.conditioning(name)))
    assert counter.frame_count == 1


@pytest.mark.parametrize(("name", "history"), [("dit", 1), ("dit", 3), ("unet", 2)])
def test_export_takes_a_pruned_loop(name: str, history: int) -> None:
    """`torch.export` captures the SubNet, and the exported program equals it bit for bit."""
    loop = pruned(name, history)
    x, inputs = zoo.sample(name), zoo.conditioning(name)
    with torch.no_grad():
        program = torch.export.export(loop, (x,), inputs, strict=False)
        assert torch.equal(program.module()(x, **inputs), loop(x, **inputs))


def test_wrong_size_is_refused_when_compiled() -> None:
    """A compiled loop refuses another image size as the uncompiled one does."""
    torch._dynamo.reset()
    compiled = torch.compile(pruned("dit"), backend="eager")
    with torch.no_grad(), pytest.raises(ValueError, match="traced for"):
        compiled(torch.randn(1, 1, 16, 16), **zoo.conditioning("dit", 1))


def test_a_call_with_gradients_on_records_none() -> None:
    """Eager, compiled whole or exported, the result needs no gradient, though the weights do."""
    torch._dynamo.reset()
    loop, x, inputs = pruned("dit", 2), zoo.sample("dit"), zoo.conditioning("dit")
    assert all(parameter.requires_grad for parameter in loop.parameters())
    expected = loop(x, **inputs)
    compiled = torch.compile(loop, fullgraph=True, backend="eager")(x, **inputs)
    exported = torch.export.export(loop, (x,), inputs, strict=False).module()(x, **inputs)
    for result in (expected, compiled, exported):
        assert torch.equal(result, expected)
    assert not expected.requires_grad
    assert not compiled.requires_grad
