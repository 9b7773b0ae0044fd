"""The real architectures have the sizes that their papers and model cards tell."""

from __future__ import annotations

import pytest

from benchmarks.architectures import ARCHITECTURES, example_inputs

PARAMETERS = {
    "sd15": 859_520_964,
    "sd21": 865_910_724,
    "sdxl": 2_567_463_684,
    # In diffusers each of 28 blocks has the embedding of time and class that the paper's model has once.
    "dit": 675_000_000 + 27 * ((256 + 1) * 1152 + (1152 + 1) * 1152 + 1001 * 1152),
    "pixart": 610_000_000,
    "sd3": 2_030_000_000,
    "flux": 11_901_408_320,
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_has_its_parameters_and_no_weights(name: str) -> None:
    """To a hundredth: what is rounded in print, or left out of a count, is less."""
    model = ARCHITECTURES[name].build()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(PARAMETERS[name], rel=0.01)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert not model.training


def test_inputs_of_flux_are_those_of_its_pipeline() -> None:
    """Rows of 2 x 2 latents, and where they stand."""
    inputs = example_inputs(ARCHITECTURES["flux"].build(), side=8, tokens=3)
    assert {name: tuple(value.shape) for name, value in inputs.items()} == {
        "sample": (1, 16, 64),
        "encoder_hidden_states": (1, 3, 4096),
        "pooled_projections": (1, 768),
        "guidance": (1,),
        "txt_ids": (3, 3),
        "img_ids": (16, 3),
    }
