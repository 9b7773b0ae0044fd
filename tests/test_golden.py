"""Searches, plans and samples are what they were, bit for bit, where the processor rounds as it did."""

from __future__ import annotations

import json

import pytest

import golden

RECORDS = json.loads(golden.FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def known() -> dict[str, dict[str, object]]:
    """What was recorded under this processor's rounding."""
    found = RECORDS.get(golden.rounding())
    if found is None:
        pytest.skip("this processor rounds otherwise than those the records were made on")
    return dict(found)


@pytest.mark.long
@pytest.mark.parametrize("case", golden.CASES)
def test_a_case_gives_what_it_gave(known: dict[str, dict[str, object]], case: str) -> None:
    """Plan, frontier, scores, cost of the search and samples."""
    if case not in known:
        pytest.skip("this case was not recorded under this processor's rounding since it changed")
    assert golden.record(case) == known[case]


def test_records_hold_every_case() -> None:
    """No case is without a record, and no record without a case."""
    recorded = [set(record) for record in RECORDS.values()]
    assert set().union(*recorded) == set(golden.CASES)
