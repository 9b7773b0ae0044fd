"""The ablations: searches are shared, runs resume, pictures tell what happens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.ablations import tables
from benchmarks.ablations.lab import Lab, measure
from benchmarks.ablations.similarity import similarities
from benchmarks.ablations.variants import PAPER, Row, variants
from benchmarks.cases import Case
from benchmarks.plans import Effort
from benchmarks.results_store import ResultStore

STEPS, RATIO = 4, 0.5


@pytest.fixture(scope="module")
def case() -> Case:
    """A small case."""
    return Case("digits-dit", STEPS, samples=4)


def test_studies_share_searches_and_resume(tmp_path: Path) -> None:
    """Two studies with the same settings search once, and rows that are there are not measured again."""
    lab = Lab("digits-dit", STEPS, 0, Effort(2.0, paper_iterations=1), samples=4, calibration=4)
    chosen = [v for v in variants() if (v.name, v.recipe) in (("ssim", PAPER), ("1", PAPER))]
    store = ResultStore(tmp_path / "ablations.csv", Row)
    measure(lab, store, chosen, [RATIO])
    rows = store.rows()
    assert [row.study for row in rows] == ["consistency loss", "sparsity weight alpha"]
    assert rows[0].psnr_db == rows[1].psnr_db
    assert rows[0].search_seconds == rows[1].search_seconds
    measure(lab, store, chosen, [RATIO])
    assert store.rows() == rows
    first, second = tables.parts(rows)
    assert first.title == f"consistency loss: digits-dit, {STEPS} steps"
    assert second.rows[0]["psnr_db"] == rows[1].psnr_db


def test_variants_are_distinct() -> None:
    """No two of them have the same row."""
    keys = [(v.study, v.name, v.recipe) for v in variants()]
    assert len({*keys}) == len(keys)


def test_block_outputs_are_like_themselves(case: Case) -> None:
    """A similarity map is symmetric with a diagonal of 1, and the model keeps no hook."""
    for values in similarities(case, samples=2).values():
        assert values.shape == (STEPS, STEPS)
        torch.testing.assert_close(values, values.T)
        torch.testing.assert_close(values.diagonal(), torch.ones(STEPS))
    assert not any(module._forward_hooks for module in case.model.modules())
