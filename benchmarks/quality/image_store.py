"""The errors of single images beside quality.csv: a small file a model, sampler, steps, guidance and seed.

A file has a float16 tensor `(6, images)` for each row of quality.csv, named by method and ratio. Errors are
stored as their roots and SSIM as what it lacks of 1: both keep three digits in half precision, over the
whole range there is.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file

from benchmarks.metrics import ImageErrors

from .rows import Row
from .targets import write_at_once

FOLDER = "quality-images"


class ImageStore:
    """Errors of single images by row; several processes may add to it at the same time.

    Args:
        results: the folder that quality.csv is in.
        name: of the folder beside it.
    """

    def __init__(self, results: Path, name: str = FOLDER) -> None:
        self.folder = results / name

    def of(self, row: Row) -> ImageErrors | None:
        """Return the errors of a row's images, if they were kept."""
        file = self._file(row)
        if not file.exists():
            return None
        packed = _load(_Version(file, file.stat().st_mtime_ns)).get(_name(row))
        return None if packed is None else unpacked(packed)

    def add(self, row: Row, errors: ImageErrors) -> None:
        """Keep the errors of a row's images; the row's earlier ones are replaced."""
        file = self._file(row)
        with self._alone():
            known = load_file(file) if file.exists() else {}
            write_at_once(file, {**known, _name(row): packed(errors)})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes out: a file is read, added to and replaced."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _file(self, row: Row) -> Path:
        return self.folder / f"{row.stem}-seed{row.seed}.safetensors"


class _Version(NamedTuple):
    """A file as it is at one time."""

    file: Path
    written: int


@lru_cache(maxsize=64)
def _load(version: _Version) -> dict[str, torch.Tensor]:
    return load_file(version.file)


def packed(errors: ImageErrors) -> torch.Tensor:
    """Return errors as they are stored."""
    stored = replace(
        errors,
        squared=errors.squared.sqrt(),
        clamped=errors.clamped.sqrt(),
        ssim=1 - errors.ssim,
        converged=errors.converged.sqrt(),
    )
    return torch.stack(astuple(stored)).half()


def unpacked(stored: torch.Tensor) -> ImageErrors:
    """Return errors as they were measured, to three digits."""
    errors = ImageErrors(*stored.double())
    return replace(
        errors,
        squared=errors.squared.square(),
        clamped=errors.clamped.square(),
        ssim=1 - errors.ssim,
        converged=errors.converged.square(),
    )


def _name(row: Row) -> str:
    return f"{row.method} @ {row.ratio_asked:g}"
