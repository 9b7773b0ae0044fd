"""torch.compile and torch.export take loops whole, and compute what the uncompiled loop computes."""

from __future__ import annotations

import copy
import gc
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch._dynamo.testing
from torch import nn

import dipgo_fx
import toy
import zoo
from dipgo_fx.applying import build
from dipgo_fx.loop import COMPILED_PARTS
from dipgo_fx.passes import InsertGates

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


def whole_steps(steps: int, runs: int, scheduler: str = "ddim", **options: object) -> dipgo_fx.Loop:
    """Return a SubNet of a tiny transformer of which every so manieth step runs."""
    return pruned_to(runs, dipgo_fx.trace(zoo.model("dit"), zoo.SCHEDULERS[scheduler](), steps, **options))  # type: ignore[arg-type]


def pruned_to(runs: int, loop: dipgo_fx.Loop) -> dipgo_fx.Loop:
    """Return a SubNet of a loop of which every so manieth step runs."""
    keep = torch.zeros(loop.num_steps, len(loop.blocks), dtype=torch.bool)
    keep[:: loop.num_steps // runs] = True
    return build(loop, dipgo_fx.Plan.from_keep(loop, keep, backup="linear"))


@pytest.mark.parametrize(("steps", "runs"), [(4, 2), (12, 4), (12, 12)])
@pytest.mark.parametrize("scheduler", ["ddim", "dpm++", "euler-a"])
def test_compile_makes_one_graph_of_all_steps(steps: int, runs: int, scheduler: str) -> None:
    """One compilation, however many steps there are and run, with the values of the loop as it was."""
    torch._dynamo.reset()
    loop, counter = whole_steps(steps, runs, scheduler), torch._dynamo.testing.CompileCounter()
    x, inputs = zoo.sample("dit", 3), zoo.conditioning("dit", 3)
    expected = loop(x, **inputs, generator=zoo.generator(1))
    loop.compile(backend=counter)
    assert torch.equal(loop(x, **inputs, generator=zoo.generator(1)), expected)
    assert counter.frame_count == 1
    assert not expected.requires_grad


def test_compile_serves_every_batch_size_and_the_halves_of_guidance() -> None:
    """With `dynamic=True` nothing is compiled again, from two samples on."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    loop = whole_steps(6, 3, guidance_scale=2.0, split_guidance=True)
    cases = [(zoo.sample("dit", rows), zoo.conditioning("dit", 2 * rows)) for rows in (2, 3, 5)]
    expected = [loop(x, **inputs) for x, inputs in cases]
    loop.compile(backend=counter, dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for (x, inputs), wanted in zip(cases, expected, strict=True):
            assert torch.equal(loop(x, **inputs), wanted)
    assert counter.frame_count == 1


def test_loops_of_one_model_share_what_they_compiled() -> None:
    """At another ratio, and as long as one of them lives; another model compiles its own."""
    torch._dynamo.reset()
    counter, x, inputs = torch._dynamo.testing.CompileCounter(), zoo.sample("dit"), zoo.conditioning("dit")
    traced = dipgo_fx.trace(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), 12)
    first, second = pruned_to(4, traced), pruned_to(6, traced)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for loop in (first, second):
            expected = loop(x, **inputs)
            loop.compile(backend=counter)
            assert torch.equal(loop(x, **inputs), expected)
    assert counter.frame_count == 1
    other = copy.deepcopy(second)
    other.compile(backend=counter)
    other(x, **inputs)
    assert counter.frame_count == 2
    held = len(COMPILED_PARTS)
    del first, second, other, loop
    gc.collect()
    assert len(COMPILED_PARTS) < held


def test_a_compiled_loop_may_be_cast_copied_and_pickled() -> None:
    """What was compiled follows a cast; copies are not compiled."""
    torch._dynamo.reset()
    loop, counter = whole_steps(4, 2), torch._dynamo.testing.CompileCounter()
    x, inputs = zoo.sample("dit"), zoo.conditioning("dit")
    loop = copy.deepcopy(loop)  # with weights of its own
    loop.compile(backend=counter)
    loop(x, **inputs)
    for twin in (copy.deepcopy(loop), copy.copy(loop), pickle.loads(pickle.dumps(loop))):
        assert torch.equal(twin(x, **inputs), loop(x, **inputs))
    assert counter.frame_count == 1
    loop.to(torch.float64)
    assert loop(x.double(), **inputs).dtype == torch.float64
    assert counter.frame_count == 2


def test_a_compiled_loop_follows_its_graph_and_its_model() -> None:
    """An edited graph, other weights and other parts are taken up, and hooks run."""
    torch._dynamo.reset()
    model = toy.model(nn.Linear(toy.WIDTH, toy.WIDTH), nn.Linear(toy.WIDTH, toy.WIDTH))
    loop = toy.traced(model, 3)
    loop.compile(backend="eager")
    before = loop(toy.sample())

    def again() -> torch.Tensor:
        """Return what a loop of the parts as they are now gives."""
        result: torch.Tensor = toy.traced(toy.Stack(*loop.model.layers.children()), 3)(toy.sample())
        return result

    setattr(loop.model.layers, "0", nn.Linear(toy.WIDTH, toy.WIDTH))
    assert not torch.equal(loop(toy.sample()), before)
    assert torch.equal(loop(toy.sample()), again())
    loop.load_state_dict({name: 2 * tensor for name, tensor in loop.state_dict().items()}, assign=True)
    assert torch.equal(loop(toy.sample()), again())
    handle = loop.register_forward_hook(lambda module, given, result: result * 0)
    assert not loop(toy.sample()).any()
    handle.remove()
    end = next(node for node in loop.graph.nodes if node.op == "output")
    with loop.graph.inserting_before(end):
        end.args = (loop.graph.call_function(torch.mul, (end.args[0], 0)),)
    loop.recompile()
    assert not loop(toy.sample()).any()


def test_a_loop_whose_gates_are_inputs_is_not_compiled() -> None:
    """Its gates look at their values."""
    with pytest.raises(TypeError, match="compile a plan's loop"):
        InsertGates(1)(toy.loop(3)).graph_module.compile()


@pytest.mark.long
@pytest.mark.parametrize("name", ["dit", "unet"])
def test_a_compiled_loop_agrees_with_the_loop(name: str) -> None:
    """By the default backend, for a plan whose last step runs its last block alone."""
    torch._dynamo.reset()
    loop = pruned(name, 2)
    x, inputs = zoo.sample(name), zoo.conditioning(name)
    expected = loop(x, **inputs)
    loop.compile(backend=BACKEND)
    torch.testing.assert_close(loop(x, **inputs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "history"), [("dit", 1), ("dit", 3), ("unet", 2)])
def test_export_takes_a_pruned_loop(name: str, history: int) -> None:
    """`torch.export` captures the SubNet, and the exported program equals it bit for bit."""
    loop = pruned(name, history)
    x, inputs = zoo.sample(name), zoo.conditioning(name)
    with torch.no_grad():
        program = torch.export.export(loop, (x,), inputs, strict=False)
        assert torch.equal(program.module()(x, **inputs), loop(x, **inputs))


PACKAGE = """
import sys, torch
run = torch._inductor.aoti_load_package(sys.argv[1])
given = torch.load(sys.argv[2], weights_only=True)
for case in given:
    torch.testing.assert_close(run(case["x"], **case["c"]), case["y"], rtol=1e-4, atol=1e-4)
assert not [name for name in sys.modules if name.startswith(("diffusers", "dipgo_fx", "transformers"))]
"""


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, while it packs
@pytest.mark.skipif(BACKEND != "inductor", reason="needs a C++ compiler")
def test_a_package_runs_without_this_library(tmp_path: Path) -> None:
    """A whole pruned sampling in a fresh process that knows torch alone, at several batch sizes."""
    loop, batch = whole_steps(6, 2, "dpm++"), torch.export.Dim("batch", min=2, max=64)
    cases = [{"x": zoo.sample("dit", rows), "c": zoo.conditioning("dit", rows)} for rows in (2, 3)]
    shapes = {name: {0: batch} for name in ("sample", *cases[0]["c"])}
    program = torch.export.export(loop, (cases[0]["x"],), cases[0]["c"], dynamic_shapes=shapes, strict=False)
    package, io = str(tmp_path / "loop.pt2"), str(tmp_path / "io.pt")
    torch._inductor.aoti_compile_and_package(program, package_path=package)
    torch.save([{**case, "y": loop(case["x"], **case["c"])} for case in cases], io)
    command = [sys.executable, "-W", "ignore", "-c", PACKAGE, package, io]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_onnx_runtime_runs_a_pruned_loop(tmp_path: Path) -> None:
    """A whole pruned sampling, at several batch sizes."""
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    loop, file = whole_steps(6, 2, "dpm++"), tmp_path / "loop.onnx"
    x, inputs = zoo.sample("dit", 2), zoo.conditioning("dit", 2)
    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = {name: {0: batch} for name in ("sample", *inputs)}
    torch.onnx.export(loop, (x,), str(file), kwargs=inputs, dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = runtime.InferenceSession(str(file))
    for rows in (2, 3):
        x, inputs = zoo.sample("dit", rows), zoo.conditioning("dit", rows)
        (found,) = session.run(None, {"sample": x.numpy(), **{n: c.numpy() for n, c in inputs.items()}})
        torch.testing.assert_close(torch.from_numpy(found), loop(x, **inputs), rtol=1e-4, atol=1e-4)


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
