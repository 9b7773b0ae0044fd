"""Write the features of real images that `benchmarks.metrics` compares generated ones with.

Run from the root of a checkout, with the data that `benchmarks.reference.data` fetched:

    python -m benchmarks.reference.features --data FOLDER
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.command_line import parse, parser
from benchmarks.metrics import WEIGHTS, Features, save_features
from benchmarks.reference import data

FASHION_IMAGES = 4000


def main(argv: Sequence[str] | None = None) -> None:
    """Write those of Fashion-MNIST's first test images, and of every base emoji."""
    made = parser(__doc__, WEIGHTS)
    made.add_argument("--data", type=Path, required=True, help="where benchmarks.reference.data put it")
    options = parse(made, argv)
    lite0 = Features.lite0()
    real = {
        "fashion": data.fashion("test", options.data)[0][:FASHION_IMAGES, None],
        "emoji": data.emoji(options.data)[0],
    }
    for name, images in real.items():
        about = {
            "images": f"{name} {tuple(images.shape)}",
            "features": "EfficientNet-Lite0, block 10, 64 pixels",
        }
        save_features(options.out / f"{name}-features.safetensors", lite0(images / 127.5 - 1), about)


if __name__ == "__main__":
    main()
