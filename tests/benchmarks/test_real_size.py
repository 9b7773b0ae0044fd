"""What the command line asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.real_size import __main__ as script
from benchmarks.real_size.rows import merge_rows, speed_row


def test_a_gpu_is_asked_for_what_it_is_good_at(tmp_path: Path) -> None:
    """Compiling and events; the search is a CPU's, whose clock is the wall's."""
    cpu = script.arguments(["--out", str(tmp_path)])
    assert (cpu.clock, cpu.compile, cpu.parts) == ("wall", False, [*script.PARTS])
    gpu = script.arguments(["--out", str(tmp_path), "--device", "cuda"])
    assert (gpu.clock, gpu.compile, gpu.parts) == ("events", True, ["speed", "guidance", "memory"])
    asked = script.arguments(
        ["--out", str(tmp_path), "--device", "cuda", "--no-compile", "--parts", "search"]
    )
    assert (asked.compile, asked.parts) == (False, ["search"])


def test_a_model_that_has_rows_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--resume`, on the same device and in the same dtype."""
    built: list[str] = []

    def build(key: str, *rest: object) -> None:
        built.append(key)
        raise InterruptedError

    monkeypatch.setattr(script.Subject, "of", build)
    about = {"device": "cpu", "dtype": "float32", "steps": 10, "batch": 1}
    merge_rows(tmp_path, [speed_row(model="SD-1.5, 32 x 32", method="eager loop", **about)])
    for words in (["--resume"], ["--resume", "--dtype", "bfloat16"], []):
        options = script.arguments(["--out", str(tmp_path), "--parts", "speed", *words])
        if words == ["--resume"]:
            script.measure_speed("sd15", options)
            assert built == []
        else:
            with pytest.raises(InterruptedError):
                script.measure_speed("sd15", options)
    assert built == ["sd15", "sd15"]
