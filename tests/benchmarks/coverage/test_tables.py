"""The page of the coverage: what holds of which class, and why not."""

from __future__ import annotations

from benchmarks.coverage import tables
from benchmarks.coverage.checks import CHECKS
from benchmarks.coverage.rows import Row


def _case(name: str, case: str, denoiser: str, **failures: str) -> list[Row]:
    return [
        Row("pipeline", name, case, check, denoiser, failures.get(check, "")) for check in ("built", *CHECKS)
    ]


ROWS = [
    *_case("SomePipeline", "some", "SomeUNet", compiled="a graph break", searchable="no latents"),
    *_case("SomePipeline", "some-text", "SomeUNet", searchable="one sample"),
    *_case("OtherPipeline", "other", "OtherTransformer", enabled="too odd", compiled="too odd"),
    Row("pipeline", "OnnxPipeline", "", "built", "", "ONNX"),
    Row("denoiser", "MusicModel", "", "built", "", "modular only"),
    Row("scheduler", "OddScheduler", "OddScheduler", "built", "", "no tiny pipeline runs with it"),
    Row("scheduler", "EulerScheduler", "EulerScheduler", "built", "SomeUNet", ""),
    Row("scheduler", "EulerScheduler", "EulerScheduler", "enabled", "SomeUNet", ""),
]


def test_a_class_counts_where_one_of_its_pipelines_does() -> None:
    """Each kind has its own classes; those without a tiny pipeline are classes too."""
    pipelines, denoisers, schedulers = tables.counts(ROWS).rows
    assert pipelines == {
        "kind": "pipelines",
        "classes": 3,
        "built": 2,
        "traced": 2,
        "enabled": 1,
        "compiled": 1,
        "searchable": 1,
    }
    assert (denoisers["classes"], denoisers["built"], denoisers["enabled"]) == (3, 2, 1)
    assert (schedulers["classes"], schedulers["built"], schedulers["enabled"]) == (2, 1, 1)


def test_a_shortfall_has_its_reason() -> None:
    """Of what no pipeline of the class does, and of classes that could not be tried."""
    shown, absent = tables.of_classes(ROWS, "pipelines")
    other, some = shown.rows
    assert (some["pipeline"], some["tiny pipelines"]) == ("SomePipeline", "some, some-text")
    assert (some["compiled"], some["searchable"], some["why not"]) == ("yes", "no", "no latents; one sample")
    assert (other["enabled"], other["why not"]) == ("no", "too odd")
    assert absent.rows == [{"pipeline": "OnnxPipeline", "why": "ONNX"}]
    (odd,) = tables.of_classes(ROWS, "schedulers")[1].rows
    assert odd == {"scheduler": "OddScheduler", "why": "no tiny pipeline runs with it"}
