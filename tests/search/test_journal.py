"""A search that was stopped goes on from its journal, to the same plan."""

from __future__ import annotations

import copy
import errno
import math
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

import dipgo_fx
import stopped_search
import zoo
from benchmarks.coverage import pipelines
from dipgo_fx import PaperConfig, Plan, PruneConfig
from dipgo_fx.cost import LoopCost
from dipgo_fx.search import journal as journals
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.journal import FIRST_LINE, Journal, fingerprint
from searches import candidate, case
from stopped_search import found

DEFAULT = PruneConfig(samples=9, full_runs=14)
PAPER = PaperConfig(samples=3, iterations=6, width=16, learning_rate=0.5)


def same(one: Plan, other: Plan, folder: Path) -> bool:
    """Tell whether two plans are the same to the last bit of their files, but for the seconds they took."""
    files = []
    for number, plan in enumerate((one, other)):
        plan.origin["seconds"] = 0
        plan.save(folder / f"{number}.json")
        files.append((folder / f"{number}.json").read_text())
    return files[0] == files[1]


def ends(journal: Path) -> list[int]:
    """Return where the records of a journal end."""
    text, place, found = journal.read_bytes(), len(FIRST_LINE), []
    while place < len(text):
        place += 40 + int.from_bytes(text[place : place + 8], "little")
        found.append(place)
    return found


@pytest.fixture(scope="module", params=[DEFAULT, PAPER], ids=["default", "paper"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Plan]:
    """A config, the journal of a search that came to its end, and its plan."""
    journal = tmp_path_factory.mktemp("whole") / "journal"
    return request.param, journal, found(journal, request.param)


def test_a_journal_changes_nothing(whole: tuple[Any, Path, Plan], tmp_path: Path) -> None:
    """The plan is that of a search without one."""
    config, _, plan = whole
    assert same(found(None, config), plan, tmp_path)


def test_a_search_goes_on_from_anywhere(whole: tuple[Any, Path, Plan], tmp_path: Path) -> None:
    """However far it was written: after a record, within one, within the first line, or not at all."""
    config, journal, plan = whole
    places, size = ends(journal), journal.stat().st_size
    assert places[-1] == size
    assert len(places) > 6
    drawn = random.Random(0)
    cuts = [7, len(FIRST_LINE), places[0] - 3, places[1], drawn.randrange(places[1], size), size - 1]
    for cut in cuts:
        stopped = tmp_path / "stopped"
        stopped.write_bytes(journal.read_bytes()[:cut])
        assert same(found(stopped, config), plan, tmp_path)
        assert ends(stopped) == places


def test_what_is_noted_is_not_measured_again(
    whole: tuple[Any, Path, Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished search that is called again runs the unpruned loop on one sample, to know it again."""
    config, journal, plan = whole
    copy = shutil.copy(journal, tmp_path / "copy")

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the model ran")

    monkeypatch.setattr("dipgo_fx.search.chunks.Chunks.map", fail)
    monkeypatch.setattr("dipgo_fx.search.chunks.Chunks.retried", fail)
    monkeypatch.setattr("dipgo_fx.search.paper.descend", fail)
    monkeypatch.setattr("dipgo_fx.search.evaluator.Evaluator.subnet", fail)
    assert same(found(Path(copy), config), plan, tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": PruneConfig(samples=9, full_runs=13)}, "config.full_runs is 14.0 there and 13.0 here"),
        ({"ratio": 0.5}, "share to keep is 0.4 there and 0.5 here"),
        ({"scheduler": diffusers.DDIMScheduler(beta_schedule="scaled_linear")}, "graph is "),
        ({"generator": torch.Generator().manual_seed(3)}, "seed is 0 there and 3 here"),
        ({"num_inference_steps": 4}, "loop is "),
        ({"model": zoo.model("unet")}, "loop is .*weights is "),
    ],
)
def test_the_journal_of_another_search_is_refused(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    """What differs is named, and the journal stays as it was."""
    journal = tmp_path / "journal"
    cut_off(journal)
    before = journal.read_bytes()
    with pytest.raises(ValueError, match=named):
        found(journal, **{"config": DEFAULT, **change})
    assert journal.read_bytes() == before


def cut_off(journal: Path) -> None:
    """Write the journal of a search that was stopped after its first measurement."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dipgo_fx.search.evaluator.Evaluator.evaluate", _stop)
        with pytest.raises(KeyboardInterrupt):
            found(journal)
    assert len(ends(journal)) == 3


def _stop(*args: Any, **kwargs: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("changed", [lambda samples: 2 * samples, None])
def test_a_function_or_setting_that_changed_is_refused(changed: Any, tmp_path: Path) -> None:
    """No text tells one function, or what Python computes in a layer, from another: what they make does."""
    journal, model = tmp_path / "journal", copy.deepcopy(zoo.model("dit"))
    config = PruneConfig(samples=9, full_runs=14, decode=changed and (lambda samples: samples))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dipgo_fx.search.evaluator.Evaluator.evaluate", _stop)
        with pytest.raises(KeyboardInterrupt):
            found(journal, config, model)
    if changed is None:
        model.transformer_blocks[0].register_forward_hook(lambda block, args, made: 1.5 * made)
    with pytest.raises(
        ValueError, match=r"the journal of another search: .* first sample is not what it was"
    ):
        found(journal, replace(config, decode=changed), model)


def test_other_calibration_is_refused(tmp_path: Path) -> None:
    """It is known by the inputs of the unpruned run."""
    journal = tmp_path / "journal"
    cut_off(journal)
    with pytest.raises(ValueError, match="the unpruned path of the first sample is not what it was"):
        found(journal, calibration={"class_labels": torch.ones(9, dtype=torch.int64)})


def test_what_is_not_finite_is_no_change(tmp_path: Path) -> None:
    """NaN is what it was if it is NaN again; by how much a value may be off goes by the finite ones."""
    value = torch.tensor([1.0, math.nan, math.inf, -math.inf])
    for _ in range(2):
        with Journal(tmp_path / "journal") as journal:
            journal.check("it", lambda: value)
    for place, other in ((0, 2.0), (0, math.nan), (1, 1.0), (2, 1.0), (2, -math.inf)):
        changed = value.clone()
        changed[place] = other
        with (
            Journal(tmp_path / "journal") as journal,
            pytest.raises(ValueError, match="it is not what it was"),
        ):
            journal.check("it", changed.clone)


def test_a_model_of_nan_is_no_fault_of_the_journal(tmp_path: Path) -> None:
    """The error is that of a search without one, also when it is tried again."""
    model = copy.deepcopy(zoo.model("dit"))
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    for _ in range(2):
        with pytest.raises(ValueError, match="the unpruned loop returns values that are not finite"):
            found(tmp_path / "journal", model=model)


@pytest.mark.parametrize("text", [b"a file of somebody", b"dipgo_fx journal of a search, format 9\n"])
def test_a_file_that_is_no_journal_is_left_alone(text: bytes, tmp_path: Path) -> None:
    """Nothing is written over it."""
    (tmp_path / "file").write_bytes(text)
    with pytest.raises(ValueError, match="is no journal of a search: name another file"):
        found(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == text


def test_a_journal_in_use_is_refused(tmp_path: Path) -> None:
    """Two searches that write into one file would spoil it."""
    pytest.importorskip("fcntl")
    with (
        Journal(tmp_path / "journal"),
        pytest.raises(ValueError, match="of a search that is running"),
        Journal(tmp_path / "journal"),
    ):
        pass


@pytest.mark.parametrize("path", ["missing/journal", "."])
def test_where_nothing_can_be_written_is_told_first(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the model runs."""
    monkeypatch.setattr("dipgo_fx.search.chunks.Chunks.map", _stop)
    with pytest.raises(OSError, match=r"journal|directory"):
        found(tmp_path / path)


def test_a_damaged_record_is_told_not_cut_off(whole: tuple[Any, Path, Plan], tmp_path: Path) -> None:
    """What follows it may be hours of work."""
    config, journal, _ = whole
    damaged, content = tmp_path / "damaged", bytearray(journal.read_bytes())
    content[ends(journal)[4] - 1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match="a journal is damaged from byte"):
        found(damaged, config)
    assert damaged.read_bytes() == content


def test_where_no_file_can_be_locked_a_search_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on some network file systems; it says so."""
    fcntl = pytest.importorskip("fcntl")

    def without(*args: Any) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", without)
    with Journal(tmp_path / "journal") as journal:
        assert journal.once("a", lambda: {"a": torch.ones(1)})["a"] == 1
    assert "cannot be locked here" in caplog.text


def test_half_a_record_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk is full in the middle of one."""
    file, write = tmp_path / "journal", journals._write

    def half(stream: Any, content: bytes) -> None:
        write(stream, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(file) as journal:
        before = file.read_bytes()
        monkeypatch.setattr(journals, "_write", half)
        with pytest.raises(OSError, match="No space left"):
            journal.once("a", lambda: {"a": torch.ones(1)})
        assert file.read_bytes() == before


def test_memory_is_as_short_as_it_was(tmp_path: Path) -> None:
    """A search that halved its chunks goes on with what it had come to."""
    graph, batch = case()
    with Journal(tmp_path / "journal") as journal:
        evaluator = Evaluator(graph, LoopCost.of(graph), batch, PruneConfig(chunk=4), journal=journal)
        evaluator.chunks.size = 2
        evaluator.evaluate(candidate(graph, (0, 3)))
    with Journal(tmp_path / "journal") as journal:
        again = Evaluator(graph, LoopCost.of(graph), batch, PruneConfig(chunk=4), journal=journal)
        again.evaluate(candidate(graph, (0, 3)))
        assert again.chunks.size == 2


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says so, and the search goes on when there is room again."""
    journal, synced = tmp_path / "journal", list[int]()
    sync = os.fsync

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left .* kept, and the same call with this journal goes on"):
        found(journal)
    assert len(ends(journal)) == 3
    assert same(found(journal), found(None), tmp_path)


def test_a_pipelines_search_goes_on(tmp_path: Path) -> None:
    """From half of its journal, to the same plan."""

    def search(journal: Path | None) -> Plan:
        pipe = pipelines.PIPELINES["sd-text"].build()
        config = PruneConfig(samples=4, full_runs=5)
        asked: dict[str, Any] = {"config": config, "progress": False, "num_inference_steps": 3}
        return dipgo_fx.prune_pipeline(pipe, 0.5, prompts=["a", "b"], journal=journal, **asked)

    journal = tmp_path / "journal"
    plan = search(journal)
    os.truncate(journal, ends(journal)[3] + 5)
    assert same(search(journal), plan, tmp_path)


def test_a_fingerprint_tells_tensors_apart() -> None:
    """By shape, dtype and values; without storage by shape and dtype."""
    one = torch.arange(4.0)
    others = [one.clone(), one.view(2, 2), one.double(), one + 1, one.to("meta"), one.to("meta").view(2, 2)]
    assert [fingerprint([other]) == fingerprint([one]) for other in others] == [True, *[False] * 5]
    assert fingerprint([others[-1]]) != fingerprint([others[-2]])


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes that were forked")
def test_a_search_that_is_killed_goes_on(tmp_path: Path) -> None:
    """Killed at 20 moments, of new searches and of those that went on; then it ends, with the same plan."""
    journal = tmp_path / "journal"
    subprocess.run([sys.executable, "-W", "ignore", stopped_search.__file__, str(journal), "20"], check=True)
    assert same(found(journal), found(None), tmp_path)
