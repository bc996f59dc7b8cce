"""The world as pictures: `look` renders a batch of scenes with everything that is known about them.

`python -m ctrl.atelier.world --sheet sheet.png` draws a contact sheet: pictures, depth, parts and skeletons.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from ctrl.atelier import render, styles
from ctrl.atelier.captions import describe
from ctrl.atelier.scene import EVALUATION_SEEDS, Scene, sample
from ctrl.skeleton import Skeleton

SUPERSAMPLE = 2


@dataclass(frozen=True)
class View:
    """A batch of finished pictures and their truth, at the picture's own size."""

    picture: Tensor  # (B, 3, size, size) in [0, 1]
    depth: Tensor  # (B, size, size) metres, render.SKY_DEPTH in the sky
    part: Tensor  # (B, size, size) uint8, an index into solids.PARTS
    normal: Tensor  # (B, 3, size, size) unit, world axes
    keypoints: Tensor  # (B, 18, 2) in [0, 1]
    visible: Tensor  # (B, 18) bool


@torch.no_grad()
def look(scenes: Sequence[Scene], size: int = 256, device: torch.device | str = "cpu") -> View:
    """Render scenes at `size` pixels square, each in its own style, in the order given."""
    buffers = render.cast(scenes, size * SUPERSAMPLE, device)
    picture = torch.empty(len(scenes), 3, size, size, device=buffers.depth.device)
    for style in {scene.style for scene in scenes}:
        rows = torch.tensor([i for i, scene in enumerate(scenes) if scene.style == style], device=picture.device)
        picture[rows] = F.avg_pool2d(styles.paint(render.rows_of(buffers, rows), style), SUPERSAMPLE)
    start = slice(SUPERSAMPLE // 2, None, SUPERSAMPLE)
    return View(
        picture=picture,
        depth=buffers.depth[:, start, start],
        part=buffers.part[:, start, start].to(torch.uint8),
        normal=buffers.normal[:, :, start, start],
        keypoints=buffers.keypoints,
        visible=buffers.visible,
    )


def contact_sheet(scenes: Sequence[Scene], size: int = 256) -> Image.Image:
    """Each scene in a row of four: picture, depth, parts and skeleton, over its caption."""
    view = look(scenes, size)
    columns, margin, text = 4, 8, 44
    rows = (len(scenes) + 1) // 2
    width = 2 * (columns * size + 3 * margin)
    sheet = Image.new("RGB", (width, rows * (size + text + margin) + margin), (250, 249, 246))
    pen = ImageDraw.Draw(sheet)
    for index, scene in enumerate(scenes):
        left = margin + (index % 2) * (width // 2)
        top = margin + (index // 2) * (size + text + margin)
        for column, panel in enumerate(_panels(view, index, size)):
            sheet.paste(panel, (left + column * (size + 2), top))
        words = textwrap.fill(describe(scene, seed=index, keep=0.9).text, 84)
        pen.multiline_text((left, top + size + 4), words, fill=(40, 40, 48))
    return sheet


def _panels(view: View, index: int, size: int) -> list[Image.Image]:
    picture = view.picture[index].permute(1, 2, 0).mul(255).round().byte().numpy()
    near = render.disparity(view.depth[index : index + 1])[0].mul(255).round().byte().numpy()
    hue = np.array([(i * 37 % 180, 150 if i > 1 else 40, 235 if i else 60) for i in range(256)], np.uint8)
    parts = Image.fromarray(hue[view.part[index].numpy()], "HSV").convert("RGB")
    skeleton = Skeleton(view.keypoints[index].numpy(), view.visible[index].numpy())
    return [
        Image.fromarray(picture),
        Image.fromarray(near).convert("RGB"),
        parts,
        Image.fromarray(skeleton.draw(size, size)),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Write a contact sheet of evaluation scenes, which no training ever sees."""
    parser = argparse.ArgumentParser(prog="python -m ctrl.atelier.world", description=main.__doc__)
    parser.add_argument("--sheet", required=True, help="where to write the PNG")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=EVALUATION_SEEDS)
    options = parser.parse_args(argv)
    scenes = [sample(options.seed + i) for i in range(options.count)]
    contact_sheet(scenes, options.size).save(options.sheet)


if __name__ == "__main__":
    main()
