"""What every test shares: one thread, repeatable properties, no network, no display."""

import os
import sys
from pathlib import Path

import torch
from hypothesis import settings

# For `import benchmarks`. Appended, not prepended: the installed dipgo_fx has to win over the folder here.
sys.path.append(str(Path(__file__).resolve().parents[1]))

# Read when diffusers and matplotlib are imported, which no conftest does.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# Models here are too small to share among threads; another number shows what hangs on how sums are split.
torch.set_num_threads(int(os.environ.get("DIPGO_FX_THREADS", "1")))

settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("ci")
