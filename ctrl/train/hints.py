"""Stage 4b, control pictures of 256 px: each ControlNet's hint encoder gets one more level, and says what it said.

`python -m ctrl.train.hints --weights FOLDER --minutes 3` takes ControlNets for control pictures of 128 px and writes
ones for 256 px. First they say of a map what those said of it reduced by area, to the rounding of floats, with nothing
trained: SiLU(a) - SiLU(-a) = a, so pairs of channels carry values through activations unchanged, and three
convolutions can be solved. But the lines of poses and edges are thinner when they are drawn at 256 px than when they
are enlarged; so for these two the encoder then learns, for the minutes given, to say of the map drawn at 256 px what
the old one said of the map drawn at 128.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from torch import Tensor, nn

from ctrl.train import muon
from ctrl.train.codec import sized
from ctrl.train.controls import KINDS, SIDE, Kind, hints, shown
from ctrl.train.feed import Batch
from ctrl.train.loop import Average, bf16, train
from ctrl.train.options import Options, parse
from ctrl.train.pool import Pool, open_pool
from ctrl.train.rows import Rows, choose

SHIFTS = tuple(product((-1, 1), repeat=2))  # in pixels, down and right
DRAWN: tuple[Kind, ...] = ("pose", "edges")  # whose lines are as many pixels wide at 256 px as at 128, or nearly
GROWN = 0.3  # how often: people have control pictures of any size
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


@dataclass(frozen=True)
class Lesson(Batch):
    """The same control pictures at both sizes, uint8."""

    small: Tensor  # (B, 3 or 1, 128, 128)
    large: Tensor  # (B, 3 or 1, 256, 256)


@dataclass(frozen=True)
class Lessons:
    """Draws lessons of `batch` control pictures of one kind, half of them mirrored; some are the small one enlarged."""

    pool: Pool
    kind: Kind
    batch: int

    def __call__(self, generator: torch.Generator) -> Lesson:
        """Draw one."""
        rows = choose(self.pool, self.batch, generator)
        chosen = Rows(list(range(self.batch)), rows.mirrored)
        small = hints(_halved(self.pool, rows.index), self.kind, chosen, SIDE // 2)
        again = small.repeat_interleave(2, -1).repeat_interleave(2, -2)
        grown = torch.rand(self.batch, 1, 1, 1, generator=generator) < GROWN
        return Lesson(small, torch.where(grown, again, hints(self.pool, self.kind, rows)))


def loss(new: nn.Module, old: nn.Module, lesson: Lesson) -> Tensor:
    """How far what the new encoder says is from what the old one says, of the old one's variance."""
    with torch.no_grad():
        wanted = old(shown(lesson.small))
    with bf16(wanted.device):
        found: Tensor = new(shown(lesson.large))
    return (found.float() - wanted).square().mean() / wanted.var()


def teach(kind: Kind, options: Options, net: ControlNetModel) -> ControlNetModel:
    """Enlarge a ControlNet and let its hint encoder learn what maps drawn at twice the size mean."""
    new = enlarged(net)
    for module in (new, net):
        nn.Module.to(module, options.device)
    if kind in DRAWN:
        encoder, old = new.controlnet_cond_embedding, net.controlnet_cond_embedding
        average = Average(encoder, 0.99)
        pool = open_pool(options.pool, options.count, options.size)
        train(
            options.runs / f"hints-{kind}",
            encoder,
            muon.optimizer(encoder, lr=1e-3 * options.rate),
            Lessons(pool, kind, options.batch),
            lambda lesson: loss(encoder, old, lesson),
            options.budget,
            workers=options.workers,
            average=average,
            warmup=20,
        )
        encoder.load_state_dict(average.module.state_dict())
    return new


def _halved(pool: Pool, index: list[int]) -> Pool:
    """Rows of a pool with pictures of half the size."""
    picture = sized(torch.from_numpy(pool.picture[index]), 2).numpy()
    return Pool(picture, pool.near[index], pool.part[index], pool.keypoints[index], pool.visible[index], pool.done)


def main(options: Options | None = None) -> None:
    """Enlarge the ControlNets of the weights folder that `--weights` names; the budget is that of each that learns."""
    options = options or parse(__doc__, minutes=3, batch=8, kinds=KINDS)
    if options.start is None:
        raise SystemExit("--weights must name the folder of the ControlNets for 128 px")
    for kind in KINDS:
        if options.kind in (None, kind):
            net = ControlNetModel.from_pretrained(options.start / f"controlnet_{kind}")
            teach(kind, options, net).save_pretrained(options.runs / "weights" / f"controlnet_{kind}")


if __name__ == "__main__":
    main()
