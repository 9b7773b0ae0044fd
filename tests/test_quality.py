"""The benchmark of quality: rows, resuming, errors, and the budgets of its own searches."""

import csv
from pathlib import Path

import pytest
import torch

from benchmarks import ablations, pictures, plans, quality
from benchmarks.book import Book
from benchmarks.cases import Case
from dipgo_fx import Plan

COLUMNS = (
    "model,scheduler,steps,method,ratio_asked,macs_kept,macs_kept_without_attention,psnr_db,ssim,"
    "feature_distance,fid_like,fid_like_low,fid_like_high,kid_like,class_accuracy,seconds_per_run,"
    "search_full_runs,seed,error"
)
METHODS = ("fewer steps", "DeepCache", "uniform, reuse", "dipgo_fx default")
STEPS, RATIO = 4, 0.5


def tiny(out: Path, *methods: str) -> None:
    """Run the smoke benchmark, smaller still."""
    options = quality.arguments(["--smoke", "--out", str(out)])
    vars(options).update(models=["digits-dit"], methods=methods, ratios=[RATIO], steps=[STEPS], full_runs=2.0)
    book = quality.run(options)
    (out / "quality.md").write_text(quality.markdown(book.rows()))
    quality.draw(book, out)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of one run."""
    folder = tmp_path_factory.mktemp("quality")
    tiny(folder, *METHODS)
    return folder


@pytest.fixture(scope="module")
def case() -> Case:
    """A case whose searches take seconds."""
    return Case("digits-dit", STEPS, samples=4)


def cells(folder: Path) -> dict[str, dict[str, str]]:
    """Return the CSV's rows by method."""
    with (folder / "quality.csv").open(newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_every_measurement_is_a_row_with_all_columns(out: Path) -> None:
    """The file has the agreed columns, and one row for every method."""
    assert (out / "quality.csv").read_text().splitlines()[0] == COLUMNS
    rows = cells(out)
    assert set(rows) == {"unpruned", *METHODS}
    for method in ("fewer steps", "uniform, reuse", "dipgo_fx default"):
        row = rows[method]
        assert 0 < float(row["macs_kept"]) <= 1 - RATIO + 0.0125
        assert float(row["psnr_db"]) > 5
        assert 0 < float(row["ssim"]) < 1
        assert 0 <= float(row["class_accuracy"]) <= 1
        assert float(row["seconds_per_run"]) > 0
        assert row["error"] == row["fid_like"] == ""
    assert float(rows["unpruned"]["psnr_db"]) == float("inf")
    assert float(rows["unpruned"]["macs_kept"]) == 1


def test_a_package_that_cannot_run_leaves_its_own_words(out: Path) -> None:
    """The error is in the row and in the tables, and nothing else is."""
    row = cells(out)["DeepCache"]
    assert row["error"].startswith("AttributeError: ")
    assert "DiTTransformer2DModel" in row["error"]
    assert row["macs_kept"] == row["psnr_db"] == row["search_full_runs"] == ""
    assert row["error"] in (out / "quality.md").read_text()


def test_what_is_there_is_not_measured_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run changes nothing; one with another method measures."""

    def fail(*args: object) -> None:
        raise AssertionError("measured again")

    before = (out / "quality.csv").read_text()
    monkeypatch.setattr(quality, "Measurement", fail)
    tiny(out, *METHODS)
    assert (out / "quality.csv").read_text() == before
    with pytest.raises(AssertionError, match="measured again"):
        tiny(out, "uniform, linear")


def test_files_of_other_processes_merge_once(out: Path, tmp_path: Path) -> None:
    """Merging adds what is missing and nothing twice."""
    book = Book(tmp_path / "quality.csv", quality.Row)
    assert book.merge(out / "quality.csv") == 1 + len(METHODS)
    assert book.merge(out / "quality.csv") == 0
    assert book.rows() == Book(out / "quality.csv", quality.Row).rows()


def test_tables_and_pictures_show_the_best_of_each_column(out: Path) -> None:
    """The highest PSNR is bold, and there are pictures."""
    text = (out / "quality.md").read_text()
    best = max(
        float(row["psnr_db"]) for row in cells(out).values() if row["ratio_asked"] == "0.5" and row["psnr_db"]
    )
    assert f"**{best:.2f}**" in text
    assert {file.suffix for file in out.iterdir() if file.is_file()} == {".csv", ".md", ".png"}


def test_rows_survive_the_file(tmp_path: Path) -> None:
    """What is written is what is read, commas and line breaks included."""
    row = quality.Row("m", "DDIM", 20, "a, b", 0.5, psnr_db=float("inf"), error='TypeError: "x"\nsecond line')
    book = Book(tmp_path / "quality.csv", quality.Row)
    book.add(row)
    assert book.rows() == [row]


@pytest.mark.parametrize("search", [plans.random_search, plans.genetic_search])
def test_searches_stay_within_their_budget_and_are_seeded(
    search: object, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search spends what it may and not more, and finds the same table again."""
    monkeypatch.setattr(plans, "POPULATION", 3)
    effort = plans.Effort(full_runs=2.0, scale=2.0)
    first, second = (search(case, RATIO, effort) for _ in range(2))  # type: ignore[operator]
    assert torch.equal(first.plan.keep, second.plan.keep)
    assert first.plan.ratio >= RATIO
    assert 2 < first.full_runs * 48 / case.samples <= 4
    with pytest.raises(ValueError, match="less than one evaluation"):
        search(case, RATIO, plans.Effort(full_runs=1.2))  # type: ignore[operator]


def test_held_out_inputs_are_not_those_of_calibration(case: Case) -> None:
    """No search sees the noise that results are measured on."""
    noises = [case.inputs(4, held_out).sample for held_out in (False, True)]
    assert not torch.equal(*noises)
    assert not torch.equal(noises[1], case.arena().batch.sample)


def test_ablations_share_searches_and_resume(tmp_path: Path) -> None:
    """Two studies with the same settings search once, and rows that are there are not measured again."""
    lab = ablations.Lab(
        "digits-dit", STEPS, 0, plans.Effort(2.0, paper_iterations=1), samples=4, calibration=4
    )
    chosen = [v for v in ablations.variants() if (v.name, v.recipe) in (("ssim", "paper"), ("1", "paper"))]
    book = Book(tmp_path / "ablations.csv", ablations.Row)
    ablations.measure(lab, book, chosen, [RATIO])
    rows = book.rows()
    assert [row.study for row in rows] == ["consistency loss", "sparsity weight alpha"]
    assert rows[0].psnr_db == rows[1].psnr_db
    assert rows[0].search_seconds == rows[1].search_seconds
    ablations.measure(lab, book, chosen, [RATIO])
    assert book.rows() == rows
    assert f"| {rows[0].psnr_db} |" in ablations.markdown(rows)


def test_pictures_of_plans_tell_what_runs_from_what_nobody_reads(case: Case) -> None:
    """A skipped step repeats its output head; the blocks before it are dead."""
    keep = torch.ones(STEPS, len(case.loop().blocks), dtype=torch.bool)
    keep[1] = False
    table = ablations.kinds(case, Plan.from_keep(case.loop(), keep))
    names = [[pictures.KINDS[kind] for kind in row] for row in table.tolist()]
    assert set(names[0]) == {"runs"}
    assert set(names[1][:-1]) == {"dead"}
    assert names[1][-1] == "repeats"


def test_block_outputs_are_like_themselves(case: Case) -> None:
    """A similarity map is symmetric with a diagonal of 1, and the model keeps no hook."""
    for values in ablations.similarities(case, samples=2).values():
        assert values.shape == (STEPS, STEPS)
        torch.testing.assert_close(values, values.T)
        torch.testing.assert_close(values.diagonal(), torch.ones(STEPS))
    assert not any(module._forward_hooks for module in case.model.modules())


def test_seeds_are_not_mixed() -> None:
    """Tables compare methods on one seed's noise; the spread over seeds stands apart."""
    rows = [
        quality.Row("m", "DDIM", 20, method, 0.5, macs_kept=0.5, psnr_db=psnr, seed=seed)
        for method, psnr, seed in (("ours", 30.0, 0), ("theirs", 29.0, 0), ("ours", 40.0, 1))
    ]
    text = quality.markdown(rows)
    assert "| ours | **30.00** |" in text
    assert "| theirs | 29.00 |" in text
    assert "| ours | 35.0 (30.0 to 40.0) |" in text
    assert "| theirs | 29.0" not in text.split("over seeds")[1]
