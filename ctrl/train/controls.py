"""Stage 4, the controls: a ControlNetModel each for pose, depth and edges on the frozen U-Net (arXiv 2302.05543).

`python -m ctrl.train.controls --kind pose --minutes 10`, or no kind for all three in turn. On a CPU, with
`--weights`, the hint encoder stays as it is. Zero convolutions, so that each begins as nothing at all; half the
captions are empty, so that the control learns to speak for itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from ctrl.atelier.captions import describe
from ctrl.atelier.edges import edges_of
from ctrl.atelier.scene import sample
from ctrl.skeleton import Skeleton
from ctrl.train import muon
from ctrl.train.base import Base, Source
from ctrl.train.denoiser import Noised, captions, draw, loss, noised
from ctrl.train.feed import Batch
from ctrl.train.loop import Average, train
from ctrl.train.options import Options, parse
from ctrl.train.pool import Pool
from ctrl.train.rows import Rows, choose
from ctrl.train.sheet import save_sheet

Kind = Literal["pose", "depth", "edges"]
KINDS: tuple[Kind, ...] = get_args(Kind)
EMPTY = 0.5
WIDTHS = (24, 16, 32, 64, 96)  # of the hint encoder at 256, 128, 64, 32 and 16 cells a side
SIDE = 256  # of a control picture, in pixels; the pool's own pictures may be smaller for a pose
LOUDNESS = 0.5  # standard deviation of the encoded hint, beside latents of about 0.7


def build(unet: UNet2DConditionModel) -> ControlNetModel:
    """A ControlNet for control pictures of 256 px that begins as a copy of the U-Net's first half."""
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=WIDTHS)


@torch.no_grad()
def speak_up(net: ControlNetModel, pictures: Tensor) -> None:
    """Initialise the hint encoder so that what it says of control pictures (B, 3, h, w) is loud enough to be heard.

    With torch's own initialisation layer upon layer of convolution and SiLU leave next to nothing of a hint, and the
    last convolution is zero: hundreds of steps pass before it is noticed (LOG.md has figures). The convolutions through
    which the ControlNet reaches the U-Net stay zero, so it still begins as nothing.
    """
    encoder = net.controlnet_cond_embedding
    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.kaiming_normal_(layer.weight)
            layer.bias.zero_()
    encoder.conv_out.weight.mul_(LOUDNESS / encoder(pictures).std((0, 2, 3)).mean())


def hint(pool: Pool, kind: Kind, row: int, *, mirrored: bool, side: int = SIDE) -> np.ndarray:
    """The control picture (side, side, 3 or 1) uint8 of a picture of the pool, or of its mirror image.

    A skeleton is drawn at `side` whatever the pool's size; depth and edges have the pool's.
    """
    if kind == "pose":  # its colours name left and right, so it is the skeleton that is mirrored
        skeleton = Skeleton(pool.keypoints[row], pool.visible[row])
        return (skeleton.mirror() if mirrored else skeleton).draw(side, side)
    grey = pool.near[row] if kind == "depth" else edges_of(pool.picture[row].transpose(1, 2, 0))
    return (grey[:, ::-1] if mirrored else grey)[..., None]


def hints(pool: Pool, kind: Kind, rows: Rows, side: int = SIDE) -> Tensor:
    """Control pictures (B, 3 or 1, size, size) uint8, mirrored as the rows are; `side` is that of a skeleton's."""
    pairs = zip(rows.index, rows.mirrored, strict=True)
    pictures = [hint(pool, kind, row, mirrored=flip, side=side) for row, flip in pairs]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def shown(hints: Tensor) -> Tensor:
    """Control pictures as a ControlNet sees them, (B, 3, size, size) in [0, 1]."""
    return hints.expand(-1, 3, -1, -1).float() / 255


@dataclass(frozen=True)
class Lesson(Batch):
    """Noised latents, what they show in words and as a control picture."""

    given: Noised
    ids: Tensor  # (B, L)
    hints: Tensor  # (B, 3 or 1, size, size) uint8


@dataclass(frozen=True)
class Lessons:
    """Draws lessons of `batch` pictures for the control of one kind."""

    source: Source
    kind: Kind
    batch: int

    def __call__(self, generator: torch.Generator) -> Lesson:
        """Draw one."""
        rows = choose(self.source.pool, self.batch, generator)
        ids = self.source.ids(captions(rows, generator, EMPTY))
        return Lesson(noised(self.source.clean(rows), generator), ids, hints(self.source.pool, self.kind, rows))


def controlled(
    unet: UNet2DConditionModel, net: ControlNetModel, picture: Tensor
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The U-Net's prediction under a control picture (B, 3, h, w), repeated if guidance doubles the rows."""

    def predict(latents: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        cond = picture.repeat(len(latents) // len(picture), 1, 1, 1)
        down, mid = net(latents, timesteps, text, controlnet_cond=cond, return_dict=False)
        return unet(
            latents, timesteps, text, down_block_additional_residuals=down, mid_block_additional_residual=mid
        ).sample

    return predict


def teach(kind: Kind, options: Options) -> None:
    """Train the ControlNet of one kind and save it as a diffusers folder."""
    base = Base.of(options)
    unet = base.unet()
    torch.manual_seed(options.seed)
    if options.start is None:
        net = build(unet)
        speak_up(net, shown(hints(base.source.pool, kind, Rows(list(range(32)), [False] * 32))))
    else:
        net = ControlNetModel.from_pretrained(options.start / f"controlnet_{kind}")
        learns = base.device.type != "cpu"  # there it is half of a step at 256 px and more
        net.controlnet_cond_embedding.requires_grad_(requires_grad=learns)
    nn.Module.to(net, base.device)
    average = Average(net, 0.998)
    optimizer = muon.optimizer(net, lr=4e-3 * options.rate)

    def learn(lesson: Lesson) -> Tensor:
        return loss(controlled(unet, net, shown(lesson.hints)), lesson.given, base.read(lesson.ids))

    def show(folder: Path, _: int) -> None:
        rows = Rows(list(range(8)), [False] * 8)
        text = base.prompt_embeds([describe(sample(i)).text for i in rows.index])
        picture = shown(hints(base.source.pool, kind, rows).to(base.device))
        made = draw(controlled(unet, average.module, picture), text, base.prompt_embeds([""]), base.codec)
        above = F.interpolate(picture * 2 - 1, made.shape[-2:], mode="area")
        save_sheet([above, made], folder / "samples.png")
        average.module.save_pretrained(base.weights / f"controlnet_{kind}")

    train(
        options.runs / f"control-{kind}",
        net,
        optimizer,
        Lessons(base.source, kind, options.batch),
        learn,
        options.budget,
        seed=options.seed,
        workers=options.workers,
        average=average,
        show=show,
    )


def main(options: Options | None = None) -> None:
    """Train the ControlNets one after another; the budget is each one's."""
    options = options or parse(__doc__, minutes=10, batch=16, kinds=KINDS)
    for kind in KINDS:
        if options.kind in (None, kind):
            teach(kind, options)


if __name__ == "__main__":
    main()
