"""Train a reference model for a given time, on a CPU or a GPU.

Run from the root of a checkout, with the data that `benchmarks.reference.data` fetched:

    python -m benchmarks.reference.train --models fashion-dit --data FOLDER

Call it again after an interruption and it goes on from its last checkpoint. The learning rate
falls with the share of the time that is spent, so a run is only finished when its minutes are over.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from benchmarks.command_line import CommandLine
from benchmarks.reference import data
from benchmarks.reference.models import (
    CLASSIFIER_FILE,
    FROZEN,
    NULL_CLASS,
    PROMPT_FILE,
    TRAINED,
    WEIGHTS,
    FashionClassifier,
    build,
    build_flow_scheduler,
    build_scheduler,
    digit_states,
)
from benchmarks.reference.optimiser import Muon
from benchmarks.reference.report import readme
from benchmarks.trainings import Record, make_readable, note, record

logger = logging.getLogger("benchmarks.reference.train")

CLASSIFIER = "fashion-classifier"
SMOKE = {"models": ["emoji-unet", CLASSIFIER, FROZEN], "minutes": 0.01}
MINUTES = {CLASSIFIER: 7.0, "fashion-dit": 86.0, "fashion-unet": 44.0, "emoji-unet": 75.0, FROZEN: 45.0}
PROMPTS = 64
CONDITION_DROP = 0.1
SNR_LIMIT = 5.0
AVERAGE_DECAY = 0.995
WARM_UP = 60
LOSS_WINDOW = 200
"""The reported training loss is the mean over this many last steps: one batch is too noisy."""
CHECKPOINT_SECONDS = 120.0
FLOW_TIMES = 1000
"""Timesteps of a flow from image to noise."""
BATCH = {CLASSIFIER: 64} | dict.fromkeys((*TRAINED, FROZEN), 32)
MUON_RATE = {CLASSIFIER: 5e-3} | dict.fromkeys((*TRAINED, FROZEN), 3e-3)
ADAM_RATE = dict.fromkeys((CLASSIFIER, *TRAINED, FROZEN), 2e-3)
EMBEDDINGS = (
    *("embed", "emb.", "conv_in", "conv_out", "proj_out_", "norm1.linear", "head"),
    *("caption_projection", "scale_shift_table", "/proj_out"),
)
"""Parts of the names of weights, after a slash, that are no hidden matrices, and so are left to AdamW."""


@dataclass(frozen=True)
class Examples:
    """What one model learns from."""

    images: torch.Tensor
    """`(n, channels, height, width)` uint8."""
    conditions: torch.Tensor
    """Labels `(n,)` or token states `(n, 16, 384)`."""
    nothing: torch.Tensor
    """What stands for "nothing asked", of the shape of one condition."""


@dataclass
class Progress:
    """How far a training has come."""

    name: str
    seed: int
    minutes: float
    step: int = 0
    images: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The share of the time that is spent, 0 to 1."""
        return min(1.0, self.seconds / (60 * self.minutes))

    @property
    def loss(self) -> float:
        """The mean of the last losses."""
        return sum(self.losses) / max(1, len(self.losses))

    def note(self, loss: float) -> None:
        """Remember the loss of one more step."""
        self.losses = [*self.losses[1 - LOSS_WINDOW :], loss]


class Training:
    """A model, its moving average and its two optimisers, and how far they have come."""

    def __init__(self, progress: Progress, device: torch.device) -> None:
        """Build the model that `progress` names, untrained."""
        torch.manual_seed(progress.seed)
        model = FashionClassifier() if progress.name == CLASSIFIER else build(progress.name)
        self.progress = progress
        self.device = device
        self.model = model.to(device, memory_format=torch.channels_last).train()
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY))
        hidden, others = split_weights(self.model)
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "muon": Muon(hidden, lr=MUON_RATE[progress.name]),
            "adamw": torch.optim.AdamW(others, lr=ADAM_RATE[progress.name], weight_decay=0.0),
        }

    def step(self, loss: torch.Tensor) -> None:
        """Take one step down `loss`."""
        for optimiser in self.optimisers.values():
            optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        scale = min(1.0, (self.progress.step + 1) / WARM_UP) * (1 - self.progress.share)
        rates = {"muon": MUON_RATE, "adamw": ADAM_RATE}
        for kind, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = scale * rates[kind][self.progress.name]
            optimiser.step()
        if self.progress.step < 3 * WARM_UP:  # an average of the first steps would remember them for long
            self.average.n_averaged.zero_()
        self.average.update_parameters(self.model)
        self.progress.note(loss.item())

    def save(self, folder: Path) -> None:
        """Write everything that `resume` needs."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for kind, optimiser in self.optimisers.items():
            for index, state in optimiser.state_dict()["state"].items():
                tensors |= {f"{kind}.{index}.{k}": v for k, v in state.items()}
        tensors = {
            k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()
        }
        text = json.dumps(asdict(self.progress))
        # One file, renamed into place at the end: a checkpoint is whole or not there.
        save_file(tensors, folder / "new.safetensors", metadata={"progress": text})
        (folder / "new.safetensors").replace(folder / "state.safetensors")

    def resume(self, folder: Path) -> None:
        """Read what `save` wrote, if it did."""
        file = folder / "state.safetensors"
        if not file.exists():
            return
        with safe_open(file, "pt") as opened:
            self.progress = Progress(**json.loads(opened.metadata()["progress"]))
        stored = load_file(file)
        self.model.load_state_dict(_below("model.", stored))
        self.average.load_state_dict(_below("average.", stored))
        for kind, optimiser in self.optimisers.items():
            states: dict[int, dict[str, torch.Tensor]] = {}
            for key, value in _below(f"{kind}.", stored).items():
                index, _, entry = key.partition(".")
                states.setdefault(int(index), {})[entry] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": states})


def _below(prefix: str, stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the part of `stored` whose names start with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}


def split_weights(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the hidden matrices and convolutions, for Muon, and all other parameters."""
    hidden, others = [], []
    for name, parameter in model.named_parameters():
        is_hidden = parameter.ndim >= 2 and not any(part in f"/{name}" for part in EMBEDDINGS)
        (hidden if is_hidden else others).append(parameter)
    return hidden, others


def examples(name: str, folder: Path, out: Path) -> Examples:
    """Read what the model `name` learns from; for the emoji also write names to ask for, to `out`."""
    if name == FROZEN:
        images, labels = data.mnist(folder)
        states = digit_states()
        return Examples(images[:, None], states[labels], states[NULL_CLASS])
    if name != "emoji-unet":
        images, labels = data.fashion("train", folder)
        return Examples(images[:, None], labels, torch.tensor(NULL_CLASS))
    images, names, held_out = data.emoji(folder)
    states = data.token_states([*names, ""], folder)
    write_prompts(names, states, held_out, out)
    return Examples(images[~held_out], states[:-1][~held_out], states[-1])


def write_prompts(names: list[str], states: torch.Tensor, held_out: torch.Tensor, out: Path) -> None:
    """Write the states of 32 names trained on, 32 held out and of no name, for `prompt_states`."""
    source = torch.Generator().manual_seed(0)
    chosen = []
    for group in (~held_out, held_out):
        indices = group.nonzero().flatten()
        chosen += indices[torch.randperm(len(indices), generator=source)[: PROMPTS // 2]].tolist()
    entries = [{"name": names[index], "held_out": bool(held_out[index])} for index in chosen]
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{PROMPT_FILE}.json").write_text(json.dumps(entries, indent=2) + "\n")
    file = out / f"{PROMPT_FILE}.safetensors"
    save_file({"states": states[chosen], "unconditional": states[-1:].clone()}, file)
    make_readable(file)


def batches(count: int, size: int, start: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Generator]]:
    """Yield the examples of step `start` and later, and that step's own source of random numbers."""
    step = start
    while True:
        first = step * size
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + first // count))
        source = torch.Generator().manual_seed((seed << 32) + step)
        # The last batch of an epoch wraps around to its first images.
        yield order[(first % count + torch.arange(size)) % count], source
        step += 1


def denoising_loss(
    training: Training, scheduler: Any, chosen: Examples, source: torch.Generator
) -> torch.Tensor:
    """Return the squared error of the predicted noise (DDPM, equation 14), weighted by min-SNR.

    The weight min(snr, 5) / snr (arXiv 2303.09556, section 3.4) spares the model the last, nearly
    clean steps, where the error of the noise is large and that of the image small.
    """
    images, conditions = chosen.images.float() / 127.5 - 1, with_dropped(chosen, source)
    times = (spread_times(len(images), source) * scheduler.config.num_train_timesteps).long()
    noise = torch.randn(images.shape, generator=source)
    noisy = scheduler.add_noise(images, noise, times)
    signal = scheduler.alphas_cumprod[times]
    weight = (SNR_LIMIT * (1 - signal) / signal).clamp(max=1.0)
    predicted = predict(training.model, noisy, times, conditions, training.device)
    error = F.mse_loss(predicted, noise.to(training.device), reduction="none").mean((1, 2, 3))
    return (error * weight.to(training.device)).mean()


def velocity_loss(training: Training, chosen: Examples, source: torch.Generator) -> torch.Tensor:
    """Return the error of a flow on noise that has nothing to do with the images, see `velocity_error`."""
    images, conditions = chosen.images.float() / 127.5 - 1, with_dropped(chosen, source)
    noise = torch.randn(images.shape, generator=source)
    return velocity_error(training.model, noise, images, conditions, source, training.device)


def velocity_error(
    model: nn.Module,
    noise: torch.Tensor,
    images: torch.Tensor,
    conditions: torch.Tensor,
    source: torch.Generator,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Return the squared error of a flow's velocity, noise minus image (arXiv 2209.03003, equation 1).

    There is one noise level for each pair.
    """
    sigma = spread_times(len(images), source).to(images.device)
    mixed = torch.lerp(images, noise, sigma.view(-1, 1, 1, 1))
    velocity = predict(model, mixed, sigma * FLOW_TIMES, conditions, device)
    return F.mse_loss(velocity, (noise - images).to(device))


def with_dropped(chosen: Examples, source: torch.Generator) -> torch.Tensor:
    """Return conditions, some of them left out for guidance."""
    dropped = torch.rand(len(chosen.images), generator=source) < CONDITION_DROP
    dropped = dropped.view(-1, *[1] * (chosen.conditions.ndim - 1))
    return torch.where(dropped, chosen.nothing, chosen.conditions)


def spread_times(count: int, source: torch.Generator) -> torch.Tensor:
    """Return one time from each of `count` equal spans of 0 to 1: less noise in a loss than free draws."""
    return (torch.arange(count) + torch.rand(count, generator=source)) / count


def predict(
    model: nn.Module,
    noisy: torch.Tensor,
    times: torch.Tensor,
    conditions: torch.Tensor,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Return the noise or velocity that `model` sees in `noisy`, given labels or token states."""
    key = "class_labels" if conditions.ndim == 1 else "encoder_hidden_states"
    if conditions.ndim > 1:
        conditions = conditions.float()
    noisy = noisy.to(device, memory_format=torch.channels_last)
    output: torch.Tensor = model(noisy, timestep=times.to(device), **{key: conditions.to(device)}).sample
    return output


def classifier_loss(training: Training, chosen: Examples) -> torch.Tensor:
    """Return the cross entropy of one batch."""
    images = (chosen.images.float() / 127.5 - 1).to(training.device, memory_format=torch.channels_last)
    logits = training.model(images)
    return F.cross_entropy(logits, chosen.conditions.to(training.device), label_smoothing=0.05)


def export(training: Training, out: Path) -> None:
    """Write the moving average in half precision, as `benchmarks.reference.models` reads it."""
    tensors = {
        name: value.detach().cpu().half().clone(memory_format=torch.contiguous_format)
        for name, value in training.average.module.state_dict().items()
    }
    out.mkdir(parents=True, exist_ok=True)
    name = training.progress.name
    if name == CLASSIFIER:
        file = out / CLASSIFIER_FILE
    else:
        file = out / name / "diffusion_pytorch_model.safetensors"
        training.model.save_config(out / name)
        scheduler = build_flow_scheduler(name) if name == FROZEN else build_scheduler()
        scheduler.save_pretrained(out / name)
    save_file(tensors, file, metadata={"format": "pt"})
    make_readable(file)


def train(training: Training, chosen: Examples, out: Path, state: Path) -> None:
    """Train until the time is over; write a checkpoint and the weights now and then."""
    scheduler = build_scheduler()
    progress = training.progress
    before, started, saved = progress.seconds, time.perf_counter(), time.perf_counter()
    bar = tqdm(total=round(60 * progress.minutes), initial=round(before), unit="s", mininterval=10)
    for index, source in batches(len(chosen.images), BATCH[progress.name], progress.step, progress.seed):
        batch = Examples(chosen.images[index], chosen.conditions[index], chosen.nothing)
        if progress.name == CLASSIFIER:
            loss = classifier_loss(training, batch)
        elif progress.name == FROZEN:
            loss = velocity_loss(training, batch, source)
        else:
            loss = denoising_loss(training, scheduler, batch, source)
        training.step(loss)
        progress.step += 1
        progress.images += len(index)
        progress.seconds = before + time.perf_counter() - started
        bar.update(round(progress.seconds) - bar.n)
        bar.set_postfix(step=progress.step, loss=f"{progress.loss:.4f}", refresh=False)
        finished = progress.share >= 1
        if finished or time.perf_counter() - saved > CHECKPOINT_SECONDS:
            saved = time.perf_counter()
            training.save(state)
            export(training, out)
        if finished:
            return


def about(training: Training) -> Record:
    """Return what the README tells about one training."""
    progress = training.progress
    told = record(
        training.model,
        seed=progress.seed,
        steps=progress.step,
        batch=BATCH[progress.name],
        loss=progress.loss,
        seconds=progress.seconds,
    )
    return {**told, "images": progress.images}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    made = CommandLine(__doc__, SMOKE, WEIGHTS)
    made.add_models((*TRAINED, CLASSIFIER, FROZEN), (*TRAINED, CLASSIFIER))
    data.add_option(made)
    made.add_argument("--minutes", type=float, help="of a whole training, else the model's own number")
    made.add_argument("--state", type=Path, help="folder of checkpoints, by default reference-state")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return made.read(argv)


def trained(name: str, folder: Path, options: argparse.Namespace) -> Training:
    """Train a model, or go on with it.

    Args:
        name: of the model.
        folder: of the data.
        options: of the command line.
    """
    minutes = options.minutes or MINUTES[name]
    state = (options.state or (options.out if options.smoke else Path()) / "reference-state") / name
    training = Training(Progress(name, options.seed, minutes), torch.device(options.device))
    training.resume(state)
    training.progress.minutes = minutes
    if training.progress.share < 1:
        train(training, examples(name, folder, options.out), options.out, state)
    return training


def main(argv: Sequence[str] | None = None) -> None:
    """Train the asked models and write down what came out."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = arguments(argv)
    folder = data.folder_of(options)
    for name in options.models:
        measured = about(trained(name, folder, options))
        logger.info("%s: %s", name, measured)
        note(options.out, name, measured, readme)


if __name__ == "__main__":
    main()
