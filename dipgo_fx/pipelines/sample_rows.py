"""How many rows a pipeline's sample has, seen where its scheduler steps it."""

from __future__ import annotations

import functools
from typing import Any

from .step_clock import stepped_sample


class SampleRows:
    """Watches the next step of a pipeline's scheduler, once, and leaves the scheduler as it was found.

    Under guidance the model may get twice as many rows.

    Attributes:
        count: rows of the sample at the last step that was watched, 0 before.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe, self.count = pipe, 0
        self._watched: tuple[Any, Any] | None = None

    @property
    def is_watching(self) -> bool:
        """Whether the scheduler was not stepped since."""
        return self._watched is not None

    def watch(self) -> None:
        """Look at the sample of the next step."""
        self.leave()  # a run that was cancelled at its first step
        self.count = 0
        scheduler = self._pipe.scheduler
        step = scheduler.step

        @functools.wraps(step)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.count = stepped_sample(step, args, kwargs).shape[0]
            self.leave()
            return step(*args, **kwargs)

        self._watched = scheduler, vars(scheduler).get("step")
        scheduler.step = watched

    def leave(self) -> None:
        """Watch no longer."""
        if self._watched is not None:
            scheduler, own = self._watched
            self._watched = None
            vars(scheduler).pop("step", None)
            if own is not None:
                scheduler.step = own
