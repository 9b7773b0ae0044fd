"""What a search asks of a pipeline before its loop: all prompts at once, or fewer where memory runs out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import dipgo_fx
from benchmarks.coverage import pipelines
from dipgo_fx.pipelines import pruning
from dipgo_fx.search.batch import Batch
from tiny_pipelines import plan_of

SAMPLES = 5
PROMPTS = ["a cat", "a dog", "a hat", "a car", "a map"]


def searched(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[dipgo_fx.Plan, Batch]:
    """Return what a small search finds, and the samples that it goes by."""
    batches: list[Batch] = []
    found = pruning.with_path

    def noted(*args: Any) -> Batch:
        batches.append(found(*args))
        return batches[-1]

    monkeypatch.setattr(pruning, "with_path", noted)
    config = dipgo_fx.PruneConfig(samples=SAMPLES, full_runs=3)
    options = {"num_inference_steps": 4, "height": 16, "width": 16}
    plan = dipgo_fx.prune_pipeline(pipe, 0.5, prompts=PROMPTS, config=config, progress=False, **options)
    return plan, batches[0]


@pytest.mark.long
def test_prompts_are_encoded_in_turn_where_memory_runs_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning; each prompt gives what it gives among all, and the search goes on."""
    pipe = pipelines.PIPELINES["sd-text"].build()
    _, whole = searched(pipe, monkeypatch)
    encode = pipe.encode_prompt
    rows: list[int] = []

    def crowded(prompt: Any, *args: Any, **kwargs: Any) -> Any:
        """Encode two prompts at most, but when the loop is recorded, where nothing is computed."""
        if isinstance(prompt, list) and any(prompt) and len(prompt) > 2:
            raise torch.OutOfMemoryError("no room")
        rows.append(len(prompt))
        return encode(prompt, *args, **kwargs)

    pipe.encode_prompt = crowded
    plan, parts = searched(pipe, monkeypatch)
    assert caplog.text.count("out of memory with 5 samples at once: going on with 2") == 1
    assert rows[-3:] == [2, 2, 1]
    assert len(parts) == len(whole) == SAMPLES
    assert plan.ratio == pytest.approx(0.5, abs=0.1)
    for name, tensor in whole.conditioning.items():
        torch.testing.assert_close(parts.conditioning[name], tensor)
    assert len(torch.unique(parts.sample, dim=0)) == SAMPLES


@pytest.mark.parametrize("mode", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_pipeline_is_searched_while_a_plan_runs_it(monkeypatch: pytest.MonkeyPatch, mode: bool) -> None:
    """As if none did, under inference mode too, and the plan goes on running it."""
    pipe = pipelines.PIPELINES["sd-text"].build()
    expected, _ = searched(pipe, monkeypatch)
    running = plan_of("sd-text")  # of another number of steps
    with dipgo_fx.enabled(pipe, running) as forward, torch.inference_mode(mode):
        found, _ = searched(pipe, monkeypatch)
        assert forward.plan == running
    assert found.table == expected.table
    assert not pipe.unet.conv_in.weight.is_inference()


SMALL: dict[str, Any] = {
    "config": dipgo_fx.PruneConfig(samples=SAMPLES, full_runs=3),
    "num_inference_steps": 4,
    "height": 16,
    "width": 16,
    "progress": False,
}


@pytest.mark.parametrize("given", [3, 7])
def test_inputs_that_make_another_number_of_samples_are_refused(given: int) -> None:
    """Instead of a search on fewer than was asked for."""
    pipe = pipelines.PIPELINES["sd-text"].build()
    with pytest.raises(ValueError, match=rf"inputs\(5\) made {given} samples: it must return 5 entries"):
        dipgo_fx.prune_pipeline(
            pipe, 0.5, inputs=lambda n: {"prompt": ["a"] * (n if n != SAMPLES else given)}, **SMALL
        )


@pytest.mark.parametrize(
    ("word", "value", "said"),
    [
        ("prompt", "a cat", r"leave prompt out: a search takes prompts="),
        ("num_images_per_prompt", 2, "leave num_images_per_prompt out: a search draws one"),
        ("negative_prompt", ["a", "b"], "negative_prompt must be one text for all samples, got 2"),
        ("colour", "red", r"must be those of StableDiffusionPipeline.__call__, got \['colour'\]"),
    ],
)
def test_words_that_a_search_cannot_take_are_refused(word: str, value: Any, said: str) -> None:
    """Before anything is recorded, with what to do instead."""
    pipe = pipelines.PIPELINES["sd-text"].build()
    with pytest.raises(TypeError, match=said):
        dipgo_fx.prune_pipeline(pipe, 0.5, **SMALL, **{word: value})


def test_a_plan_notes_what_its_pipeline_was_called_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain values, for the command line to draw with."""
    plan, _ = searched(pipelines.PIPELINES["sd-text"].build(), monkeypatch)
    assert plan.search_origin["call"] == {"num_inference_steps": 4, "height": 16, "width": 16}


@pytest.mark.long
@pytest.mark.parametrize("key", ["sdxl", "flux-schnell"])
def test_four_steps_without_guidance_are_searched(key: str) -> None:
    """As distilled models run: a quarter of the MACs is one step of four."""
    tiny = pipelines.PIPELINES[key]
    config = dipgo_fx.PruneConfig(samples=2, full_runs=3)
    call = {name: tiny.fixed[name] for name in ("height", "width") if name in tiny.fixed}
    plan = dipgo_fx.prune_pipeline(
        tiny.build(),
        0.25,
        inputs=tiny.inputs,
        num_inference_steps=4,
        guidance_scale=0.0,
        config=config,
        progress=False,
        **call,
    )
    assert plan.ratio == pytest.approx(0.25)
    assert plan.facts.guidance.scale is None
