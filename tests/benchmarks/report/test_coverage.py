"""Sentences on which classes of diffusers run by a plan."""

from __future__ import annotations

import pytest

from benchmarks.report import coverage

COUNTS = [
    {"kind": "pipelines", "classes": "9", "built": "8", "enabled": "7", "compiled": "6", "searchable": "5"},
    {"kind": "denoisers", "classes": "4", "built": "4", "enabled": "3", "compiled": "2", "searchable": "1"},
]


def test_counts_stand_beside_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every kind; what can be searched on is counted in pipelines."""
    rows = [{**row, "diffusers": "0.42.1"} for row in COUNTS]
    monkeypatch.setattr(coverage, "read", lambda name: rows)
    assert coverage.classes() == (
        "diffusers 0.42.1 has 9 pipelines and 4 denoisers; in tiny pipelines with random weights 8 "
        "pipelines and 4 denoisers could be tried. By a plan, bit for bit as if blocks were skipped by "
        "hand, run 7 pipelines and 3 denoisers; every step is one graph for "
        "`torch.compile(fullgraph=True)` with 6 pipelines and 2 denoisers; the loops of 5 "
        "pipelines can be recorded for `prune_pipeline`."
    )


def test_pipelines_alone_are_counted_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the first page."""
    monkeypatch.setattr(coverage, "read", lambda name: [{**row, "diffusers": "0.42.1"} for row in COUNTS])
    said = coverage.counted().replace("\n", " ")
    assert said.startswith("Of the 9 pipelines of diffusers 0.42.1, 8 could be tried")
    assert "7 run by a plan" in said
    assert said.endswith("of 5 the loop can be recorded for `prune_pipeline`.")


def test_the_price_is_a_ratio_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain pipeline is what the ratio is to."""
    files = {
        "enabled-overhead": [
            {"run": "plain pipeline", "ratio": "1"},
            {"run": "keeps all", "ratio": "1.0012"},
            {"run": "closes one gate", "ratio": "0.998"},
        ],
        "enabled-held": [{"run": "a plan", "held at most, MiB": "0.25"}],
    }
    monkeypatch.setattr(coverage, "read", files.__getitem__)
    said = coverage.price()
    assert "takes 0.998 to 1.001 times that of the plain pipeline" in said
    assert said.endswith("Held from step to step at 512² pixels: 0.2 MiB (a plan).")
