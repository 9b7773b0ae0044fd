"""What is known of trainings: `training.json` beside the weights, and a `README.md` that is drawn from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

Record = dict[str, Any]


def note(weights: Path, name: str, measured: Record, readme: Callable[[dict[str, Record]], str]) -> None:
    """Add what was measured of a model to `training.json` and draw `README.md` anew."""
    file = weights / "training.json"
    records = read(weights) if file.exists() else {}
    records[name] = {**records.get(name, {}), **measured}
    file.write_text(json.dumps(records, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (weights / "README.md").write_text(readme(records), encoding="utf-8")


def read(weights: Path) -> dict[str, Record]:
    """Return what is known of the models in a folder."""
    records: dict[str, Record] = json.loads((weights / "training.json").read_text(encoding="utf-8"))
    return records


def record(model: nn.Module, *, seed: int, steps: int, batch: int, loss: float, seconds: float) -> Record:
    """Return what is told of every training."""
    return {
        "seed": seed,
        "steps": steps,
        "batch": batch,
        "final_loss": round(loss, 5),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_minutes": round(seconds / 60, 1),
    }


def recognised_table(title: str, records: Mapping[str, Record]) -> str:
    """Return a table of the shares that a classifier recognises, a column a model."""
    shares = {name: entry["recognised"] for name, entry in sorted(records.items()) if "recognised" in entry}
    header = [f"| {' | '.join([title, *shares])} |", "|---" * (len(shares) + 1) + "|"]
    keys = dict.fromkeys(key for own in shares.values() for key in own)
    lines = [[key, *(_percent(own.get(key)) for own in shares.values())] for key in keys]
    return "\n".join([*header, *(f"| {' | '.join(line)} |" for line in lines)])


def accuracy(records: Mapping[str, Record], classifier: str) -> str:
    """Return how often a classifier is right on held-out images."""
    return _percent(records.get(classifier, {}).get("test_accuracy"))


def make_readable(file: Path) -> None:
    """Let everybody read a file: safetensors writes for the owner only, and a wheel keeps that."""
    file.chmod(0o644)


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.1f} %"
