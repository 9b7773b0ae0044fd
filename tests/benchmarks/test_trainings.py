"""What is known of trainings."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from benchmarks import trainings


def test_notes_add_to_what_is_known(tmp_path: Path) -> None:
    """Later measurements of a model join earlier ones, and the page is drawn from all."""
    for name, measured in (("a", {"steps": 1}), ("b", {"steps": 2}), ("a", {"guidance": 2.0})):
        trainings.note(tmp_path, name, measured, lambda records: f"{len(records)} models")
    assert trainings.read(tmp_path) == {"a": {"steps": 1, "guidance": 2.0}, "b": {"steps": 2}}
    assert (tmp_path / "README.md").read_text() == "2 models"


def test_a_record_tells_the_size_and_the_minutes() -> None:
    """Every training is told alike."""
    told = trainings.record(nn.Linear(3, 2), seed=1, steps=5, batch=4, loss=0.1234567, seconds=90)
    assert told == {
        "seed": 1,
        "steps": 5,
        "batch": 4,
        "final_loss": 0.12346,
        "parameters": 8,
        "training_minutes": 1.5,
    }


def test_shares_are_a_table_with_a_column_a_model() -> None:
    """Models that nobody judged have none; what was not measured is a question mark."""
    records = {
        "b": {"recognised": {"all": 0.5}},
        "a": {"recognised": {"all": 1.0, "bag": 0.123}},
        "classifier": {"test_accuracy": 0.918},
    }
    assert trainings.recognised_table("class", records).splitlines() == [
        "| class | a | b |",
        "|---|---|---|",
        "| all | 100.0 % | 50.0 % |",
        "| bag | 12.3 % | ? |",
    ]
    assert trainings.accuracy(records, "classifier") == "91.8 %"
    assert trainings.accuracy({}, "classifier") == "?"
