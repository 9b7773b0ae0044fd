"""What the installed diffusers has, and that every class of it is spoken of."""

from __future__ import annotations

import diffusers
import pytest

from benchmarks.coverage.inventory import denoiser_classes, pipeline_classes, scheduler_classes
from benchmarks.coverage.pipelines import DENOISERS, LEFT_OUT, NOT_BUILT, PIPELINES


def test_the_well_known_are_found() -> None:
    """And what is no model, scheduler or pipeline is not."""
    assert {"FluxTransformer2DModel", "UNet2DConditionModel"} <= denoiser_classes().keys()
    assert {"DDIMScheduler", "FlowMatchEulerDiscreteScheduler"} <= scheduler_classes().keys()
    assert {"StableDiffusionPipeline", "FluxPipeline"} <= pipeline_classes().keys()
    assert not {"DiffusionPipeline", "ModelMixin", "SchedulerMixin"} & {
        *pipeline_classes(),
        *denoiser_classes(),
        *scheduler_classes(),
    }


# Some old modules of diffusers warn when they are imported.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.skipif(diffusers.__version__ < "0.42", reason="lists the classes of diffusers 0.42")
def test_every_class_has_a_tiny_pipeline_or_a_reason() -> None:
    """A denoiser of a newer diffusers fails here."""
    assert denoiser_classes().keys() <= {*DENOISERS, *LEFT_OUT}
    assert NOT_BUILT.keys() <= pipeline_classes().keys()
    assert len(PIPELINES) > 280
