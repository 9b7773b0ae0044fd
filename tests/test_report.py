"""What a pruned loop reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import dipgo_fx
from dipgo_fx.macs import Cost
from dipgo_fx.states import State
from loops import calls, cost
from searches import STEPS, searched


def test_a_report_counts_what_was_removed() -> None:
    """MACs of both loops, in both conventions, are those that are counted node by node."""
    report = searched().report
    after = dipgo_fx.count_macs(searched())
    assert report.before == cost("dit", "ddim", "block", None, STEPS).full
    assert (report.after.total, report.after.attention) == (after.total, after.attention)
    assert report.ratio == searched().plan.ratio
    before = report.before.without_attention
    assert report.ratio_without_attention == 1 - report.after.without_attention / before


def test_a_report_has_the_states_of_its_plan() -> None:
    """What runs is what the graph calls."""
    report, blocks = searched().report, searched().blocks
    assert torch.equal(report.states, searched().plan.states())
    running = {(blocks[n], t) for t, n in (report.states == State.RUNS).nonzero().tolist()}
    assert running == calls(searched())


def test_a_report_prints_in_a_few_lines() -> None:
    """MACs, calls and what is known of the plan; lists and tables of the origin stay out."""
    text = str(searched().report)
    running = int((searched().report.states == State.RUNS).sum())
    assert f"block calls             {searched().report.states.numel()} -> {running}" in text
    assert "MACs with attention" in text
    assert "plan seed" in text
    assert "curve" not in text
    assert max(map(len, text.splitlines())) < 110


@pytest.mark.parametrize(
    "changes", [{"after": Cost(1, 0)}, {"states": torch.zeros(STEPS, 4, dtype=torch.int64)}, {"origin": {}}]
)
def test_reports_are_compared_by_value(changes: dict[str, Any]) -> None:
    """The states count too, which are a tensor."""
    report = searched().report
    assert replace(report, states=report.states.clone()) == report
    assert replace(report, **changes) != report
