"""What docstrings show is what happens: the example of every public name runs, and there is one."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import diffusers
import pytest
import torch

import dipgo_fx
from benchmarks.coverage import pipelines
from dipgo_fx import importers, passes

HOMES: tuple[ModuleType, ...] = (dipgo_fx, importers, passes)
PASSES = ("BindGates", "DropDeadBlocks", "FoldConstants", "InsertGates", "JoinCalls", "SteerCalls")
# Why a name goes without an example of its own.
WITHOUT = {
    "dipgo_fx.PlanError": "raised, not called",
    "dipgo_fx.TraceError": "raised, not called",
    "dipgo_fx.Report": "made by prune and apply: the example of PrunedLoop prints one",
    **{f"dipgo_fx.passes.{name}": "shows the graph before and after; run by Pipeline" for name in PASSES},
    **{f"dipgo_fx.passes.{name}": "raised" for name in ("InvariantError", "PassError", "TraceError")},
    **{f"dipgo_fx.passes.{name}": "a word for a type" for name in ("Backup", "Blocks", "Granularity")},
    **{f"dipgo_fx.passes.{name}": "what a pass returns" for name in ("PassRecord", "PassResult")},
    "dipgo_fx.passes.HISTORY": "a number",
    "dipgo_fx.passes.LoopRecorder": "what trace stands on, which its tests show",
    "dipgo_fx.passes.Steering": "made by a search",
    "dipgo_fx.passes.granularity_of": "one word",
}
# These search inside a pipeline.
SLOW = {"dipgo_fx.prune_pipeline"}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public() -> dict[str, Any]:
    """Return the public names of the library by the path that they are imported by."""
    return {f"{home.__name__}.{name}": getattr(home, name) for home in HOMES for name in home.__all__}


def examples(name: str) -> list[doctest.DocTest]:
    """Return the examples of a public name and, of a class, those of its methods."""
    value = public()[name]
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return []  # the docstring would be that of its class
    known = {"dipgo_fx": dipgo_fx, "torch": torch}  # what every example takes for imported
    found = doctest.DocTestFinder().find(value, name, inspect.getmodule(value), globs=known)
    return [each for each in found if each.examples]


CASES = [
    pytest.param(name, marks=pytest.mark.long if name in SLOW else ())
    for name in public()
    if name not in WITHOUT
]


@pytest.mark.parametrize("name", CASES)
def test_the_example_of_a_public_name_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In an empty folder; a pipeline that would be downloaded is a tiny one."""
    tiny = pipelines.PIPELINES["sd-text"].build
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "from_pretrained", lambda name: tiny())
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    with torch.random.fork_rng(devices=[]):
        failed = sum(runner.run(example).failed for example in examples(name))
    assert not failed, capsys.readouterr().out


@pytest.mark.parametrize("name", public())
def test_a_public_name_has_an_example(name: str) -> None:
    """But for a few, each for a reason that still holds."""
    assert bool(examples(name)) != (name in WITHOUT)


def test_only_public_names_go_without() -> None:
    """The lists above name what there is."""
    assert {*WITHOUT, *SLOW} <= set(public())
