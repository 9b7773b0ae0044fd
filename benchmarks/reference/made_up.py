"""Random data in the form of the real one: what smoke runs and tests learn from."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from benchmarks.reference.models import CLASSES, PROMPT_TOKENS, PROMPT_WIDTH

IMAGES = {"train": 40, "t10k": 20}
EMOJI = 40
PIXELS = 64
SEED = 0


def write_fashion(folder: Path) -> None:
    """Write images and labels as Fashion-MNIST has them."""
    folder.mkdir(parents=True, exist_ok=True)
    source = np.random.default_rng(SEED)
    for stem, count in IMAGES.items():
        images = source.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(folder / f"{stem}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{stem}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % len(CLASSES))


def write_idx(file: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """Write an array in the IDX format: two zeros, type 8, dimensions, then each size as 4 bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    file.write_bytes(gzip.compress(bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()))


def write_mnist(file: Path) -> None:
    """Write digits as lines of 784 pixels and a label."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(SEED).integers(0, 256, (IMAGES["train"], 784))
    labels = np.arange(IMAGES["train"]) % len(CLASSES)
    np.savetxt(file, np.column_stack([pixels, labels]), fmt="%d", delimiter=",")


def write_emoji(folder: Path) -> list[str]:
    """Write pictures with names as Google's emoji have them; return the names."""
    pictures = folder / "img" / "google" / "64"
    pictures.mkdir(parents=True, exist_ok=True)
    source = np.random.default_rng(SEED)
    entries = []
    for index in range(EMOJI):
        image = Image.fromarray(source.integers(0, 256, (PIXELS, PIXELS, 4), dtype=np.uint8))
        image.save(pictures / f"{index}.png")
        entries.append({"name": f"EMOJI {index}", "image": f"{index}.png", "has_img_google": True})
    (folder / "emoji.json").write_text(json.dumps(entries), encoding="utf-8")
    return [entry["name"].lower() for entry in entries]


def write_states(file: Path, count: int) -> None:
    """Write what stands for the text encoder's states of so many names."""
    shape = (count, PROMPT_TOKENS, PROMPT_WIDTH)
    states = np.random.default_rng(SEED).standard_normal(shape).astype(np.float16)
    save_file({"states": states}, file)
