"""What a model is given beside the sample: nested tensors, with a row per sample or shared by all samples."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree


def leaves(conditioning: Mapping[str, Any]) -> dict[str, Any]:
    """Return all leaves of nested conditioning by dotted name, `added_cond_kwargs.text_embeds` say."""
    found, _ = pytree.tree_flatten_with_path(dict(conditioning))
    return {_dotted(path): leaf for path, leaf in found}


def tensors(conditioning: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return all tensors of nested conditioning by dotted name."""
    return {name: leaf for name, leaf in leaves(conditioning).items() if isinstance(leaf, torch.Tensor)}


def map_named(
    function: Callable[..., Any], conditioning: Mapping[str, Any], *others: Mapping[str, Any]
) -> dict[str, Any]:
    """Return conditioning of `function(name, leaf, *leaves of others)`.

    Raises `ValueError` if the others are not nested alike.
    """

    def mapped(path: Any, *values: Any) -> Any:
        return function(_dotted(path), *values)

    result: dict[str, Any] = pytree.tree_map_with_path(mapped, dict(conditioning), *map(dict, others))
    return result


def map_rows(
    function: Callable[[torch.Tensor], torch.Tensor], conditioning: Mapping[str, Any], shared: Container[str]
) -> dict[str, Any]:
    """Return conditioning with `function` of all tensors that have a row per sample, those not `shared`."""

    def mapped(name: str, leaf: Any) -> Any:
        return function(leaf) if isinstance(leaf, torch.Tensor) and name not in shared else leaf

    return map_named(mapped, conditioning)


def _dotted(path: Any) -> str:
    names = (getattr(key, field) for key in path for field in ("idx", "key", "name") if hasattr(key, field))
    return ".".join(map(str, names))
