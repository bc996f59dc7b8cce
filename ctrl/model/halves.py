"""The two halves of a U-Net: residuals of ControlNets enter after its encoder, so calls that differ in them share it.

The encoder is `conv_in`, the down blocks and the middle block; their outputs are kept, and answered in the next call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor

from ctrl.attention import Site
from ctrl.attention.override import override
from ctrl.memory import Keep


def decoder_sites(places: Sequence[Site]) -> list[Site]:
    """The attention after the encoder."""
    return [site for site in places if site.path.startswith("up_blocks")]


def with_kept_encoder(module: Any, keep: Keep, whole: Callable[[], Tensor], decoder: Callable[[], Tensor]) -> Tensor:
    """The output of the U-Net `module`: first of `whole`, which keeps its encoder's outputs, later of `decoder`.

    Both call the module with the same inputs but for the residuals, `whole` with hooks on all of its attention and
    `decoder` with those on `decoder_sites` alone.
    """
    parts = [module.conv_in, *module.down_blocks, module.mid_block]
    first: list[Tensor] = []

    def record() -> tuple[Any, ...]:
        outputs: dict[int, Any] = {}
        with ExitStack() as stack:
            for number, part in enumerate(parts):
                # Before any other hook: these act on an output that is answered as well.
                stack.callback(part.register_forward_hook(_into(outputs, number), prepend=True).remove)
            first.append(whole())
        return tuple(outputs[number] for number in range(len(parts)))

    outputs = keep("encoder", record)
    if first:
        return first[0]
    with override("forward", ((part, _answering(out)) for part, out in zip(parts, outputs, strict=True))):
        return decoder()


def _into(outputs: dict[int, Any], number: int) -> Callable[..., None]:
    def note(_module: Any, _args: Any, out: Any) -> None:
        outputs[number] = _own(out)

    return note


def _own(out: Any) -> Any:
    """The middle's output as a tensor of its own: FreeU writes to it."""
    return out.clone() if isinstance(out, Tensor) else out


def _answering(out: Any) -> Callable[..., Any]:
    """A part's forward that answers its output of before."""
    return lambda *_, **__: _own(out)
