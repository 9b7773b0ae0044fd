"""Graphs that passes leave in a folder: Python that runs."""

from __future__ import annotations

import logging
import runpy
from pathlib import Path

import pytest
import torch

import dipgo_fx
import zoo
from dipgo_fx import Plan
from dipgo_fx.passes import dump_graphs
from loops import inputs, loop
from plans import plan


def test_what_is_dumped_runs(tmp_path: Path) -> None:
    """The first file is the loop that was traced, the last the loop that came out, bit for bit."""
    x, conditioning = inputs("dit", 2)
    with dump_graphs(tmp_path / "graphs"):
        pruned = dipgo_fx.apply(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), plan())
    files = sorted((tmp_path / "graphs").iterdir())
    names = ["insert-gates", "bind-gates", "drop-dead-blocks"]
    assert [file.stem for file in files] == [
        f"{number:03d}-{name}-{when}" for number, name in enumerate(names) for when in ("after", "before")
    ]
    traced = dipgo_fx.trace(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), len(plan().timesteps))
    for file, whole in (
        ("000-insert-gates-before", traced),
        (f"{len(names) - 1:03d}-{names[-1]}-after", pruned),
    ):
        forward = runpy.run_path(str(tmp_path / "graphs" / f"{file}.py"))["forward"]
        with torch.no_grad():
            found = forward(whole, x, **conditioning)
        assert torch.equal(found, whole(x, **conditioning))


def test_nothing_is_dumped_elsewhere(tmp_path: Path) -> None:
    """Not after the context, and not in another one's folder."""
    with dump_graphs(tmp_path / "one"):
        pass
    dipgo_fx.apply(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), plan())
    assert not [*(tmp_path / "one").iterdir()]


def test_passes_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """At debug level, as TORCH_LOGS="+dipgo_fx" shows it."""
    graph = loop("dit")
    keep = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[1] = False
    with caplog.at_level(logging.DEBUG, "dipgo_fx"):
        dipgo_fx.apply(
            zoo.model("dit"),
            zoo.SCHEDULERS["ddim"](),
            Plan.from_keep(graph, keep),
            num_inference_steps=graph.num_steps,
        )
    told = [record.getMessage() for record in caplog.records if record.name == "dipgo_fx.passes.base"]
    assert [text.partition(":")[0] for text in told] == [
        "pass insert-gates",
        "pass bind-gates",
        "pass drop-dead-blocks",
    ]
    assert all(" nodes" in text and text.endswith(" s") for text in told)
