"""Training the reference models: batches, losses, checkpoints."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from benchmarks.reference import data
from benchmarks.reference.models import NULL_CLASS, PROMPT_FILE, build_scheduler, load_classifier
from benchmarks.reference.train import (
    CLASSIFIER,
    LOSS_WINDOW,
    WARM_UP,
    Examples,
    Progress,
    Training,
    batches,
    classifier_loss,
    denoising_loss,
    examples,
    split_weights,
    train,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of made-up data."""
    made = tmp_path_factory.mktemp("data")
    data.write_made_up(made)
    return made


def part(chosen: Examples, count: int) -> Examples:
    """Return the first of some examples."""
    return Examples(chosen.images[:count], chosen.conditions[:count], chosen.nothing)


def test_an_epoch_has_every_example_once() -> None:
    """In another order each time; a training that goes on gets what it would have got."""
    first = [index for index, _ in islice(batches(12, 4, 0, seed=0), 6)]
    assert sorted(torch.cat(first[:3]).tolist()) == list(range(12))
    assert sorted(torch.cat(first[3:]).tolist()) == list(range(12))
    assert torch.cat(first[:3]).tolist() != torch.cat(first[3:]).tolist()
    again = [index for index, _ in islice(batches(12, 4, 4, seed=0), 2)]
    assert all(torch.equal(a, b) for a, b in zip(again, first[4:], strict=True))
    draws = [torch.rand(1, generator=source).item() for _, source in islice(batches(12, 4, 0, seed=0), 3)]
    assert len(set(draws)) == 3


def test_emoji_that_are_held_out_are_not_learned(folder: Path, tmp_path: Path) -> None:
    """Their states are only among the names to ask for."""
    chosen = examples("emoji-unet", folder, tmp_path)
    images, _, held_out = data.emoji(folder)
    assert len(chosen.images) == len(chosen.conditions) == int((~held_out).sum())
    assert torch.equal(chosen.images, images[~held_out])
    assert (tmp_path / f"{PROMPT_FILE}.json").read_text().count('"held_out": true') == int(held_out.sum())
    assert int(examples("fashion-dit", folder, tmp_path).nothing) == NULL_CLASS


def test_hidden_matrices_are_muons() -> None:
    """Every weight belongs to one optimiser; biases and embeddings are AdamW's."""
    model = Training(Progress("fashion-dit", 0, 1.0), CPU).model
    hidden, others = split_weights(model)
    assert len(hidden) + len(others) == len(list(model.parameters()))
    assert all(weight.ndim >= 2 for weight in hidden)
    names = {id(weight): name for name, weight in model.named_parameters()}
    assert any("class_embedder" in names[id(weight)] for weight in others)
    assert any("ff" in names[id(weight)] for weight in hidden)


@pytest.mark.parametrize("name", ["fashion-dit", "emoji-unet"])
def test_losses_do_not_depend_on_global_randomness(name: str, folder: Path, tmp_path: Path) -> None:
    """The step's own source decides noise, times and dropped conditions."""
    training, chosen = Training(Progress(name, 0, 1.0), CPU), part(examples(name, folder, tmp_path), 4)
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(losses))
        source = torch.Generator().manual_seed(seed)
        losses.append(denoising_loss(training, build_scheduler(), chosen, source).item())
    assert losses[0] == losses[1] != losses[2]


def test_a_stopped_training_goes_on(folder: Path, tmp_path: Path) -> None:
    """From its checkpoint it takes the steps that it would have taken."""
    chosen = part(examples(CLASSIFIER, folder, tmp_path), 8)

    def steps(training: Training, count: int) -> Training:
        for _ in range(count):
            torch.manual_seed(training.progress.step)  # of the dropout
            training.step(classifier_loss(training, chosen))
            training.progress.step += 1
        return training

    def fresh() -> Training:
        return Training(Progress(CLASSIFIER, 0, 1.0, step=3 * WARM_UP), CPU)  # where averaging has begun

    whole = steps(fresh(), 4)
    steps(fresh(), 2).save(tmp_path / "state")
    resumed = fresh()
    resumed.resume(tmp_path / "state")
    assert resumed.progress.step == 3 * WARM_UP + 2
    steps(resumed, 2)
    for other, model in ((whole.model, resumed.model), (whole.average, resumed.average)):
        torch.testing.assert_close(dict(model.state_dict()), dict(other.state_dict()))
    assert whole.progress.losses == pytest.approx(resumed.progress.losses)
    assert whole.progress.losses[-1] < whole.progress.losses[0]


def test_a_finished_training_leaves_weights_that_load(folder: Path, tmp_path: Path) -> None:
    """In half precision, those of the moving average."""
    training = Training(Progress(CLASSIFIER, 0, minutes=1e-4), CPU)
    train(training, examples(CLASSIFIER, folder, tmp_path), tmp_path, tmp_path / "state")
    assert training.progress.share == 1
    stored = load_classifier(tmp_path).state_dict()
    for key, value in training.average.module.state_dict().items():
        torch.testing.assert_close(stored[key], value.half().float())
    assert (tmp_path / "state" / "state.safetensors").exists()


def test_the_reported_loss_is_of_the_last_steps() -> None:
    """Early ones are forgotten."""
    progress = Progress("m", 0, 1.0)
    for _ in range(LOSS_WINDOW):
        progress.note(9.0)
    for _ in range(LOSS_WINDOW):
        progress.note(1.0)
    assert (progress.loss, len(progress.losses)) == (1.0, LOSS_WINDOW)
