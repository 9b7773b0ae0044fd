"""The loop's inputs: their shapes read from `model.config`, and the guard that checks them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from .conditioning import leaves, map_named, tensors
from .denoise import forward_parameters
from .passes.stored_weights import compute_device, compute_dtype

# Text lengths of the pipelines that use these conditionings; the model's config does not hold them.
CLIP_TOKENS = 77
T5_TOKENS = 120


def example_sample(model: nn.Module) -> torch.Tensor:
    """Return one empty sample `(1, channels, height, width)` as `model.config` describes it.

    Raises `ValueError` asking for `sample=` where the config does not.
    """
    config = getattr(model, "config", None)
    channels, size = getattr(config, "in_channels", None), getattr(config, "sample_size", None)
    if channels is None or size is None:
        raise ValueError(
            f"{type(model).__name__}.config gives no in_channels and sample_size: pass sample=, a "
            "tensor like the one that the pipeline's prepare_latents returns"
        )
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    return torch.zeros(1, channels, height, width, dtype=compute_dtype(model), device=compute_device(model))


def example_conditioning(model: nn.Module) -> dict[str, Any]:
    """Return one row of every conditioning that `model` needs, zeros in the shapes of its config.

    Raises `ValueError` naming an argument whose shape the config does not give.
    """
    config, parameters = getattr(model, "config", None), forward_parameters(model)
    device = compute_device(model)

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(1, *shape, dtype=compute_dtype(model), device=device)

    found: dict[str, Any] = {}
    if "class_labels" in parameters and num_classes(model) is not None:
        found["class_labels"] = torch.zeros(1, dtype=torch.int64, device=device)
    if (shape := _text_shape(config)) is not None:
        found["encoder_hidden_states"] = zeros(*shape)
    if "added_cond_kwargs" in parameters:
        added = _added_widths(model)
        if added:
            found["added_cond_kwargs"] = {name: zeros(width) for name, width in added.items()}
    missing = [
        name
        for name, p in parameters.items()
        if p.default is p.empty
        and p.kind is p.POSITIONAL_OR_KEYWORD
        and name not in {*found, "timestep", next(iter(parameters))}
    ]
    if missing:
        raise ValueError(
            f"{type(model).__name__}.forward needs {missing}, whose shapes model.config does not give: "
            f"pass conditioning={{{missing[0]!r}: a tensor of batch rows, ...}}"
        )
    return found


def num_classes(model: nn.Module) -> int | None:
    """Return how many class labels the model was trained on, the null class not counted."""
    config: Any = getattr(model, "config", None)
    if getattr(config, "num_class_embeds", None) is not None:
        return int(config.num_class_embeds) - 1
    if getattr(config, "norm_type", None) == "ada_norm_zero":
        return int(config.num_embeds_ada_norm)
    return None


def _text_shape(config: Any) -> tuple[int, int] | None:
    if getattr(config, "caption_channels", None):
        return T5_TOKENS, int(config.caption_channels)
    width = getattr(config, "cross_attention_dim", None)
    if width and not getattr(config, "norm_type", None):
        return CLIP_TOKENS, int(width if isinstance(width, int) else max(width))
    return None


def _added_widths(model: nn.Module) -> dict[str, int]:
    """Widths of the extra conditionings of SDXL-like U-Nets and of PixArt at 1024 pixels."""
    config: Any = getattr(model, "config", None)
    if getattr(config, "addition_embed_type", None) == "text_time":
        times = 6
        text = config.projection_class_embeddings_input_dim - times * config.addition_time_embed_dim
        return {"text_embeds": int(text), "time_ids": times}
    if getattr(model, "use_additional_conditions", False):
        return {"resolution": 2, "aspect_ratio": 1}
    return {}


class InputGuard(nn.Module):
    """Lets a sample through if every input has the shape it was traced with, up to the batch size.

    The graph bakes image sizes into its reshapes, and whatever is no tensor into itself; without the guard
    another size could give a wrong answer instead of an error.

    Args:
        sample: the example of the initial noise.
        conditioning: the other examples.
        rows: rows of conditioning a sample.
        shared: names of the tensors that all samples share, which have no such rows.

    Attributes:
        shapes: of the tensors with rows, without the rows.
        beside: names of those that were on the sample's device.
        fixed: what has no rows: shared tensors, of which other values may come, and what is no tensor.
        example: the conditioning, `None` in place of tensors with rows.
    """

    def __init__(
        self,
        sample: torch.Tensor,
        conditioning: Mapping[str, Any],
        rows: int,
        shared: Collection[str] = (),
    ) -> None:
        super().__init__()
        given = leaves(conditioning)
        self.rows = rows
        self.sample_shape = tuple(sample.shape[1:])
        self.shapes = {
            name: tuple(t.shape[1:]) for name, t in tensors(conditioning).items() if name not in shared
        }
        self.beside = frozenset(name for name in self.shapes if given[name].device == sample.device)
        self.fixed = {name: _kept(leaf) for name, leaf in given.items() if name not in self.shapes}
        self.example = map_named(lambda name, leaf: self.fixed.get(name), conditioning)
        self.kinds = {name: _kind(tensor) for name, tensor in tensors(conditioning).items()}

    @property
    def shared(self) -> frozenset[str]:
        """Names of the tensors that all samples share."""
        return frozenset(name for name, leaf in self.fixed.items() if isinstance(leaf, torch.Tensor))

    def forward(self, sample: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        """Return `sample`. Raises `ValueError` naming the input whose shape differs."""
        batch = sample.shape[0]
        if tuple(sample.shape[1:]) != self.sample_shape:
            raise ValueError(self._message("sample", ("batch", *self.sample_shape), sample))
        given = leaves(conditioning)
        rows = "batch" if self.rows == 1 else f"{self.rows} * batch"
        for name, shape in self.shapes.items():
            tensor = self._tensor(given, name, (rows, *shape))
            if tuple(tensor.shape[1:]) != shape or tensor.shape[0] != self.rows * batch:
                raise ValueError(self._message(name, (rows, *shape), tensor))
            if name in self.beside and tensor.device != sample.device:
                raise ValueError(
                    f"{name} is on {tensor.device} and sample on {sample.device}: move one of them"
                )
        for name, value in self.fixed.items():
            if isinstance(value, torch.Tensor):
                tensor = self._tensor(given, name, tuple(value.shape))
                if tensor.shape != value.shape:
                    raise ValueError(self._message(name, tuple(value.shape), tensor))
            elif not _is_same(given.get(name), value):
                raise ValueError(
                    f"{name} is {given.get(name)!r:.60}, but this loop was traced for {value!r:.60}, "
                    "which is part of its graph: apply the plan again with this value"
                )
        unknown = [name for name in given if name not in self.known and given[name] is not None]
        if unknown:
            raise ValueError(f"{unknown} were not among what this loop was traced for: {sorted(self.known)}")
        return sample

    @property
    def known(self) -> frozenset[str]:
        """Names of all that the loop was traced for."""
        return frozenset({*self.shapes, *self.fixed})

    def _tensor(self, given: Mapping[str, Any], name: str, shape: tuple[Any, ...]) -> torch.Tensor:
        tensor, kind = given.get(name), self.kinds[name]
        if isinstance(tensor, torch.Tensor):
            if _kind(tensor) != kind:
                raise ValueError(
                    f"{name} holds {_kind(tensor)}, but this loop was traced for {kind}: cast it"
                )
            return tensor
        raise ValueError(f"{name} is missing: expected a tensor of shape ({', '.join(map(str, shape))})")

    def _message(self, name: str, expected: tuple[Any, ...], got: torch.Tensor) -> str:
        return (
            f"{name} has shape {tuple(got.shape)}, but this loop was traced for "
            f"({', '.join(map(str, expected))}). For another size apply the plan again: "
            "dipgo_fx.apply(model, scheduler, plan, sample=..., conditioning=...)"
        )


def _kept(leaf: Any) -> Any:
    """Return a value that may be stored with a loop: a tensor of a GPU would tie it to that."""
    return leaf.detach().cpu() if isinstance(leaf, torch.Tensor) and not leaf.is_meta else leaf


def _kind(tensor: torch.Tensor) -> str:
    """Return what a model may ask of a dtype; which floating-point numbers a tensor holds is a loop's own."""
    if tensor.is_floating_point():
        return "floating-point numbers"
    return "booleans" if tensor.dtype == torch.bool else "whole numbers"


def _is_same(one: Any, other: Any) -> bool:
    """Tell whether values that are no tensors are the same; not-a-number is itself."""
    if isinstance(one, torch.Tensor):
        return False
    return bool(one == other or (one != one and other != other))
