"""All settings of a method, and the best of them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pytest

from benchmarks.cases import Case
from benchmarks.peers import FEWER, NOTHING, Method, PeerSampler, Setting, Task
from benchmarks.peers.core import Stage
from benchmarks.peers.curve import Curve, Outcome
from benchmarks.peers.tuning import staged

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def task() -> Task:
    """Four steps of the digits transformer."""
    return Task.of(Case("digits-dit", 4), samples=2, ratios=[0.5], full_runs=2.0)


def outcome(task: Task, kept: float, psnr: float, error: str = "") -> Outcome:
    """Return an outcome that was not run."""
    return Outcome(PeerSampler(task, NOTHING, Setting()), kept, kept, psnr, error)


def test_the_best_within_a_share_has_most_psnr(task: Task) -> None:
    """A package may keep a little more than asked; what failed is no choice."""
    low, near, high = outcome(task, 0.3, 20.0), outcome(task, 0.51, 30.0), outcome(task, 0.9, 40.0)
    curve = Curve((low, near, high, outcome(task, 0.45, 15.0), outcome(task, 0.1, 99.0, "no")))
    assert curve.best(0.5) is near
    assert curve.best(0.5, slack=0.0) is low
    assert curve.best(1.0) is high
    assert curve.best(0.2) is None
    assert curve.reach == "keeps 0.300 or more"
    assert curve.full_runs == pytest.approx(0.3 + 0.51 + 0.9 + 0.45 + 0.1)
    assert curve.error == ""
    assert Curve((outcome(task, 1.0, 99.0),)).reach == "skips nothing"


def test_fewer_steps_cost_less_and_are_worse(task: Task) -> None:
    """There is one outcome a setting, in the order of the settings."""
    own = [each for each in Curve.of(task, FEWER).ran if each.setting.knobs.get("spacing") == "leading"]
    assert [each.kept for each in own] == [0.75, 0.5, 0.25]
    assert own[0].psnr > own[-1].psnr


def test_errors_are_outcomes(task: Task) -> None:
    """Those of one setting leave the others alone; a method without settings has its own words."""

    def install(stage: Stage, setting: Setting) -> None:
        if setting.knobs["fails"]:
            raise AttributeError("no such block")

    def none(task: Task) -> Iterator[Setting]:
        raise RuntimeError("not made for this model")

    some = [Setting({"fails": fails}) for fails in (True, False)]
    curve = Curve.of(task, Method("some", "", lambda task: some, install))
    assert [each.error for each in curve.outcomes] == ["AttributeError: no such block", ""]
    assert (len(curve.ran), curve.error) == (1, "")
    assert curve.ran[0].psnr == float("inf")
    assert [str(each.setting) for each in curve.failed] == ["fails=True"]
    failed = Curve.of(task, Method("none", "", none))
    assert failed.error == "RuntimeError: not made for this model"
    assert failed.best(1.0) is None


def test_a_generator_is_told_outcomes_and_keeps_what_came_before_an_error(task: Task) -> None:
    """So it may go on from the best; what its settings cost beforehand counts for their share."""
    told: list[float] = []

    def settings(task: Task) -> Generator[Setting, Outcome, None]:
        told.append((yield Setting({"n": 1}, asked=0.5, spent=2.0)).kept)
        yield Setting({"n": 2}, error="ValueError: not found")
        raise RuntimeError("no more")

    curve = Curve.of(task, Method("some", "", settings))
    assert told == [1.0]
    assert [each.error for each in curve.outcomes] == ["", "ValueError: not found", "RuntimeError: no more"]
    assert (curve.full_runs, curve.full_runs_for(0.5), curve.full_runs_for(0.3)) == (3.0, 3.0, 0.0)


def test_stages_go_on_from_the_best(task: Task) -> None:
    """Each change once, and none from a setting that failed."""
    tried: list[Mapping[str, Any]] = []
    stages = staged({"a": 0}, [[{"a": 1}, {"a": 2}], [{"b": 1}], [{"a": 1}]], Setting)
    tried.append(next(stages).knobs)
    tried.append(stages.send(outcome(task, 0.5, 10.0)).knobs)
    tried.append(stages.send(outcome(task, 0.5, 20.0, "no")).knobs)
    with pytest.raises(StopIteration) as stop:
        stages.send(outcome(task, 0.5, 12.0))
    assert tried == [{"a": 1}, {"a": 2}, {"a": 1, "b": 1}]
    assert stop.value.value == {"a": 1, "b": 1}
