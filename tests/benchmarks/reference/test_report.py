"""The README of the reference models."""

from __future__ import annotations

from benchmarks import trainings
from benchmarks.reference.models import WEIGHTS
from benchmarks.reference.report import readme


def test_the_stored_page_is_drawn_from_what_is_known() -> None:
    """The README beside the weights says what training.json says."""
    assert readme(trainings.read(WEIGHTS)) == (WEIGHTS / "README.md").read_text(encoding="utf-8")


def test_a_page_of_one_model_is_drawn_too() -> None:
    """What was not measured is left open."""
    told = {"seed": 0, "steps": 1234, "batch": 2, "images": 2468, "final_loss": 0.1, "parameters": 5000}
    text = readme({"fashion-dit": {**told, "training_minutes": 1.0}})
    assert "| fashion-dit | 0 | 1,234 | 2 | 2,468 | 0.1000 | 5,000 | 1.0 | - |" in text
    assert "The classifier is right on ? of" in text
