"""What commands read: plans and prompts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..plan import Plan


def load_plan(path: Path) -> Plan:
    """Read a plan from a file, or from the `plan.json` of a local folder."""
    return Plan.from_pretrained(path) if path.is_dir() else Plan.load(path)


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
        lines = file.read_text(encoding="utf-8").splitlines()
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


def check_file_to_write(file: Path, option: str = "--out") -> None:
    """Raise `ValueError` for a file that cannot be written: told before long work, not after."""
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise ValueError(f"{option} must be a file in a folder that exists, got {file}")
