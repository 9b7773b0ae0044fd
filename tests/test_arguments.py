"""The door: every argument of every public function is looked at before anything is done."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import dipgo_fx
import zoo
from dipgo_fx import Loop, PaperConfig, Plan, PruneConfig, importers
from dipgo_fx.applying import build
from dipgo_fx.arguments import SHOWN, check
from dipgo_fx.cost import LoopCost
from dipgo_fx.loop import LoopFacts
from dipgo_fx.passes import GateTable, Steering
from loops import loop
from plans import KEEP, plan
from searches import QUICK

STEPS = len(KEEP)
IMAGE = Image.new("RGB", (2, 2))

# One object of each kind that somebody may hand over by mistake.
STRAYS: dict[str, object] = {
    "none": None,
    "bool": True,
    "int": 3,
    "float": 2.5,
    "text": "text",
    "path": Path("path"),
    "list": [1],
    "mapping": {"a": 1},
    "object": object(),
    "function": zoo.sample,
    "tensor": torch.ones(2),
    "module": nn.Linear(1, 1),
    "class": nn.Linear,
    "generator": torch.Generator(),
    "config": QUICK,
}


def is_number(value: object) -> bool:
    """Tell whether a value is a number, which a bool is not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    """Tell whether a value is a whole number."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_a(*kinds: type) -> Callable[[object], bool]:
    """Return whether a value is of these kinds, as a function."""
    return lambda value: isinstance(value, kinds)


WHOLE_NUMBERS = (
    "num_inference_steps",
    "cache_interval",
    "cache_branch_id",
    "first_blocks",
    "last_blocks",
    "gate_step",
    "max_order",
    "first_steps",
    "samples",
    "batch_size",
    "iterations",
    "chunk",
    "width",
)
NUMBERS = ("ratio", "guidance_scale", "full_runs", "learning_rate", "weight_decay", "alpha", "tau")
# What an argument of this name may be, whatever its value.
KINDS: dict[str, Callable[[object], bool]] = {
    "pipe": is_a(diffusers.DiffusionPipeline),
    "model": is_a(nn.Module),
    "scheduler": lambda value: False,
    "plan": is_a(Plan),
    "loop": is_a(Loop),
    "keep": is_a(torch.Tensor),
    "weights": is_a(torch.Tensor),
    "sample": is_a(torch.Tensor),
    "conditioning": is_a(Mapping),
    "shared": is_a(list, tuple, type(None)),
    "calibration": is_a(Mapping),  # or an iterable of them, which no stray is
    "prompts": is_a(Mapping),  # an iterable of texts
    "inputs": lambda value: value is None or callable(value),
    "split_guidance": is_a(bool),
    "config": is_a(PruneConfig, PaperConfig),
    "generator": is_a(torch.Generator),
    "progress": is_a(bool),
    "journal": is_a(str, Path, type(None)),
    "fold": is_a(bool),
    "join": is_a(bool),
    "compile": is_a(bool, Mapping),
    "path": is_a(str, Path),
    "folder": is_a(str, Path),
    "source": is_a(str, Path),
    "repo_id": is_a(str),
    "token": is_a(str, type(None)),
    "private": is_a(bool),
    "facts": is_a(LoopFacts),
    "table": is_a(GateTable),
    "scores": is_a(torch.Tensor, type(None)),
    "frontier": is_a(tuple),
    "cost": is_a(LoopCost, type(None)),
    "origin": is_a(dict),
    "steering": is_a(Steering, type(None)),
    "schedule": is_a(Mapping, str, Path),
    "run": callable,
    "block": is_a(str, type(None)),
    "step": is_whole,
    "similarity": is_a(Mapping, type(None)),
    "images": is_a(Mapping, type(None)),
    "captions": is_a(list, tuple),
    **dict.fromkeys(WHOLE_NUMBERS, is_whole),
    **dict.fromkeys(NUMBERS, is_number),
    **dict.fromkeys(("mac_weights", "checkpoint", "exact_fill"), is_a(bool)),
    "decode": lambda value: value is None or callable(value),
}
# What one function alone takes.
OWN_KINDS: dict[tuple[str, str], Callable[[object], bool]] = {
    ("explain", "block"): lambda value: isinstance(value, str) or is_whole(value),
}
# Arguments that are one of a few words.
CHOICES = {"granularity": "stage", "backup": "linear", "loss": "ssim", "encoder": "attention"}


@functools.wraps(dipgo_fx.enabled)
def entered(*args: Any, **options: Any) -> None:
    """Enter what `enabled` returns: before that it does nothing."""
    with dipgo_fx.enabled(*args, **options):
        pass


MAKERS = ("from_keep", "load", "from_pretrained")
METHODS = ("check_fits", "save", "save_pretrained", "push_to_hub")
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "trace": dipgo_fx.trace,
    "prune": dipgo_fx.prune,
    "apply": dipgo_fx.apply,
    "enable": dipgo_fx.enable,
    "enabled": entered,
    "disable": dipgo_fx.disable,
    "prune_pipeline": dipgo_fx.prune_pipeline,
    "trace_pipeline": dipgo_fx.trace_pipeline,
    "count_macs": dipgo_fx.count_macs,
    "explain": dipgo_fx.explain,
    "measure_similarity": dipgo_fx.measure_similarity,
    "Report.html": dipgo_fx.Report.html,
    "Plan": Plan,
    **{f"Plan.{method}": getattr(Plan, method) for method in (*MAKERS, *METHODS)},
    "PruneConfig": PruneConfig,
    "PaperConfig": PaperConfig,
    **{
        f"importers.{name}": getattr(importers, name)
        for name in ("deepcache", "observed", "smoothcache", "step_mask", "tgate", "taylorseer")
    },
}


@cache
def right(name: str) -> dict[str, object]:
    """Return arguments with which a function would do its work."""
    asked = {"model": zoo.model("dit"), "scheduler": zoo.SCHEDULERS["ddim"]()}
    pipe = diffusers.DDIMPipeline(unet=zoo.model("unet"), scheduler=zoo.SCHEDULERS["ddim"]())
    given_arguments: dict[str, dict[str, object]] = {
        "trace": {**asked, "num_inference_steps": STEPS},
        "prune": {**asked, "num_inference_steps": STEPS, "config": QUICK, "progress": False},
        "apply": {**asked, "plan": plan()},
        "enable": {"pipe": pipe, "plan": plan()},
        "enabled": {"pipe": pipe, "plan": plan()},
        "disable": {"pipe": pipe},
        "prune_pipeline": {"pipe": pipe, "config": QUICK, "progress": False},
        "trace_pipeline": {"pipe": pipe},
        "count_macs": {"loop": loop("dit")},
        "explain": {"plan": plan(), "step": 1, "block": 0},
        "measure_similarity": {"loop": loop("dit"), "sample": torch.ones(1, 1, 8, 8)},
        "Report.html": {"self": build(loop("dit"), plan()).report},
        "Plan.from_keep": {"loop": loop("dit"), "keep": KEEP},
        "Plan.load": {"path": "plan.json"},
        "Plan": {"facts": plan().facts, "table": plan().table, "ratio": plan().ratio},
        **{f"Plan.{method}": {"self": plan()} for method in METHODS},
        "Plan.push_to_hub": {"self": plan(), "repo_id": "user/name"},
        "importers.deepcache": {"loop": loop("unet"), "cache_interval": 2},
        "importers.smoothcache": {"loop": loop("dit"), "schedule": {}},
        "importers.observed": {"model": zoo.model("dit"), "run": zoo.sample},
        "importers.step_mask": {"loop": loop("dit"), "mask": [1] * STEPS},
        "importers.tgate": {"loop": loop("dit"), "gate_step": 1},
        "importers.taylorseer": {"loop": loop("dit"), "cache_interval": 2},
    }
    return given_arguments.get(name, {})


def arguments(known: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return (function, argument) of all arguments of these names."""
    return [
        (name, argument)
        for name, function in FUNCTIONS.items()
        for argument in inspect.signature(function).parameters
        if argument in known
    ]


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at the first thing that takes time: a recording or a count."""
    for name in FUNCTIONS:
        right(name)  # takes time once

    def started(*args: object, **options: object) -> None:
        raise AssertionError("work began before the arguments were looked at")

    for place in (
        "tracing.LoopRecorder",
        "pipelines.tracing.LoopRecorder",
        "macs.NodeCounter",
        "cost.NodeCounter",
    ):
        monkeypatch.setattr(f"dipgo_fx.{place}", started)


def call(name: str, **changes: object) -> None:
    """Call a function with some arguments changed."""
    FUNCTIONS[name](**{**right(name), **changes})


def named(value: object) -> str:
    """Return how an error names what came."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, nn.Module):
        return "the module Linear"
    return "the class Linear itself" if isinstance(value, type) else f"{type(value).__name__} {value!r}"[:40]


@pytest.mark.parametrize("name", ["trace", "prune", "apply"])
def test_right_arguments_start_the_work(name: str) -> None:
    """What the other tests call is refused for the argument that they change and for nothing else."""
    with pytest.raises(AssertionError, match="work began"):
        call(name)


@pytest.mark.parametrize(("name", "argument"), arguments(KINDS))
def test_another_kind_of_object_is_refused_by_name(name: str, argument: str) -> None:
    """A `TypeError` says which argument, what it must be and what came, before any work."""
    default = inspect.signature(FUNCTIONS[name]).parameters[argument].default
    is_right = OWN_KINDS.get((name, argument), KINDS[argument])
    wrong = [value for value in STRAYS.values() if not is_right(value) and value is not default]
    assert len(wrong) >= 9
    for value in wrong:
        with pytest.raises(TypeError) as refusal:
            call(name, **{argument: value})
        said = str(refusal.value)
        assert re.match(rf"(each( item)? of )?{argument} must be .+, got .+", said)
        item = said.startswith("each")
        assert (
            f"got {named(next(iter(value)) if item else value)}" in said
            or f"got one text: [{value!r}]" in said
        )


@pytest.mark.parametrize(("name", "argument"), arguments(CHOICES))
def test_an_unknown_word_is_refused_with_those_there_are(name: str, argument: str) -> None:
    """A `ValueError` names the argument and lists the words, whatever came, before any work."""
    for value in STRAYS.values():
        if argument == "granularity" and callable(value):
            continue  # any function may choose blocks
        with pytest.raises(
            ValueError, match=rf"^{argument} must be .*'{CHOICES[argument]}'.*, got "
        ) as refusal:
            call(name, **{argument: value})
        assert f"got {value!r}" in str(refusal.value)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_argument_is_left_out(name: str) -> None:
    """A new argument of a function without a line in the tables above fails here."""
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    named = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    assert named <= {*KINDS, *CHOICES, "self", "mask"}  # a mask's errors say how long it must be


def test_no_function_is_left_out() -> None:
    """Every function of the package, of its plans and of its importers is looked at."""
    exported = {name for name in dipgo_fx.__all__ if inspect.isfunction(getattr(dipgo_fx, name))}
    of_plans = {name for name in vars(Plan) if inspect.isroutine(getattr(Plan, name)) and name[0] != "_"}
    assert exported <= {*FUNCTIONS}
    assert of_plans - {"states", "kept_by_step"} == {*MAKERS, *METHODS}  # those two take no argument
    assert {f"importers.{name}" for name in importers.__all__} <= {*FUNCTIONS}


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("trace", {"num_inference_steps": 0}, "num_inference_steps must be at least 1, got 0"),
        ("prune", {"num_inference_steps": -3}, "num_inference_steps must be at least 1, got -3"),
        ("apply", {"num_inference_steps": 0}, "num_inference_steps must be at least 1, got 0"),
        *(
            (name, {"ratio": ratio}, r"ratio .* must lie in \[0, 1\), got")
            for name in ("prune", "apply", "enable", "enabled", "prune_pipeline")
            for ratio in (1.0, 2, -0.25, float("nan"), float("inf"), 10**400)
        ),
        ("prune_pipeline", {"num_inference_steps": 0}, "num_inference_steps must be at least 1, got 0"),
        *(
            (name, {"guidance_scale": scale}, "guidance_scale must be finite, got")
            for name in ("trace", "prune", "prune_pipeline")
            for scale in (float("nan"), -float("inf"), 10**400)
        ),
        ("enable", {"compile": {"foo": 1}}, r"compile has \['foo'\], but torch.compile takes .*'fullgraph'"),
        ("trace", {"model": nn.Linear(1, 1)}, "model must be a denoiser whose forward takes a timestep"),
        (
            "trace",
            {"model": zoo.model("unet-text"), "conditioning": {}},
            "also needs .'encoder_hidden_states'.",
        ),
        ("trace", {"split_guidance": True}, "split_guidance needs a guidance_scale"),
        ("prune", {"split_guidance": True}, "split_guidance needs a guidance_scale"),
        ("apply", {"scheduler": zoo.SCHEDULERS["euler"]()}, "DDIMScheduler, got .*EulerDiscreteScheduler"),
        ("apply", {"model": zoo.model("unet")}, "DiTTransformer2DModel .*, got UNet2DModel"),
        ("Plan.from_keep", {"keep": KEEP.long()}, "keep must be a bool tensor"),
        ("Plan.from_keep", {"keep": KEEP[:4]}, r"keep must have shape \(5, 4\)"),
        ("Plan.from_keep", {"keep": ~KEEP}, r"keep\[1\] must be true for every block"),
        ("Plan.from_keep", {"weights": torch.ones(5, 4)}, r"weights must have shape \(5, 4, 3\)"),
        ("Plan.from_keep", {"weights": torch.full((5, 4, 3), torch.nan)}, "weights must be finite"),
        ("Plan.from_keep", {"weights": torch.ones(5, 4, 3, dtype=torch.bool)}, "weights must be real num"),
        ("Plan.from_keep", {"weights": torch.ones(5, 4, 3) * 1j}, "weights must be real numbers"),
        *(
            (name, {"sample": sample}, r"sample must be a floating-point tensor \(any batch, channels")
            for name in ("trace", "prune", "apply")
            for sample in (torch.tensor(1.0), torch.ones(3), torch.ones(1, 4, 8, 8, dtype=torch.int64))
        ),
        *(
            (name, {argument: {given: 1}}, rf"{argument} has \['{given}'\], which the loop itself gives")
            for name, argument in (
                ("trace", "conditioning"),
                ("prune", "conditioning"),
                ("prune", "calibration"),
                ("apply", "conditioning"),
            )
            for given in ("timestep", "hidden_states", "return_dict")
        ),
        ("prune", {"calibration": {"labels": torch.ones(1)}}, r"^calibration has \['labels'\], but"),
        ("prune", {"calibration": [{"labels": 1}]}, r"each item of calibration has \['labels'\], but"),
        ("prune", {"calibration": []}, "calibration is empty"),
        ("explain", {"step": STEPS}, "step must lie in 0 to 4, this plan has 5 steps, got 5"),
        ("explain", {"step": -1}, "step must lie in 0 to 4, this plan has 5 steps, got -1"),
        ("explain", {"block": 4}, "block must lie in 0 to 3, this plan has 4 blocks, got 4"),
        ("explain", {"block": "proj"}, r"one of the 4 of plan.blocks, .*\['proj_out_2', .*got 'proj'"),
        ("measure_similarity", {}, r"conditioning must hold \['class_labels'\], got \[\]"),
        *(
            ("Report.html", {argument: given}, said)
            for argument, given, said in (
                ("similarity", {"a": torch.ones(5, 4)}, r"shape \(5, 5\), .*, got torch.float32 \(5, 4\)"),
                ("similarity", {"a": torch.ones(5, 5).long()}, "must be a floating-point tensor"),
                ("similarity", {"a": torch.full((5, 5), 1.1)}, r"must hold cosines, in \[-1, 1\]"),
                ("similarity", {"a": torch.full((5, 5), torch.nan)}, r"must hold cosines, in \[-1, 1\]"),
                ("images", {1.0: [IMAGE]}, r"a share of MACs removed, in \[0, 1\), got 1.0"),
                ("images", {float("nan"): [IMAGE]}, r"a share of MACs removed, in \[0, 1\), got nan"),
                ("images", {0: [IMAGE], 0.5: [IMAGE] * 2}, "equally many of one size"),
                ("images", {0: [IMAGE], 0.5: [IMAGE.resize((2, 3))]}, "equally many of one size"),
                ("images", {0: []}, "equally many of one size"),
            )
        ),
        ("Report.html", {"images": {0: [IMAGE]}, "captions": ["a", "b"]}, "one for each of 1 columns .* 2"),
        ("PaperConfig", {"alpha": -1.0}, "alpha must be at least 0, got -1.0"),
        ("PaperConfig", {"weight_decay": float("inf")}, "weight_decay must be at least 0, got inf"),
        ("PruneConfig", {"full_runs": float("inf")}, "full_runs must be above 0, got inf"),
    ],
)
def test_a_value_out_of_range_is_refused_before_any_work(
    name: str, changes: dict[str, Any], said: str
) -> None:
    """A `ValueError` says what a value must be."""
    with pytest.raises(ValueError, match=said):
        call(name, **changes)


@pytest.mark.parametrize("word", ["num_inference_steps", "guidance_scale"])
def test_words_of_a_pipeline_are_looked_at_too(word: str) -> None:
    """Those that decide which loop is searched."""
    wrong = [value for value in STRAYS.values() if not KINDS[word](value) and value is not None]
    for value in wrong:
        with pytest.raises(TypeError, match=rf"^{word} must be "):
            call("prune_pipeline", **{word: value})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"similarity": {3: torch.ones(5, 5)}}, "each of similarity must be the name of a block, got int 3"),
        ({"similarity": {"a": [1]}}, r"similarity\['a'\] must be a tensor, got list"),
        ({"images": {"0": [IMAGE]}}, "each of images must be a number, the share of MACs .*, got str '0'"),
        ({"images": {0: IMAGE}}, r"images\[0\] must be a list of PIL images, .*, got Image"),
        ({"images": {0: [torch.ones(2)]}}, r"each of images\[0\] must be a PIL image, got a tensor"),
        ({"captions": [3]}, "each of captions must be a text, got int 3"),
    ],
)
def test_what_lies_in_a_pages_arguments_is_looked_at(changes: dict[str, Any], said: str) -> None:
    """Names, tensors, ratios, images and texts, each by its place."""
    with pytest.raises(TypeError, match=rf"^{said}"):
        call("Report.html", **changes)


@pytest.mark.parametrize("name", ["trace", "prune", "apply"])
def test_a_scheduler_without_a_step_is_none(name: str) -> None:
    """Timesteps alone make no loop."""
    half = type("Half", (), {"set_timesteps": lambda self, steps: None})()
    with pytest.raises(TypeError, match=r"scheduler must be .* with set_timesteps\(\) and step\(\), .*got"):
        call(name, scheduler=half)


@pytest.mark.parametrize(("name", "argument"), [("trace", "conditioning"), ("prune", "calibration")])
def test_what_cannot_be_conditioning_is_refused_by_name(name: str, argument: str) -> None:
    """Of an argument of the model, and inside of nested ones."""
    for value in (object(), [object()], {"a": {1}}):
        with pytest.raises(TypeError, match=rf"{argument}\['class_labels'\] must be a tensor, .*, got"):
            call(name, **{argument: {"class_labels": value}})


def test_a_graph_that_is_no_loop_is_not_counted() -> None:
    """A graph module of somebody else's is the right kind of object, yet no loop."""
    with pytest.raises(TypeError, match=r"loop must come from trace\(\), prune\(\) or apply\(\)"):
        dipgo_fx.count_macs(torch.fx.symbolic_trace(nn.Linear(1, 1)))


@pytest.mark.parametrize("number", [np.int64(2), np.float32(0.5), np.float64(0.5)], ids=repr)
def test_numbers_of_numpy_are_numbers(number: Any) -> None:
    """So somebody may read a ratio or a step count off an array; its kind of number is told apart."""
    check("x", number, Real, "a number")
    if isinstance(number, np.int64):
        check("x", number, Integral, "a whole number")
    else:
        with pytest.raises(TypeError, match="x must be a whole number, got float"):
            check("x", number, Integral, "a whole number")


@pytest.mark.parametrize("kinds", [Integral, Real])
@pytest.mark.parametrize("value", [True, np.bool_(True), "1", 1j, torch.tensor(1)], ids=repr)
def test_what_is_like_a_number_is_none(kinds: type, value: object) -> None:
    """A bool, a text, a complex number or a tensor of one entry."""
    with pytest.raises(TypeError, match="x must be a number, got "):
        check("x", value, kinds, "a number")


@given(value=st.lists(st.integers()) | st.text() | st.binary())
def test_an_error_shows_little_of_a_long_value(value: object) -> None:
    """The beginning of what came, cut where it is long."""
    with pytest.raises(TypeError) as refusal:
        check("x", value, nn.Module, "a module")
    kind, _, shown = str(refusal.value).removeprefix("x must be a module, got ").partition(" ")
    assert kind == type(value).__name__
    assert shown == repr(value) if len(repr(value)) <= SHOWN else shown == f"{repr(value)[: SHOWN - 3]}..."
