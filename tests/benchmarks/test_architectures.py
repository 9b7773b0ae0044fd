"""The real architectures have the sizes that their papers and model cards tell."""

from __future__ import annotations

import pytest

from benchmarks.architectures import SETTINGS

PARAMETERS = {
    "sd15": 859_520_964,
    "sd21": 865_910_724,
    "sdxl": 2_567_463_684,
    # In diffusers each of 28 blocks has the embedding of time and class that the paper's model has once.
    "dit": 675_000_000 + 27 * ((256 + 1) * 1152 + (1152 + 1) * 1152 + 1001 * 1152),
    "pixart": 610_000_000,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_model_has_its_parameters_and_no_weights(name: str) -> None:
    """To a hundredth: what is rounded in print, or left out of a count, is less."""
    model = SETTINGS[name].build()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(PARAMETERS[name], rel=0.01)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert not model.training
