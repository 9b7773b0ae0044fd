"""The loop of a pipeline as one graph, for any number of samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

import dipgo_fx
from benchmarks.coverage import checks
from benchmarks.coverage.skipping import random_plan
from benchmarks.coverage.subject import Subject
from dipgo_fx.applying import build
from dipgo_fx.passes import TraceError
from dipgo_fx.pipelines.capturing import capture
from dipgo_fx.pipelines.denoiser import only_denoiser
from dipgo_fx.pipelines.pipeline_call import completed
from dipgo_fx.pipelines.tracing import check_first_step, inputs_of, record_pipeline

# Two calls a step, lists with an entry a sample, rows of two conditions, rows in the second dimension, images
# that are encoded in passing, a loop that ends before its scheduler's timesteps do.
FAST = ("flux", "qwenimage", "flux-control", "sana-sprint")
LONG = (
    "sd3",
    "wan",
    "sd-controlnet",
    "sd-inpaint",
    "lcm",
    "kandinsky3",
    "stable-audio",
    "sdxl-pag",
    "flux-img2img",
    "sd3-controlnet",
    "cascade-prior",
    "sana-sprint-img2img",
)


@pytest.mark.parametrize("key", [*FAST, *(pytest.param(key, marks=pytest.mark.long) for key in LONG)])
def test_a_recorded_loop_ends_with_the_pipelines_own_latents(key: str) -> None:
    """Bit for bit, for a number of samples that it was not recorded with."""
    checks.searchable(Subject.of(key), rounding=0.0)


@pytest.mark.long
@pytest.mark.parametrize("key", ["flux-controlnet", "qwenimage-controlnet"])
def test_a_controlnet_rounds_otherwise(key: str) -> None:
    """What it makes of a timestep is a constant of the loop, computed for as many samples as were recorded.

    QwenImage's pipeline gives the model its arguments in another order in the second call of a step.
    """
    checks.searchable(Subject.of(key))


def _traced(key: str, **changes: Any) -> Any:
    subject = Subject.of(key)
    pipe, inputs = subject.build(), subject.arguments
    assert inputs is not None
    fixed = {**(subject.fixed or {}), **changes}
    return pipe, inputs, fixed


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("dit", "DiTPipeline has no prepare_latents, where its loop starts"),
        pytest.param(
            "cosmos", "the scheduler is stepped twice for one call of the model", marks=pytest.mark.long
        ),
        ("sd-img2img", r"begins at timestep \d+, its scheduler at \d+: search with arguments that run all"),
        ("lumina2", "its Python depends on the values of a tensor"),
    ],
)
def test_what_cannot_be_one_graph_is_refused(key: str, said: str) -> None:
    """An error says why."""
    pipe, inputs, fixed = _traced(key)
    with pytest.raises(TraceError, match=said):
        record_pipeline(pipe, only_denoiser(pipe), completed(inputs, fixed))


def test_a_run_that_leaves_steps_out_is_refused_though_it_would_decode() -> None:
    """As people call it: nobody says that latents are enough."""
    pipe, inputs, fixed = _traced("sd-img2img")
    fixed.pop("output_type", None)
    pipe.vae.decode = None  # nothing of it can be recorded
    with pytest.raises(TraceError, match=r"search with arguments that run all \(strength=1.0"):
        record_pipeline(pipe, only_denoiser(pipe), completed(inputs, fixed))


def test_timesteps_that_are_given_are_the_steps() -> None:
    """Whatever number of steps the call has by default."""
    pipe, inputs, fixed = _traced("sd", timesteps=[900, 500, 100])
    pipe.scheduler = DPMSolverMultistepScheduler()
    fixed.pop("num_inference_steps", None)
    loop = record_pipeline(pipe, only_denoiser(pipe), completed(inputs, fixed))
    assert (loop.facts.num_inference_steps, loop.facts.timesteps) == (3, (900, 500, 100))


@pytest.mark.parametrize(
    ("key", "call", "steps"),
    [("sana-sprint", {}, 4), ("sdxl", {"denoising_end": 0.5}, 2)],
    ids=["its own end", "denoising_end"],
)
def test_a_loop_may_end_before_its_scheduler_does(key: str, call: dict[str, Any], steps: int) -> None:
    """A plan has the steps that the pipeline walks, and a run follows it step by step."""
    pipe, inputs, fixed = _traced(key, num_inference_steps=4, output_type="latent", **call)
    arguments = completed(inputs, fixed)
    loop = record_pipeline(pipe, only_denoiser(pipe), arguments, split_guidance=False)
    assert loop.num_steps == steps
    plan = random_plan(loop.facts, 0.6, 1)
    noise = [torch.Generator().manual_seed(0) for _ in range(2)]
    captured = capture(pipe, only_denoiser(pipe), completed(inputs, {**fixed, "generator": noise[0]}), 3)
    expected = build(loop, plan)(**inputs_of(loop, captured), generator=noise[0])
    with dipgo_fx.enabled(pipe, plan) as forward:
        found = pipe(**arguments(3), generator=noise[1]).images
        assert forward.plan == plan
        assert len(pipe.scheduler.timesteps) > steps
        assert forward.bytes_held()[steps - 1] == 0
    scale = getattr(pipe.scheduler.config, "sigma_data", 1.0)  # Sana's latents are given without it
    assert torch.equal(found, expected / scale)


def test_a_loop_that_does_not_say_where_it_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with the plan could not know that it is as long as the plan."""
    pipe, inputs, fixed = _traced("sana-sprint", num_inference_steps=2)
    monkeypatch.setattr(type(pipe), "num_timesteps", None)
    with pytest.raises(TraceError, match="ended after 2 of its scheduler's 3 timesteps"):
        record_pipeline(pipe, only_denoiser(pipe), completed(inputs, fixed))


@pytest.mark.parametrize("key", ["flux-text", "sd-text"])
def test_a_schedule_needs_no_search(key: str) -> None:
    """A plan is written for the traced loop of a pipeline and runs it; the model is left as found."""
    pipe = Subject.of(key).build()
    model = only_denoiser(pipe).train()
    size = {"height": 16, "width": 16}
    loop = dipgo_fx.trace_pipeline(pipe, num_inference_steps=4, **size)
    assert model.training
    assert loop.num_steps == 4
    plan = dipgo_fx.importers.step_mask(loop, [1, 0, 1, 0])
    model.eval()
    with dipgo_fx.enabled(pipe, plan) as forward:
        pipe("a cat", num_inference_steps=4, output_type="latent", **size)
        assert forward.plan == plan
        assert forward.plan.ratio == pytest.approx(0.5, abs=0.1)


def test_words_that_a_trace_cannot_take_are_refused() -> None:
    """As by a search."""
    pipe = Subject.of("sd-text").build()
    with pytest.raises(TypeError, match=r"got \['colour'\]"):
        dipgo_fx.trace_pipeline(pipe, colour="red")


def test_a_loop_of_another_pipeline_is_found_out() -> None:
    """One step of the recorded loop is compared with the pipeline's own."""
    pipe, inputs, fixed = _traced("sd-text", guidance_scale=5.0)
    model = only_denoiser(pipe)
    loop = record_pipeline(pipe, model, completed(inputs, fixed))

    def asked(scale: float) -> Any:
        return lambda noise: completed(inputs, {**fixed, "guidance_scale": scale, "generator": noise})

    check_first_step(pipe, model, loop, asked(5.0))
    with pytest.raises(TraceError, match="makes other samples than the pipeline"):
        check_first_step(pipe, model, loop, asked(9.0))


@pytest.mark.long
@pytest.mark.parametrize("key", ["animatediff", "sd", "wan", "text-to-video"])
def test_conditions_apart_are_what_the_pipeline_makes_of_both(key: str) -> None:
    """Also where embeddings are repeated by frame, or frames are rows for the scheduler."""
    pipe, inputs, fixed = _traced(key)
    model = only_denoiser(pipe)
    loop = record_pipeline(pipe, model, completed(inputs, fixed), split_guidance=True)
    assert loop.facts.guidance.split
    check_first_step(pipe, model, loop, lambda noise: completed(inputs, {**fixed, "generator": noise}))


def test_what_makes_the_arguments_is_no_part_of_the_loop() -> None:
    """Somebody's function may draw random images: no noise of the loop comes of that."""
    pipe, inputs, fixed = _traced("flux")

    def drawn(samples: int) -> dict[str, Any]:
        given = dict(inputs(samples))
        return {**given, "prompt_embeds": torch.randn_like(given["prompt_embeds"])}

    loop = record_pipeline(pipe, only_denoiser(pipe), completed(drawn, fixed))
    assert not [node for node in loop.graph.nodes if "randn" in str(node.target)]
