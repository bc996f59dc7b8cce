"""{SD, SD v-pred, SDXL} × every way to steer × four samplers: our latents are those of diffusers' own pipelines.

On the very same modules, in float32 on the CPU, and the largest difference is 0 in every cell. No bound is stated
anywhere, since none is needed.
"""

from itertools import combinations

import pytest
from recipes import DEPTH, HOLE, INK, LEFT, MAP, OTHER, PHOTO, POSE, RECIPE, STYLE, WASH
from sides import MATRIX, SCHEDULERS, difference

import ctrl

WAYS = {
    "plain": {},
    "one ControlNet": {"controls": [POSE]},
    "two": {"controls": [POSE, DEPTH]},
    "window": {"controls": [ctrl.Pose(MAP, ctrl.hold(0.5, start=0.25, until=0.75))]},
    "guess mode": {"controls": [ctrl.Pose(MAP, 0.5, mode="control first")]},
    "IP-Adapter": {"styles": [STYLE]},
    "two IP-Adapters": {"styles": [STYLE, ctrl.Style(WASH, 0.5, adapter="plus")]},
    "IP masks": {"styles": [ctrl.Style(INK, 0.7, mask=LEFT), ctrl.Style(WASH, 0.5, mask=255 - LEFT, adapter="plus")]},
    "IP + ControlNet": {"styles": [STYLE], "controls": [POSE]},
    "image to image": {"image": PHOTO, "strength": 0.5},
    "inpaint": {"image": PHOTO, "mask": HOLE, "strength": 1.0},
}
FURTHER = {
    "two windows that part": {
        "controls": [ctrl.Pose(MAP, ctrl.hold(0.5, until=0.5)), ctrl.Depth(OTHER, ctrl.hold(1.2, start=0.5))]
    },
    "two in guess mode": {"controls": [ctrl.Pose(MAP, mode="control first"), ctrl.Depth(OTHER, mode="control first")]},
    "three": {"controls": [ctrl.Edges(PHOTO, 0.8), POSE, DEPTH]},
    "one IP-Adapter twice": {"styles": [STYLE, ctrl.Style(WASH, 0.5)]},
    "IP of plus": {"styles": [ctrl.Style(INK, 0.7, adapter="plus")]},
    "one masked, one not": {"styles": [ctrl.Style(INK, 0.7, mask=LEFT), ctrl.Style(WASH, 0.5, adapter="plus")]},
    "several pictures in one style": {"styles": [ctrl.Style([INK, WASH, PHOTO], 0.7)]},
    "several pictures in one style, plus": {"styles": [ctrl.Style([INK, WASH], 0.7, adapter="plus")]},
    "inpaint, half": {"image": PHOTO, "mask": HOLE, "strength": 0.5},
    "inpaint, of another size": {"image": OTHER, "mask": HOLE, "strength": 1.0},
    "image to image + ControlNet": {"image": PHOTO, "strength": 0.75, "controls": [POSE]},
    "image to image + IP + ControlNet in a window": {
        "image": PHOTO,
        "strength": 0.75,
        "controls": [ctrl.Pose(MAP, ctrl.hold(0.5, until=0.7))],
        "styles": [STYLE],
    },
    "inpaint + ControlNet": {"image": PHOTO, "mask": HOLE, "strength": 1.0, "controls": [POSE]},
    "inpaint + IP + two in guess mode": {
        "image": PHOTO,
        "mask": HOLE,
        "strength": 0.75,
        "controls": [ctrl.Pose(MAP, mode="control first"), ctrl.Depth(OTHER, mode="control first")],
        "styles": [STYLE],
    },
    "everything": {
        "controls": [ctrl.Pose(MAP, ctrl.hold(0.5, start=0.25)), ctrl.Depth(OTHER, 1.2)],
        "styles": WAYS["IP masks"]["styles"],
    },
}


def largest_difference(sides, recipe):
    return difference(sides.ours(recipe), sides.theirs(recipe))


@pytest.mark.quick(sides=["SD"], sampler=["dpm++ 2m"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sampler", MATRIX)
def test_the_difference_is_0(sides, sampler, way):
    assert largest_difference(sides, RECIPE.replace(sampler=sampler, **WAYS[way])) == 0


@pytest.mark.quick(sides=["SD v-pred"])
@pytest.mark.parametrize("way", WAYS)
def test_the_difference_is_0_without_guidance(sides, way):
    assert largest_difference(sides, RECIPE.replace(sampler="euler", guidance=1.0, **WAYS[way])) == 0


@pytest.mark.quick(sides=["SD"])
@pytest.mark.parametrize("sampler", [sampler for sampler in SCHEDULERS if sampler not in MATRIX])
def test_the_difference_is_0_with_the_other_samplers_and_their_noise(sides, sampler):
    assert largest_difference(sides, RECIPE.replace(sampler=sampler)) == 0


@pytest.mark.quick(sides=["SDXL"], way=["two windows that part", "everything"])
@pytest.mark.parametrize("way", FURTHER)
def test_the_difference_is_0_where_ways_are_combined(sides, way):
    assert largest_difference(sides, RECIPE.replace(sampler="dpm++ 2m", **FURTHER[way])) == 0


CELLS = [(sampler, 6.0, WAYS) for sampler in MATRIX if sampler != "dpm++ 2m"]
CELLS += [("euler", 1.0, WAYS), ("dpm++ 2m", 6.0, WAYS | FURTHER)]


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "guidance", "ways"), CELLS)
def test_no_two_ways_make_the_same_so_no_cell_passes_by_doing_nothing(sides, sampler, guidance, ways):
    made = {
        way: sides.ours(RECIPE.replace(sampler=sampler, guidance=guidance, **changes)) for way, changes in ways.items()
    }
    for one, other in combinations(made, 2):
        assert difference(made[one], made[other]) > 1e-2, f"{one} makes what {other} makes"
