"""Makes the README's picture: `python notebooks/first_light.py notebooks/first-light.png`.

One figure, steered in six ways and drawn in eight styles, each picture at the model's own size. What steers a
picture stands in its corner. Where a picture gives the style, the prompt leaves it out.
"""

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import ctrl
from ctrl.atelier.edges import edges_of
from ctrl.atelier.render import disparity
from ctrl.atelier.scene import EVALUATION_SEEDS, SHOWS_COLOR, STYLES, sample
from ctrl.atelier.world import look

TIMELESS = "a figure in a red shirt and blue trousers, a yellow ball on the left, on grass"  # neon shows no time of day
WORDS = f"{TIMELESS}, at sunset"
BARE = "a figure, a ball on the left, on grass"  # for styles that show no colours
SEED = 3
SIDE, SMALL, GAP, TOP, COLUMNS = 256, 72, 10, 24, 7
PAPER, INK = (250, 249, 246), (40, 40, 48)


def scene(wanted):
    """The first evaluation scene that is wanted, rendered, and what is near in it."""
    seeds = range(EVALUATION_SEEDS + 10_000, EVALUATION_SEEDS + 12_000)
    view = look([next(found for found in map(sample, seeds) if wanted(found))], SIDE)
    picture = (view.picture[0].permute(1, 2, 0) * 255).round().byte().numpy()
    near = (disparity(view.depth)[0] * 255).round().byte().numpy()
    return picture, near


def with_a_ball(found):
    """Whether a scene is a 3d render of what WORDS name: one ball, on the left."""
    return found.style == "3d render" and [(prop.kind, prop.side) for prop in found.props] == [("ball", "left")]


def controls():
    """Title, what steers, and the recipe: a picture for each way to steer."""
    plain = ctrl.Recipe(f"{WORDS}, comic book", seed=SEED)
    skeleton = ctrl.Skeleton.named("waving")
    drawn = skeleton.draw(SIDE, SIDE)
    _, near = scene(lambda s: s.pose == "arms outstretched" and with_a_ball(s))
    lined, _ = scene(lambda s: s.pose == "hands on hips" and with_a_ball(s))
    edges = edges_of(lined)
    neon, _ = scene(lambda s: s.style == "neon lines" and s.pose == "walking")
    pose = ctrl.Pose(skeleton)
    return [
        ("prompt alone", None, plain),
        ("pose", drawn, plain.replace(controls=[pose])),
        ("depth", near, plain.replace(controls=[ctrl.Depth(near)])),
        ("edges", edges, plain.replace(controls=[ctrl.Edges(edges)])),
        ("pose, in four steps", drawn, plain.replace(controls=[pose]).fast()),
        ("style from a picture", neon, plain.replace(prompt=TIMELESS, controls=[pose], styles=[ctrl.Style(neon)])),
    ]


def styles():
    """The same figure in each style, by words."""
    pose = ctrl.Pose(ctrl.Skeleton.named("waving"))
    words = [(style, WORDS if style in SHOWS_COLOR else BARE) for style in STYLES]
    return [(style, None, ctrl.Recipe(f"{text}, {style}", controls=[pose], seed=SEED)) for style, text in words]


def main(path):
    """Draw the sheet."""
    model, shown = ctrl.load(), [*controls(), *styles()]
    rows = -(-len(shown) // COLUMNS)
    size = (COLUMNS * (SIDE + GAP) + GAP, rows * (SIDE + TOP + GAP) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    made = ctrl.sample_many(model, [recipe for _, _, recipe in shown])
    for place, ((title, steer, _), shot) in enumerate(zip(shown, made, strict=True)):
        left = GAP + place % COLUMNS * (SIDE + GAP)
        top = GAP + place // COLUMNS * (SIDE + TOP + GAP)
        pen.text((left, top), title, fill=INK, font=font)
        sheet.paste(shot.image, (left, top + TOP))
        if steer is not None:
            small = Image.fromarray(np.asarray(steer)).convert("RGB").resize((SMALL, SMALL), Image.Resampling.LANCZOS)
            sheet.paste(small, (left + SIDE - SMALL, top + TOP + SIDE - SMALL))
    sheet.save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
