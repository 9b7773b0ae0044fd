"""Measurements of dipgo_fx; run from a checkout, not part of the package."""
