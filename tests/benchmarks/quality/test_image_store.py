"""Errors of single images survive their file, and processes do not lose each other's."""

from __future__ import annotations

import multiprocessing
from dataclasses import astuple, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.metrics import ImageErrors
from benchmarks.quality.image_store import FOLDER, ImageStore, packed, unpacked
from benchmarks.quality.rows import Row

ROW = Row("digits-dit", "DDIM", 20, "fewer steps", 0.5)


def errors(seed: int = 0, scale: float = 1e-3) -> ImageErrors:
    """Return errors of five images without features."""
    generator = torch.Generator().manual_seed(seed)
    squared, clamped, lacks, converged = scale * torch.rand((4, 5), generator=generator).double()
    nothing = torch.full((5,), torch.nan).double()
    return ImageErrors(squared, clamped, 1 - lacks, nothing, torch.ones(5).double(), converged)


@given(st.integers(0, 100), st.sampled_from([1e-8, 1e-5, 1e-2, 1.0]))
def test_three_digits_survive(seed: int, scale: float) -> None:
    """Over the whole range of errors, in half precision; a second time nothing changes."""
    found, stored = errors(seed, scale), packed(errors(seed, scale))
    again = unpacked(stored)
    assert stored.dtype == torch.float16
    torch.testing.assert_close(again.squared, found.squared, rtol=2e-3, atol=1e-11)
    torch.testing.assert_close(1 - again.ssim, 1 - found.ssim, rtol=2e-3, atol=1e-7)
    assert packed(again).equal(stored) or bool(again.feature_distance.isnan().all())


def test_rows_of_a_case_share_a_file(tmp_path: Path) -> None:
    """What was measured anew replaces what was, and other rows stay."""
    store, other = ImageStore(tmp_path), replace(ROW, ratio_asked=0.8)
    assert store.of(ROW) is None
    for row, seed in ((ROW, 0), (other, 1), (ROW, 2)):
        store.add(row, errors(seed))
    for row, seed in ((other, 1), (ROW, 2)):
        kept = store.of(row)
        assert kept is not None
        torch.testing.assert_close(torch.stack(astuple(kept))[0], errors(seed).squared, rtol=2e-3, atol=0)
    assert [file.name for file in (tmp_path / FOLDER).iterdir()] == ["digits-dit-ddim-20-seed0.safetensors"]
    assert store.of(replace(ROW, seed=1)) is None


def add_ten(folder: Path, method: str) -> None:
    """Add ten rows of a method."""
    for index in range(10):
        ImageStore(folder).add(replace(ROW, method=method, ratio_asked=index / 10), errors(index))


@pytest.mark.long
def test_processes_do_not_lose_each_others_rows(tmp_path: Path) -> None:
    """Also where both add to one file at the same time."""
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=add_ten, args=(tmp_path, name)) for name in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join()
    rows = [replace(ROW, method=name, ratio_asked=index / 10) for name in "ab" for index in range(10)]
    assert all(ImageStore(tmp_path).of(row) for row in rows)
