"""Which graph a call of a denoiser runs, and when it is recorded anew."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import nn

import dipgo_fx
from benchmarks.coverage import pipelines
from dipgo_fx import TraceError
from dipgo_fx.pipelines import graphs
from dipgo_fx.pipelines.pipeline_call import completed
from dipgo_fx.pipelines.tracing import record_pipeline
from tiny_pipelines import STEPS, plan_of, run, skipped


@pytest.fixture
def pipe() -> Any:
    """A tiny Stable Diffusion."""
    return pipelines.PIPELINES["sd"].build()


def test_two_pipelines_may_run_in_two_threads() -> None:
    """One recording waits for the other, and modules of the whole process are called as before."""
    own_call, keys = nn.Module.__call__, ("sd", "dit")
    found: dict[str, torch.Tensor] = {}
    pipes = {key: pipelines.PIPELINES[key].build() for key in keys}
    expected = {key: skipped(key, pipes[key], plan_of(key)) for key in keys}

    def serve(key: str) -> None:
        found[key] = run(key, pipes[key])

    for key in keys:
        dipgo_fx.enable(pipes[key], plan_of(key))
    threads = [threading.Thread(target=serve, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert nn.Module.__call__ is own_call
    assert all(torch.equal(found[key], expected[key]) for key in keys)


def test_a_run_under_inference_mode(pipe: Any) -> None:
    """The first one records a graph."""
    plan = plan_of("sd")
    expected = skipped("sd", pipe, plan)
    with dipgo_fx.enabled(pipe, plan), torch.inference_mode():
        assert torch.equal(run("sd", pipe), expected)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch reads it of cast weights
def test_a_run_under_autocast_has_a_graph_of_its_own(pipe: Any) -> None:
    """What is recorded there holds casts."""
    plan = plan_of("sd")
    expected = skipped("sd", pipe, plan)
    with dipgo_fx.enabled(pipe, plan):
        with torch.autocast("cpu", torch.bfloat16):
            assert not torch.equal(run("sd", pipe), expected)
        assert torch.equal(run("sd", pipe), expected)


def test_freeu_comes_and_goes(pipe: Any) -> None:
    """It is four numbers on the model's stages, which their Python reads."""
    plan, numbers = plan_of("sd"), {"s1": 0.9, "s2": 0.2, "b1": 1.4, "b2": 1.6}
    without = skipped("sd", pipe, plan)
    with dipgo_fx.enabled(pipe, plan):
        assert torch.equal(run("sd", pipe), without)
        pipe.enable_freeu(**numbers)
        changed = run("sd", pipe)
        assert not torch.equal(changed, without)
        pipe.disable_freeu()
        assert torch.equal(run("sd", pipe), without)
    pipe.enable_freeu(**numbers)
    assert torch.equal(skipped("sd", pipe, plan), changed)


def test_hooks_of_the_model_run_once_a_call_and_those_of_its_stages_are_refused(pipe: Any) -> None:
    """Recording calls no hook, and what a graph would leave out is not left out silently."""
    plan, calls = plan_of("sd"), [0]

    def count(module: nn.Module, given: Any, result: Any) -> None:
        calls[0] += 1

    with dipgo_fx.enabled(pipe, plan):
        handle = pipe.unet.register_forward_hook(count)
        run("sd", pipe)
        assert calls[0] == STEPS
        handle.remove()
        handle = pipe.unet.up_blocks[0].register_forward_hook(count)
        with pytest.raises(TraceError, match=r"up_blocks\.0.* it has forward hooks"):
            run("sd", pipe)
        handle.remove()
        calls[0] = 0
        run("sd", pipe)
    assert calls[0] == 0


@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_adapters_are_scaled_by_call(scale: float) -> None:
    """As without a plan, and in between they have the scale that they had."""
    peft = pytest.importorskip("peft")
    key, pipe = "sd-text", pipelines.PIPELINES["sd-text"].build()
    plan = plan_of(key)
    without = skipped(key, pipe, plan)
    lora = peft.LoraConfig(r=2, target_modules=["to_q", "to_k", "conv_out"], init_lora_weights=False)
    pipe.unet.add_adapter(lora, "first")
    given = {"cross_attention_kwargs": {"scale": scale}}
    expected, whole = skipped(key, pipe, plan, **given), skipped(key, pipe, plan)
    assert not torch.equal(expected, whole)
    assert scale or torch.equal(expected, without)
    with dipgo_fx.enabled(pipe, plan):
        assert torch.equal(run(key, pipe, **given), expected)
        assert torch.equal(run(key, pipe), whole)
        assert torch.equal(run(key, pipe, **given), expected)


def test_a_search_with_scaled_adapters_is_refused() -> None:
    """Its loop would call their layers as they are between calls."""
    peft = pytest.importorskip("peft")
    pipe = pipelines.PIPELINES["sd-text"].build()
    pipe.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False), "first")
    call = {"height": 16, "width": 16, "cross_attention_kwargs": {"scale": 0.3}}
    with pytest.raises(TraceError, match=r"scales the layers .*set_adapters"):
        record_pipeline(pipe, pipe.unet, completed(lambda count: {"prompt": [""] * count}, call))


def test_graphs_of_sizes_that_were_used_long_ago_are_let_go(
    pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that sees many of them does not grow."""
    monkeypatch.setattr(graphs, "MOST_KINDS", 2)
    with dipgo_fx.enabled(pipe, plan_of("sd")) as forward:
        results = {batch: run("sd", pipe, batch) for batch in (1, 2, 3)}
        assert len(forward.graphs._calls) == 2
        assert torch.equal(run("sd", pipe, 1), results[1])
