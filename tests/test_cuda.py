"""The public API on a CUDA device: the laws that other tests hold on the CPU, offloading, compiling, memory.

Equal is bit for bit: both sides run the same kernels on the same shapes. Where they do not, a test says so.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import dipgo_fx
import zoo
from benchmarks.coverage import pipelines
from benchmarks.coverage.skipping import calls_of, random_plan, recorded, skipping
from benchmarks.live_bytes import meter
from dipgo_fx import Loop, PaperConfig, Plan, PruneConfig
from dipgo_fx.applying import build
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.guidance import NO_GUIDANCE, Guidance
from dipgo_fx.passes.forward_slot import ForwardSlot
from dipgo_fx.pipelines.capturing import capture
from dipgo_fx.pipelines.denoiser import only_denoiser
from dipgo_fx.pipelines.pipeline_call import ArgumentsFor, completed
from dipgo_fx.pipelines.tracing import inputs_of, record_pipeline
from dipgo_fx.search.losses import ssim
from loops import eager_with_plan, scattered

DEVICE, HOST = torch.device("cuda"), torch.device("cpu")
pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("default"),  # what torch says of the card at hand is no error
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
STEPS = 5
QUICK = PruneConfig(samples=4, full_runs=6)


@cache
def model(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """Return a tiny model on the device; the same one at every call, so never edit it."""
    return copy.deepcopy(zoo.model(name)).to(DEVICE, dtype)


def on(device: torch.device, values: Any, dtype: torch.dtype = torch.float32) -> Any:
    """Return nested values with their tensors on a device, those that hold numbers with a point cast."""
    return pytree.tree_map_only(
        torch.Tensor, lambda t: t.to(device, dtype if t.is_floating_point() else None), values
    )


def inputs(name: str, batch: int = 2, rows: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Return noise for `batch` samples on the device, and conditioning of `rows` rows each."""
    return on(DEVICE, (zoo.sample(name, batch), zoo.conditioning(name, rows * batch)), dtype)  # type: ignore[no-any-return]


@torch.no_grad()
def eager(
    model: nn.Module,
    scheduler: str,
    x: torch.Tensor,
    conditioning: Any,
    guidance: Guidance = NO_GUIDANCE,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Run the plain loop."""
    return denoise(
        model, prepared(zoo.SCHEDULERS[scheduler](), STEPS), x, conditioning, guidance, generator=generator
    )


def quick(model: nn.Module, ratio: float = 0.5, scheduler: str = "ddim", **options: Any) -> Any:
    """Prune a tiny model with a tiny search."""
    given = {"num_inference_steps": STEPS, "config": QUICK, "progress": False, **options}
    return dipgo_fx.prune(model, zoo.SCHEDULERS[scheduler](), ratio, **given)


def by_hand(loop: Loop, open_share: float = 0.5, seed: int = 1) -> Plan:
    """Return a plan with random gates and weights as a search may learn them."""
    shape = loop.num_steps, len(loop.blocks)
    keep = torch.rand(shape, generator=zoo.generator(seed)) < open_share
    keep[0] = True
    return Plan.from_keep(loop, keep, weights=scattered(shape, 3, seed))


def whole_steps(loop: Loop, every: int = 2) -> Plan:
    """Return the plan that runs every so manieth step whole and extrapolates at the others."""
    keep = torch.zeros(loop.num_steps, len(loop.blocks), dtype=torch.bool)
    keep[::every] = True
    return Plan.from_keep(loop, keep, backup="linear")


def close(found: torch.Tensor, expected: torch.Tensor, share: float) -> bool:
    """Tell whether values differ by no more than a share of the largest."""
    return bool((found.float() - expected.float()).abs().max() <= share * expected.float().abs().max())


def random_state() -> torch.Tensor:
    """Return the state of the device's global generator."""
    return torch.cuda.get_rng_state(DEVICE)


# -- loops


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["dit", "unet"])
@pytest.mark.parametrize(
    ("scheduler", "source"),
    [
        ("ddim", HOST),
        ("ddpm", DEVICE),
        ("ddpm", HOST),
        ("euler-a", DEVICE),
        ("euler-a", HOST),
        ("dpm++", HOST),
        ("unipc", HOST),
    ],
    ids=str,
)
def test_law_1_the_traced_loop_is_the_eager_loop(
    name: str, dtype: torch.dtype, scheduler: str, source: torch.device
) -> None:
    """In every precision, with noise from the device's generator or from one of the host."""
    x, conditioning = inputs(name, dtype=dtype)
    loop = dipgo_fx.trace(model(name, dtype), zoo.SCHEDULERS[scheduler](), STEPS)
    generators = [torch.Generator(source).manual_seed(3) for _ in range(2)]
    expected = eager(model(name, dtype), scheduler, x, conditioning, generator=generators[0])
    found = loop(x, **conditioning, generator=generators[1])
    assert found.device == x.device
    assert torch.equal(found, expected)
    assert torch.equal(*(generator.get_state() for generator in generators))


@pytest.mark.parametrize("split", [False, True], ids=["one call", "two calls"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["dit", "unet-text"])
def test_guidance_is_that_of_the_eager_loop(name: str, dtype: torch.dtype, split: bool) -> None:
    """In one call of the model and in two, at the batch size of the example and at others."""
    loop = dipgo_fx.trace(
        model(name, dtype), zoo.SCHEDULERS["ddim"](), STEPS, guidance_scale=2.0, split_guidance=split
    )
    for batch in (1, 3):
        x, conditioning = inputs(name, batch, 2, dtype)
        expected = eager(model(name, dtype), "ddim", x, conditioning, Guidance(2.0, split))
        assert torch.equal(loop(x, **conditioning), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scheduler", ["ddim", "euler-a", "unipc"])
@pytest.mark.parametrize("name", ["dit", "unet"])
def test_law_9_a_pruned_loop_is_the_eager_loop_that_skips(
    name: str, scheduler: str, dtype: torch.dtype
) -> None:
    """Weighted backups too: what is not kept is not called."""
    x, conditioning = inputs(name, dtype=dtype)
    noise = zoo.SCHEDULERS[scheduler]()
    loop = dipgo_fx.trace(model(name, dtype), noise, STEPS)
    plan = by_hand(loop)
    expected, _ = eager_with_plan(model(name, dtype), noise, plan, x, conditioning)
    assert torch.equal(build(loop, plan)(x, **conditioning, generator=zoo.generator(3)), expected)


def test_a_loop_follows_its_model_from_device_to_device() -> None:
    """Traced on one and run on the other, both ways: it shares the model's weights."""
    for start, end in ((HOST, DEVICE), (DEVICE, HOST)):
        moving = copy.deepcopy(zoo.model("dit")).to(start)
        loop = dipgo_fx.trace(moving, zoo.SCHEDULERS["ddim"](), STEPS)
        pruned = build(loop, by_hand(loop))
        moving.to(end)
        x, conditioning = on(end, (zoo.sample("dit", 3), zoo.conditioning("dit", 3)))
        assert torch.equal(loop(x, **conditioning), eager(moving, "ddim", x, conditioning))
        expected, _ = eager_with_plan(moving, zoo.SCHEDULERS["ddim"](), pruned.plan, x, conditioning)
        assert torch.equal(pruned(x, **conditioning), expected)


@pytest.mark.parametrize("option", ["fold", "join"])
def test_options_of_apply_change_the_last_bits_only(option: str) -> None:
    """Folded time embeddings, and joined calls of guidance, are computed with other batch sizes."""
    noise = zoo.SCHEDULERS["ddim"]()
    loop = dipgo_fx.trace(model("unet"), noise, STEPS, guidance_scale=2.0, split_guidance=True)
    plan = whole_steps(loop)
    x, conditioning = inputs("unet", 3, 2)
    changed = dipgo_fx.apply(model("unet"), noise, plan, **{option: True})
    assert close(changed(x, **conditioning), build(loop, plan)(x, **conditioning), 1e-2)


@pytest.mark.parametrize("elsewhere", ["sample", "class_labels"])
@pytest.mark.parametrize("name", ["dit", "unet"])
def test_an_input_on_another_device_is_refused(name: str, elsewhere: str) -> None:
    """The error names the input and both devices."""
    loop = dipgo_fx.trace(model(name), zoo.SCHEDULERS["ddim"](), 2)
    x, conditioning = inputs(name)
    given = {"sample": x, **conditioning}
    given[elsewhere] = given[elsewhere].to(HOST)
    with pytest.raises((ValueError, RuntimeError)) as caught:
        loop(**given)
    said = str(caught.value)
    assert elsewhere in said
    assert DEVICE.type in said
    assert HOST.type in said


# -- searches


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["dit", "unet"])
def test_prune_from_end_to_end(name: str, dtype: torch.dtype) -> None:
    """Law 5 and law 8: within its budget, the same plan again, and all on the device."""
    first, second = (quick(model(name, dtype), generator=zoo.generator(5)) for _ in range(2))
    assert 0.5 <= first.plan.ratio < 0.5 + 1 / STEPS
    assert first.report.after.total == dipgo_fx.count_macs(first).total
    assert (first.plan.table, first.plan.frontier) == (second.plan.table, second.plan.frontier)
    # A number beside a tensor of a device may stay on the host, as schedulers have it.
    held = [tensor for tensor in (*first.parameters(), *first.buffers()) if tensor.dim()]
    assert {tensor.device.type for tensor in held} == {DEVICE.type}
    for batch in (1, 3):
        x, conditioning = inputs(name, batch, dtype=dtype)
        result = first(x, **conditioning)
        assert (result.device, result.dtype, result.shape) == (x.device, dtype, x.shape)
        assert result.isfinite().all()


def test_a_search_is_about_as_good_as_on_the_host() -> None:
    """Losses of both searches, each on its own device, are of one size."""
    options = {"num_inference_steps": 8, "config": PruneConfig(samples=12, full_runs=8)}
    plans = [quick(owner, 0.4, **options).plan for owner in (model("dit"), zoo.model("dit"))]
    losses = [plan.origin["loss"] for plan in plans]
    assert losses[0] == pytest.approx(losses[1], rel=0.3)


def test_a_model_is_left_as_found() -> None:
    """Weights, device, gradients, modes and hooks, and the global source of randomness (law 8)."""
    owner = copy.deepcopy(zoo.model("unet")).to(DEVICE).train()
    owner.mid_block.eval()
    owner.conv_out.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in owner.state_dict().items()}
    modes = [module.training for module in owner.modules()]
    wanted = [parameter.requires_grad for parameter in owner.parameters()]
    state = random_state()
    quick(owner, num_inference_steps=3)
    after = owner.state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    assert {tensor.device.type for tensor in after.values()} == {DEVICE.type}
    assert [module.training for module in owner.modules()] == modes
    assert [parameter.requires_grad for parameter in owner.parameters()] == wanted
    assert all(parameter.grad is None for parameter in owner.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in owner.modules())
    assert torch.equal(random_state(), state)


def test_dropout_of_a_model_in_training_draws_nothing_here() -> None:
    """Tracing and counting run its modules, and the device's global generator stays where it is."""
    owner = copy.deepcopy(zoo.model("dit")).to(DEVICE).train()
    for module in owner.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    plan, state = whole_steps(dipgo_fx.trace(model("dit"), zoo.SCHEDULERS["ddim"](), STEPS)), random_state()
    dipgo_fx.apply(owner, zoo.SCHEDULERS["ddim"](), plan)
    assert torch.equal(random_state(), state)


@pytest.mark.parametrize("source", [DEVICE, HOST], ids=str)
@pytest.mark.parametrize(
    "config",
    [
        QUICK,
        PaperConfig(samples=4, batch_size=2, iterations=3, width=32),
        PaperConfig(samples=4, batch_size=2, iterations=3, width=32, checkpoint=True, backup="linear"),
    ],
    ids=["default", "paper", "paper, checkpoints"],
)
def test_a_seed_may_come_from_either_side(config: Any, source: torch.device) -> None:
    """Both recipes, of a scheduler that draws noise: the same generator gives the same plan."""
    plans = [
        quick(
            model("dit"),
            scheduler="euler-a",
            guidance_scale=2.0,
            config=config,
            generator=torch.Generator(source).manual_seed(7),
        ).plan
        for _ in range(2)
    ]
    assert plans[0].ratio >= 0.5
    assert torch.equal(plans[0].keep, plans[1].keep)


@pytest.mark.parametrize(("start", "end"), [(HOST, DEVICE), (DEVICE, HOST)], ids=str)
def test_a_plan_goes_from_device_to_device(start: torch.device, end: torch.device, tmp_path: Path) -> None:
    """Through a file, to another batch size: it runs there as skipping by hand does."""
    noise, models = zoo.SCHEDULERS["ddim"](), {HOST: zoo.model("dit")}
    models[DEVICE] = model("dit")
    plan = quick(models[start]).plan
    plan.save(tmp_path / "plan.json")
    read = Plan.load(tmp_path / "plan.json")
    assert read == plan
    given = zoo.sample("dit", 3), zoo.conditioning("dit", 3)
    results = []
    for device in (start, end):
        pruned = dipgo_fx.apply(models[device], noise, read)
        assert pruned.plan.table == plan.table
        x, conditioning = on(device, given)
        results.append(pruned(x, **conditioning).to(HOST))
    assert close(results[1], results[0], 1e-2)  # kernels of both devices sum up in other orders
    other = dipgo_fx.apply(models[end], noise, plan, ratio=0.0)
    assert torch.equal(other(x, **conditioning), eager(models[end], "ddim", x, conditioning))


def test_ssim_is_that_of_the_host() -> None:
    """Flat parts lose their variances, small differences of large numbers, where convolutions are rounded."""
    target = -1 + 0.02 * torch.randn(4, 1, 16, 16, generator=zoo.generator(1))
    result = target + 0.02 * torch.randn(target.shape, generator=zoo.generator(2))
    found = ssim(result.to(DEVICE), target.to(DEVICE)).item()
    assert found == pytest.approx(ssim(result, target).item(), abs=1e-3)


# -- pipelines

PROMPTS = ["a red bicycle", "a fox", "two cats"]
SIZE = {"height": 16, "width": 16, "num_inference_steps": STEPS}


def built(key: str, device: torch.device = DEVICE) -> Any:
    """Return a tiny pipeline on a device."""
    return pipelines.PIPELINES[key].build().to(device)


def run(key: str, pipe: Any, device: torch.device = DEVICE) -> torch.Tensor:
    """Run a tiny pipeline on inputs of a device, with noise from the host."""
    given = on(device, pipelines.PIPELINES[key].inputs(2))
    return pipelines.PIPELINES[key].call(pipe, STEPS, 2, **given)


def images(pipe: Any, source: torch.device = HOST) -> torch.Tensor:
    """Return the latents that a pipeline makes of the prompts."""
    generator = torch.Generator(source).manual_seed(3)
    return pipe(PROMPTS, **SIZE, generator=generator, output_type="latent").images  # type: ignore[no-any-return]


@cache
def plan_of(key: str) -> Plan:
    """Return a random plan for a tiny pipeline, made on the host."""
    facts = recorded(pipelines.PIPELINES[key].build(), lambda pipe: run(key, pipe, HOST))[1]
    return random_plan(facts, 0.6, 1)


@cache
def by_plan(key: str) -> torch.Tensor:
    """Return what a tiny pipeline that lies on the device makes by its plan."""
    pipe = built(key)
    with dipgo_fx.enabled(pipe, plan_of(key)):
        return run(key, pipe)


def asked(call: dict[str, Any]) -> ArgumentsFor:
    """Return the arguments of a call with the first of the prompts, or with blank ones beyond."""
    return completed(lambda count: {"prompt": (PROMPTS + [""] * count)[:count]}, call)


@pytest.mark.parametrize("key", ["sd", "dit", "sd3", "flux", "pixart-sigma"])
def test_law_7_an_enabled_pipeline_equals_one_whose_blocks_are_skipped_by_hand(key: str) -> None:
    """Twice in a row, and a disabled pipeline is as it was."""
    pipe, plan = built(key), plan_of(key)
    unpruned = run(key, pipe)
    count = len(calls_of(pipe, lambda p: run(key, p)))
    with skipping(only_denoiser(pipe), plan, max(1, round(count / STEPS))):
        reference = run(key, pipe)
    with dipgo_fx.enabled(pipe, plan):
        assert torch.equal(run(key, pipe), reference)
        assert torch.equal(run(key, pipe), reference)
    assert not torch.equal(reference, unpruned)
    assert torch.equal(run(key, pipe), unpruned)
    assert ForwardSlot(only_denoiser(pipe)).is_own


@pytest.mark.parametrize("source", [HOST, DEVICE], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("key", ["sd-text", "flux-text"])
def test_a_recorded_pipeline_equals_the_pipeline(key: str, dtype: torch.dtype, source: torch.device) -> None:
    """Unpruned and pruned: the loop that a search sees is the one that `enable` runs."""
    pipe = built(key).to(dtype)
    denoiser = only_denoiser(pipe)
    loop = record_pipeline(pipe, denoiser, asked(SIZE), split_guidance=False)
    noise = torch.Generator(source).manual_seed(3)
    given = inputs_of(loop, capture(pipe, denoiser, asked({**SIZE, "generator": noise}), len(PROMPTS)))
    assert torch.equal(loop(**given), images(pipe, source))
    plan = random_plan(loop.facts, 0.6, 1)
    expected = build(loop, plan)(**given)
    with dipgo_fx.enabled(pipe, plan):
        assert torch.equal(images(pipe, source), expected)


def searched(pipe: Any, samples: int = 4, **options: Any) -> Plan:
    """Search a plan on a tiny pipeline of prompts."""
    config = PruneConfig(samples=samples, full_runs=4)
    given = {**SIZE, "progress": False, "config": config, **options}
    return dipgo_fx.prune_pipeline(pipe, 0.5, prompts=PROMPTS, **given)


def places(pipe: Any) -> list[tuple[torch.device, torch.dtype]]:
    """Return where all weights of a pipeline lie, and in which dtype."""
    parts = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    return [(p.device, p.dtype) for part in parts for p in part.parameters()]


@pytest.mark.parametrize("source", [HOST, DEVICE], ids=str)
def test_a_search_inside_a_stock_pipeline(source: torch.device) -> None:
    """Searched, enabled and disabled: fewer MACs in between, and all as found afterwards."""
    pipe = built("sd-text")
    unpruned, before, state = images(pipe), places(pipe), random_state()
    plans = [searched(pipe, generator=torch.Generator(source).manual_seed(1)) for _ in range(2)]
    assert plans[0].ratio >= 0.5
    assert torch.equal(plans[0].keep, plans[1].keep)
    assert places(pipe) == before
    assert torch.equal(random_state(), state)
    dipgo_fx.enable(pipe, plans[0])
    pruned = images(pipe)
    assert pruned.isfinite().all()
    assert not torch.equal(pruned, unpruned)
    dipgo_fx.disable(pipe)
    assert torch.equal(images(pipe), unpruned)


def test_a_pipelines_own_noise_is_left_alone() -> None:
    """Law 8 where the pipeline draws from the device's global generator: a recording moves it nowhere."""
    pipe, state = built("sd-text"), random_state()
    record_pipeline(pipe, only_denoiser(pipe), asked(SIZE))
    assert torch.equal(random_state(), state)


# -- offloading


def _groups(level: str, **options: Any) -> Callable[[Any], None]:
    """Return what offloads groups of a denoiser's layers; all other parts lie on the device."""
    if level == "block_level":
        options = {"num_blocks_per_group": 1, **options}

    def offload(pipe: Any) -> None:
        """Offload the denoiser."""
        denoiser = only_denoiser(pipe)
        for part in pipe.components.values():
            if isinstance(part, nn.Module) and part is not denoiser:
                part.to(DEVICE)
        denoiser.enable_group_offload(
            onload_device=DEVICE, offload_device=HOST, offload_type=level, **options
        )

    return offload


OFFLOADED: dict[str, Callable[[Any], None]] = {
    "whole": lambda pipe: pipe.enable_model_cpu_offload(device=DEVICE),
    "layer by layer": lambda pipe: pipe.enable_sequential_cpu_offload(device=DEVICE),
    "groups of blocks": _groups("block_level"),
    "groups of layers": _groups("leaf_level"),
    "groups of blocks, a stream": _groups("block_level", use_stream=True),
    "groups of layers, a stream": _groups("leaf_level", use_stream=True),
}


# The blocks of a transformer are called as they are, those of a U-Net part by part.
BY_LAYER = [how for how in OFFLOADED if "blocks" not in how]


@pytest.mark.parametrize("first", ["offload", "enable"])
@pytest.mark.parametrize(
    ("key", "how"), [*(("sd", how) for how in BY_LAYER), *(("sd3", how) for how in OFFLOADED)]
)
def test_an_offloaded_pipeline_runs_by_a_plan(key: str, how: str, first: str) -> None:
    """As one whose weights lie on the device, in the first run and in later ones; then disabled as before."""
    pipe = pipelines.PIPELINES[key].build()
    if first == "offload":
        OFFLOADED[how](pipe)
    with dipgo_fx.enabled(pipe, plan_of(key)):
        if first == "enable":
            OFFLOADED[how](pipe)
        for _ in range(3):
            assert torch.equal(run(key, pipe), by_plan(key))
    assert torch.equal(run(key, pipe), run(key, built(key)))


@pytest.mark.parametrize("how", BY_LAYER)
def test_an_offloaded_pipeline_is_searched(how: str) -> None:
    """The plan is that of a pipeline on the device, and weights are afterwards where they were."""
    pipe = pipelines.PIPELINES["sd-text"].build()
    OFFLOADED[how](pipe)
    before = places(pipe)
    plan = searched(pipe)
    assert places(pipe) == before
    expected = searched(built("sd-text"))
    assert torch.equal(plan.keep, expected.keep)
    assert torch.allclose(plan.weights, expected.weights, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("how", BY_LAYER)
def test_an_offloaded_model_is_pruned(how: str) -> None:
    """By itself, without its pipeline; weights are afterwards where they were."""
    pipe = pipelines.PIPELINES["sd"].build()
    expected = quick(copy.deepcopy(pipe.unet).to(DEVICE)).plan
    OFFLOADED[how](pipe)
    before = places(pipe)
    found = quick(pipe.unet).plan
    assert places(pipe) == before
    assert torch.equal(found.keep, expected.keep)


def test_layers_stored_in_eight_bits() -> None:
    """They are cast when they run: as the model of the rounded weights, and a search of them works."""
    plan, stored = plan_of("sd"), {"storage_dtype": torch.float8_e4m3fn, "compute_dtype": torch.float32}
    pipe, rounded = built("sd"), built("sd")
    rounded.unet.enable_layerwise_casting(**stored)
    pipe.unet.load_state_dict({n: p.to(torch.float32) for n, p in rounded.unet.state_dict().items()})
    with dipgo_fx.enabled(pipe, plan):
        expected = run("sd", pipe)
    with dipgo_fx.enabled(rounded, plan):
        assert torch.equal(run("sd", rounded), expected)
    before = places(rounded)
    found = [quick(each.unet).plan for each in (rounded, pipe)]
    assert torch.equal(found[0].keep, found[1].keep)
    assert places(rounded) == before


# -- compiling

COMPILED: dict[str, Callable[..., Any]] = {
    "loop.compile": lambda loop, **options: loop.compile(**options) or loop,
    "torch.compile": lambda loop, **options: torch.compile(loop, fullgraph=True, **options),
}
MODES = [{}, {"mode": "reduce-overhead"}]
modes = pytest.mark.parametrize("options", MODES, ids=["default", "reduce-overhead"])


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing is compiled before and after."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(way: str, options: dict[str, str], scheduler: str = "ddim") -> tuple[Any, Any]:
    """Return a pruned loop of whole steps as it is, and compiled."""
    loops = []
    for _ in range(2):
        loop = dipgo_fx.trace(model("dit"), zoo.SCHEDULERS[scheduler](), 4)
        loops.append(build(loop, whole_steps(loop)))
    return loops[0], COMPILED[way](loops[1], **options)


def noises(count: int = 5) -> list[torch.Tensor]:
    """Return noise for so many runs."""
    shape = zoo.sample("dit").shape
    return [torch.randn(shape, generator=zoo.generator(seed)).to(DEVICE) for seed in range(count)]


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("scheduler", "way", "options"),
    [
        *(("ddim", way, options) for way in COMPILED for options in MODES),
        ("dpm++", "loop.compile", MODES[1]),  # which reads the prediction of the step before
    ],
    ids=str,
)
def test_a_compiled_loop_agrees_with_the_loop(scheduler: str, way: str, options: dict[str, str]) -> None:
    """Run after run with new noise, compiled once: CUDA graphs are recorded and replayed by then."""
    loop, fast = compiled(way, options, scheduler)
    _, conditioning = inputs("dit")
    fast(noises()[0], **conditioning)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for x in noises():
            found = fast(x, **conditioning).clone()
            torch.testing.assert_close(found, loop(x, **conditioning), rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("fresh")
@modes
def test_a_later_run_overwrites_no_result(options: dict[str, str]) -> None:
    """Nobody clones what a loop returned; the memory of CUDA graphs is used again at every call.

    With `torch.compile(loop, mode="reduce-overhead")` they do overwrite it, as torch says of such modes.
    """
    loop, fast = compiled("loop.compile", options)
    _, conditioning = inputs("dit")
    found = [fast(x, **conditioning) for x in noises()]
    for x, result in zip(noises(), found, strict=True):
        torch.testing.assert_close(result, loop(x, **conditioning), rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("compile", [True, {"mode": "reduce-overhead"}], ids=["default", "reduce-overhead"])
def test_compiled_steps_of_a_pipeline(compile: Any) -> None:
    """Each distinct step once; values that a step keeps for later ones are not overwritten by those."""
    key = "dit"
    pipe = built(key)
    with dipgo_fx.enabled(pipe, plan_of(key), compile=compile) as forward:
        assert close(run(key, pipe), by_plan(key), 1e-2)
        count = forward.graphs.num_graphs
        for _ in range(3):
            assert close(run(key, pipe), by_plan(key), 1e-2)
        assert forward.graphs.num_graphs == count <= STEPS


# -- memory

GRAIN = 512
"""Bytes that the allocator rounds up to."""


def peak(work: Callable[[], Any]) -> int:
    """Return the peak of the second of two runs: what libraries set up once is not of it."""
    work()
    with meter(DEVICE) as live:
        work()
        return live.peak


@pytest.mark.parametrize("name", ["dit", "unet"])
def test_a_pruned_loop_holds_what_is_still_read(name: str) -> None:
    """Its peak is that of the unpruned loop, and the predictions that forecasts read."""
    x, conditioning = inputs(name, 256)
    loop = dipgo_fx.trace(model(name), zoo.SCHEDULERS["ddim"](), 8)
    pruned = build(loop, whole_steps(loop, 3))
    # The head of a transformer gives as many values as a sample has, and so does that of a U-Net.
    held = pruned.plan.history * x.nbytes
    most = peak(lambda: loop(x, **conditioning)) + held + 8 * GRAIN
    assert peak(lambda: pruned(x, **conditioning)) <= most


def test_an_enabled_pipeline_holds_what_is_still_read() -> None:
    """Its peak is that of the stock pipeline, and what it says it holds of earlier steps."""
    key, pipe = "sd", built("sd")
    stock = peak(lambda: run(key, pipe))
    with dipgo_fx.enabled(pipe, plan_of(key)) as forward:
        found = peak(lambda: run(key, pipe))
        held = max(forward.bytes_held())
    assert held > 0
    assert found <= stock + held + 3 * len(plan_of(key).blocks) * GRAIN


SAMPLES = 1024


def search(chunk: int) -> Any:
    """Search on many samples, so many of them in the model at once."""
    config = PruneConfig(samples=SAMPLES, full_runs=3, chunk=chunk)
    return quick(model("unet"), num_inference_steps=4, config=config)


def test_law_12_a_search_in_chunks_needs_less_memory() -> None:
    """What lies on the device beside the model is a chunk's, and the samples."""
    peaks = [peak(lambda chunk=chunk: search(chunk)) for chunk in (SAMPLES // 16, SAMPLES)]
    assert peaks[0] < peaks[1] / 2


@contextmanager
def limited(most: int) -> Iterator[None]:
    """Let the allocator have no more than so many bytes."""
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(most / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_search_goes_on_with_less_where_the_device_is_full(caplog: pytest.LogCaptureFixture) -> None:
    """Half the samples at once, again and again, with a message each time."""
    reserved = []
    for chunk in (SAMPLES // 16, SAMPLES // 16, SAMPLES):  # the first sets up what libraries keep
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(DEVICE)
        search(chunk)
        reserved.append(torch.cuda.max_memory_reserved(DEVICE))
    assert reserved[1] < reserved[2]
    with limited((reserved[1] + reserved[2]) // 2), caplog.at_level(logging.WARNING):
        found = search(SAMPLES).plan
    assert f"out of memory with {SAMPLES} samples at once: going on with {SAMPLES // 2}" in caplog.text
    assert found.ratio >= 0.5
    assert torch.equal(found.keep, search(SAMPLES // 4).plan.keep)
