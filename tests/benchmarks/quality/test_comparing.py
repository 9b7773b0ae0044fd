"""Cells: what is compared with what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.metrics import ImageErrors
from benchmarks.plans import DEFAULT, ONE_SEARCH
from benchmarks.quality.comparing import cells
from benchmarks.quality.image_store import ImageStore
from benchmarks.quality.rows import UNPRUNED, Row

OURS = Row("digits-dit", "DDIM", 20, ONE_SEARCH.name, 0.5, psnr_db=40.0, converged_steps=250)
OTHER = replace(OURS, method="fewer steps", psnr_db=30.0)


def errors(level: float, count: int = 8) -> ImageErrors:
    """Return errors of images around a level."""
    made = level * (1 + torch.rand(count, generator=torch.Generator().manual_seed(0)).double())
    return ImageErrors(made, made, 1 - made, made, torch.ones(count).double(), made)


@pytest.fixture
def images(tmp_path: Path) -> ImageStore:
    """Errors of two seeds of ours, the smaller ones, and of another method."""
    store = ImageStore(tmp_path)
    for seed in (0, 1):
        store.add(replace(OURS, seed=seed), errors(1e-4))
        store.add(replace(OTHER, seed=seed), errors(1e-3))
    return store


def rows(*kept: Row) -> list[Row]:
    """Return rows on two seeds each."""
    return [replace(row, seed=seed) for row in kept for seed in (0, 1)]


def test_seeds_of_both_are_pooled(images: ImageStore) -> None:
    """Unpruned rows and errors are no part of a cell, and no other of our methods is another's."""
    failed = replace(OTHER, method="DeepCache", error="no")
    found = [*rows(OURS, OTHER, replace(OURS, method=DEFAULT.name)), replace(OURS, method=UNPRUNED), failed]
    (cell,) = cells(found, images)
    assert (cell.ours, cell.others) == (ONE_SEARCH.name, ["fewer steps"])
    assert cell.seeds("fewer steps") == (0, 1)
    assert cell.verdict("psnr_db") == "won"


def test_seeds_and_images_that_one_lacks_are_left_out(images: ImageStore) -> None:
    """A method without common images is not compared."""
    images.add(replace(OTHER, seed=1), errors(1e-3, count=9))
    (cell,) = cells(rows(OURS, OTHER), images)
    assert cell.seeds("fewer steps") == (0,)
    (alone,) = cells([OURS, replace(OTHER, method="UniPC")], images)
    assert alone.versus("UniPC", "psnr_db") is None
    assert alone.verdict("psnr_db") is None


def test_other_targets_are_not_mixed(images: ImageStore) -> None:
    """Converged images of other steps are other images."""
    (cell,) = cells(rows(OURS, replace(OTHER, converged_steps=1000)), images)
    assert cell.versus("fewer steps", "converged_psnr_db") is None
    assert cell.versus("fewer steps", "psnr_db") is not None


def test_shares_are_cells(images: ImageStore) -> None:
    """From many MACs to few."""
    found = cells([*rows(replace(OURS, ratio_asked=0.8)), *rows(OURS)], images)
    assert [cell.about.ratio_asked for cell in found] == [0.5, 0.8]
