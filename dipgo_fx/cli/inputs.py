"""What commands read: plans and prompts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..plan import Plan
from ..plan_file import NAME


def load_plan(path: Path) -> Plan:
    """Read a plan from a file, or from the `plan.json` of a local folder."""
    return Plan.load(plan_file_of(path))


def plan_file_of(path: Path) -> Path:
    """Return the file of a plan that is named by its file or by its folder."""
    return path / NAME if path.is_dir() else path


def facts_of(plan: Plan) -> dict[str, Any]:
    """Return what a plan is for, and what it removes, as plain values."""
    facts = plan.facts
    return {
        "model": facts.model,
        "scheduler": facts.scheduler,
        "steps": facts.num_inference_steps,
        "guidance": facts.guidance.scale,
        "ratio": plan.ratio,
        "kept": 1 - plan.ratio,
    }


def read_prompts(file: Path) -> list[str]:
    """Return the lines of a file that are not blank.

    Raises `ValueError` for a file without any, or that is no text.
    """
    try:
        # "-sig": some editors begin a file with a mark, which is no part of the first prompt.
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be a text file in UTF-8, one prompt a line ({error})") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise ValueError(f"{file} holds no prompts: write one a line")
    return prompts


def check_distinct(files: Mapping[str, Path | None]) -> None:
    """Raise `ValueError` if two options name one file: what is written last would be all that is left."""
    seen: dict[Path, str] = {}
    for option, file in files.items():
        if file is None:
            continue
        other = seen.setdefault(file.resolve(), option)
        if other != option:
            raise ValueError(f"{other} and {option} are one file, {file}: name two")


def check_file_to_write(file: Path, option: str = "--out", *, drafted: bool = False) -> None:
    """Raise `ValueError` for a file that cannot be written: told before long work, not after.

    Args:
        drafted: whether a draft is written beside the file first, as `Plan.save` does.
    """
    target = file.resolve()  # what a link stands for
    if target.is_dir() or not target.parent.is_dir():
        raise ValueError(f"{option} must be a file in a folder that exists, got {file}")
    places = [target] if target.exists() else [target.parent]
    if drafted and target.is_file():
        places.append(target.parent)
    for place in places:
        if not os.access(place, os.W_OK):
            raise ValueError(f"{option} must be a file that can be written, got {file}: {place} is read-only")
