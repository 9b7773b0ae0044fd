"""Targets are drawn once, and are those of their case."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.cases import Case
from benchmarks.quality import targets
from benchmarks.quality.targets import Targets, digest


@pytest.fixture(scope="module")
def case() -> Case:
    """Four steps of the digits transformer."""
    return Case("digits-dit", 4)


def test_what_is_in_the_cache_is_not_drawn_again(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunk by chunk: more samples draw only what is missing."""
    inputs, found = case.inputs(6, held_out=True), Targets(tmp_path, 2, converged_steps=3)
    first = found.unpruned(case, inputs), found.converged(case, inputs)
    assert len(list(tmp_path.iterdir())) == 6
    with torch.no_grad():
        assert torch.allclose(first[0], case.loop()(inputs.sample, **inputs.conditioning), atol=1e-5)
    monkeypatch.setattr(case, "loop", None)
    monkeypatch.setattr(targets, "converged", None)
    again = found.unpruned(case, inputs), found.converged(case, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_converged_target_may_be_left_out(case: Case, tmp_path: Path) -> None:
    """Nothing is drawn for it."""
    assert Targets(tmp_path, 2, converged_steps=0).converged(case, case.inputs(2, held_out=True)) is None
    assert list(tmp_path.iterdir()) == []


def test_other_weights_inputs_and_steps_have_other_names(case: Case) -> None:
    """A model that is trained anew does not get the old one's images."""
    inputs = case.inputs(2, held_out=True)
    names = {digest(case, inputs), digest(case, case.inputs(2, held_out=False))}
    names.add(digest(Case("digits-dit", 5), inputs))
    changed = Case("digits-dit", 4)
    with torch.no_grad():
        next(changed.model.parameters()).add_(1e-3)
    names.add(digest(changed, inputs))
    assert len(names) == 4
    assert digest(Case("digits-dit", 4), inputs) == digest(case, inputs)
