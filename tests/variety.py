"""Recipes of every kind for the tiny model: the one with everything in it, and random ones by hypothesis."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

import ctrl

SIZE = 32  # pixels: latents of 8 × 8
rng = np.random.default_rng(0)
PICTURES = [rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8) for _ in range(3)]
MAP, OTHER, REFERENCE = PICTURES
SOFT = rng.integers(0, 255, (SIZE, SIZE), np.uint8)
LEFT = np.zeros((SIZE, SIZE), np.uint8)
LEFT[:, : SIZE // 2] = 255
BLACK, WHITE = np.zeros((SIZE, SIZE), np.uint8), np.full((SIZE, SIZE), 255, np.uint8)
LONG = "every tower has a length, and this is longer than one of them"
BLOCKS = (0.9, 0.0, 1.0, 0.3, 1.0, 0.5, 0.7)  # of the tiny ControlNets
PLAIN = ctrl.Recipe("a red ball", steps=2, seed=7, width=SIZE, height=SIZE)
EVERYTHING = PLAIN.replace(
    prompt="a (red:1.3) ball",
    negative="blue",
    regions=[ctrl.Region("a hat", SOFT, 0.7)],
    controls=[ctrl.Pose(ctrl.Skeleton.named("waving"), 0.8), ctrl.Depth(MAP, ctrl.ramp(1, 0.5), mask=LEFT)],
    styles=[ctrl.Style((REFERENCE, OTHER), 0.6, mask=LEFT, negative=MAP), ctrl.Style(OTHER, 0.4, blocks="style")],
    guidance=ctrl.Guidance(4.0, rescale=0.5, perturb=[ctrl.PAG(2.0), ctrl.SEG(1.0)]),
    sampler="dpm++ 2m sde",
    image=OTHER,
    mask=SOFT,
    strength=1.0,
    loras=[ctrl.Lora("lcm", 0.5)],
)


SHARE = 1.0  # of random examples that are drawn


def share(examples):
    """How many of so many examples are drawn: all of them, a tenth in the quick loop."""
    return math.ceil(examples * SHARE)


def few(examples):
    """The same few examples every time; each is several runs of a model."""
    unshared = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors, HealthCheck.too_slow]
    return settings(
        max_examples=share(examples),
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # what fails is a recipe of a few lines already
        suppress_health_check=unshared,
    )


maybe = partial(st.one_of, st.none())
weights = st.sampled_from(
    [0.3, 1.0, ctrl.hold(0.8, until=0.5), ctrl.ramp(1, 0.2), ctrl.hold(0.7, start=0.3, by="noise")]
)
masks = maybe(st.sampled_from([LEFT, SOFT]))
pictures = st.sampled_from(PICTURES)
controls = st.builds(
    lambda make, picture, weight, **how: make(picture, weight, **how),
    st.sampled_from([ctrl.Pose, ctrl.Depth, ctrl.Edges]),
    pictures,
    weights,
    mask=masks,
    mode=st.sampled_from(["balanced", "prompt first", "control first"]),
    uncond=maybe(st.sampled_from([0.0, 0.5, 1.0])),
    blocks=maybe(st.just(BLOCKS)),
)
styles = st.builds(
    ctrl.Style,
    st.one_of(pictures, st.just((MAP, REFERENCE))),
    weights,
    mask=masks,
    blocks=st.sampled_from(["all", "style", "layout", {"up_blocks.1": 0.5, "mid_block": 1.0}]),
    negative=maybe(pictures),
    combine=st.sampled_from(["concat", "average"]),
)
regions = st.builds(
    ctrl.Region, st.sampled_from(["blue", "a (hat:0.5)"]), st.sampled_from([LEFT, SOFT]), st.sampled_from([0.4, 1.0])
)
perturbations = st.one_of(
    st.builds(ctrl.PAG, st.sampled_from([2.0, ctrl.ramp(3, 0)])),
    st.builds(ctrl.SEG, st.just(1.5), st.sampled_from([None, 1.0])),
)
guidances = st.builds(
    ctrl.Guidance,
    st.sampled_from([1.0, 5.0, ctrl.ramp(6, 0), ctrl.hold(4, start=0.5)]),
    rescale=st.sampled_from([0.0, 0.7]),
    rescale_in=st.sampled_from(["prediction", "v", "x0"]),
    map=masks,
    apg=maybe(st.just(ctrl.APG())),
    zero=maybe(st.sampled_from([ctrl.CFGZero(), ctrl.CFGZero(1)])),
    perturb=st.lists(perturbations, max_size=2),
)
blends = st.sampled_from(
    [
        ctrl.Blend({"a red ball": 0.3, "a (blue:1.4) hat": 0.7}),
        ctrl.Blend({"a red ball": ctrl.ramp(1, 0), "a box": ctrl.ramp(0, 1)}),
        ctrl.Blend({"a red ball": 1, LONG: 2}),
    ]
)
directions = st.builds(ctrl.Direction, st.just("by day"), st.sampled_from(["at night", LONG]), weights | st.just(-0.5))
samplers = st.sampled_from(["ddim", "ddpm", "euler", "euler a", "heun", "dpm++ 2m", "dpm++ 2m sde", "unipc", "lcm"])


@st.composite
def recipes(draw, least=0):
    """Recipes with at least so many controls and styles."""
    start = draw(st.sampled_from([{}, {"image": OTHER}, {"image": OTHER, "mask": SOFT}]))
    return PLAIN.replace(
        prompt=draw(st.sampled_from(["a red ball", "a (red:1.4) ball", LONG]) | blends),
        negative=draw(st.sampled_from(["", "blue", LONG]) | blends),
        directions=draw(st.lists(directions, max_size=1)),
        regions=draw(st.lists(regions, max_size=2)),
        controls=draw(st.lists(controls, min_size=least, max_size=2)),
        styles=draw(st.lists(styles, min_size=least, max_size=2)),
        guidance=draw(guidances),
        sampler=draw(samplers),
        seed=draw(st.integers(0, 3) | st.just(ctrl.SeedBlend(1, 2, 0.4))),
        strength=draw(st.sampled_from([0.5, 1.0])),
        loras=draw(st.sampled_from([[], [], [ctrl.Lora("lcm", 0.5)]])),
        **start,
    )


def run(model, recipe):
    """(2 · steps, C, h, w): everything a run says."""
    return torch.cat([part for step in ctrl.steps(model, recipe) for part in (step.latents, step.denoised)])


def with_guidance(recipe, **changes):
    return recipe.replace(guidance=replace(ctrl.recipe.Guidance.of(recipe.guidance), **changes))
