"""Tracing: the graph computes what the Python computes, for every batch, and leaves all as it was."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from itertools import product
from typing import Any

import diffusers
import pytest
import torch
from torch import fx, nn

import toy
import zoo
from dipgo_fx.applying import build
from dipgo_fx.cost import LoopCost
from dipgo_fx.denoise import denoise, noise_scale, prepared
from dipgo_fx.guidance import Guidance
from dipgo_fx.loop import Loop
from dipgo_fx.macs import count_macs
from dipgo_fx.passes import TraceError
from dipgo_fx.passes.steer_calls import can_steer
from dipgo_fx.passes.tags import tag
from dipgo_fx.plan import Plan
from dipgo_fx.tracing import trace
from loops import eager_with_plan, inputs, loop, run

# A Runge-Kutta warm-up calls the model at steps of its own.
STEPS = {"pndm": 4}


# -- the graph computes what the loop computes


# Every model, every scheduler with and without guidance; the whole product is long.
ALL = tuple(product(zoo.MODELS, zoo.SCHEDULERS, (None, 3.0)))
PAIRS = tuple(
    (zoo.MODELS[(place + guided) % len(zoo.MODELS)], scheduler, (None, 3.0)[guided])
    for place, scheduler in enumerate(zoo.SCHEDULERS)
    for guided in (0, 1)
)


@pytest.mark.parametrize(
    ("model", "scheduler", "guidance_scale"),
    [case if case in PAIRS else pytest.param(*case, marks=pytest.mark.long) for case in ALL],
)
def test_a_loop_equals_the_eager_loop(model: str, scheduler: str, guidance_scale: float | None) -> None:
    """One graph gives the eager loop's bits at any batch size, also at 1, which torch treats apart."""
    noise, steps = zoo.SCHEDULERS[scheduler](), STEPS.get(scheduler, 3)
    graph = trace(zoo.model(model), noise, steps, guidance_scale=guidance_scale)
    for batch in (1, 3):
        x, c = inputs(model, batch, guidance_scale)
        assert torch.equal(run(graph, x, c), zoo.eager(model, noise, steps, x, c, Guidance(guidance_scale)))


@pytest.mark.parametrize("model", zoo.CASES)
def test_split_guidance_computes_the_same(model: str) -> None:
    """Two calls of the model in place of one of twice the rows: equal up to rounding, and as dear."""
    exact, noise = copy.deepcopy(zoo.model(model)).double(), zoo.SCHEDULERS["ddim"]()
    joint = trace(exact, noise, 3, guidance_scale=3.0)
    split = trace(exact, noise, 3, guidance_scale=3.0, split_guidance=True)
    assert split.blocks == (*(f"{path}@unconditional" for path in joint.blocks), *joint.blocks)
    assert count_macs(split).total == count_macs(joint).total
    for batch in (1, 3):
        x, c = inputs(model, batch, 3.0)
        x, c = x.double(), {k: v.double() if v.is_floating_point() else v for k, v in c.items()}
        torch.testing.assert_close(run(split, x, c), run(joint, x, c), rtol=1e-9, atol=1e-9)


def test_split_guidance_needs_guidance() -> None:
    """Without guidance there is nothing to split."""
    with pytest.raises(ValueError, match="split_guidance needs a guidance_scale"):
        trace(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), 3, split_guidance=True)


@pytest.mark.parametrize(
    "noise",
    [
        diffusers.DDPMScheduler(variance_type="learned_range"),
        diffusers.DDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing"),
        diffusers.DDIMScheduler(thresholding=True),
        diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
        diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True, solver_order=3),
        diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, final_sigmas_type="sigma_min"),
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    ],
    ids=lambda noise: f"{type(noise).__name__}-{len(noise.config)}",
)
@pytest.mark.parametrize("guidance_scale", [None, 3.0], ids=["plain", "guided"])
def test_a_loop_follows_the_options_of_its_scheduler(noise: Any, guidance_scale: float | None) -> None:
    """Options that change a scheduler's arithmetic are traced as they stand."""
    x, c = inputs("dit-variance", 3, guidance_scale)
    graph = trace(zoo.model("dit-variance"), noise, 4, guidance_scale=guidance_scale)
    assert torch.equal(run(graph, x, c), zoo.eager("dit-variance", noise, 4, x, c, Guidance(guidance_scale)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["dit", "unet-text"])
def test_a_loop_takes_the_dtype_of_its_model(name: str, dtype: torch.dtype) -> None:
    """A model in another precision gives the eager loop's bits too."""
    model = copy.deepcopy(zoo.model(name)).to(dtype)
    x, c = inputs(name, 2)
    x, c = x.to(dtype), {k: v.to(dtype) if v.is_floating_point() else v for k, v in c.items()}
    with torch.no_grad():
        expected = denoise(model, prepared(diffusers.DDIMScheduler(), 3), x, c)
    result = run(trace(model, diffusers.DDIMScheduler(), 3), x, c)
    assert result.dtype == dtype
    assert torch.equal(result, expected)


def _tenth() -> torch.Tensor:
    return torch.tensor(0.1, dtype=torch.float64)


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "number first": lambda p, x: 0.3 * p + x,
    "constant first": lambda p, x: torch.tensor(0.3) * x - p,
    "constant minus": lambda p, x: torch.tensor(1.5) - x,
    "number over": lambda p, x: 1 / (p.abs() + 1),
    "constant to the power": lambda p, x: torch.tensor(2.0) ** x,
    "number to the power": lambda p, x: 2.0**x,
    "power of a number": lambda p, x: x**2 + p.abs() ** 0.5,
    "power of a constant": lambda p, x: x ** torch.tensor(2.0),
    "over a constant": lambda p, x: x / torch.tensor(0.3),
    "matrix constant": lambda p, x: -x + torch.tensor([1.0, 2.0, 3.0]) @ torch.eye(3),
    "double constant": lambda p, x: x * _tenth(),
    "double constant, scalar": lambda p, x: x.mean() * _tenth() + x,
    "double constant, integers": lambda p, x: (x > 0).sum(1, keepdim=True) * _tenth() + x,
    "slices": lambda p, x: x[..., :2].repeat(1, 2)[:, -3:],
    "where": lambda p, x: torch.where(x > 0, x, p).clamp(-1, 1),
    "in place": lambda p, x: p.mul_(2).add_(x),
    "in place by an option": lambda p, x: x - nn.functional.relu(p, inplace=True) - p,
    "dtypes": lambda p, x: x.to(torch.float64).cumsum(1).to(x.dtype),
    "rows": lambda p, x: torch.stack([x, p]).unbind()[1] + x.shape[0],
}


@pytest.mark.parametrize("rule", ARITHMETIC.values(), ids=ARITHMETIC.keys())
def test_arithmetic_is_recorded_as_it_is(rule: Callable[[Any, Any], Any]) -> None:
    """Operators with numbers and constants on either side give the same bits and the same dtype."""
    model, scheduler = toy.model(), toy.Step(rule)
    graph = toy.loop(1, scheduler)
    for batch in (1, 2, 5):
        with torch.no_grad():
            expected = denoise(model, prepared(scheduler, 1), toy.sample(batch), {})
        result = run(graph, toy.sample(batch), {})
        assert result.dtype == expected.dtype
        assert torch.equal(result, expected)


def test_a_loop_is_traced_and_runs_under_inference_mode() -> None:
    """Its tensors do not count edits there."""
    x, c = inputs("dit", 2)
    expected = run(loop("dit"), x, c)
    with torch.inference_mode():
        traced = trace(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), loop("dit").num_steps)
        assert torch.equal(traced(x, **c), expected)


def test_the_example_batch_does_not_matter() -> None:
    """Examples of one row and of five give the same graph."""
    graphs = [
        trace(
            zoo.model("unet"),
            diffusers.DDIMScheduler(),
            2,
            sample=zoo.sample("unet", batch),
            conditioning=zoo.conditioning("unet", batch),
        )
        for batch in (1, 5)
    ]
    assert graphs[0].code == graphs[1].code


def test_noise_is_drawn_at_every_run() -> None:
    """Two seeds give two results, and without a generator torch's own is used, as eager does."""
    graph = loop("dit", "ddpm")
    x, c = inputs("dit", 2)
    first, again, other = (graph(x, **c, generator=zoo.generator(seed)).detach() for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        unseeded = graph(x, **c)
        torch.manual_seed(5)
        scheduler = prepared(diffusers.DDPMScheduler(), graph.facts.num_inference_steps)
        assert torch.equal(unseeded, denoise(zoo.model("dit"), scheduler, x, c))


def test_noise_is_scaled_as_a_pipeline_does_once_timesteps_are_set() -> None:
    """Whatever the scheduler did before; 1 where it does not say."""
    used = diffusers.EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1)
    fresh = copy.deepcopy(used)
    used.set_timesteps(50)
    expected = prepared(fresh, 4).init_noise_sigma
    assert noise_scale(fresh, 4) == noise_scale(used, 4) == float(expected)
    assert noise_scale(fresh, 4) != float(fresh.init_noise_sigma)
    assert noise_scale(diffusers.FlowMatchEulerDiscreteScheduler(), 4) == 1


def test_a_loop_follows_later_edits_of_the_weights() -> None:
    """A loop shares the model's parameters."""
    model = copy.deepcopy(zoo.model("dit"))
    graph = trace(model, diffusers.DDIMScheduler(), 2)
    x, c = inputs("dit", 2)
    before = run(graph, x, c)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
        expected = denoise(model, prepared(diffusers.DDIMScheduler(), 2), x, c)
    assert torch.equal(run(graph, x, c), expected)
    assert not torch.equal(before, expected)


class Shifted(toy.Stack):
    """Its own Python computes with a weight before it meets the sample."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 3), nn.Linear(3, 3))
        self.shift = nn.Parameter(torch.ones(2, 3))

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        first, _ = self.shift[None].chunk(2, dim=1)
        return super().forward(sample + first[:, 0], timestep)


def test_a_loop_follows_later_edits_of_what_is_made_of_weights_alone() -> None:
    """It is computed in the graph: edits, casts and gradients reach it."""
    model = Shifted().eval()
    graph = toy.traced(model, 1)

    def expected(x: torch.Tensor) -> torch.Tensor:
        return x - model(x, torch.zeros(len(x)))

    assert torch.equal(run(graph, toy.sample(), {}), expected(toy.sample()).detach())
    with torch.no_grad():
        model.shift.mul_(3)
    assert torch.equal(run(graph, toy.sample(), {}), expected(toy.sample()).detach())
    graph.to(torch.float64)
    x = toy.sample().double()
    assert torch.equal(run(graph, x, {}), expected(x).detach())
    graph.records_gradients = True
    found, wanted = (torch.autograd.grad(made(x).sum(), model.shift)[0] for made in (graph, expected))
    assert bool(wanted.any())
    assert torch.equal(found, wanted)


def test_a_model_made_in_inference_mode_is_traced() -> None:
    """Its weights do not count their edits."""
    with torch.inference_mode():
        model = Shifted().eval()
    x = toy.sample()
    with torch.inference_mode():
        assert torch.equal(run(toy.traced(model, 1), x, {}), x - model(x, torch.zeros(2)))


class Counting(toy.Stack):
    """Counts its calls, or its rows, in a buffer."""

    def __init__(self, by_row: bool) -> None:
        super().__init__(nn.Linear(3, 3), nn.Linear(3, 3))
        self.by_row, self.calls = by_row, nn.Buffer(torch.zeros(1))

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        return super().forward(sample + self.calls.add_(sample.shape[0] if self.by_row else 1), timestep)


@pytest.mark.parametrize("by_row", [False, True])
def test_an_edit_of_a_buffer_is_refused(by_row: bool) -> None:
    """The graph would make it at no run; it is not made while it is recorded either."""
    model = Counting(by_row).eval()
    with pytest.raises(TraceError, match="add_ edits a weight or buffer, which a graph would not do again"):
        toy.traced(model, 2)
    assert float(model.calls) == 0


class Remembering(toy.Stack):
    """Goes another way from its second call on."""

    def __init__(self, first: Any, then: Any) -> None:
        super().__init__(nn.Linear(3, 3), nn.Linear(3, 3))
        self.first, self.then, self.seen = first, then, first

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        sign, self.seen = (1 if self.seen == self.first else -1), self.then
        return super().forward(sign * sample, timestep)


@pytest.mark.parametrize(("first", "then"), [(0, 1), (True, False), ("warm-up", "cached")])
def test_a_model_that_remembers_its_calls_is_refused(first: Any, then: Any) -> None:
    """Its first call would be repeated at every step. It is left as it was; what was set up before may be."""
    model = Remembering(first, then).eval()
    with pytest.raises(TraceError, match=f"seen was {first!r} before this call and is {then!r} after it"):
        toy.traced(model, 2)
    assert model.seen == first
    model(toy.sample(), torch.zeros(2))
    x = toy.sample()
    with torch.no_grad():
        assert torch.equal(run(toy.traced(model, 1), x, {}), x - model(x, torch.zeros(2)))


class Autocasting(toy.Stack):
    """Runs its blocks, or what is around them, as autocast would or would not have it."""

    def __init__(self, *blocks: nn.Module, enabled: bool) -> None:
        super().__init__(*blocks)
        self.enabled = enabled

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """Return the prediction."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.enabled):
            return super().forward(sample, sample).float()


def test_a_model_that_switches_autocast_is_refused_but_where_it_is_inside_of_a_block() -> None:
    """A graph's nodes would run without the casts; switching off what is off changes nothing."""
    with pytest.raises(TraceError, match=r"Autocasting.*switches autocast"):
        toy.traced(Autocasting(nn.Linear(3, 3), nn.Linear(3, 3), enabled=True).eval(), 2)
    inside = toy.model(Autocasting(nn.Linear(3, 3), enabled=True), nn.Linear(3, 3))
    off, x = Autocasting(nn.Linear(3, 3), nn.Linear(3, 3), enabled=False).eval(), toy.sample()
    for model in (inside, off):
        with torch.no_grad():
            assert torch.equal(run(toy.traced(model, 1), x, {}), x - model(x, torch.zeros(2)))


class Choosing(toy.Stack):
    """Looks at what kind of sequence it is given."""

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, parts: Any) -> torch.Tensor:  # type: ignore[override]
        """Return the prediction."""
        sign = 1 if isinstance(parts, tuple) else -1
        return super().forward(sample + sign * parts[0], timestep)


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_sequence_stays_of_its_kind(kind: type[Any]) -> None:
    """A tuple is no list to a model."""
    model = Choosing(nn.Linear(3, 3), nn.Linear(3, 3)).eval()
    x, parts = toy.sample(), kind([torch.ones(2, 3)])
    with torch.no_grad():
        expected = x - model(x, torch.zeros(2), parts)
    assert torch.equal(toy.traced(model, 1, parts=parts)(x, parts=parts), expected)


class Transposing(toy.Stack):
    """Calls one leaf with values of one shape that lie otherwise in memory."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 3), nn.Linear(3, 3))
        self.act = nn.ReLU()

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        square = sample[:, :, None] * sample[:, None]
        turned = self.act(square.transpose(1, 2))
        plain = self.act(square).view(-1, 9)
        return super().forward(sample + turned[:, 0] + plain[:, :3], timestep)


def test_strides_are_part_of_a_call() -> None:
    """What one leaf returned does not stand for what lies otherwise in memory."""
    model = Transposing().eval()
    with torch.no_grad():
        expected = toy.sample() - model(toy.sample(), torch.zeros(2))
    assert torch.equal(run(toy.traced(model, 1), toy.sample(), {}), expected)


# -- the graph's shape


@pytest.mark.parametrize("scheduler", ["ddim", "pndm", "heun", "unipc"])
@pytest.mark.parametrize("name", ["dit", "unet"])
def test_every_step_repeats_the_same_nodes(name: str, scheduler: str) -> None:
    """The model's part of each step is the same calls reading the same of each other."""
    graph = loop(name, scheduler)
    bodies = [_body(graph, step) for step in range(graph.num_steps)]
    first, reads = bodies[0]
    assert len(first) > len(graph.blocks)
    assert all(body == first for body, _ in bodies)
    # Two of them differ from step to step: the sample and the timestep.
    assert {len({a for a, b in zip(other, reads, strict=True) if a is not b}) for _, other in bodies} == {
        0,
        2,
    }


def _body(graph: Loop, step: int) -> tuple[list[Any], list[fx.Node]]:
    """Return a step's model nodes, which read each other by place, and what they read of the outside."""
    nodes = [n for n in graph.graph.nodes if n.meta["custom"]["in_model"]]
    body = [n for n in nodes if n.meta["custom"]["step"] == step]
    places = {node: place for place, node in enumerate(body)}
    outside: list[fx.Node] = []

    def place(read: fx.Node) -> Any:
        if read not in places:
            outside.append(read)
        return places.get(read, "outside")

    calls = [(n.op, n.target, n.meta["custom"]["block"], n.args, n.kwargs) for n in body]
    return [(*call[:3], fx.map_arg(call[3:], place)) for call in calls], outside


@pytest.mark.parametrize("name", zoo.CASES)
@pytest.mark.parametrize("granularity", ["stage", "block", pytest.param("branch", marks=pytest.mark.long)])
def test_every_block_is_called_once_a_step(name: str, granularity: Any) -> None:
    """A loop's blocks are modules of the model, each called once at each step, in that order."""
    graph = loop(name, "ddim", granularity)
    nodes = [n for n in graph.graph.nodes if n.op == "call_module" and n.meta["custom"]["block"]]
    called = [(n.meta["custom"]["step"], n.meta["custom"]["block"]) for n in nodes]
    assert called == [(t, block) for t in range(graph.num_steps) for block in graph.blocks]
    assert all(graph.get_submodule(f"model.{b}") is zoo.model(name).get_submodule(b) for b in graph.blocks)


def test_in_place_arithmetic_is_recorded_in_functional_form() -> None:
    """A scheduler that edits a prediction in place leaves no node behind that edits anything."""
    targets = {node.target for node in loop("dit", "pndm").graph.nodes}
    assert not {t for t in targets if isinstance(t, str) and t.endswith("_")}
    assert not targets & {operator.iadd, operator.isub, operator.imul, operator.itruediv}


@pytest.mark.parametrize("name", ["dit", "unet"])
def test_a_reused_prediction_is_not_what_a_scheduler_made_of_it(name: str) -> None:
    """PNDM adds to predictions in place; a step without any block reads them as they were."""
    graph = loop(name, "pndm")
    keep = torch.zeros(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[::3] = True
    plan = Plan.from_keep(graph, keep)
    x, c = inputs(name, 2)
    expected, _ = eager_with_plan(zoo.model(name), zoo.SCHEDULERS["pndm"](), plan, x, c)
    assert torch.equal(run(build(graph, plan), x, c), expected)


# -- what cannot be traced says so


class Signed(nn.Module):
    """Its Python looks at a value."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Branch on data."""
        return x if x.mean() > 0 else -x


class Looped(toy.Stack):
    """Its Python counts the rows."""

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Treat row after row."""
        return super().forward(torch.cat([sample[row : row + 1] * 2 for row in range(len(sample))]), timestep)


class Crowded(toy.Stack):
    """Its Python does something else for many rows."""

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Branch on the number of rows."""
        return super().forward(sample if sample.shape[0] > 4 else -sample, timestep)


def test_python_that_depends_on_values_names_its_module() -> None:
    """A block that branches on data is refused by its path and its step."""
    with pytest.raises(TraceError, match=r"Stack\.layers\.1, step 0: .* depends on the values of a tensor"):
        toy.loop(2, None, nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), Signed()))


def test_a_model_that_depends_on_values_is_named_itself() -> None:
    """A model that branches on data outside of its blocks is named without a stray dot."""

    class Branching(toy.Stack):
        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return super().forward(sample if timestep[0] > 3 else -sample, timestep)

    model = Branching(nn.Linear(3, 3))
    with pytest.raises(TraceError, match=r"^Branching, step 0: .* depends on the values of a tensor"):
        _trace_toy(model)


def test_a_scheduler_that_depends_on_values_is_named() -> None:
    """Data-dependent Python outside of the model is the scheduler's."""
    scheduler = toy.Step(lambda prediction, sample: sample if prediction.sum() > 0 else prediction)
    with pytest.raises(TraceError, match=r"the scheduler, step 0: .* depends on the values"):
        toy.loop(2, scheduler)


@pytest.mark.parametrize("kind", [Looped, Crowded])
def test_python_that_fixes_the_batch_size_is_refused(kind: type[toy.Stack]) -> None:
    """A model whose Python looks at the number of rows would be wrong for another number."""
    with pytest.raises(TraceError, match="batch size"):
        _trace_toy(kind(nn.Identity()))


def _as_block(kind: type[toy.Stack]) -> nn.Module:
    """Return a block whose own Python looks at the number of rows."""

    class Inner(kind):  # type: ignore[misc, valid-type]
        def forward(self, sample: torch.Tensor) -> torch.Tensor:
            return super().forward(sample, sample)

    return Inner(nn.Linear(3, 3))


def test_a_block_may_compare_the_batch_size() -> None:
    """The Python inside a block is not recorded but run, so it may branch on the number of rows."""
    model = toy.model(nn.Linear(3, 3), _as_block(Crowded))
    graph = _trace_toy(model)
    for batch in (1, 2, 5):
        with torch.no_grad():
            expected = denoise(model, prepared(toy.Step(), 2), toy.sample(batch), {})
        assert torch.equal(run(graph, toy.sample(batch), {}), expected)


def test_a_block_that_fixes_the_batch_size_is_refused() -> None:
    """A block that counts its rows hands on a tensor of that many rows, so later sizes are baked."""
    with pytest.raises(TraceError, match="batch size"):
        _trace_toy(toy.model(nn.Linear(3, 3), _as_block(Looped)))


@pytest.mark.parametrize("name", ["blocks", "facts", "plan", "report", "num_steps", "graph"])
def test_a_model_may_name_its_parts_as_a_loop_does(name: str) -> None:
    """What a loop offers by attribute does not stand in the way of the model's modules."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(name, nn.ModuleList([nn.Linear(3, 3)]))

        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return sample + self.get_submodule(name)[0](sample)

    model = Named()
    graph = _trace_toy(model)
    assert graph.blocks == (f"{name}.0",)
    with torch.no_grad():
        expected = denoise(model, prepared(toy.Step(), 2), toy.sample(), {})
    assert torch.equal(run(graph, toy.sample(), {}), expected)
    assert count_macs(graph).total == 2 * 9


def _trace_toy(model: nn.Module, **conditioning: Any) -> Loop:
    return trace(model, toy.Step(), 2, sample=toy.sample(), conditioning=conditioning, granularity="stage")


def test_noise_that_no_generator_reaches_is_refused() -> None:
    """Randomness other than normal noise cannot be given the caller's generator."""
    with pytest.raises(TraceError, match="rand_like"):
        toy.loop(2, toy.Step(lambda prediction, sample: sample + torch.rand_like(prediction)))


class Twice(toy.Stack):
    """Calls its first block twice."""

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        return super().forward(sample + self.layers[0](sample), timestep)


def test_a_block_that_is_called_twice_has_no_gate(caplog: pytest.LogCaptureFixture) -> None:
    """A gate stands for one call: a part called twice in a step always runs, and a warning names it."""
    model = Twice(nn.Linear(3, 3), nn.Linear(3, 3))
    graph = _trace_toy(model)
    assert graph.blocks == ("layers.1",)
    assert "called more than once a step, so without gates: layers.0" in caplog.text
    with torch.no_grad():
        expected = denoise(model, prepared(toy.Step(), 2), toy.sample(), {})
    assert torch.equal(run(graph, toy.sample(), {}), expected)
    plan = Plan.from_keep(graph, torch.tensor([[True], [False]]))
    assert [node.target for node in build(graph, plan).graph.nodes].count("model.layers.0") == 4
    with pytest.raises(TraceError, match=r"Twice, step 0: .* each more than once a step"):
        _trace_toy(Twice(nn.Linear(3, 3)))


def test_an_edit_of_an_aliased_tensor_is_refused() -> None:
    """An in-place edit that a view would see cannot be recorded in functional form."""

    def rule(prediction: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        view = prediction[:, 1:]
        view.add_(1)
        return prediction + sample

    with pytest.raises(TraceError, match=r"add_ edits a tensor in place"):
        toy.loop(2, toy.Step(rule))


class Rectified(toy.Stack):
    """Edits what its first block returns in a leaf that is no block."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__(*blocks)
        self.rectify = nn.ReLU(inplace=True)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        made = self.layers[0](sample)
        before = made + 1
        made = self.rectify(made)
        return self.layers[1](made) + before


def test_a_leaf_that_edits_its_input_edits_a_copy() -> None:
    """A later step reads what a block returned, not what was made of it; nor does an input change."""
    model = Rectified(nn.Linear(3, 3), nn.Linear(3, 3))
    loop = _trace_toy(model)
    keep = torch.tensor([[True, True], [False, True]])
    pruned = build(loop, Plan.from_keep(loop, keep))
    with torch.no_grad():
        sample = toy.sample()
        expected = denoise(model, prepared(toy.Step(), 2), sample, {})
        assert torch.equal(run(loop, toy.sample(), {}), expected)
        made = model.layers[0](sample)
        after = sample - model(sample, None)
        again = model.layers[1](made.relu()) + (made + 1)
        assert torch.equal(run(pruned, toy.sample(), {}), after - again)


class Casting(toy.Stack):
    """Casts what it is given to the dtype that it has."""

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, *, shift: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        return super().forward(sample.to(shift.dtype), timestep) + shift.to(sample.dtype) * timestep[:, None]


def test_a_cast_that_changes_nothing_is_no_edit() -> None:
    """Torch hands the very tensor on; a step still reads the loop's inputs, not what another step cast."""
    model, shift = Casting(nn.Linear(3, 3), nn.Linear(3, 3)), torch.ones(2, 3)
    graph = toy.traced(model, 3, shift=shift)
    within = [node for node in graph.graph.nodes if tag(node, "in_model")]
    reads = {(tag(n, "step"), tag(r, "step")) for n in within for r in n.all_input_nodes if r in within}
    assert reads == {(0, 0), (1, 1), (2, 2)}
    assert can_steer(graph)
    with torch.no_grad():
        expected = denoise(model, prepared(toy.Step(), 3), toy.sample(), {"shift": shift})
    assert torch.equal(run(graph, toy.sample(), {"shift": shift}), expected)


class Edited(toy.Stack):
    """Edits its own input in one of several ways."""

    def __init__(self, edit: Callable[[Edited, torch.Tensor], Any]) -> None:
        super().__init__(nn.Linear(3, 3), nn.Linear(3, 3))
        self.edit, self.rectify = edit, nn.ReLU(inplace=True)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        self.edit(self, sample)
        return super().forward(sample, timestep)


@pytest.mark.parametrize(
    "edit",
    [
        lambda model, sample: sample.mul_(0.5),
        lambda model, sample: sample.__iadd__(0.5),
        lambda model, sample: nn.functional.relu(sample, inplace=True),
        lambda model, sample: sample.to(sample.dtype).mul_(0.5),
        lambda model, sample: sample.mul_(0.5).to(sample.dtype),
    ],
    ids=["mul_", "+=", "relu", "of a cast", "and a cast"],
)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_model_that_edits_its_input_edits_it_at_every_step(edit: Any, steps: int) -> None:
    """The scheduler sees the sample as the model left it."""
    model = Edited(edit).eval()
    loop = toy.traced(model, steps)
    with torch.no_grad():
        expected = denoise(model, prepared(toy.Step(), steps), toy.sample(), {})
    assert torch.equal(run(loop, toy.sample(), {}), expected)


@pytest.mark.parametrize(
    "leaf",
    [nn.Identity(), nn.Flatten(0), nn.Dropout(), lambda x: nn.functional.dropout(x, 0.5, False)],
    ids=["identity", "flatten", "dropout", "function"],
)
def test_an_edit_of_what_a_leaf_handed_through_is_refused(leaf: Any) -> None:
    """It has the memory of what went in, which is read afterwards."""

    class Through(toy.Stack):
        def __init__(self) -> None:
            super().__init__(nn.Linear(3, 3), nn.Linear(3, 3))
            self.leaf = leaf

        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            before = sample + 1
            through = self.leaf(before)
            through.mul_(2)
            return super().forward(before, timestep)

    with pytest.raises(TraceError, match="in place"):
        toy.traced(Through().eval(), 1)


def test_a_leaf_that_edits_a_view_of_a_blocks_output_is_refused() -> None:
    """What a later step may read cannot be copied where another tensor shares its memory."""

    class Viewed(Rectified):
        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            made = self.layers[0](sample)
            self.rectify(made[:, 1:])
            return self.layers[1](made)

    with pytest.raises(TraceError, match=r"rectify, step 0: it edits a tensor in place"):
        _trace_toy(Viewed(nn.Linear(3, 3), nn.Linear(3, 3)))


def test_a_leaf_that_only_edits_is_refused() -> None:
    """Nothing in a graph says that a call without readers must stay."""

    class Silent(Rectified):
        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            made = self.layers[0](sample)
            self.rectify(made)
            return self.layers[1](made)

    with pytest.raises(TraceError, match=r"rectify edits its input in place and nothing reads"):
        _trace_toy(Silent(nn.Linear(3, 3), nn.Linear(3, 3)))


class Skipped(toy.Stack):
    """Reads what its second block was given after that has run."""

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        made = self.layers[0](sample)
        return self.layers[1](made) + made


def test_a_block_that_edits_what_others_read_is_refused() -> None:
    """A plan that skips it would leave the edit out."""
    block = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 3))
    with pytest.raises(TraceError, match=r"layers.1 is a block that edits its input in place"):
        _trace_toy(Skipped(nn.Linear(3, 3), block))


def test_a_block_that_edits_what_nobody_else_reads_is_no_matter() -> None:
    """A plan that skips it leaves nothing out."""

    class Chained(toy.Stack):
        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return self.layers[1](self.layers[0](sample))

    block = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 3))
    model = Chained(nn.Linear(3, 3), block)
    graph = _trace_toy(model)
    with torch.no_grad():
        expected = denoise(model, prepared(toy.Step(), 2), toy.sample(), {})
    assert torch.equal(run(graph, toy.sample(), {}), expected)


class Calculating(toy.Stack):
    """Does something to a prediction with constants of its own."""

    def __init__(self, rule: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__(nn.Linear(3, 3), nn.Linear(3, 3))
        self.rule = rule

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        return self.rule(super().forward(sample, timestep))


def _swapped_sums(x: torch.Tensor) -> torch.Tensor:
    wide = x[:, :, None] + x[:, None]
    other = (wide + wide).mT.contiguous().mT  # same shape, other strides
    return (wide + wide).flatten(1)[:, :3] + (other + other).mT.view(-1, 9)[:, :3]


@pytest.mark.parametrize(
    "rule",
    [
        lambda x: x.abs() ** torch.tensor(3.0),
        lambda x: x.abs() ** torch.tensor(0.5),
        lambda x: torch.tensor(2.0) ** x,
        lambda x: x.abs().pow(torch.tensor(1.5, dtype=torch.float64)),
        _swapped_sums,
    ],
    ids=["cube", "root", "of a number", "wide", "strides"],
)
def test_arithmetic_is_recorded_bit_for_bit(rule: Any) -> None:
    """A kernel may know a number that it does not look for in a tensor; strides are part of a result."""
    model = Calculating(rule).eval()
    graph = toy.traced(model, 2)
    with torch.no_grad():
        expected = denoise(model, prepared(toy.Step(), 2), toy.sample(), {})
    assert torch.equal(run(graph, toy.sample(), {}), expected)


@pytest.mark.parametrize(
    "rule",
    [
        lambda x: x + torch.rand(3),
        lambda x: x + torch.empty(3).normal_(),
        lambda x: x + torch.randint(5, (3,)),
        lambda x: x[:, torch.randperm(3)],
        lambda x: x + torch.empty(3).bernoulli_(),
        lambda x: x + torch.empty(3).random_(5),
    ],
    ids=["rand", "normal_", "randint", "randperm", "bernoulli_", "random_"],
)
def test_randomness_that_a_graph_cannot_draw_is_refused(rule: Any) -> None:
    """It would be the same numbers in every run."""
    with pytest.raises(TraceError, match="only randn and randn_like can be recorded"):
        toy.traced(Calculating(rule).eval(), 2)


@pytest.mark.parametrize(
    "rule",
    [
        lambda x: x + torch.randn(size=x.shape),
        lambda x: x + torch.randn(x.shape),
        lambda x: x + torch.randn(x.shape[0], 3),
    ],
    ids=["by name", "shape", "sizes"],
)
def test_noise_is_drawn_anew_in_every_run(rule: Any) -> None:
    """With as many rows as there are samples."""
    graph = toy.traced(Calculating(rule).eval(), 1)
    first, second = (graph(toy.sample(4), generator=zoo.generator(seed)) for seed in (0, 1))
    assert first.shape == second.shape == (4, 3)
    assert not torch.equal(first, second)
    noise = torch.randn(4, 3, generator=zoo.generator(0)) - torch.randn(4, 3, generator=zoo.generator(1))
    assert torch.allclose(second - first, noise, atol=1e-5)


def test_a_constant_that_is_edited_between_steps_is_read_as_it_is() -> None:
    """Also one that is too large to be told by its values."""
    momentum = torch.zeros(20, 1, 1)

    def rule(prediction: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        momentum.add_(1)
        return sample - (prediction * momentum).mean(0)

    expected = toy.sample()
    model = toy.model()
    with torch.no_grad():
        for step in range(1, 4):
            expected = expected - model(expected, None) * step
    graph = trace(model, toy.Step(rule), 3, sample=toy.sample(), conditioning={}, granularity="stage")
    assert torch.allclose(run(graph, toy.sample(), {}), expected)


def test_tracing_leaves_nothing_patched_behind_an_error() -> None:
    """After a refusal modules are called as ever."""
    call = nn.Module.__call__
    with pytest.raises(TraceError):
        toy.loop(2, None, Signed())
    assert nn.Module.__call__ is call
    assert torch.equal(run(toy.loop(), toy.sample(), {}), run(toy.loop(), toy.sample(), {}))


def test_conditioning_that_the_model_does_not_take_is_refused() -> None:
    """An unknown name is answered with the names that the model takes."""
    with pytest.raises(ValueError, match=r"has \['labels'\], but .*\.forward takes .*'class_labels'"):
        trace(zoo.model("dit"), diffusers.DDIMScheduler(), 2, conditioning={"labels": torch.zeros(1)})


def test_a_model_without_shapes_asks_for_a_sample() -> None:
    """Where the config gives no shape the error asks for the argument that gives it."""
    with pytest.raises(ValueError, match="pass sample="):
        trace(toy.model(), toy.Step(), 2)


def test_an_object_without_timesteps_is_no_scheduler() -> None:
    """Handing in something else than a scheduler names what it is."""
    with pytest.raises(TypeError, match=r"scheduler must be a diffusers scheduler .* got the module Linear"):
        trace(zoo.model("dit"), nn.Linear(1, 1), 2)


@pytest.mark.parametrize("steps", [0, -3])
def test_a_loop_has_at_least_one_step(steps: int) -> None:
    """A loop of no steps is refused with the number that was given."""
    with pytest.raises(ValueError, match=f"at least 1, got {steps}"):
        trace(zoo.model("dit"), diffusers.DDIMScheduler(), steps)


# -- inputs that do not fit the graph


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", [4, 16])
@pytest.mark.parametrize("name", ["dit", "unet"])
def test_another_image_size_is_refused(name: str, size: int, batch: int) -> None:
    """A sample of another size is an error that says what the loop was traced for."""
    x = torch.zeros(batch, 1, size, size)
    with pytest.raises(ValueError, match=r"sample has shape .* traced for \(batch, 1, 8, 8\)"):
        run(loop(name), x, zoo.conditioning(name, batch))


@pytest.mark.parametrize("batch", [1, 2])
def test_conditioning_of_another_shape_is_refused(batch: int) -> None:
    """Conditioning needs its traced width and one row a sample."""
    x, c = inputs("pixart", batch)
    text = c["encoder_hidden_states"]
    for wrong in (text[:, :7], text.repeat(2, 1, 1), text[..., :5]):
        with pytest.raises(ValueError, match=r"encoder_hidden_states has shape .* \(batch, 120, 12\)"):
            run(loop("pixart"), x, {"encoder_hidden_states": wrong})


@pytest.mark.parametrize("batch", [1, 3])
def test_guidance_wants_two_rows_a_sample(batch: int) -> None:
    """Under guidance conditioning without the unconditional rows is an error, not a broadcast."""
    x, c = inputs("dit", batch)
    with pytest.raises(ValueError, match=r"class_labels has shape .* \(2 \* batch\)"):
        run(loop("dit", "ddim", "block", 3.0), x, c)


def test_conditioning_on_another_device_is_refused() -> None:
    """The error names both devices."""
    x, c = inputs("dit", 2)
    with pytest.raises(ValueError, match="class_labels is on meta and sample on cpu"):
        run(loop("dit"), x, {"class_labels": c["class_labels"].to("meta")})


def test_missing_conditioning_is_refused() -> None:
    """Without a conditioning, and with None for it, the error names it."""
    with pytest.raises(TypeError, match="class_labels"):
        loop("dit")(zoo.sample("dit"))
    with pytest.raises(ValueError, match="class_labels is missing"):
        loop("dit")(zoo.sample("dit"), class_labels=None)


def test_missing_nested_conditioning_is_refused() -> None:
    """A nested conditioning that lacks one of its tensors is named by its dotted name."""

    class Extra(toy.Stack):
        def forward(self, sample: Any, timestep: Any, added_cond_kwargs: Any = None) -> torch.Tensor:
            return super().forward(sample + added_cond_kwargs["a"] * added_cond_kwargs["b"], timestep)

    added = {"a": toy.sample(1), "b": toy.sample(1)}
    graph = _trace_toy(Extra(nn.Linear(3, 3)), added_cond_kwargs=added)
    assert run(graph, toy.sample(1), {"added_cond_kwargs": added}).shape == (1, 3)
    with pytest.raises(ValueError, match=r"added_cond_kwargs\.b is missing"):
        graph(toy.sample(1), added_cond_kwargs={"a": toy.sample(1)})


# -- the caller's things stay as they were


@pytest.mark.parametrize(
    "training", [False, pytest.param(True, marks=pytest.mark.long)], ids=["eval", "train"]
)
@pytest.mark.parametrize("name", zoo.CASES)
def test_model_and_scheduler_are_left_as_found(name: str, training: bool) -> None:
    """Tracing, counting and compiling change nothing that the caller can see."""
    model, scheduler = copy.deepcopy(zoo.model(name)).train(training), diffusers.PNDMScheduler()
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 2 == 0)
    before, plans, random = _visible(model), _fields(scheduler), torch.get_rng_state()

    graph = trace(model, scheduler, 4)
    count_macs(graph)
    keep = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[1::2] = False
    pruned = build(graph, Plan.from_keep(graph, keep, "linear"))
    assert torch.equal(torch.get_rng_state(), random)
    run(pruned, *inputs(name, 2))

    assert _visible(model) == before
    assert _fields(scheduler) == plans


def test_dropout_does_not_touch_the_random_state() -> None:
    """A model left in training mode is counted without drawing from torch's generator."""
    model = toy.model(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)), nn.Linear(3, 3)).train()
    random = torch.get_rng_state()
    graph = _trace_toy(model)
    count_macs(graph)
    assert torch.equal(torch.get_rng_state(), random)


def test_the_scheduler_in_use_keeps_its_timesteps() -> None:
    """A scheduler in the middle of its own sampling run goes on where it was."""
    scheduler = diffusers.DPMSolverMultistepScheduler()
    scheduler.set_timesteps(7)
    before = _fields(scheduler)
    trace(zoo.model("dit"), scheduler, 3)
    assert _fields(scheduler) == before
    assert len(scheduler.timesteps) == 7


def _visible(model: nn.Module) -> dict[str, Any]:
    """Return what a caller may see of a model, comparable with ==."""
    found: dict[str, Any] = {
        f"tensor {name}": (id(tensor), tensor.requires_grad, tensor.grad, tensor.tolist())
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                hooks = isinstance(value, dict) and "hook" in name
                found[f"{path} {name}"] = dict(value) if hooks else repr(value)
    return found


def _fields(scheduler: Any) -> dict[str, str]:
    """Return what a scheduler holds, comparable with ==."""
    return {name: repr(value) for name, value in vars(scheduler).items()}


class Wasteful(nn.Module):
    """A model that calls a layer and looks at nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1, 1, 3, padding=1) for _ in range(3))

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return what the first and the last layer make of a sample."""
        first = self.layers[0](sample)
        self.layers[1](first)
        return self.layers[2](first)  # type: ignore[no-any-return]


def test_a_block_that_nobody_reads_is_none() -> None:
    """It is not in the loop, so there is nothing to gate and nothing to count."""
    x = zoo.sample("dit", 2)
    found = trace(
        Wasteful(), zoo.SCHEDULERS["ddim"](), 3, sample=x[:1], granularity=lambda path, _: "." in path
    )
    assert found.blocks == ("layers.0", "layers.2")
    assert LoopCost.of(found).full.total > 0
