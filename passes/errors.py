"""What goes wrong in the compiler."""

from __future__ import annotations


class PassError(RuntimeError):
    """A pass could not do its work; the message names the pass and what ran before it."""


class InvariantError(PassError):
    """A graph breaks a rule; the message names the rule and the nodes at fault."""


class TraceError(RuntimeError):
    """The loop cannot be recorded; the message names the module and what to change."""
