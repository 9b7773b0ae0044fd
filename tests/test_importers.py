"""Other methods' schedules as plans give what those methods' own packages give, at no more MACs."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import diffusers as d
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import zoo
from benchmarks.coverage.subject import Subject
from benchmarks.peers import DEEPCACHE, NOTHING, SMOOTHCACHE, SUBSET, TAYLORSEER, PeerSampler, Setting, Task
from benchmarks.peers.diffusers_caches import patterns
from dipgo_fx import importers
from dipgo_fx.applying import build
from dipgo_fx.cost import LoopCost
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.errors import PlanError
from dipgo_fx.guidance import Guidance
from dipgo_fx.loop import Loop
from dipgo_fx.macs import Cost
from dipgo_fx.plan import Plan
from dipgo_fx.tracing import trace

STEPS = 6
Case = tuple[str, str, float | None]  # model, scheduler, guidance scale


def _deep_unet(kind: Any, **options: Any) -> nn.Module:
    """A U-Net of three levels with two layers each, so that all of DeepCache's branches differ."""
    return kind(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(4, 8, 8),
        norm_num_groups=2,
        layers_per_block=2,
        attention_head_dim=2,
        **options,
    )


@cache
def model(name: str) -> nn.Module:
    """Return a zoo model, or a deep U-Net."""
    if not name.startswith("deep"):
        return zoo.model(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == "deep-unet":
            down, up = (
                ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
                ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            )
            built = _deep_unet(d.UNet2DModel, down_block_types=down, up_block_types=up, num_class_embeds=11)
        else:
            built = _deep_unet(
                d.UNet2DConditionModel,
                down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
                cross_attention_dim=12,
            )
    return built.eval()


@cache
def traced(case: Case, granularity: Any = "block") -> Loop:
    """Return the traced loop of a case; the same one at every call, so never edit it."""
    name, scheduler, guidance = case
    own = zoo.SCHEDULERS[scheduler]()
    return trace(model(name), own, STEPS, guidance_scale=guidance, granularity=granularity)


@cache
def task(case: Case, batch: int = 2) -> Task:
    """Return the same loop for a peer's package, with inputs."""
    name, scheduler, guidance = case
    rows = batch if guidance is None else 2 * batch
    conditioning = zoo.conditioning(name.removeprefix("deep-"), rows)
    sample = torch.randn(batch, model(name).config.in_channels, 8, 8, generator=zoo.generator(1))
    return Task(model(name), zoo.SCHEDULERS[scheduler](), STEPS, sample, conditioning, guidance)


@torch.no_grad()
def result(case: Case, plan: Plan, granularity: Any = "block") -> torch.Tensor:
    """Return what the pruned loop of a plan gives on the case's inputs."""
    peer, pruned = task(case), build(traced(case, granularity), plan)
    latents: torch.Tensor = pruned(peer.sample, **peer.conditioning)
    return latents


class Ran(NamedTuple):
    """What a peer's package gave on the case's inputs."""

    latents: torch.Tensor
    macs: Cost


def package(case: Case, method: Any, setting: Setting) -> Ran:
    """Run a peer's package on the case's inputs."""
    sampler = PeerSampler(task(case), method, setting)
    return Ran(sampler(task(case).sample, **task(case).conditioning), sampler.macs)


def cost(loop: Loop, plan: Plan) -> int:
    """Return the MACs of a plan."""
    return LoopCost.of(loop).of_table(plan.table).total


# -- DeepCache

UNETS: tuple[Case, ...] = (
    ("unet", "ddim", None),
    ("unet-text", "dpm++", 2.0),
    ("deep-unet", "heun", None),
    ("deep-unet-text", "ddim", 2.0),
)


def branches(name: str) -> list[int]:
    """Return every branch of a test U-Net."""
    levels, layers = (3, 3) if name.startswith("deep") else (2, 2)
    return [3 * level + layer for level in range(levels) for layer in range(layers)]


def deepcache(case: Case, interval: int, branch: int) -> Ran:
    """Run the package at an interval and a branch."""
    return package(case, DEEPCACHE, Setting({"cache_interval": interval, "cache_branch_id": branch}))


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.long if "deep" in case[0] else ()) for case in UNETS],
    ids=str,
)
@given(data=st.data())
@settings(max_examples=5)
def test_deepcache_is_the_package_bit_for_bit(case: Case, data: st.DataObject) -> None:
    """At every interval and branch, and never at more MACs than the package really spends."""
    interval = data.draw(st.sampled_from((1, 2, 3, 5, STEPS)), "interval")
    branch = data.draw(st.sampled_from(branches(case[0])), "branch")
    plan, peer = importers.deepcache(traced(case), interval, branch), deepcache(case, interval, branch)
    assert torch.equal(result(case, plan), peer.latents)
    assert cost(traced(case), plan) <= peer.macs.total


@pytest.mark.parametrize("case", UNETS[:2], ids=str)
def test_deepcache_at_branch_0_costs_what_the_package_does(case: Case) -> None:
    """There the package leaves nothing running that nobody reads."""
    plan = importers.deepcache(traced(case), 3, 0)
    assert cost(traced(case), plan) == deepcache(case, 3, 0).macs.total


def test_deepcache_runs_on_stages_that_the_branch_leaves_whole() -> None:
    """A branch at a level's downsampler lies between stages."""
    case = UNETS[0]
    plan = importers.deepcache(traced(case, "stage"), 2, 1)
    assert torch.equal(result(case, plan, "stage"), deepcache(case, 2, 1).latents)


def test_deepcache_refuses_a_branch_through_a_stage() -> None:
    """The message names the stage and the granularity that works."""
    with pytest.raises(PlanError, match=r"cuts through 'up_blocks\.1'.*granularity='block'"):
        importers.deepcache(traced(UNETS[0], "stage"), 2, 0)


@pytest.mark.parametrize("branch", [-1, 2, 5, 6])
def test_deepcache_refuses_a_branch_that_does_not_exist(branch: int) -> None:
    """The package accepts it silently."""
    with pytest.raises(ValueError, match=f"level below 2.*got {branch}"):
        importers.deepcache(traced(UNETS[0]), 2, branch)


def test_deepcache_refuses_other_models_and_intervals() -> None:
    """A transformer has no levels; an interval counts steps."""
    with pytest.raises(PlanError, match=r"needs a U-Net.*DiTTransformer2DModel"):
        importers.deepcache(traced(TRANSFORMERS[0], "branch"), 2)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        importers.deepcache(traced(UNETS[0]), 0)


# -- SmoothCache

TRANSFORMERS: tuple[Case, ...] = (
    ("dit", "ddim", None),
    ("pixart", "dpm++", 2.0),
)
MASKS = st.lists(st.sampled_from((0, 1)), min_size=STEPS, max_size=STEPS)


@pytest.mark.parametrize("case", TRANSFORMERS, ids=str)
@given(schedule=st.dictionaries(st.sampled_from(("attn1", "ff", "attn1-0", "ff-1")), MASKS))
@settings(max_examples=5)
def test_smoothcache_is_the_package_bit_for_bit(case: Case, schedule: dict[str, list[int]]) -> None:
    """For any schedule, also one that starts with 0, and at the same MACs."""
    pytest.importorskip("SmoothCache")
    loop = traced(case, "branch")
    plan = importers.smoothcache(loop, schedule)
    peer = package(case, SMOOTHCACHE, Setting(data=schedule))
    assert torch.equal(result(case, plan, "branch"), peer.latents)
    assert cost(loop, plan) <= peer.macs.total


def test_smoothcache_reads_the_packages_files(tmp_path: Path) -> None:
    """A JSON file is the mapping in it."""
    loop, schedule = traced(TRANSFORMERS[0], "branch"), {"attn1": [1, 0] * (STEPS // 2)}
    file = tmp_path / "schedule.json"
    file.write_text(json.dumps(schedule), encoding="utf-8")
    read = importers.smoothcache(loop, file)
    assert torch.equal(read.keep, importers.smoothcache(loop, schedule).keep)
    kept = read.keep[1].tolist()
    assert [path for path, keeps in zip(loop.blocks, kept, strict=True) if not keeps] == [
        path for path in loop.blocks if path.endswith("attn1")
    ]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"attn1": [1, 0]}, f"schedule['attn1'] must be a list of {STEPS} values"),
        ({"attn1": [2] * STEPS}, "schedule['attn1'] may only hold 0 and 1, got 2"),
        ({"attn1": "0" * STEPS}, "may only hold 0 and 1, got '0'"),
        ({"attn1": 1}, "got int"),
        ({"attn": [1] * STEPS}, "has ['attn'], but"),
        ({"attn1-9": [1] * STEPS}, "has ['attn1-9'], but"),
    ],
)
def test_smoothcache_refuses_what_does_not_fit(schedule: Any, message: str) -> None:
    """The package would compute silently."""
    with pytest.raises(PlanError, match=re.escape(message)):
        importers.smoothcache(traced(TRANSFORMERS[0], "branch"), schedule)


def test_smoothcache_refuses_whole_blocks_and_broken_files(tmp_path: Path) -> None:
    """The messages say which granularity works, and which file is meant."""
    with pytest.raises(PlanError, match="granularity='branch'"):
        importers.smoothcache(traced(UNETS[1]), {"attn1": [1] * STEPS})
    (tmp_path / "half.json").write_text('{"attn1": [1,', encoding="utf-8")
    with pytest.raises(PlanError, match=r"half\.json is not a JSON file"):
        importers.smoothcache(traced(TRANSFORMERS[0], "branch"), tmp_path / "half.json")


# -- masks over steps


class _Repeating(nn.Module):
    """A model that gives its last prediction again where a mask says so."""

    def __init__(self, inner: nn.Module, mask: list[int]) -> None:
        super().__init__()
        self.inner, self.mask, self.calls = inner, mask, 0

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        if self.mask[self.calls]:
            self.last = self.inner(sample, timestep=timestep, **conditioning, return_dict=False)[0]
        self.calls += 1
        return self.last


@pytest.mark.parametrize("case", [UNETS[0], TRANSFORMERS[1]], ids=str)
@given(mask=MASKS)
@settings(max_examples=4)
@torch.no_grad()
def test_a_step_mask_repeats_the_prediction(case: Case, mask: list[int]) -> None:
    """Nothing of the model runs where the mask is 0."""
    mask[0] = 1
    part = "block" if case in UNETS else "branch"
    plan = importers.step_mask(traced(case, part), mask)
    own = prepared(zoo.SCHEDULERS[case[1]](), STEPS)
    repeating = _Repeating(model(case[0]), mask)
    expected = denoise(repeating, own, task(case).sample, dict(task(case).conditioning), Guidance(case[2]))
    assert torch.equal(result(case, plan, part), expected)


def test_a_step_mask_keeps_outer_blocks() -> None:
    """The last ones run at every step; a first one that nobody reads is dropped again."""
    loop = traced(TRANSFORMERS[0])
    mask = [1, 0, 1, 0, 0, 0]
    plan = importers.step_mask(loop, mask, first_blocks=1, last_blocks=2)
    assert plan.keep[1].tolist() == [True, *[False] * (len(loop.blocks) - 3), True, True]
    assert bool(plan.keep[2].all())
    assert LoopCost.of(loop).reads.liveness(plan.table).running[1].tolist() == [
        *[False] * (len(loop.blocks) - 2),
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("mask", "options", "message"),
    [
        ([1, 0], {}, "mask must be a list of 6 values"),
        ([0, 1, 1, 1, 1, 1], {}, "mask[0] must be 1"),
        ([1, 3, 1, 1, 1, 1], {}, "mask may only hold 0 and 1, got 3"),
        ([1] * STEPS, {"first_blocks": -1}, "got -1 and 0"),
        ([1] * STEPS, {"first_blocks": 3, "last_blocks": 3}, "got 3 and 3"),
    ],
)
def test_a_step_mask_refuses_what_does_not_fit(mask: list[int], options: Any, message: str) -> None:
    """Wrong lengths, values and numbers of blocks."""
    with pytest.raises(ValueError, match=re.escape(message)):
        importers.step_mask(traced(TRANSFORMERS[0]), mask, **options)


# -- T-GATE


class _Frozen:
    """Lets a module give its last output again from a step on."""

    def __init__(self, module: nn.Module, gate_step: int) -> None:
        self.forward, self.gate_step, self.calls = module.forward, gate_step, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.calls < self.gate_step:
            self.last = self.forward(*args, **kwargs)
        self.calls += 1
        return self.last


@pytest.mark.parametrize("gate_step", [1, 4, STEPS])
@torch.no_grad()
def test_tgate_freezes_cross_attention(gate_step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The eager loop with frozen `attn2` modules gives the same result."""
    case = TRANSFORMERS[1]
    plan = importers.tgate(traced(case, "branch"), gate_step)
    found = result(case, plan, "branch")
    for name, module in model(case[0]).named_modules():
        if name.endswith("attn2"):
            monkeypatch.setattr(module, "forward", _Frozen(module, gate_step))
    own, peer = prepared(zoo.SCHEDULERS[case[1]](), STEPS), task(case)
    assert torch.equal(found, denoise(model(case[0]), own, peer.sample, peer.conditioning, Guidance(case[2])))


def test_tgate_refuses_what_it_cannot_freeze() -> None:
    """Models and granularities without a cross-attention of its own, and steps out of range."""
    with pytest.raises(PlanError, match=r"UNet2DConditionModel at granularity 'block'.*granularity='branch'"):
        importers.tgate(traced(UNETS[1]), 2)
    with pytest.raises(PlanError, match="DiTTransformer2DModel"):
        importers.tgate(traced(TRANSFORMERS[0], "branch"), 2)
    for gate_step in (0, STEPS + 1):
        with pytest.raises(ValueError, match=f"got {gate_step}"):
            importers.tgate(traced(TRANSFORMERS[1], "branch"), gate_step)


# -- TaylorSeer


@pytest.mark.parametrize("case", [UNETS[2], TRANSFORMERS[1]], ids=str)
@given(data=st.data())
@settings(max_examples=5)
def test_taylorseer_is_the_package_up_to_rounding(case: Case, data: st.DataObject) -> None:
    """Of either order, at the MACs that the package really spends or fewer."""
    part = "block" if case in UNETS else "branch"
    interval, order = data.draw(st.integers(1, STEPS), "interval"), data.draw(st.integers(1, 2), "order")
    first = data.draw(st.integers(1, 3), "first steps")
    loop = traced(case, part)
    plan = importers.taylorseer(loop, interval, max_order=order, first_steps=first)
    knobs = {"interval": interval, "order": order, "warmup": first, "modules": part}
    peer = package(case, TAYLORSEER, Setting(knobs, patterns(model(case[0]), part)))
    found = result(case, plan, part)
    torch.testing.assert_close(found, peer.latents, rtol=1e-3, atol=1e-4)
    assert cost(loop, plan) <= peer.macs.total


@pytest.mark.parametrize(
    "options",
    [{"cache_interval": 0}, {"cache_interval": 2, "max_order": 3}, {"cache_interval": 2, "first_steps": 0}],
)
def test_taylorseer_refuses_numbers_out_of_range(options: Any) -> None:
    """A plan reads three values of a block at most."""
    with pytest.raises(ValueError, match="expected cache_interval and first_steps of at least 1"):
        importers.taylorseer(traced(UNETS[0]), **options)


# -- the yardsticks themselves


def test_searched_timesteps_are_stock_ddim_at_stock_timesteps() -> None:
    """The scheduler that takes any list of timesteps steps as its parent does, bit for bit."""
    case = TRANSFORMERS[0]
    every = Setting({"steps": STEPS, "solver": "same"}, range(STEPS))
    assert torch.equal(package(case, SUBSET, every).latents, package(case, NOTHING, Setting()).latents)


@pytest.mark.parametrize("case", [*UNETS[:2], *TRANSFORMERS], ids=str)
def test_the_meter_counts_what_count_macs_counts(case: Case) -> None:
    """On the unpruned loop, in both conventions, and without changing its result."""
    peer = task(case)
    sampler = package(case, NOTHING, Setting())
    own = prepared(peer.scheduler, STEPS)
    with torch.no_grad():
        expected = denoise(
            peer.model, own, peer.sample, dict(peer.conditioning), Guidance(peer.guidance_scale)
        )
    assert torch.equal(sampler.latents, expected)
    full = LoopCost.of(traced(case, "block" if case in UNETS else "branch")).full
    assert (sampler.macs.total, sampler.macs.attention) == (full.total, full.attention)


def test_schedules_of_other_methods_refuse_split_guidance() -> None:
    """They know one call of the model a step."""
    split = trace(zoo.model("unet"), zoo.SCHEDULERS["ddim"](), STEPS, guidance_scale=2.0, split_guidance=True)
    makers = (
        lambda: importers.deepcache(split, 2),
        lambda: importers.taylorseer(split, 2),
        lambda: importers.step_mask(split, [1] * STEPS),
    )
    for make in makers:
        with pytest.raises(PlanError, match="without split_guidance"):
            make()


# -- caches that decide while they run


def _cached(config: Any) -> tuple[Any, Subject]:
    """Return a tiny Flux pipeline with a cache of diffusers, and how it is run."""
    subject = Subject.of("flux", 8)
    pipe: Any = subject.build()
    pipe.transformer.enable_cache(config)
    return pipe, subject


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(d.FirstBlockCacheConfig(threshold=0.9), marks=pytest.mark.long),
        d.MagCacheConfig(mag_ratios=torch.linspace(1.0, 0.9, 8), num_inference_steps=8, threshold=0.3),
    ],
    ids=["first block cache", "mag cache"],
)
def test_what_a_cache_does_in_a_run_becomes_a_schedule(config: Any) -> None:
    """The steps that it skipped are those that the plan skips; the pipeline and its cache are left alone."""
    pipe, subject = _cached(config)
    expected = subject.run(pipe)
    pipe.transformer._reset_stateful_cache()
    results: list[torch.Tensor] = []
    mask = importers.observed(pipe.transformer, lambda: results.append(subject.run(pipe)))
    assert torch.equal(results[0], expected)
    assert len(mask) == 8
    assert mask[0] == 1
    assert 0 < sum(mask) < 8
    pipe.transformer._reset_stateful_cache()
    assert torch.equal(subject.run(pipe), expected)
    pipe.transformer.disable_cache()
    assert importers.observed(pipe.transformer, lambda: subject.run(pipe)) == [1] * 8
    plain = traced(TRANSFORMERS[0])
    schedule = mask[: plain.num_steps]
    plan = importers.step_mask(plain, schedule)
    assert plan.keep.all(1).tolist() == [bool(entry) for entry in schedule]


def test_what_cannot_be_observed_is_refused() -> None:
    """A module that is not there, and a run that does not run the model."""
    model = zoo.model("dit")
    with pytest.raises(ValueError, match=r"block must be .* such as 'transformer_blocks\.0', got 'nothing'"):
        importers.observed(model, lambda: None, "nothing")
    with pytest.raises(ValueError, match="run must call the DiTTransformer2DModel, which was not called"):
        importers.observed(model, lambda: None)
    assert "forward" not in vars(model)
