"""The error of a plan that cannot be used."""

from __future__ import annotations


class PlanError(ValueError):
    """A plan is damaged, or belongs to another loop; the message names what differs."""
