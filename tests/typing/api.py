"""Typed uses of the public interface: checked by mypy, never run."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from PIL import Image
from torch import fx, nn

import dipgo_fx


def prune(model: nn.Module, embeds: torch.Tensor) -> torch.Tensor:
    """Search, look at the result, run it."""
    config: dipgo_fx.PruneConfig = dipgo_fx.PruneConfig(full_runs=30)
    pruned: dipgo_fx.PrunedLoop = dipgo_fx.prune(
        model,
        DDIMScheduler(),
        0.8,
        num_inference_steps=20,
        calibration=[{"encoder_hidden_states": embeds}],
        guidance_scale=7.5,
        granularity="branch",
        config=config,
        generator=torch.Generator(),
        progress=False,
    )
    graph_module: fx.GraphModule = pruned
    plan: dipgo_fx.Plan = pruned.plan
    report: dipgo_fx.Report = pruned.report
    plan.save("plan.json")
    print(graph_module.code, report.before.total, report.ratio, plan.keep.shape, plan.blocks, plan.history)
    texts: list[str] = [report.html(), dipgo_fx.explain(plan, 0, plan.blocks[0])]
    print(*texts, dipgo_fx.explain(plan, step=0, block=0))
    latents: torch.Tensor = pruned(torch.zeros(1, 4, 64, 64), encoder_hidden_states=embeds)
    return latents


def by_hand(model: nn.Module) -> int:
    """Trace, write a plan, apply it at another ratio, count."""
    loop: dipgo_fx.Loop = dipgo_fx.trace(model, DDIMScheduler(), 50, granularity="stage")
    keep = torch.ones(loop.num_steps, len(loop.blocks), dtype=torch.bool)
    plan = dipgo_fx.Plan.from_keep(loop, keep, backup="linear")
    history: int = plan.history
    weights: torch.Tensor = torch.zeros(*plan.weights.shape[:2], 3) if history > 1 else plan.weights
    plan = dipgo_fx.Plan.from_keep(loop, plan.keep, weights=weights)
    pruned = dipgo_fx.apply(model, DDIMScheduler(), plan, fold=True)
    maps: dict[str, torch.Tensor] = dipgo_fx.measure_similarity(loop, torch.zeros(1, 4, 64, 64))
    images = {0: [Image.new("RGB", (64, 64))], plan.ratio: [Image.new("RGB", (64, 64))]}
    print(pruned.report.html(similarity=maps, images=images, captions=["a red bicycle"]))
    return dipgo_fx.count_macs(pruned).without_attention
