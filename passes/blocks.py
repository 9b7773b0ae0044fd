"""Which modules of a model are blocks: read from its structure, never from its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from diffusers.models.attention import AttentionModuleMixin, FeedForward
from diffusers.models.attention_processor import Attention
from torch import nn

Granularity = Literal["stage", "block", "branch"]


def find_blocks(model: nn.Module, granularity: Granularity) -> tuple[str, ...]:
    """Return the paths of the modules whose output may be gated, in the order of the module tree.

    * `stage`: entries of the model's own module lists, and children that hold module lists (a
      U-Net's 4 + 1 + 4 top-level blocks, the unit of the paper's tables; a DiT's blocks).
    * `block`: entries of the module lists inside a stage (resnets, attentions, samplers); a stage
      without such lists is one block (a whole transformer block).
    * `branch`: the attentions and feed-forwards inside a block; a block without any is one branch.

    Tracing with `block` or `branch` adds the output head (`conv_out`, `proj_out_2`, ...).

    Raises `ValueError` for an unknown granularity or a model without blocks.
    """
    if granularity not in get_args(Granularity):
        raise ValueError(f"granularity must be one of {get_args(Granularity)}, got {granularity!r}")
    split = {"stage": _itself, "block": _listed, "branch": _branches}[granularity]
    paths = [path for stage in _stages(model) for path in split(model, stage)]
    if not paths:
        raise ValueError(
            f"{type(model).__name__} has no blocks: expected module lists among its children "
            f"(down_blocks, transformer_blocks, ...), found {[n for n, _ in model.named_children()]}"
        )
    return tuple(paths)


def block_name(path: str, call: str) -> str:
    """Return the name of the block at `path` in the call of the model named `call` ("" is the only one)."""
    return f"{path}@{call}" if call else path


def path_of(block: str) -> str:
    """Return the path in the model of the module behind a block's name."""
    return block.partition("@")[0]


def call_of(block: str) -> str:
    """Return the name of the call of the model that a block's name is of."""
    return block.partition("@")[2]


def _stages(model: nn.Module) -> Iterator[str]:
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            yield from (f"{name}.{index}" for index, _ in child.named_children())
        elif any(isinstance(grandchild, nn.ModuleList) for grandchild in child.children()):
            yield name


def _itself(model: nn.Module, stage: str) -> list[str]:
    return [stage]


def _listed(model: nn.Module, stage: str) -> list[str]:
    """Entries of the module lists directly inside a stage, or the stage itself."""
    lists = [
        (name, child)
        for name, child in model.get_submodule(stage).named_children()
        if isinstance(child, nn.ModuleList)
    ]
    entries = [f"{stage}.{name}.{i}" for name, child in lists for i, _ in child.named_children()]
    return entries or [stage]


def _branches(model: nn.Module, stage: str) -> list[str]:
    """Outermost attentions and feed-forwards of each block of a stage, or the block itself."""
    found: list[str] = []
    for block in _listed(model, stage):
        inner = list(_outermost_branches(model.get_submodule(block), block))
        found += inner or [block]
    return found


def _outermost_branches(module: nn.Module, path: str) -> Iterator[str]:
    if _is_branch(module):
        yield path
        return
    for name, child in module.named_children():
        yield from _outermost_branches(child, f"{path}.{name}")


def _is_branch(module: nn.Module) -> bool:
    return isinstance(module, (Attention, AttentionModuleMixin, FeedForward))
