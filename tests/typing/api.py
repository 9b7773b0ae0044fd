"""Typed uses of the public interface: checked by mypy, never run."""
