"""What each idea is worth alone: combinations, their plans, and differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from benchmarks.cases import Case
from benchmarks.factorial import designs as named
from benchmarks.factorial.__main__ import main
from benchmarks.factorial.designs import LEVELS, Design, designs, ideas
from benchmarks.factorial.forecasting import grams_of
from benchmarks.factorial.measuring import Combinations
from benchmarks.factorial.placing import runs_of, thinned
from benchmarks.factorial.tables import parts
from benchmarks.metrics import ImageErrors
from benchmarks.plans import Effort, OutOfReachError
from benchmarks.plans.unpruned_fits import gram_of, predictions
from benchmarks.quality.image_store import ImageStore
from benchmarks.quality.rows import Row

RATIO = 0.5
PLAINEST = Design(*(levels[0] for levels in LEVELS.values()))


@pytest.fixture(scope="module")
def combinations() -> Combinations:
    """Six steps of the digits transformer under guidance."""
    return Combinations(Case("digits-dit", 6, samples=8, guidance=2.0), Effort(2.0))


def test_pairs_differ_in_one_choice() -> None:
    """All combinations have names of their own, and every choice but the plainest is compared."""
    assert len({design.name for design in designs()}) == 3 * 5 * 2 * 2
    assert len(designs(guided=False)) == 3 * 5 * 2
    for idea in ideas():
        for one, other in idea.pairs:
            differing = [
                field.name
                for field in fields(Design)
                if getattr(one, field.name) != getattr(other, field.name)
            ]
            assert len(differing) == 1
            assert (getattr(one, differing[0]), getattr(other, differing[0])) == (idea.level, idea.before)
    assert {idea.level for idea in ideas()} == {level for levels in LEVELS.values() for level in levels[1:]}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"forecast": named.NEWTON, "calls": named.HALVES},
        {"forecast": named.FITTED, "calls": named.HALVES, "places": named.SENSITIVE},
        {"forecast": named.STEERED, "parts": named.BLOCKS},
        {"forecast": named.FITTED, "parts": named.BLOCKS},
        {"forecast": named.LINEAR, "places": named.FOUND},
    ],
    ids=str,
)
def test_plans_are_what_their_names_say(combinations: Combinations, changes: dict[str, str]) -> None:
    """And keep no more than was asked for."""
    design = replace(PLAINEST, **changes)
    plan = combinations.find(design, RATIO).plan
    assert plan.ratio >= RATIO - 1e-9
    assert plan.facts.guidance.split == (design.calls == named.HALVES)
    calls = plan.keep.view(len(plan.keep), len(plan.facts.guidance.calls), -1)
    assert bool(calls.all(-1).equal(calls.any(-1))) == (design.parts == named.WHOLE)
    assert (plan.history == 1) == (design.forecast == named.REUSE)


def test_combinations_that_share_a_measurement_pay_alike(combinations: Combinations) -> None:
    """What is made once is charged to each."""
    design = replace(PLAINEST, places=named.SENSITIVE)
    costs = [combinations.find(design, RATIO).full_runs for _ in range(2)]
    assert costs[0] == pytest.approx(costs[1])


def test_what_there_is_not_is_out_of_reach(combinations: Combinations) -> None:
    """Outer blocks at all steps keep more than so little."""
    with pytest.raises(OutOfReachError, match=r"no blocks keep 0\.17"):
        combinations.find(replace(PLAINEST, parts=named.BLOCKS), 0.83)


def test_values_of_blocks_are_those_of_the_unpruned_loop() -> None:
    """Without guidance the head's are what the scheduler gets."""
    case = Case("digits-dit", 4, samples=3)
    evaluator = case.evaluator()
    (head,) = evaluator.cost.reads.heads
    found = grams_of(evaluator, [head, 0])
    assert set(found) == {head, 0}
    channels = gram_of(predictions(case, evaluator.batch))
    assert found[head].shape == channels.shape == (4, 4)
    assert bool((torch.linalg.eigvalsh(found[0]) > -1e-9).all())


def test_steps_are_thinned_evenly() -> None:
    """With the first, and all of them are steps of the other call."""
    assert thinned((0, 2, 4, 7, 9), 2) == (0, 4)
    for uneven, every in runs_of((2, 4), 12, None):
        assert len(uneven) == 2
        assert len(every) == 4
        assert set(uneven) <= set(every)
    assert all(runs == (runs[0],) * 2 for runs in runs_of((4, 4), 12, None))


# -- differences


def errors(level: float, count: int = 8) -> ImageErrors:
    """Return errors of images around a level."""
    made = level * (1 + torch.rand(count, generator=torch.Generator().manual_seed(0)).double())
    return ImageErrors(made, made, 1 - made, made, torch.ones(count).double(), made)


def kept(
    folder: Path, levels: dict[Design, float], seeds: Sequence[int] = (0, 1)
) -> tuple[list[Row], ImageStore]:
    """Return rows and errors of combinations."""
    store, rows = ImageStore(folder, "factorial-images"), []
    for design, level in levels.items():
        for seed in seeds:
            rows.append(
                Row("digits-dit", "DDIM", 6, design.name, RATIO, macs_kept=0.5, psnr_db=1.0, seed=seed)
            )
            store.add(rows[-1], errors(level))
    return rows, store


def test_a_difference_is_that_of_pairs_alone(tmp_path: Path) -> None:
    """Ten times smaller errors are 10 dB; what has no partner does not count."""
    linear, blocks = replace(PLAINEST, forecast=named.LINEAR), replace(PLAINEST, parts=named.BLOCKS)
    alone = replace(PLAINEST, places=named.FOUND, forecast=named.NEWTON)
    rows, store = kept(tmp_path, {PLAINEST: 1e-3, linear: 1e-4, blocks: 1e-3, alone: 1e-9})
    (section,) = parts(rows, store)
    assert section.title == "digits-dit, DDIM, 6 steps, 50% kept"
    choices, every = section.tables
    told = {(line["choice"], line["among"]): line for line in choices.rows}
    assert set(told) == {("linear", "all"), ("linear", "whole steps"), ("blocks", "all")}
    line = told["linear", "all"]
    assert (line["pairs"], line["seeds"]) == (1, 2)
    assert line["PSNR, all images together"].startswith("+10.0 (+")
    assert line["PSNR, all images together"].endswith(" won")
    assert told["blocks", "all"]["PSNR, all images together"].endswith(" open")
    assert len(every.rows) == 4


def test_pairs_are_averaged_over_common_seeds(tmp_path: Path) -> None:
    """A seed that one of the pairs lacks is left out for all."""
    forecasts = {named.REUSE: 1e-3, named.LINEAR: 1e-4}
    levels = {replace(PLAINEST, forecast=name): level for name, level in forecasts.items()}
    blocks = {replace(design, parts=named.BLOCKS): 1e-3 for design in levels}
    rows, store = kept(tmp_path, levels)
    more, _ = kept(tmp_path, blocks, seeds=(1,))
    (section,) = parts([*rows, *more], store)
    line = next(line for line in section.tables[0].rows if line["choice"] == "linear")
    assert (line["pairs"], line["seeds"]) == (2, 1)
    assert line["PSNR, all images together"].startswith("+5.0 (")
    assert line["of pairs, PSNR"] == "+0.0 to +10.0"


def test_no_pairs_no_line(tmp_path: Path) -> None:
    """Of one combination nothing is said."""
    rows, store = kept(tmp_path, {PLAINEST: 1e-3})
    (section,) = parts(rows, store)
    assert [table.title for table in section.tables] == ["All combinations"]


@pytest.mark.long
def test_what_is_there_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run changes nothing."""
    words = ["--smoke", "--out", str(tmp_path)]
    main(words)
    before = (tmp_path / "factorial.csv").read_text()

    def refuse(*args: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("benchmarks.factorial.measuring.Measurement", refuse)
    main(words)
    assert (tmp_path / "factorial.csv").read_text() == before
    assert len(before.splitlines()) == 1 + len(designs(guided=False))
