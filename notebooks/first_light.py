"""Makes the README's picture: `python notebooks/first_light.py notebooks/first-light.png`.

One prompt and one seed, steered in six ways. Above each picture stands what steered it. Where a picture gives the
style, the prompt leaves it out.
"""

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import ctrl
from ctrl.atelier.edges import edges_of
from ctrl.atelier.render import disparity
from ctrl.atelier.scene import EVALUATION_SEEDS, sample
from ctrl.atelier.world import look

WORDS = "a figure in a red shirt and blue trousers, a yellow ball on the left, on grass, at sunset"
SIDE, GAP, TOP = 192, 12, 34


def scene(wanted):
    """The first evaluation scene that is wanted, rendered."""
    seeds = range(EVALUATION_SEEDS + 10_000, EVALUATION_SEEDS + 12_000)
    view = look([next(found for found in map(sample, seeds) if wanted(found))])
    picture = (view.picture[0].permute(1, 2, 0) * 255).round().byte().numpy()
    near = (disparity(view.depth)[0] * 255).round().byte().numpy()
    return picture, near


def columns():
    """Title, what steers, and the recipe."""
    plain = ctrl.Recipe(f"{WORDS}, comic book", seed=7)
    skeleton = ctrl.Skeleton.named("waving")
    _, near = scene(lambda s: s.pose == "arms outstretched" and s.style == "3d render" and len(s.props) == 1)
    lined, _ = scene(lambda s: s.pose == "hands on hips" and s.style == "3d render" and len(s.props) == 1)
    edges = edges_of(lined)
    neon, _ = scene(lambda s: s.style == "neon lines" and s.pose == "walking")
    pose = ctrl.Pose(skeleton)
    return [
        ("prompt alone", None, plain),
        ("pose", skeleton.draw(128, 128), plain.replace(controls=[pose])),
        ("depth", near, plain.replace(controls=[ctrl.Depth(near)])),
        ("edges", edges, plain.replace(controls=[ctrl.Edges(edges)])),
        ("pose and style", neon, plain.replace(prompt=WORDS, controls=[pose], styles=[ctrl.Style(neon)])),
        ("pose, four steps", skeleton.draw(128, 128), plain.replace(controls=[pose]).fast()),
    ]


def main(path):
    """Draw the sheet."""
    model, shown = ctrl.load(), columns()
    width = len(shown) * (SIDE + GAP) + GAP
    sheet = Image.new("RGB", (width, TOP + SIDE // 2 + SIDE + 3 * GAP), (250, 249, 246))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, (title, steer, recipe) in enumerate(shown):
        left = GAP + column * (SIDE + GAP)
        pen.text((left, GAP - 2), title, fill=(40, 40, 48), font=font)
        if steer is not None:
            small = Image.fromarray(np.asarray(steer)).convert("RGB")
            sheet.paste(small.resize((SIDE // 2, SIDE // 2), Image.Resampling.LANCZOS), (left, TOP))
        made = ctrl.sample(model, recipe).image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(made, (left, TOP + SIDE // 2 + GAP))
    sheet.save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
