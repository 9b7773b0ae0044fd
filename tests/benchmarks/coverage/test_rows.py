"""The outcome of a check, as a row has it."""

from __future__ import annotations

from benchmarks.coverage.rows import SHOWN, outcome


def test_what_holds_has_no_failure() -> None:
    """Nor has what fails a long one, or one of several lines."""
    assert outcome(lambda: None) == ""

    def fail() -> None:
        raise ValueError("first\nsecond " + "x" * 200)

    assert outcome(fail).startswith("ValueError: first second xxx")
    assert len(outcome(fail)) == SHOWN

    def silent() -> None:
        raise AssertionError

    assert outcome(silent) == "AssertionError: no message"
