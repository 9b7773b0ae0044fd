"""What results are held against: the unpruned loop's images, and those that ever more steps come to.

Both are drawn once for a case and kept in a folder of the user's cache, a chunk of samples a file, so that a
run that stops draws nothing twice. The name of a case's folder has a digest of its weights and sampler.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.cases import Case, Inputs
from benchmarks.converged import converged

CONVERGED_STEPS = 250  # of second order: nearer to the limit than 1000 steps of DDIM


def cache_folder() -> Path:
    """Return where targets are kept unless `--cache` says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dipgo_fx" / "targets"


@dataclass(frozen=True)
class Targets:
    """Draws a case's targets on held-out inputs, or finds them.

    Attributes:
        folder: of the cache.
        chunk: samples that run together.
        converged_steps: of the converged target; 0 leaves it out.
    """

    folder: Path
    chunk: int
    converged_steps: int = CONVERGED_STEPS

    def unpruned(self, case: Case, inputs: Inputs) -> torch.Tensor:
        """Return the unpruned loop's images."""

        def draw(part: Inputs) -> torch.Tensor:
            with torch.no_grad():
                images: torch.Tensor = case.loop()(part.sample, **part.conditioning)
            return images

        return self._images(case, inputs, "unpruned", draw)

    def converged(self, case: Case, inputs: Inputs) -> torch.Tensor | None:
        """Return the images of the same noise in very many steps, if they are asked for."""
        steps = self.converged_steps
        if not steps:
            return None
        return self._images(case, inputs, f"converged-{steps}", lambda part: converged(case, part, steps))

    def _images(
        self, case: Case, inputs: Inputs, name: str, draw: Callable[[Inputs], torch.Tensor]
    ) -> torch.Tensor:
        found = []
        for start in range(0, len(inputs.sample), self.chunk):
            part = inputs.part(start, start + self.chunk)
            file = self.folder / f"{name}-{digest(case, part)}.safetensors"
            if not file.exists():
                write_at_once(file, {"images": draw(part).contiguous()})
            found.append(load_file(file)["images"].to(case.device))
        return torch.cat(found)


def digest(case: Case, inputs: Inputs) -> str:
    """Return a name for a case's weights, sampler and inputs."""
    made = hashlib.sha256()
    made.update(repr((case.name, case.steps, case.guidance, case.scheduler_name)).encode())
    made.update(repr(sorted(case.scheduler.config.items(), key=str)).encode())
    tensors = {**case.model.state_dict(), "sample": inputs.sample, **inputs.conditioning}
    for name in sorted(tensors):
        made.update(name.encode())
        made.update(tensors[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return f"{case.name}-{made.hexdigest()[:24]}"


def write_at_once(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write a file whole or not at all, whoever else writes it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    save_file(tensors, draft)
    draft.replace(file)
