"""Which modules of a model are blocks: read from its structure, never from its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from diffusers.models.attention import AttentionModuleMixin, FeedForward
from diffusers.models.attention_processor import Attention
from torch import nn

Granularity = Literal["stage", "block", "branch", "own"]
"""What a plan says of its blocks: of which kind they are; `own` ones were chosen by the caller."""
Blocks = Literal["stage", "block", "branch"] | Callable[[str, nn.Module], bool] | tuple[str, ...]
"""Which modules are blocks: a kind of them, a function of a path and the module there, or their paths."""


def find_blocks(model: nn.Module, blocks: Blocks) -> tuple[str, ...]:
    """Return the paths of the modules whose output may be gated, in the order of the module tree.

    * `stage`: entries of the model's own module lists, and children that hold module lists (a
      U-Net's 4 + 1 + 4 top-level blocks, the unit of the paper's tables; a DiT's blocks).
    * `block`: entries of the module lists inside a stage (resnets, attentions, samplers); a stage
      without such lists is one block (a whole transformer block).
    * `branch`: the attentions and feed-forwards inside a block; a block without any is one branch.
    * A function `(path, module) -> bool`: the outermost modules for which it is true.
    * Paths: the modules there, as a plan names them.

    Tracing adds the output head (`conv_out`, `proj_out_2`, ...) unless blocks are stages.

    Raises `ValueError` for another word, a path that leads nowhere, or a model without blocks.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> model, _ = load("unet")
        >>> dipgo_fx.passes.find_blocks(model, "stage")[:2]
        ('down_blocks.0', 'down_blocks.1')
        >>> dipgo_fx.passes.find_blocks(model, lambda path, module: path.endswith("resnets.0"))[:2]
        ('down_blocks.0.resnets.0', 'down_blocks.1.resnets.0')
    """
    if isinstance(blocks, tuple) and blocks:
        return _at(model, blocks)
    if callable(blocks):
        paths = list(_outermost(model, blocks))
        expected = "a module for which the function that was given is true"
    elif isinstance(blocks, str) and blocks in KINDS:
        paths = [path for stage in _stages(model) for path in KINDS[blocks](model, stage)]
        expected = "module lists among its children (down_blocks, transformer_blocks, ...)"
    else:
        raise ValueError(
            f"granularity must be one of {tuple(KINDS)} or a function of a path and a module, got {blocks!r}"
        )
    if not paths:
        raise ValueError(
            f"{type(model).__name__} has no blocks: expected {expected}, found "
            f"{[n for n, _ in model.named_children()]}; granularity may be a function (path, module) -> bool"
        )
    return tuple(paths)


def granularity_of(blocks: Blocks) -> Granularity:
    """Return the word for blocks that a plan keeps."""
    return blocks if isinstance(blocks, str) else "own"


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
        inner = list(_outermost(model.get_submodule(block), _is_branch, block))
        found += inner or [block]
    return found


KINDS = {"stage": _itself, "block": _listed, "branch": _branches}


def _outermost(module: nn.Module, is_one: Callable[[str, nn.Module], bool], path: str = "") -> Iterator[str]:
    """Yield the paths of the modules that are one, but not of those inside another."""
    is_called = not isinstance(module, (nn.ModuleList, nn.ModuleDict))
    if path and is_called and is_one(path, module):
        yield path
        return
    for name, child in module.named_children():
        yield from _outermost(child, is_one, f"{path}.{name}" if path else name)


def _is_branch(path: str, module: nn.Module) -> bool:
    return isinstance(module, (Attention, AttentionModuleMixin, FeedForward))


def _at(model: nn.Module, paths: tuple[str, ...]) -> tuple[str, ...]:
    modules = dict(model.named_modules())
    missing = [path for path in paths if path not in modules]
    if missing:
        raise ValueError(
            f"{type(model).__name__} has no modules {missing}, which a plan names as its blocks: "
            "use the model that it was searched on, or search a plan for this one"
        )
    return paths
