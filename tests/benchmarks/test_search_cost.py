"""What a step of a search has alive."""

from __future__ import annotations

import pytest

from benchmarks.cases import Case
from benchmarks.search_cost import STEPS_OF_A_SEARCH, memory, newton_step


@pytest.mark.long
def test_only_a_step_without_recomputation_grows_with_the_loop() -> None:
    """What all kept costs is about doubled by twice the steps; the model is left as it was."""
    few, more = Case("digits-dit", 4, samples=8), Case("digits-dit", 8, samples=8)
    wanted = [parameter.requires_grad for parameter in few.model.parameters()]
    growth = {
        kind: memory(more, kind)["peak_MiB"] / memory(few, kind)["peak_MiB"] for kind in STEPS_OF_A_SEARCH
    }
    assert growth["gradient, all kept"] > 1.7
    assert growth["gradient, recomputed (paper)"] < growth["gradient, all kept"] - 0.2
    assert growth["Gauss-Newton (default)"] < 1.2
    assert [parameter.requires_grad for parameter in few.model.parameters()] == wanted


def test_a_step_that_would_be_left_out_is_not_measured() -> None:
    """A search goes by eight samples or more."""
    with pytest.raises(ValueError, match="8 samples or more, got 4"):
        newton_step(Case("digits-dit", 6, samples=4))
