"""Which pipeline a scheduler is tried in."""

from __future__ import annotations

from typing import Any

import pytest
from diffusers import HeunDiscreteScheduler

from benchmarks.coverage import schedulers
from benchmarks.coverage.schedulers import NoHost, host_of


def test_a_scheduler_that_no_pipeline_has_goes_into_one_that_runs_with_it(monkeypatch: Any) -> None:
    """The first of those that take many."""
    monkeypatch.setattr(schedulers, "_scheduler_of", lambda key: None)
    pipe: Any = host_of(HeunDiscreteScheduler).build()
    assert type(pipe.scheduler) is HeunDiscreteScheduler
    assert type(pipe).__name__ == "StableDiffusionPipeline"


def test_a_scheduler_that_nothing_runs_with_has_no_host(monkeypatch: Any) -> None:
    """The error says so."""

    class Odd(HeunDiscreteScheduler):
        def step(self, *args: Any, **kwargs: Any) -> Any:
            """Refuse."""
            raise NotImplementedError

    monkeypatch.setattr(schedulers, "_scheduler_of", lambda key: None)
    monkeypatch.setattr(schedulers, "HOSTS", ("sd",))
    with pytest.raises(NoHost, match="no tiny pipeline runs with it"):
        host_of(Odd)
