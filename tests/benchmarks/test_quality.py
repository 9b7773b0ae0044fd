"""The benchmark of quality: rows, resuming, errors, tables."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.quality import measuring, tables
from benchmarks.quality.__main__ import main
from benchmarks.quality.comparing import cells as cells_of
from benchmarks.quality.image_store import ImageStore
from benchmarks.quality.measuring import Stores
from benchmarks.quality.rows import Row
from benchmarks.results_store import ResultStore
from benchmarks.statistics import told
from benchmarks.tables import RESULTS, markdown

COLUMNS = (
    "model,scheduler,steps,method,ratio_asked,macs_kept,macs_kept_without_attention,psnr_db,psnr_mean_db,"
    "psnr_median_db,psnr_low_db,psnr_worst_db,clamped_psnr_db,clamped_psnr_mean_db,clamped_psnr_median_db,"
    "clamped_psnr_low_db,clamped_psnr_worst_db,ssim,feature_distance,converged_psnr_db,"
    "converged_psnr_mean_db,class_accuracy,search_full_runs,search_seconds,search_calls,search_images,"
    "held_out_samples,search_samples,tuning_samples,settings_tried,settings_failed,converged_steps,"
    "row_seconds,guidance,seed,error,device"
)
METHODS = ("fewer steps", "DeepCache", "uniform, reuse")
STEPS, RATIO, SAMPLES, TUNING, CALIBRATION = "4", "0.5", "6", "2", "4"


def tiny(out: Path, *methods: str) -> None:
    """Run the smoke benchmark, smaller still."""
    few = [
        "--samples",
        SAMPLES,
        "--tune",
        TUNING,
        "--calibration",
        CALIBRATION,
        "--full-runs",
        "2",
        "--converged-steps",
        "5",
    ]
    what = ["--models", "digits-dit", "--methods", *methods, "--ratios", RATIO, "--steps", STEPS]
    main(["--smoke", "--plots", "--out", str(out), *few, *what])


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of one run."""
    folder = tmp_path_factory.mktemp("quality")
    tiny(folder, *METHODS)
    return folder


def cells(folder: Path) -> dict[str, dict[str, str]]:
    """Return the CSV's rows by method."""
    with (folder / "quality.csv").open(newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_every_measurement_is_a_row_with_all_columns(out: Path) -> None:
    """The file has the agreed columns, and one row for every method."""
    assert (out / "quality.csv").read_text().splitlines()[0] == COLUMNS
    rows = cells(out)
    assert set(rows) == {"unpruned", *METHODS}
    for method in ("fewer steps", "uniform, reuse"):
        row = rows[method]
        assert 0 < float(row["macs_kept"]) <= 1 - float(RATIO) + 0.0125
        assert float(row["psnr_db"]) > 5
        assert 0 < float(row["ssim"]) < 1
        assert 0 <= float(row["class_accuracy"]) <= 1
        assert row["error"] == row["feature_distance"] == ""
        assert float(row["psnr_worst_db"]) <= float(row["psnr_low_db"]) <= float(row["psnr_median_db"])
        assert float(row["search_calls"]) > 0
        assert float(row["search_images"]) > 0
        assert float(row["row_seconds"]) >= 0
    assert float(rows["unpruned"]["psnr_db"]) == float("inf")
    assert float(rows["unpruned"]["macs_kept"]) == 1


@pytest.mark.parametrize(
    ("method", "counts"),
    [
        ("unpruned", (SAMPLES, "", "")),
        ("fewer steps", (SAMPLES, "", TUNING)),
        ("uniform, reuse", (SAMPLES, CALIBRATION, "")),
        ("DeepCache", (SAMPLES, "", "")),
    ],
)
def test_a_row_says_how_many_samples_it_stands_on(out: Path, method: str, counts: tuple[str, ...]) -> None:
    """Held-out samples, those of a search, and those on which settings were tried."""
    row = cells(out)[method]
    assert (row["held_out_samples"], row["search_samples"], row["tuning_samples"]) == counts


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
    monkeypatch.setattr(measuring, "Measurement", fail)
    tiny(out, *METHODS)
    assert (out / "quality.csv").read_text() == before
    with pytest.raises(AssertionError, match="measured again"):
        tiny(out, "uniform, linear")


def test_statistics_are_those_of_the_images_that_are_kept(out: Path) -> None:
    """So that they can be made again without a run."""
    for row in ResultStore(out / "quality.csv", Row).rows():
        if not row.error:
            errors = ImageStore(out).of(row)
            assert errors is not None
            for name, value in told(errors).items():
                assert getattr(row, name) == (None if value is None else pytest.approx(value, rel=1e-4))


def test_rows_without_images_or_of_fewer_are_measured_again(out: Path) -> None:
    """A row stands for as many images as it has, and an error for as many as it was tried on."""
    row = ResultStore(out / "quality.csv", Row).rows()[0]
    stores = Stores.in_folder(out)
    assert row.key in stores.measured(int(SAMPLES))
    assert stores.measured(int(SAMPLES) + 1) == set()
    assert Stores(stores.rows, ImageStore(out / "elsewhere")).measured(1) == {
        row.key for row in stores.rows.rows() if row.error
    }


def test_distances_need_thousands_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fewer are refused."""
    with pytest.raises(SystemExit):
        main(["--frechet", "96", "--out", str(tmp_path)])
    assert "at least 5000 images, got 96" in capsys.readouterr().err


def test_files_of_other_processes_merge_once(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Merging adds what is missing and nothing twice, and measures nothing."""
    for _ in range(2):
        main(["--out", str(tmp_path), "--merge", str(out / "quality.csv")])
    told = [line for line in capsys.readouterr().out.splitlines() if line.endswith(" new rows")]
    file = out / "quality.csv"
    assert told == [f"{file}: {1 + len(METHODS)} new rows", f"{file}: 0 new rows"]
    assert (tmp_path / "quality.csv").read_text() == (out / "quality.csv").read_text()
    for row in ResultStore(out / "quality.csv", Row).rows():
        assert (ImageStore(tmp_path).of(row) is None) == bool(row.error)


def test_tables_and_pictures_show_what_was_measured(out: Path) -> None:
    """Every method has its value, and there are pictures."""
    text = (out / "quality.md").read_text()
    for method in ("fewer steps", "uniform, reuse"):
        assert f"| {method} | {float(cells(out)[method]['psnr_db']):.2f} |" in text
    assert {file.suffix for file in out.iterdir() if file.is_file()} == {".csv", ".md", ".png"}


OLD_COLUMNS = COLUMNS.replace("guidance,", "")


def as_it_was(out: Path, folder: Path) -> Path:
    """Return a folder with a quality.csv from before the column of guidance."""
    folder.mkdir()
    names = OLD_COLUMNS.split(",")
    with (folder / "quality.csv").open("w", newline="") as file:
        lines = csv.DictWriter(file, names, extrasaction="ignore")
        lines.writeheader()
        lines.writerows(cells(out).values())
    return folder


def test_rows_from_before_guidance_are_those_of_the_models_own(out: Path, tmp_path: Path) -> None:
    """Such a file is read and added to; `--renew` gives it the column, and then it takes other guidance."""
    old = as_it_was(out, tmp_path / "old")
    rows = Stores.in_folder(old).rows
    own = Row("m", "DDIM", 20, "fewer steps", 0.5)
    assert {row.key for row in rows.rows()} == {
        row.key for row in ResultStore(out / "quality.csv", Row).rows()
    }
    rows.add(own)
    assert (old / "quality.csv").read_text().startswith(OLD_COLUMNS)
    with pytest.raises(ValueError, match=r"without guidance: .*renew it"):
        main(["--out", str(old), "--guidance", "5"])
    main(["--out", str(old), "--renew"])
    rows.add(replace(own, guidance=5.0))
    assert (old / "quality.csv").read_text().startswith(COLUMNS)
    assert rows.rows()[-2:] == [own, replace(own, guidance=5.0)]


def test_guidance_has_sections_and_files_of_its_own() -> None:
    """Rows of other guidance are other measurements."""
    own = Row("m", "flow-match Euler", 28, "ours", 0.5, macs_kept=0.5, psnr_db=30.0)
    other = replace(own, guidance=7.5, psnr_db=20.0)
    assert own.key != other.key
    assert (own.stem, other.stem) == ("m-flow-match-euler-28", "m-flow-match-euler-28-guidance7.5")
    text = markdown(tables.TITLE, tables.parts([own, other], ImageStore(Path())))
    assert "## m, flow-match Euler, 28 steps, guidance 7.5" in text
    assert len(cells_of([own, other], ImageStore(Path()))) == 2


def test_seeds_are_not_mixed() -> None:
    """Tables compare methods on one seed's noise; the spread over seeds stands apart."""
    rows = [
        Row("m", "DDIM", 20, method, 0.5, macs_kept=0.5, psnr_db=psnr, seed=seed)
        for method, psnr, seed in (("ours", 30.0, 0), ("theirs", 29.0, 0), ("ours", 40.0, 1))
    ]
    text = markdown(tables.TITLE, tables.parts(rows, ImageStore(Path())))
    assert "| ours | 30.00 |" in text
    assert "| theirs | 29.00 |" in text
    assert "| ours | 35.0 (30.0 to 40.0) |" in text
    assert "| theirs | 29.0" not in text.split("over seeds")[1]


def test_the_stored_tables_are_those_of_the_stored_rows() -> None:
    """After a change of results/quality.csv its tables have to be drawn anew."""
    rows = ResultStore(RESULTS / "quality.csv", Row).rows()
    drawn = markdown(tables.TITLE, tables.parts(rows, ImageStore(RESULTS)), tables.GUIDE)
    stored = (RESULTS / "quality.md").read_text(encoding="utf-8")
    assert drawn.partition("\n\nShares")[2] == stored.partition("\n\nShares")[2]
