"""`dipgo-fx show`: a plan as a table of steps and blocks."""

from __future__ import annotations

import argparse

from ..states import GLYPHS, State
from .answer import Answer
from .inputs import facts_of, load_plan


def run(options: argparse.Namespace) -> Answer:
    """Return the table; as values one text a block with a glyph a step, as printed."""
    plan = load_plan(options.plan)
    states = kept = None
    if plan.cost is not None:
        columns = plan.states().T.tolist()
        states = {
            block: "".join(GLYPHS[State(state)] for state in column)
            for block, column in zip(plan.blocks, columns, strict=True)
        }
        kept = plan.kept_by_step()
    values = {**facts_of(plan), "kept_by_step": kept, "states": states, "origin": plan.origin}
    return Answer(str(plan), values)
