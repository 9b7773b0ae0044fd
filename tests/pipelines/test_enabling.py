"""A plan inside stock pipelines: law 7, and what users change between two calls."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.models.embeddings import ImageProjection
from torch import nn

import dipgo_fx
import zoo
from benchmarks.coverage import checks, pipelines
from benchmarks.coverage.skipping import calls_of, random_plan, recorded, skipping
from benchmarks.coverage.subject import Subject
from dipgo_fx import Plan, PlanError, TraceError
from dipgo_fx.applying import build
from dipgo_fx.cost import LoopCost
from dipgo_fx.frontier import Point, whole_steps_table
from dipgo_fx.guidance import Guidance
from dipgo_fx.passes import GateTable, Steering, granularity_of
from dipgo_fx.passes.call_recorder import record_call
from dipgo_fx.passes.loop_recorder import tensors_in
from dipgo_fx.pipelines.capturing import capture
from dipgo_fx.pipelines.denoiser import only_denoiser
from dipgo_fx.pipelines.pipeline_call import ArgumentsFor, completed
from dipgo_fx.pipelines.tracing import inputs_of, record_pipeline
from steerings import steering_of
from tiny_pipelines import STEPS, facts_of, plan_of, run, skipped

FEW = ("sd", "dit", "sd3", "flux", "pixart-sigma", "wan", "ltx")
"""The pipelines of the fast tests: a U-Net and transformers, one and two calls a step."""
CONTROLLED = (
    "sd-controlnet",
    "sd-t2i-adapter",
    "sdxl-controlnet",
    "flux-controlnet",
    "sd3-controlnet",
    "sd-pag",
)
"""Pipelines in which something else speaks to the denoiser, or guides it."""
REFUSED = {
    "qwenimage21": "KVLayerCache cannot be written",
    "glm-image": "GlmImageLayerKVCache cannot be written",
    "anyflow-far": "does not walk through scheduler.timesteps",
    "amused": "has 0 of 0 classes",
    "cosmos3": "has 0 of 0 classes",
}
"""The pipelines that cannot be run by a plan, and what the error says."""


@pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")  # the rotary table of Mochi
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(key, marks=[] if key in FEW else pytest.mark.long)
        for key in dict.fromkeys((*FEW, *pipelines.DENOISERS.values(), *CONTROLLED))
        if key not in REFUSED
    ],
)
def test_law_7_an_enabled_pipeline_equals_one_whose_blocks_are_skipped_by_hand(key: str) -> None:
    """Bit for bit; a plan that keeps all changes nothing; a disabled pipeline is as it was.

    One pipeline a denoiser is tried here; `python -m benchmarks.coverage` tries them all.
    """
    checks.enabled(Subject.of(key, STEPS))


@pytest.mark.long
@pytest.mark.parametrize("key", REFUSED)
def test_what_cannot_be_run_is_refused(key: str) -> None:
    """An error says why; nothing is drawn wrongly, and the pipeline runs as before afterwards."""
    pipe = pipelines.PIPELINES[key].build()
    expected = run(key, pipe)
    with pytest.raises((TraceError, RuntimeError, ValueError), match=re.escape(REFUSED[key])):
        _run_by_a_random_plan(key, pipe)
    assert torch.equal(run(key, pipe), expected)


def _run_by_a_random_plan(key: str, pipe: Any) -> None:
    _, facts = recorded(pipe, lambda p: run(key, p))
    with dipgo_fx.enabled(pipe, random_plan(facts, 0.6, 1)):
        run(key, pipe)


# -- one loop, two ways to run it

TEXT = ("sd-text", "flux-text", "pixart-sigma-text", "sd3-text", "sdxl-text")
PROMPTS = ["a red bicycle", "a fox", "two cats"]
SIZE = {"height": 16, "width": 16, "num_inference_steps": STEPS}


def size_of(key: str) -> dict[str, int]:
    """Return the arguments of a pipeline's call that its loop is recorded with."""
    sizes = {"pixart-sigma-text": {"use_resolution_binning": False}, "sd3-text": {"max_sequence_length": 24}}
    return {**SIZE, **sizes.get(key, {})}


def asked(call: dict[str, Any]) -> ArgumentsFor:
    """Return the arguments of a call with the first of the prompts, or with blank ones beyond."""
    return completed(lambda count: {"prompt": (PROMPTS + [""] * count)[:count]}, call)


def whole_loop(key: str, pipe: Any, split: bool, dtype: torch.dtype) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return the recorded loop of a pipeline, and its inputs for three prompts."""
    pipe.to(dtype)
    model, call = only_denoiser(pipe), size_of(key)
    loop = record_pipeline(pipe, model, asked(call), split_guidance=split)
    return loop, inputs_of(loop, capture(pipe, model, asked({**call, "generator": zoo.generator(3)}), 3))


def images(key: str, pipe: Any) -> torch.Tensor:
    """Return the latents that a pipeline makes of the prompts."""
    generator = torch.Generator().manual_seed(3)
    return pipe(PROMPTS, **size_of(key), generator=generator, output_type="latent").images  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "key",
    [pytest.param(key, marks=[] if key in ("sd-text", "flux-text") else pytest.mark.long) for key in TEXT],
)
def test_a_recorded_pipeline_equals_the_pipeline(key: str) -> None:
    """Unpruned and pruned, bit for bit: the loop that a search sees is the one that `enable` runs."""
    pipe = pipelines.PIPELINES[key].build()
    state = dict(vars(pipe))
    loop, inputs = whole_loop(key, pipe, False, torch.float32)
    assert dict(vars(pipe)) == state
    assert torch.equal(loop(**inputs), images(key, pipe))
    plan = random_plan(loop.facts, 0.6, 1)
    expected = build(loop, plan)(**inputs)
    with dipgo_fx.enabled(pipe, plan):
        assert torch.equal(images(key, pipe), expected)


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize(
    "key",
    [pytest.param(key, marks=[] if key in ("sd-text", "flux-text") else pytest.mark.long) for key in TEXT],
)
def test_law_7_holds_for_steered_calls(key: str, first: int) -> None:
    """Told timesteps, mixed predictions and a late start are those of the whole loop, bit for bit."""
    pipe = pipelines.PIPELINES[key].build()
    loop, inputs = whole_loop(key, pipe, False, torch.float32)
    plan = steered(random_plan(loop.facts, 0.6, 1), first)
    expected = build(loop, plan)(**inputs)
    assert not torch.equal(expected, build(loop, random_plan(loop.facts, 0.6, 1))(**inputs))
    with dipgo_fx.enabled(pipe, plan) as forward:
        assert torch.equal(images(key, pipe), expected)
        assert torch.equal(images(key, pipe), expected)
        assert forward.bytes_held()[-1] == 0
        assert not any(first.values or first.prediction is not None for first in forward._first_calls)


def steered(plan: Plan, first: int, seed: int = 2) -> Plan:
    """Return a plan with random steering that begins at step `first`."""
    keep = plan.keep.clone()
    keep[:first], keep[first] = False, True
    table = GateTable(keep, plan.weights)
    return replace(plan, table=table, steering=steering_of(plan.facts, seed, first))


@pytest.mark.parametrize("first", [0, 2])
def test_steered_halves_are_the_same_up_to_rounding(first: int) -> None:
    """One call of the pipeline that holds both conditions, which are steered apart."""
    pipe = pipelines.PIPELINES["sd-text"].build()
    loop, inputs = whole_loop("sd-text", pipe, True, torch.float64)
    plan = steered(random_plan(loop.facts, 0.6, 1), first)
    expected = build(loop, plan)(**inputs)
    with dipgo_fx.enabled(pipe, plan):
        assert (images("sd-text", pipe) - expected).abs().max() < 1e-9 * expected.abs().max()


def test_nothing_is_held_before_the_first_step_that_runs() -> None:
    """Of a plan that starts late, whose samples stand for predictions before that."""
    pipe = pipelines.PIPELINES["sd"].build()
    with dipgo_fx.enabled(pipe, steered(plan_of("sd"), 2)) as forward:
        run("sd", pipe)
    held = forward.bytes_held()
    assert held[:2] == [0, 0]
    assert held[2] > 0
    assert held[-1] == 0


@pytest.mark.parametrize("steps", [4, 6])
@pytest.mark.parametrize("strength", [0.4, 0.8])
def test_a_strength_with_a_scheduler_of_two_calls_a_step(steps: int, strength: float) -> None:
    """Heun's: each inference step but the last has two timesteps."""
    pipe = pipelines.PIPELINES["sd-img2img"].build()
    pipe.scheduler = diffusers.HeunDiscreteScheduler(beta_schedule="scaled_linear")
    loop = dipgo_fx.trace(pipe.unet, pipe.scheduler, steps)
    keep = torch.ones(loop.num_steps, len(loop.blocks), dtype=torch.bool)
    keep[1::2] = False
    with dipgo_fx.enabled(pipe, Plan.from_keep(loop, keep)) as forward:
        run("sd-img2img", pipe, steps=steps, strength=strength)
    left = len(forward.plan.timesteps)
    assert left < loop.num_steps
    assert forward.plan.facts.num_inference_steps == (left + 1) // 2


@pytest.mark.parametrize("strength", [0.5, 0.9])
@pytest.mark.parametrize("first", [0, 3])
def test_a_strength_takes_the_steering_from_a_later_step(strength: float, first: int) -> None:
    """The first step that runs is whole and as it is: its samples are not the noise of a late start."""
    key = "sd-img2img"
    pipe = pipelines.PIPELINES[key].build()
    plan = steered(plan_of(key), first)
    calls = len(calls_of(pipe, lambda p: run(key, p, strength=strength)))
    start = STEPS - calls
    steering = plan.steering
    assert steering is not None
    assert start > 0
    keep = plan.keep.clone()
    keep[: start + 1] = True
    mix = torch.cat([Steering.neutral(start, 1).mix, steering.from_step(start).mix])
    whole = replace(plan, table=GateTable(keep, plan.weights), steering=Steering(steering.told, mix))
    with dipgo_fx.enabled(pipe, whole):
        reference = run(key, pipe, strength=strength)
    with dipgo_fx.enabled(pipe, plan):
        assert torch.equal(run(key, pipe, strength=strength), reference)


def test_a_recorded_pipeline_that_calls_its_model_twice() -> None:
    """Both calls have columns of their own, the unconditional ones first, and follow the plan."""
    pipe = pipelines.PIPELINES["wan"].build()

    def encode_prompt(prompt: Any, *args: Any, **kwargs: Any) -> Any:
        """Return made-up embeddings of so many prompts."""
        count, generator = len(prompt), torch.Generator().manual_seed(len(str(prompt)))
        return tuple(torch.randn(count, 7, 16, generator=generator) for _ in range(2))

    call: dict[str, Any] = {**SIZE, "num_frames": 5, "negative_prompt": "blurred"}
    pipe.encode_prompt = encode_prompt
    loop = record_pipeline(pipe, only_denoiser(pipe), asked(call))
    half = len(loop.blocks) // 2
    assert all(name.endswith("@unconditional") == (n < half) for n, name in enumerate(loop.blocks))
    assert loop.facts.guidance == Guidance(5.0, True)
    given = {**call, "generator": torch.Generator().manual_seed(3)}
    inputs = inputs_of(loop, capture(pipe, only_denoiser(pipe), asked(given), 2))
    plan = random_plan(loop.facts, 0.6, 1)
    for each, expected in (
        (random_plan(loop.facts, 1.1, 0), loop(**inputs)),
        (plan, build(loop, plan)(**inputs)),
    ):
        with dipgo_fx.enabled(pipe, each):
            given = {**call, "generator": torch.Generator().manual_seed(3), "output_type": "latent"}
            found = pipe(PROMPTS[:2], **given, return_dict=False)[0]
        assert torch.equal(found.flatten(), expected.flatten())


def test_split_guidance_is_the_same_up_to_rounding() -> None:
    """Halves of a batched call run apart where the plan has them apart; in float64 nothing else is left."""
    pipe = pipelines.PIPELINES["sd-text"].build()
    loop, inputs = whole_loop("sd-text", pipe, True, torch.float64)
    plan = random_plan(loop.facts, 0.6, 1)
    expected = build(loop, plan)(**inputs)
    with dipgo_fx.enabled(pipe, plan) as forward:
        found = images("sd-text", pipe)
        assert (found - expected).abs().max() < 1e-9 * expected.abs().max()
        assert forward.bytes_held()[-1] == 0


def test_halves_that_both_run_whole_stay_one_call() -> None:
    """The others run apart: a block sees twice the rows, or as many as there are samples."""
    pipe = pipelines.PIPELINES["sd-text"].build()
    loop, _ = whole_loop("sd-text", pipe, True, torch.float32)
    steps, blocks = loop.num_steps, len(loop.blocks)
    keep = torch.ones(steps, blocks, dtype=torch.bool)
    keep[1, : blocks // 2] = False  # the unconditional half is skipped
    rows: list[int] = []
    block = pipe.unet.get_submodule(loop.blocks[-1])
    hook = block.register_forward_hook(lambda module, args, result: rows.append(len(result)))
    samples = len(images("sd-text", pipe))
    rows.clear()
    with dipgo_fx.enabled(pipe, Plan.from_keep(loop, keep, "linear")):
        images("sd-text", pipe)
        rows.clear()  # of the recording
        images("sd-text", pipe)
    hook.remove()
    assert rows == [2 * samples, samples, *[2 * samples] * (steps - 2)]


# -- what users change between calls


@pytest.fixture
def pipe() -> Any:
    """A small Stable Diffusion pipeline."""
    return pipelines.PIPELINES["sd"].build()


def test_batch_size_and_image_size_may_change(pipe: Any) -> None:
    """Each run is as one whose blocks are skipped by hand."""
    plan = plan_of("sd")
    for batch in (1, 3):
        reference = skipped("sd", pipe, plan, batch=batch)
        with dipgo_fx.enabled(pipe, plan):
            assert torch.equal(run("sd", pipe, batch), reference)


def twice(plan: Plan) -> Plan:
    """Return a plan that has the conditions of guidance apart, and one table for both."""
    names = tuple(f"{name}@unconditional" for name in plan.facts.blocks) + plan.facts.blocks
    facts = replace(plan.facts, blocks=names, guidance=Guidance(5.0, True))
    return replace(plan, facts=facts, table=GateTable(plan.keep.repeat(1, 2), plan.weights.repeat(1, 2, 1)))


@pytest.mark.parametrize(("boundary", "split"), [(0.65, False), (0.85, False), (0.65, True)])
def test_denoisers_that_take_turns(boundary: float, split: bool) -> None:
    """Wan 2.2 goes from one transformer to another: the first step of each is whole, the rest as planned."""
    pipe, plan = pipelines.PIPELINES["wan22"].build(), plan_of("wan")
    pipe.register_to_config(boundary_ratio=boundary)
    called = {name: [] for name in ("transformer", "transformer_2")}
    handles = [
        getattr(pipe, name).register_forward_pre_hook(
            lambda module, args, kwargs, name=name: called[name].append(float(kwargs["timestep"][0])),
            with_kwargs=True,
        )
        for name in called
    ]
    unpruned = run("wan", pipe)
    switch = len({*called["transformer"]})
    for handle in handles:
        handle.remove()
    assert 1 < switch < STEPS - 1
    with skipping(pipe.transformer, plan, 2), skipping(pipe.transformer_2, plan, 2, switch):
        reference = run("wan", pipe)
    forward = dipgo_fx.enable(pipe, twice(plan) if split else plan)
    for _ in range(2):
        assert torch.equal(run("wan", pipe), reference)
        held = forward.bytes_held()
        assert len(held) == STEPS
        assert held[0] > 0
        assert held[-1] == 0
    dipgo_fx.disable(pipe)
    assert torch.equal(run("wan", pipe), unpruned)


def _of_length(key: str, tokens: int) -> dict[str, torch.Tensor]:
    """Return the embeddings of a pipeline's prompts, and masks, cut or repeated to another length."""
    given = pipelines.PIPELINES[key].inputs(2)
    return {name: t.repeat_interleave(2, 1)[:, :tokens] for name, t in given.items() if t.dim() > 1}


OTHER_SIZES: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "frames": ("wan", lambda: {"num_frames": 17}),
    "frames and size": ("ltx", lambda: {"num_frames": 17, "height": 64, "width": 96}),
    "size": ("flux", lambda: {"height": 32, "width": 96}),
    "longer prompt": ("sd", lambda: _of_length("sd", 11)),
    "shorter prompt": ("pixart-sigma", lambda: _of_length("pixart-sigma", 5)),
    "longer prompt, ids": ("flux", lambda: {"prompt_embeds": _of_length("flux", 11)["prompt_embeds"]}),
}


@pytest.mark.parametrize("name", OTHER_SIZES)
def test_frames_size_and_prompt_length_may_change(name: str) -> None:
    """In the middle of other runs of one enabled pipeline, and back."""
    key, make = OTHER_SIZES[name]
    pipe, plan, options = pipelines.PIPELINES[key].build(), plan_of(key), make()
    references = [skipped(key, pipe, plan), skipped(key, pipe, plan, **options)]
    assert references[0].shape != references[1].shape or not torch.equal(*references)
    with dipgo_fx.enabled(pipe, plan):
        for place in (0, 1, 0):
            run_options = options if place else {}
            assert torch.equal(run(key, pipe, **run_options), references[place])


def test_a_model_that_never_ran_keeps_nothing_of_its_recording() -> None:
    """QwenImage caches tables of its first call: the first call is a real one."""
    plan = plan_of("qwenimage")
    expected = run("qwenimage", pipelines.PIPELINES["qwenimage"].build())
    pipe = pipelines.PIPELINES["qwenimage"].build()
    with dipgo_fx.enabled(pipe, plan) as forward:
        run("qwenimage", pipe)
        assert forward.graphs.num_graphs
    assert torch.equal(run("qwenimage", pipe), expected)


def test_a_mask_whose_values_the_model_looks_at_may_change() -> None:
    """Lumina 2 cuts its text to the lengths of its mask: what is recorded for one prompt serves no other."""
    key, pipe = "lumina2", pipelines.PIPELINES["lumina2"].build()
    plan = plan_of(key)
    masks = [torch.arange(pipelines.TOKENS).expand(2, -1) < count for count in (5, 3, 5)]
    options = [{"prompt_attention_mask": mask.long()} for mask in masks]
    references = [skipped(key, pipe, plan, **option) for option in options]
    assert not torch.equal(references[0], references[1])
    with dipgo_fx.enabled(pipe, plan) as forward:
        for number, (option, reference) in enumerate(zip(options, references, strict=True)):
            assert torch.equal(run(key, pipe, **option), reference)
            if number == 1:
                count = forward.graphs.num_graphs
        assert forward.graphs.num_graphs == count


def test_a_cancelled_run_does_not_touch_the_next(pipe: Any) -> None:
    """Nor does one that was interrupted."""

    def cancel(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step == 2:
            raise KeyboardInterrupt
        return kwargs

    def interrupt(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step >= 2
        return kwargs

    with dipgo_fx.enabled(pipe, plan_of("sd")):
        expected = run("sd", pipe)
        with pytest.raises(KeyboardInterrupt):
            run("sd", pipe, callback_on_step_end=cancel)
        assert torch.equal(run("sd", pipe), expected)
        assert not torch.equal(run("sd", pipe, callback_on_step_end=interrupt), expected)
        assert torch.equal(run("sd", pipe), expected)


def test_a_run_that_is_cancelled_at_its_first_step_leaves_the_scheduler_alone() -> None:
    """Its `step` is watched for one call of a plan with both conditions apart, and no longer."""
    pipe = pipelines.PIPELINES["sd-text"].build()
    facts = recorded(pipe, lambda p: images("sd-text", p))[1]
    names = tuple(f"{name}@unconditional" for name in facts.blocks) + facts.blocks
    plan = random_plan(replace(facts, blocks=names, guidance=Guidance(7.5, True)), 0.6, 1)

    def cancel(*args: Any) -> None:
        raise KeyboardInterrupt

    with dipgo_fx.enabled(pipe, plan):
        expected = images("sd-text", pipe)
        for _ in range(2):
            hook = pipe.unet.register_forward_hook(cancel)
            with pytest.raises(KeyboardInterrupt):
                images("sd-text", pipe)
            hook.remove()
        assert torch.equal(images("sd-text", pipe), expected)
        assert "step" not in vars(pipe.scheduler)
        hook = pipe.unet.register_forward_hook(cancel)
        with pytest.raises(KeyboardInterrupt):
            images("sd-text", pipe)
        hook.remove()
    assert "step" not in vars(pipe.scheduler)


def test_a_model_that_another_cache_has_is_refused(pipe: Any) -> None:
    """Whose forward was replaced, or that runs a cache of diffusers."""
    pipe.unet.forward = lambda *args, **kwargs: None
    with pytest.raises(ValueError, match="belongs to another cache"):
        dipgo_fx.enable(pipe, plan_of("sd"))
    flux = pipelines.PIPELINES["flux"].build()
    flux.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.2))
    with pytest.raises(ValueError, match="belongs to another cache"):
        dipgo_fx.enable(flux, plan_of("flux"))
    flux.transformer.disable_cache()
    dipgo_fx.enable(flux, plan_of("flux"))
    flux.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.2))
    with pytest.raises(ValueError, match=r"FluxTransformer2DModel.*belongs to another cache.*disable_cache"):
        run("flux", flux)


def test_a_cache_by_hooks_on_parts_is_refused(pipe: Any) -> None:
    """Nothing on the denoiser itself says that diffusers' functions put it there."""
    config = diffusers.PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
    )
    diffusers.apply_pyramid_attention_broadcast(pipe.unet, config)
    with pytest.raises(ValueError, match=r"the hooks .'pyramid_attention_broadcast'"):
        dipgo_fx.enable(pipe, plan_of("sd"))


def test_a_model_that_is_compiled_afterwards_runs_by_its_plan(pipe: Any) -> None:
    """What stands in for its forward is left out of what is compiled."""
    dipgo_fx.enable(pipe, plan_of("sd"))
    expected = run("sd", pipe)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    pipe.unet.compile(backend="eager")
    assert torch.equal(run("sd", pipe), expected)
    assert not torch._dynamo.utils.counters["graph_break"]


def test_other_timesteps_of_the_same_number_are_told(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Once; the plan is followed step by step."""
    with dipgo_fx.enabled(pipe, plan_of("sd")) as forward:
        run("sd", pipe)
        assert "is followed step by step" not in caplog.text
        pipe.scheduler.register_to_config(timestep_spacing="trailing")
        for _ in range(2):
            run("sd", pipe)
        assert forward.plan == plan_of("sd")
    assert caplog.text.count("is followed step by step") == 1


@pytest.mark.parametrize(
    "chosen", ["stage", lambda path, module: path.endswith("attn2")], ids=["stages", "own"]
)
def test_plans_of_different_granularities_share_no_graph(pipe: Any, chosen: Any) -> None:
    """Enabling one after the other runs each, blocks that a caller chose too."""
    facts = facts_of("sd")
    model = only_denoiser(pipe)
    blocks = record_call(model, chosen, calls_of(pipe, lambda p: run("sd", p))[0].named).blocks
    other = random_plan(replace(facts, blocks=blocks, granularity=granularity_of(chosen)), 0.6, 1)
    fine, reference = plan_of("sd"), skipped("sd", pipe, other)
    dipgo_fx.enable(pipe, fine)
    run("sd", pipe)
    dipgo_fx.enable(pipe, other)
    assert torch.equal(run("sd", pipe), reference)


@pytest.mark.parametrize("strength", [0.5, 0.9, 1.0])
def test_a_strength_starts_the_plan_at_a_later_step(strength: float) -> None:
    """The first step that runs is whole; the others follow their rows."""
    key = "sd-img2img"
    pipe = pipelines.PIPELINES[key].build()
    plan = plan_of(key)
    calls = len(calls_of(pipe, lambda p: run(key, p, strength=strength)))
    reference = skipped(key, pipe, plan, STEPS - calls, strength=strength)
    with dipgo_fx.enabled(pipe, plan) as forward:
        assert torch.equal(run(key, pipe, strength=strength), reference)
        assert len(forward.bytes_held()) == calls


def test_enabling_again_takes_another_plan_and_shares_what_was_traced(pipe: Any) -> None:
    """A tier of quality a call: nothing is traced twice."""
    first, second = plan_of("sd"), plan_of("sd", 0.4, 2)
    dense = dipgo_fx.enable(pipe, first)
    expected = run("sd", pipe)
    sparse = dipgo_fx.enable(pipe, second)
    assert not torch.equal(run("sd", pipe), expected)
    assert sparse.graphs is dense.graphs
    count = sparse.graphs.num_graphs
    dipgo_fx.enable(pipe, first)
    assert torch.equal(run("sd", pipe), expected)
    assert sparse.graphs.num_graphs == count
    dipgo_fx.disable(pipe)
    dipgo_fx.disable(pipe)


def with_frontier(plan: Plan, loop: Any, calls: int = 1) -> Plan:
    """Return a plan with a frontier of two points of whole steps."""
    cost = LoopCost.of(loop)
    points = [((0, 3),) * calls, ((0, 2, 4),) * calls]
    frontier = tuple(Point.of(runs, whole_steps_table(cost, runs), cost) for runs in points)
    return replace(plan, cost=cost, ratio=1 - cost.kept(plan.table), frontier=frontier)


@pytest.mark.parametrize(("strength", "point"), [(0.99, 0), (0.7, 1), (0.5, 0)])
def test_a_strength_keeps_the_ratio(strength: float, point: int) -> None:
    """Of the steps that are left, by the dearest of the frontier that fits: plans run mostly early steps."""
    key = "sd-img2img"
    pipe = pipelines.PIPELINES[key].build()
    loop = dipgo_fx.trace(pipe.unet, pipe.scheduler, STEPS, granularity=facts_of(key).chosen)
    cost = LoopCost.of(loop)
    tables = [whole_steps_table(cost, (runs,)) for runs in ((0, 1, 2), (0, 1, 2, 4))]
    points = tuple(Point.of(((0, 1, 2, 4)[: 3 + n],), table, cost) for n, table in enumerate(tables))
    plan = Plan(loop.facts, tables[0], 0.5, frontier=points, cost=cost)
    with dipgo_fx.enabled(pipe, plan) as forward:
        run(key, pipe, strength=strength)
        calls, ran = len(forward.bytes_held()), forward.plan
    keep = tables[point].keep[STEPS - calls :].clone()
    keep[0] = True
    assert ran.keep.equal(keep)
    assert ran.ratio == pytest.approx(1 - keep.all(1).sum().item() / calls)
    assert ran.ratio >= plan.ratio - 1e-9


def test_another_step_count_and_ratio_follow_the_frontier() -> None:
    """The plan that runs is the one that `apply` would take."""
    key, pipe = "dit", pipelines.PIPELINES["dit"].build()
    scheduler = pipe.scheduler
    loop = dipgo_fx.trace(pipe.transformer, scheduler, STEPS, guidance_scale=4.0)
    plan = with_frontier(Plan.from_keep(loop, random_plan(loop.facts, 0.6, 1).keep), loop)
    longer = dipgo_fx.apply(pipe.transformer, scheduler, plan, num_inference_steps=9).plan
    with dipgo_fx.enabled(pipe, plan) as forward:
        run(key, pipe, steps=9)
        assert forward.plan.keep.equal(longer.keep)
        assert forward.plan.timesteps == longer.timesteps
        run(key, pipe)
        assert forward.plan.keep.equal(plan.keep)
    half = dipgo_fx.apply(pipe.transformer, scheduler, plan, ratio=0.6).plan
    with dipgo_fx.enabled(pipe, plan, ratio=0.6) as forward:
        assert forward.plan.keep.equal(half.keep)
    expected = run(key, pipe, steps=9)
    with dipgo_fx.enabled(pipe, plan, ratio=0):
        assert torch.equal(run(key, pipe, steps=9), expected)


def test_a_pipeline_that_goes_on_after_its_last_step_is_refused() -> None:
    """A plan has as many steps as the pipeline says that it runs, and no answer for more."""
    key, pipe = "dit", pipelines.PIPELINES["dit"].build()
    loop = dipgo_fx.trace(pipe.transformer, pipe.scheduler, STEPS, guidance_scale=4.0)
    plan = with_frontier(Plan.from_keep(loop, random_plan(loop.facts, 0.6, 1).keep), loop)
    pipe.num_timesteps = 4
    with (
        dipgo_fx.enabled(pipe, plan) as forward,
        pytest.raises(RuntimeError, match="goes on after the 4 steps that it said"),
    ):
        run(key, pipe, steps=9)
    assert len(forward.plan.timesteps) == 4


def test_a_plan_without_a_frontier_refuses_another_step_count(pipe: Any) -> None:
    """The error names both counts; nothing is drawn."""
    with (
        dipgo_fx.enabled(pipe, plan_of("sd")),
        pytest.raises(PlanError, match="6 steps, the pipeline runs 9"),
    ):
        run("sd", pipe, steps=9)


def test_another_scheduler_or_model_is_refused(pipe: Any) -> None:
    """When it is enabled and, for a scheduler that is swapped later, when it runs."""
    plan = plan_of("sd")
    with pytest.raises(PlanError, match="a DiTTransformer2DModel, StableDiffusionPipeline has none"):
        dipgo_fx.enable(pipe, plan_of("dit"))
    other = replace(
        plan, facts=replace(plan.facts, blocks=plan.blocks[:-1]), table=GateTable.of(plan.keep[:, :-1])
    )
    with dipgo_fx.enabled(pipe, other), pytest.raises(PlanError, match=r"44 blocks .* calls 45"):
        run("sd", pipe)
    with dipgo_fx.enabled(pipe, plan):
        pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
        with pytest.raises(
            PlanError, match="plan is for DDIMScheduler, the pipeline has EulerDiscreteScheduler"
        ):
            run("sd", pipe)
    with pytest.raises(PlanError, match="the pipeline has EulerDiscreteScheduler"):
        dipgo_fx.enable(pipe, plan)


@pytest.mark.parametrize("wrap", [torch.compile, lambda module: module.compile() or module])
def test_a_model_that_is_compiled_as_a_whole_is_refused(pipe: Any, wrap: Callable[[Any], Any]) -> None:
    """The error says what to do instead."""
    pipe.unet = wrap(pipe.unet)
    with pytest.raises(ValueError, match=r"compiled as a whole.*compile=True"):
        dipgo_fx.enable(pipe, plan_of("sd"))


def test_another_thread_is_refused_in_the_middle_of_a_run(pipe: Any) -> None:
    """Two threads would read each other's values."""
    raised: list[BaseException] = []

    def call(model: nn.Module, arguments: dict[str, Any]) -> None:
        try:
            model(**arguments)
        except RuntimeError as error:
            raised.append(error)

    calls = calls_of(pipe, lambda p: run("sd", p))

    def meddle(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step == 2:
            thread = threading.Thread(target=call, args=(pipe.unet, calls[3].named))
            thread.start()
            thread.join()
        return kwargs

    reference = skipped("sd", pipe, plan_of("sd"))
    with dipgo_fx.enabled(pipe, plan_of("sd")):
        assert torch.equal(run("sd", pipe, callback_on_step_end=meddle), reference)
    assert "another thread" in str(raised[0])


def test_guidance_that_ends_early() -> None:
    """A plan with both conditions apart goes on with the conditional one; a joint plan says what it needs."""
    pipe = pipelines.PIPELINES["sd-text"].build()

    def end(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step == 2:
            pipe._guidance_scale = 1.0
            kwargs["prompt_embeds"] = kwargs["prompt_embeds"].chunk(2)[-1]
        return kwargs

    def draw() -> torch.Tensor:
        generator = torch.Generator().manual_seed(3)
        found = pipe(
            PROMPTS,
            **SIZE,
            generator=generator,
            output_type="latent",
            callback_on_step_end=end,
            callback_on_step_end_tensor_inputs=["prompt_embeds"],
        )
        return found.images  # type: ignore[no-any-return]

    pipe.to(torch.float64)
    _, facts = recorded(pipe, lambda p: draw())
    expected = draw()
    with dipgo_fx.enabled(pipe, random_plan(facts, 1.1, 0)):
        assert torch.equal(draw(), expected)
    with (
        dipgo_fx.enabled(pipe, random_plan(facts, 0.6, 0)),
        pytest.raises(RuntimeError, match="split_guidance"),
    ):
        draw()
    names = tuple(f"{name}@unconditional" for name in facts.blocks) + facts.blocks
    split = replace(facts, blocks=names, guidance=Guidance(7.5, True))
    with dipgo_fx.enabled(pipe, random_plan(split, 1.1, 0)):
        assert (draw() - expected).abs().max() < 1e-9 * expected.abs().max()


def test_guidance_that_pauses_is_refused() -> None:
    """What the unconditional half did not compute meanwhile is missing when it comes back."""
    pipe = pipelines.PIPELINES["sd-text"].build()
    loop, _ = whole_loop("sd-text", pipe, True, torch.float32)
    keep = torch.ones(loop.num_steps, len(loop.blocks), dtype=torch.bool)
    keep[3] = False  # reads what was computed at step 2
    embeddings: list[torch.Tensor] = []

    def pause(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step == 1:
            embeddings.append(kwargs["prompt_embeds"])
            pipe._guidance_scale = 1.0
            kwargs["prompt_embeds"] = embeddings[0].chunk(2)[-1]
        if step == 2:
            pipe._guidance_scale = 7.5
            kwargs["prompt_embeds"] = embeddings[0]
        return kwargs

    with (
        dipgo_fx.enabled(pipe, Plan.from_keep(loop, keep, "reuse")),
        pytest.raises(RuntimeError, match="guidance that pauses during a run"),
    ):
        pipe(
            PROMPTS, **SIZE, callback_on_step_end=pause, callback_on_step_end_tensor_inputs=["prompt_embeds"]
        )


def test_a_split_plan_without_guidance_follows_the_conditional_half(pipe: Any) -> None:
    """Rows are taken for halves only where the pipeline makes them so."""
    pipe.to(torch.float64)
    options = {"guidance_scale": 1.0}
    facts = facts_of("sd")
    names = tuple(f"{name}@unconditional" for name in facts.blocks) + facts.blocks
    split = random_plan(replace(facts, blocks=names, guidance=Guidance(7.5, True)), 0.6, 1)
    conditional = random_plan(facts, 0.6, 1)
    conditional = replace(conditional, table=GateTable(split.keep[:, 45:], split.weights[:, 45:]))
    reference = skipped("sd", pipe, conditional, **options)
    with dipgo_fx.enabled(pipe, split):
        assert torch.equal(run("sd", pipe, **options), reference)


def test_a_split_plan_where_the_pipeline_calls_twice() -> None:
    """The first call of a step is the conditional one, and has the columns of that."""
    pipe = pipelines.PIPELINES["wan"].build()
    facts = facts_of("wan")
    names = tuple(f"{name}@unconditional" for name in facts.blocks) + facts.blocks
    split = random_plan(replace(facts, blocks=names, guidance=Guidance(5.0, True)), 0.6, 1)
    count = len(facts.blocks)
    halves = (slice(count, None), slice(count))
    conditional, unconditional = (
        replace(random_plan(facts, 1.1, 0), table=GateTable(split.keep[:, half], split.weights[:, half]))
        for half in halves
    )
    model = only_denoiser(pipe)
    calls = calls_of(pipe, lambda p: run("wan", p))
    with dipgo_fx.enabled(pipe, split):
        found = run("wan", pipe)
    assert len(calls) == 2 * STEPS
    with _both(model, conditional, unconditional):
        assert torch.equal(run("wan", pipe), found)


ORDERS = {
    "sd": "uc",
    "wan": "cu",  # two calls
    "dit": "cu",  # its scheduler steps the rows of both
    "animatediff": "uc",  # embeddings are repeated by frame
    "lumina": "cu",
    "sd3": "uc",
    "text-to-video": "uc",  # frames are rows for its scheduler
    "i2vgen-xl": "uc",
    "ltx": "uc",
    "cosmos": "cu",  # guides after a step of its scheduler
    "ernie-image": "uc",  # rows are the second dimension of what its blocks return
}
"""Pipelines, and in which order they have the unconditional and the conditional prediction of a step."""


@pytest.mark.parametrize(
    "key",
    [pytest.param(key, marks=[] if key in ("dit", "wan") else pytest.mark.long) for key in ORDERS],
)
def test_each_condition_follows_its_own_table(key: str) -> None:
    """Up to rounding: the last step, of which plans skip blocks for one condition, the other, or both."""
    facts = facts_of(key)
    whole = torch.ones(len(facts.timesteps), len(facts.blocks), dtype=torch.bool)
    skipping = whole.clone()
    skipping[-1] = torch.rand(len(facts.blocks), generator=torch.Generator().manual_seed(0)) < 0.3

    def predicted(*keep: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the predictions of the last step for both conditions."""
        names = [
            name for call in ("@unconditional", "")[-len(keep) :] for name in (n + call for n in facts.blocks)
        ]
        guidance = Guidance(7.5, split=len(keep) == 2)
        table = GateTable.of(torch.cat(keep, 1), "linear")
        plan = Plan(replace(facts, blocks=tuple(names), guidance=guidance), table, 0.0)
        pipe, seen = pipelines.PIPELINES[key].build(), list[torch.Tensor]()
        with dipgo_fx.enabled(pipe, plan):
            only_denoiser(pipe).register_forward_hook(lambda m, a, result: seen.append(tensors_in(result)[0]))
            run(key, pipe)
        return seen[-1].chunk(2) if len(seen) < 2 * len(facts.timesteps) else (seen[-2], seen[-1])

    skipped, full = predicted(skipping), predicted(whole)
    assert not any(torch.allclose(*pair, rtol=1e-2) for pair in zip(skipped, full, strict=True))
    order = ORDERS[key]
    for tables, closed in (((skipping, whole), "u"), ((whole, skipping), "c")):
        expected = [skipped[n] if order[n] == closed else full[n] for n in range(2)]
        for found, wanted in zip(predicted(*tables), expected, strict=True):
            assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("key", "rows"),
    [("sd-instruct-pix2pix", "6"), pytest.param("ltx2", "4 and 2 and 2", marks=pytest.mark.long)],
)
def test_a_split_plan_is_refused_for_three_conditions(key: str, rows: str) -> None:
    """It has tables for two."""
    pipe, facts = pipelines.PIPELINES[key].build(), facts_of(key)
    names = tuple(f"{name}@unconditional" for name in facts.blocks) + facts.blocks
    split = random_plan(replace(facts, blocks=names, guidance=Guidance(7.0, True)), 0.6, 1)
    with dipgo_fx.enabled(pipe, split), pytest.raises(RuntimeError, match=f"with {rows} rows"):
        run(key, pipe)


@pytest.mark.long
@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("z_image", "cannot be told apart .* RuntimeError"),  # a list with an entry a row
        ("allegro", "cannot be told apart .* IndexError"),  # a table of as many positions as there are rows
    ],
)
def test_a_split_plan_is_refused_where_rows_cannot_be_told_apart(key: str, said: str) -> None:
    """What each condition gets of the arguments is tried once, and nothing is drawn wrongly."""
    pipe, facts = pipelines.PIPELINES[key].build(), facts_of(key)
    names = tuple(f"{name}@unconditional" for name in facts.blocks) + facts.blocks
    split = random_plan(replace(facts, blocks=names, guidance=Guidance(7.0, True)), 0.6, 1)
    with dipgo_fx.enabled(pipe, split), pytest.raises(RuntimeError, match=said):
        run(key, pipe)


def test_a_split_plan_is_refused_where_two_denoisers_share_a_step() -> None:
    """Ideogram 4 has a denoiser for each condition; what was begun is undone."""
    pipe, facts = pipelines.PIPELINES["ideogram4"].build(), facts_of("ideogram4")
    expected = run("ideogram4", pipe)
    names = tuple(f"{name}@unconditional" for name in facts.blocks) + facts.blocks
    split = random_plan(replace(facts, blocks=names, guidance=Guidance(7.0, True)), 0.6, 1)
    for _ in range(2):
        dipgo_fx.enable(pipe, split)
        with pytest.raises(RuntimeError, match="share a step: search it with split_guidance=False"):
            run("ideogram4", pipe)
        dipgo_fx.disable(pipe)
        assert torch.equal(run("ideogram4", pipe), expected)
        assert "step" not in vars(pipe.scheduler)


@contextmanager
def _both(model: nn.Module, conditional: Plan, unconditional: Plan) -> Iterator[None]:
    """Let the calls of a model follow two plans in turn."""
    forwards: dict[str, list[Any]] = {}
    for plan in (conditional, unconditional):
        with skipping(model, plan):
            for name in plan.blocks:
                forwards.setdefault(name, []).append(model.get_submodule(name).forward)
    for name, pair in forwards.items():
        turns = cycle(pair)
        model.get_submodule(name).forward = lambda *a, turns=turns, **k: next(turns)(*a, **k)
    try:
        yield
    finally:
        for name in forwards:
            del model.get_submodule(name).__dict__["forward"]


# -- adapters, offloading, precision


def test_adapters_come_and_go(pipe: Any) -> None:
    """LoRA layers that are added, scaled, merged or removed run as they would without a plan."""
    peft = pytest.importorskip("peft")
    plan = plan_of("sd")
    reference = skipped("sd", pipe, plan)
    with dipgo_fx.enabled(pipe, plan):
        assert torch.equal(run("sd", pipe), reference)
        lora = peft.LoraConfig(r=2, target_modules=["to_q", "to_k", "conv_out"], init_lora_weights=False)
        pipe.unet.add_adapter(lora, "first")
        changed = run("sd", pipe)
        assert not torch.equal(changed, reference)
        pipe.unet.disable_adapters()
        assert torch.equal(run("sd", pipe), reference)
        pipe.unet.enable_adapters()
        pipe.unet.fuse_lora()
        assert torch.allclose(run("sd", pipe), changed, rtol=1e-3, atol=1e-3)
        pipe.unet.unfuse_lora()
        pipe.unet.delete_adapters("first")
    with dipgo_fx.enabled(pipe, plan):
        assert torch.allclose(run("sd", pipe), reference, rtol=1e-3, atol=1e-3)


def _ip_adapter(unet: Any, width: int, tokens: int) -> dict[str, dict[str, torch.Tensor]]:
    """Return the weights of an IP-Adapter for a U-Net, as its file holds them."""
    dim = unet.config.cross_attention_dim
    projection = ImageProjection(width, dim, tokens).state_dict()
    names = {"proj": "image_embeds", "norm": "norm"}
    ends = [(name, end) for name in names for end in ("weight", "bias")]
    layers: dict[str, torch.Tensor] = {}
    crossing = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(crossing):
        hidden = unet.get_submodule(name.removesuffix(".processor")).to_q.in_features
        for part in ("k", "v"):
            layers[f"{2 * number + 1}.to_{part}_ip.weight"] = torch.randn(hidden, dim)
    image = {f"{name}.{end}": projection[f"{names[name]}.{end}"] for name, end in ends}
    return {"image_proj": image, "ip_adapter": layers}


@pytest.mark.long
def test_an_ip_adapter_loads_scales_and_unloads(pipe: Any) -> None:
    """Its processors replace those of the attentions, before a plan is enabled or while one is."""
    plan = plan_of("sd")
    plain = skipped("sd", pipe, plan)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = _ip_adapter(pipe.unet, 16, 4)
        options = {"ip_adapter_image_embeds": [torch.randn(4, 1, 16)]}  # of both conditions, two images each
    with dipgo_fx.enabled(pipe, plan):
        assert torch.equal(run("sd", pipe), plain)
        pipe.load_ip_adapter(weights, subfolder=None, weight_name=None, image_encoder_folder=None)
        seen = run("sd", pipe, **options)
        pipe.set_ip_adapter_scale(0.2)
        faint = run("sd", pipe, **options)
    assert torch.equal(faint, skipped("sd", pipe, plan, **options))
    pipe.set_ip_adapter_scale(1.0)
    assert torch.equal(seen, skipped("sd", pipe, plan, **options))
    assert not torch.equal(seen, faint)
    with dipgo_fx.enabled(pipe, plan):
        pipe.unload_ip_adapter()
        assert torch.equal(run("sd", pipe), plain)


@pytest.mark.parametrize("key", ["sd", "flux"])
def test_int8_weights(key: str) -> None:
    """Of torchao, for those who have it: as the quantised model whose blocks are skipped by hand."""
    quantization = pytest.importorskip("torchao.quantization")
    pipe = pipelines.PIPELINES[key].build()
    quantization.quantize_(only_denoiser(pipe), quantization.Int8WeightOnlyConfig())
    plan = plan_of(key)
    reference = skipped(key, pipe, plan)
    with dipgo_fx.enabled(pipe, plan):
        assert torch.equal(run(key, pipe), reference)


@pytest.mark.parametrize("first", ["enable", "offload"])
def test_offloading_before_and_after(pipe: Any, first: str) -> None:
    """Hooks of accelerate stay around what runs, whichever came first."""
    accelerate = pytest.importorskip("accelerate")
    plan = plan_of("sd")
    reference = skipped("sd", pipe, plan)
    if first == "offload":
        accelerate.cpu_offload_with_hook(pipe.unet, "cpu")
    dipgo_fx.enable(pipe, plan)
    if first == "enable":
        accelerate.cpu_offload_with_hook(pipe.unet, "cpu")
    assert torch.equal(run("sd", pipe), reference)
    dipgo_fx.disable(pipe)
    unpruned = run("sd", pipe)
    assert hasattr(pipe.unet, "_hf_hook")
    assert torch.equal(unpruned, run("sd", pipelines.PIPELINES["sd"].build()))


@pytest.mark.parametrize("level", ["block_level", "leaf_level"])
def test_group_offloading(level: str) -> None:
    """So do those of diffusers."""
    key = "sd3"
    pipe, plan = pipelines.PIPELINES[key].build(), plan_of(key)
    reference = skipped(key, pipe, plan)
    pipe.transformer.enable_group_offload(
        onload_device=torch.device("cpu"),
        offload_device=torch.device("cpu"),
        offload_type=level,
        **({"num_blocks_per_group": 1} if level == "block_level" else {}),
    )
    with dipgo_fx.enabled(pipe, plan):
        assert torch.equal(run(key, pipe), reference)


def test_layers_stored_in_eight_bits(pipe: Any) -> None:
    """They are cast when they run; what the plan skips is not."""
    plan, stored = plan_of("sd"), {"storage_dtype": torch.float8_e4m3fn, "compute_dtype": torch.float32}
    rounded = pipelines.PIPELINES["sd"].build()
    rounded.unet.enable_layerwise_casting(**stored)
    pipe.unet.load_state_dict({n: p.to(torch.float32) for n, p in rounded.unet.state_dict().items()})
    reference = skipped("sd", pipe, plan)
    with dipgo_fx.enabled(rounded, plan):
        assert torch.equal(run("sd", rounded), reference)


@pytest.mark.parametrize("change", [torch.bfloat16, torch.channels_last])
def test_precision_and_memory_format(pipe: Any, change: Any) -> None:
    """A pipeline that is cast or laid out otherwise, also after it was enabled."""
    plan = plan_of("sd")
    with dipgo_fx.enabled(pipe, plan):
        run("sd", pipe)
        if change is torch.bfloat16:
            pipe.to(change)
        else:
            pipe.unet.to(memory_format=change)
        found = run("sd", pipe)
    assert torch.equal(found, skipped("sd", pipe, plan))


@pytest.mark.long
@pytest.mark.parametrize("key", ["dit", "flux", "sd"])
def test_compiled_steps(key: str) -> None:
    """Each distinct step is compiled once, without a graph break, and gives the same up to rounding."""
    pipe, plan = pipelines.PIPELINES[key].build(), plan_of(key, 0.9)
    expected = skipped(key, pipe, plan)
    with dipgo_fx.enabled(pipe, plan, compile=True) as forward:
        found = run(key, pipe)
        assert torch.allclose(found, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))
        count = forward.graphs.num_graphs
        assert torch.equal(run(key, pipe), found)
        assert forward.graphs.num_graphs == count <= STEPS


# -- what stands in for the model, and for how long


def test_ratio_0_is_the_stock_pipeline() -> None:
    """Bit for bit, also where the plan has the conditions of guidance apart."""
    pipe = pipelines.PIPELINES["sd-text"].build()
    expected = images("sd-text", pipe)
    loop, _ = whole_loop("sd-text", pipe, True, torch.float32)
    plan = with_frontier(Plan.from_keep(loop, LoopCost.of(loop).all_kept), loop, calls=2)
    with dipgo_fx.enabled(pipe, plan, ratio=0.0) as forward:
        assert torch.equal(images("sd-text", pipe), expected)
        assert forward.graphs.num_graphs == 1


def test_an_enabled_plan_comes_back_after_another(pipe: Any) -> None:
    """At the end of a `with` inside, and after one that was refused."""
    plan = plan_of("sd")
    outer = dipgo_fx.enable(pipe, plan)
    with dipgo_fx.enabled(pipe, plan_of("sd", 0.4, 2)):
        assert only_denoiser(pipe).forward is not outer
    assert only_denoiser(pipe).forward is outer
    with pytest.raises(ValueError, match="ratio"), dipgo_fx.enabled(pipe, plan, ratio=2.0):
        pass
    assert only_denoiser(pipe).forward is outer


def test_a_model_that_runs_by_a_plan_is_traced_unpruned(pipe: Any) -> None:
    """So one can search again without disabling."""
    given = {"conditioning": {"encoder_hidden_states": torch.zeros(1, 7, 16)}, "num_inference_steps": 3}
    expected = dipgo_fx.trace(pipe.unet, pipe.scheduler, **given)  # type: ignore[arg-type]
    forward = dipgo_fx.enable(pipe, plan_of("sd"))
    found = dipgo_fx.trace(pipe.unet, pipe.scheduler, **given)  # type: ignore[arg-type]
    assert str(found.graph) == str(expected.graph)
    assert pipe.unet.forward is forward


# -- search on what a pipeline is given

QUICK = dipgo_fx.PruneConfig(samples=2, full_runs=3)


@pytest.mark.long
def test_a_search_takes_what_a_pipeline_takes() -> None:
    """Embeddings and masks instead of prompts: the plan names their source and runs."""
    tiny = pipelines.PIPELINES["pixart-sigma"]
    pipe = tiny.build()
    asked = {name: value for name, value in tiny.fixed.items() if name != "output_type"}
    plan = dipgo_fx.prune_pipeline(
        pipe, 0.4, inputs=tiny.inputs, config=QUICK, progress=False, num_inference_steps=STEPS, **asked
    )
    assert plan.origin["prompts"] == "inputs"
    assert plan.ratio >= 0.4
    expected = run("pixart-sigma", pipe)
    with dipgo_fx.enabled(pipe, plan):
        assert not torch.equal(run("pixart-sigma", pipe), expected)


def test_inputs_that_cannot_be_are_refused() -> None:
    """Beside prompts, or of another kind."""
    pipe = pipelines.PIPELINES["pixart-sigma"].build()
    with pytest.raises(ValueError, match="pass prompts or inputs, not both"):
        dipgo_fx.prune_pipeline(pipe, prompts=["a"], inputs=lambda count: {}, config=QUICK)
    with pytest.raises(TypeError, match=r"what inputs\(2\) returns must be a mapping of arguments.*got list"):
        dipgo_fx.prune_pipeline(pipe, inputs=lambda count: [], config=QUICK, progress=False)  # type: ignore[arg-type, return-value]


@pytest.mark.long
def test_numbers_of_numpy_are_steps_too(tmp_path: Any) -> None:
    """The plan of a search can be saved whatever kind of number was given."""
    pipe = pipelines.PIPELINES["flux-text"].build()
    plan = dipgo_fx.prune_pipeline(
        pipe,
        0.3,
        prompts=PROMPTS,
        config=QUICK,
        progress=False,
        **{**SIZE, "num_inference_steps": np.int64(4)},
    )
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
