"""Probes: functions that read or change what goes into or comes out of the transformer blocks of a U-Net.

R are the rows of the batch, p the places of a block (height · width), C its channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

from torch import Tensor, nn

from ctrl.attention import Site
from ctrl.maps.watch import Watch, names_of, part_of
from ctrl.rows import Rows

At: TypeAlias = Literal["input", "output"]


@dataclass(frozen=True, eq=False)
class BlockCall:
    """One call of a transformer block, such as "up_blocks.1.attentions.0.transformer_blocks.0".

    `states` (R, p, C) are the features probed, the block's input or its output, and `entered` its input. `rows` says
    which row of the batch is which, `step` which evaluation of `count` this is.
    """

    block: str
    states: Tensor
    entered: Tensor
    height: int
    width: int
    rows: Rows
    step: int
    count: int


Hook: TypeAlias = Callable[[BlockCall], Any]  # a Tensor or None, which is checked


@dataclass(frozen=True, eq=False)
class Probe:
    """A function of the calls of transformer blocks, for `ctrl.sample` and `ctrl.steps`: `probes=[ctrl.Probe(f)]`.

    - `hook` gets a `BlockCall`. If it answers None, it has only read, and no bit of the picture changes; a tensor
      (R, p, C) takes the place of `states`.
    - `where`: names of blocks, such as "mid_block" or "up_blocks.1"; None for all of the U-Net.
    - `at`: "input" or "output" of the block.
    - `steps`: the part of the run in which it acts, such as (0.5, 1.0) for its second half.

    Several probes of a block act in their order. An exception in a hook ends the run and leaves the model as it was.
    """

    hook: Hook
    where: str | Sequence[str] | None = None
    at: At = "output"
    steps: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not callable(self.hook):
            raise TypeError(f"hook must be a function of a BlockCall, got {self.hook!r:.60}.")
        if self.at not in get_args(At):
            raise ValueError(f"at must be 'input' or 'output', got {self.at!r:.60}.")
        object.__setattr__(self, "where", names_of("where", self.where))
        object.__setattr__(self, "steps", part_of(self.steps))

    def acts(self, step: int, count: int) -> bool:
        """Whether it acts at evaluation `step` of `count`."""
        return Watch(steps=self.steps, every=1).acts(step, count)

    def among(self, sites: Sequence[Site]) -> list[Block]:
        """The blocks it acts on, of a U-Net with these attention sites; a ValueError names what is not among them."""
        blocks = blocks_of(sites)
        for name in self.where or ():
            if not any(_within(block.name, name) for block in blocks):
                there = ", ".join(dict.fromkeys(block.name.partition(".attentions.")[0] for block in blocks)) or "none"
                raise ValueError(f"where: no transformer block is in {name!r}; there are blocks in {there}.")
        return [block for block in blocks if self.where is None or any(_within(block.name, one) for one in self.where)]


@dataclass(frozen=True, eq=False)
class Block:
    """A transformer block: its name, its module, and the module around it, whose input has a height and a width."""

    name: str
    module: nn.Module
    around: nn.Module


def blocks_of(sites: Sequence[Site]) -> list[Block]:
    """The transformer blocks of the U-Net among some sites of attention, in their order."""
    found: dict[str, Block] = {}
    for site in sites:
        before, between, after = site.path.partition(".transformer_blocks.")
        if site.component == "unet" and between:
            number = after.partition(".")[0]
            name = f"{before}{between}{number}"
            found[name] = Block(name, site.block.get_submodule(f"transformer_blocks.{number}"), site.block)
    return list(found.values())


@contextmanager
def probing(probes: Sequence[Probe], sites: Sequence[Site], rows: Rows, step: int, count: int) -> Iterator[None]:
    """Let probes act on one call of a U-Net inside the block."""
    with ExitStack() as stack:
        for probe in probes:
            for block in probe.among(sites) if probe.acts(step, count) else ():
                tapped = _Tapped(probe, block, partial(BlockCall, rows=rows, step=step, count=count))
                stack.callback(block.around.register_forward_pre_hook(tapped.see_shape, with_kwargs=True).remove)
                if probe.at == "input":
                    stack.callback(block.module.register_forward_pre_hook(tapped.before, with_kwargs=True).remove)
                else:
                    stack.callback(block.module.register_forward_hook(tapped.after, with_kwargs=True).remove)
        yield


@dataclass
class _Tapped:
    probe: Probe
    block: Block
    call: Callable[..., BlockCall]
    shape: tuple[int, int] = (0, 0)

    def see_shape(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states = args[0] if args else kwargs["hidden_states"]
        self.shape = states.shape[-2:]

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        states = args[0] if args else kwargs["hidden_states"]
        changed = self._asked(states, states)
        if changed is None:
            return None
        return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Tensor | None:
        return self._asked(out, args[0] if args else kwargs["hidden_states"])

    def _asked(self, states: Tensor, entered: Tensor) -> Tensor | None:
        height, width = self.shape
        changed = self.probe.hook(self.call(self.block.name, states, entered, height, width))
        if changed is None:
            return None
        if not isinstance(changed, Tensor) or changed.shape != states.shape:
            got = f"one of {tuple(changed.shape)}" if isinstance(changed, Tensor) else repr(changed)[:60]
            raise TypeError(
                f"a probe's hook must answer None or a tensor of {tuple(states.shape)}, as {self.block.name} has; "
                f"got {got}."
            )
        return changed.to(states)


def _within(block: str, name: str) -> bool:
    return f"{block}.".startswith(f"{name}.")
