"""One call of a U-Net or of a ControlNet, asked and answered in plain tensors.

R are the rows of the U-Net's batch. A ControlNet may be one kind of several, see `controlnets.OneKind`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ctrl.attention import Edit, Observer, Texts, tap
from ctrl.model.text import Text

Added = Mapping[str, Tensor] | None  # SDXL's further conditions


@dataclass(frozen=True, eq=False)
class Words:
    """What R rows are told: `states` (R, T, D); `pooled` (R, P) where the model wants it; `weights` (R, T) or None."""

    states: Tensor
    pooled: Tensor | None = None
    weights: Tensor | None = None

    @staticmethod
    def of(texts: Sequence[Text]) -> Words:
        """Texts of one length as rows."""
        pooled = [one.pooled for one in texts if one.pooled is not None]
        plain = all(one.weights is None for one in texts)
        weights = [torch.ones_like(one.states[0, :, 0]) if one.weights is None else one.weights for one in texts]
        return Words(
            torch.cat([one.states for one in texts]),
            torch.cat(pooled) if pooled else None,
            None if plain else torch.stack(weights),
        )


@dataclass(frozen=True, eq=False)
class Residuals:
    """What a ControlNet adds: `down` to the skips, each (R, C_i, h_i, w_i), and `mid` to the middle."""

    down: tuple[Tensor, ...]
    mid: Tensor


def prediction(unet: Any, sample: Tensor, t: Tensor, words: Words, added: Added, residuals: Residuals | None) -> Tensor:
    """What the U-Net predicts of `sample`, (R, C, h, w)."""
    found: Tensor = unet(
        sample,
        t,
        encoder_hidden_states=words.states,
        added_cond_kwargs=added,
        down_block_additional_residuals=residuals.down if residuals else None,
        mid_block_additional_residual=residuals.mid if residuals else None,
        return_dict=False,
    )[0]
    return found


def residuals(net: Any, sample: Tensor, t: Tensor, words: Words, added: Added, embedded: Tensor) -> Residuals:
    """What the ControlNet adds; `embedded` is its control picture by `hint_embedding`."""
    with _already(hint_embedding(net), embedded):
        down, mid = net(
            sample,
            t,
            encoder_hidden_states=words.states,
            controlnet_cond=embedded,
            added_cond_kwargs=added,
            return_dict=False,
        )
    return Residuals(tuple(down), mid)


def whole(net: Any) -> Any:
    """The network of a ControlNet that may be one kind of several."""
    return getattr(net, "net", net)


def hint_embedding(net: Any) -> Any:
    """The ControlNet's first convolutions, which read its control pictures."""
    return whole(net).controlnet_cond_embedding


def tapped(
    module: Any, name: str, edits: Sequence[Edit], observers: Sequence[Observer], texts: Texts | None
) -> AbstractContextManager[None]:
    """The module's attention under `ctrl.attention.tap` for a block, if there is anything to edit, watch or keep."""
    if not edits and not observers and texts is None:
        return nullcontext()
    return tap(module, name=name, edits=edits, observers=observers, texts=texts)


@contextmanager
def _already(module: Any, out: Tensor) -> Iterator[None]:
    """A module that has been asked already: for the length of the block it answers `out`."""
    held: dict[str, Any] = module.__dict__
    held["forward"] = lambda _: out
    try:
        yield
    finally:
        del held["forward"]
