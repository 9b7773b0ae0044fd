"""Write the features of real images that `benchmarks.frechet` compares generated ones with.

Run from the root of a checkout, with the data that `benchmarks.reference.data` fetched:

    python -m benchmarks.reference.features --data FOLDER
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.command_line import CommandLine
from benchmarks.frechet import save_features
from benchmarks.metrics import Features
from benchmarks.reference import data
from benchmarks.reference.models import WEIGHTS

FASHION_IMAGES = 4000


def main(argv: Sequence[str] | None = None) -> None:
    """Write those of Fashion-MNIST's first test images, and of every base emoji."""
    made = CommandLine(__doc__, {}, WEIGHTS)
    data.add_option(made)
    options = made.read(argv)
    folder, lite0 = data.folder_of(options), Features.lite0()
    real = {
        "fashion": data.fashion("test", folder)[0][:FASHION_IMAGES, None],
        "emoji": data.emoji(folder)[0],
    }
    for name, images in real.items():
        about = {
            "images": f"{name} {tuple(images.shape)}",
            "features": "EfficientNet-Lite0, block 10, 64 pixels",
        }
        save_features(options.out / f"{name}-features.safetensors", lite0(images / 127.5 - 1), about)


if __name__ == "__main__":
    main()
