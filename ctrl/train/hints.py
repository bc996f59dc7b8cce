"""Stage 4b, control pictures of 256 px: each ControlNet's hint encoder gets one more level, and says what it said.

`python -m ctrl.train.hints --weights FOLDER` takes ControlNets for control pictures of 128 px and writes ones for
256 px that say of a map what those said of it reduced by area, to the rounding of floats. Nothing is trained: SiLU(a) -
SiLU(-a) = a, so pairs of channels carry values through activations unchanged, and three convolutions can be solved.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from torch import Tensor, nn

from ctrl.train.controls import KINDS
from ctrl.train.options import Options, parse

SHIFTS = tuple(product((-1, 1), repeat=2))  # in pixels, down and right
COLORS = 3
PAIRS = 2 * COLORS
FRONT = len(SHIFTS) * PAIRS  # channels at 256 px


@torch.no_grad()
def enlarged(net: ControlNetModel) -> ControlNetModel:
    """A ControlNet for control pictures of twice the size, which says of them what `net` says of them reduced."""
    widths = (FRONT, *net.config.conditioning_embedding_out_channels)
    new = ControlNetModel.from_config({**net.config, "conditioning_embedding_out_channels": widths})
    assert isinstance(new, ControlNetModel)
    front: Any = new.controlnet_cond_embedding
    old = net.controlnet_cond_embedding
    kept = {name: value for name, value in net.state_dict().items() if "cond_embedding" not in name}
    missing, unknown = new.load_state_dict(kept, strict=False)
    assert not unknown and all("cond_embedding" in name for name in missing)
    for mine, theirs in zip([*front.blocks[2:], front.conv_out], [*old.blocks, old.conv_out], strict=True):
        mine.load_state_dict(theirs.state_dict())
    _halve(front.conv_in)
    _shift(front.blocks[0])
    _read(front.blocks[1], old.conv_in)
    return new


def _halve(conv: nn.Conv2d) -> None:
    """The first channels: each colour's mean over a pixel and those right and below, and its negative."""
    assert conv.bias is not None
    conv.bias.zero_()
    conv.weight[:PAIRS].zero_()
    for color, sign in product(range(COLORS), (0, 1)):
        conv.weight[2 * color + sign, color, 1:, 1:] = 0.25 * (-1) ** sign


def _shift(conv: Any) -> None:
    """Those means moved by each of SHIFTS, and their negatives; the other channels are not read yet."""
    conv.weight.zero_()
    conv.bias.zero_()
    for (at, (down, right)), color, sign in product(enumerate(SHIFTS), range(COLORS), (0, 1)):
        one = conv.weight[_place(at, color) + sign, :, 1 + down, 1 + right]
        one[2 * color], one[2 * color + 1] = (-1) ** sign, -((-1) ** sign)


def _read(conv: Any, old: nn.Conv2d) -> None:
    """The old first convolution at every second pixel: each tap is a shift and a tap that do not leave the picture."""
    assert old.bias is not None
    conv.weight.zero_()
    conv.bias.copy_(old.bias)
    steps = {0: (-1, -1), 1: (-1, 1), 2: (1, 1)}  # tap of the old kernel: the shift and the tap that make it
    for (row, column), color in product(product(steps, repeat=2), range(COLORS)):
        (down, y), (right, x) = steps[row], steps[column]
        place = _place(SHIFTS.index((down, right)), color)
        taken: Tensor = old.weight[:, color, row, column]
        conv.weight[:, place, 1 + y, 1 + x] = taken
        conv.weight[:, place + 1, 1 + y, 1 + x] = -taken


def _place(shift: int, color: int) -> int:
    return shift * PAIRS + 2 * color


def main(options: Options | None = None) -> None:
    """Enlarge the ControlNets of the weights folder that `--weights` names."""
    options = options or parse(__doc__, minutes=0, batch=1)
    if options.start is None:
        raise SystemExit("--weights must name the folder of the ControlNets for 128 px")
    for kind in KINDS:
        name = f"controlnet_{kind}"
        enlarged(ControlNetModel.from_pretrained(options.start / name)).save_pretrained(options.runs / "weights" / name)


if __name__ == "__main__":
    main()
