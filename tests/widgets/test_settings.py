"""The settings a panel shows: read from a recipe, put back, and everything else left as it was."""

import numpy as np
import pytest
from variety import EVERYTHING, LEFT, MAP, PLAIN, SOFT

import ctrl
from widgets import settings

MANY = EVERYTHING.replace(
    controls=[ctrl.Pose("waving", ctrl.ramp(1.0, 0.5, until=0.8)), ctrl.Depth(MAP, 0.7, mask=SOFT)],
    regions=[ctrl.Region("a hat", SOFT, 0.7)],
)


def row(recipe, name):
    return next(one for one in settings.rows(recipe) if one["name"] == name)


@pytest.mark.parametrize("recipe", [PLAIN, EVERYTHING, MANY])
def test_rows_put_back_unmoved_change_nothing(recipe):
    made = recipe
    for one in settings.rows(recipe):
        made = settings.with_row(made, one)
    assert made is recipe


def test_a_row_moves_its_own_part_only():
    made = settings.with_row(MANY, row(MANY, "controls[1]") | {"weight": 0.25, "on": False, "mode": "prompt first"})
    assert made.controls[1] == ctrl.Depth(MAP, 0.25, mask=SOFT, on=False, mode="prompt first")
    assert settings.same(made.replace(controls=MANY.controls), MANY)
    lora = settings.with_row(MANY, row(MANY, "loras[0]") | {"weight": -1.5})
    assert lora.loras[0].weight == -1.5


def test_the_weight_of_a_curve_raises_all_of_it_and_its_window_moves():
    made = settings.with_row(MANY, row(MANY, "controls[0]") | {"weight": 2.0, "start": 0.1})
    assert made.controls[0].weight == ctrl.Schedule(((0.0, 2.0), (1.0, 1.0)), 0.1, 0.8)
    plain = settings.with_row(PLAIN, row(PLAIN, "guidance") | {"until": 0.5})
    assert plain.guidance == ctrl.hold(6.0, until=0.5)
    back = settings.with_row(plain, row(plain, "guidance") | {"until": 1.0})
    assert back.guidance == 6.0


def test_guidance_keeps_its_other_fields():
    made = settings.with_row(EVERYTHING, row(EVERYTHING, "guidance") | {"weight": 9.0})
    assert made.guidance.rescale == 0.5 and made.guidance.weight == 9.0 and len(made.guidance.perturb) == 2


def test_a_region_says_where_a_part_acts_and_what_acts_in_it_follows_it():
    assert row(MANY, "controls[1]")["where"] == "a hat" and row(MANY, "controls[0]")["where"] == ""
    placed = settings.with_row(MANY, row(MANY, "guidance") | {"where": "a hat"})
    assert placed.guidance.map == ctrl.Region("", SOFT).mask
    moved = settings.with_masks(placed, {"a hat": ctrl.Picture.of(LEFT), "a shoe": ctrl.Picture.of(SOFT)})
    assert moved.guidance.map == moved.controls[1].mask == moved.regions[0].mask == ctrl.Picture.of(LEFT)
    assert moved.regions[0].weight == 0.7 and moved.regions[1].prompt == "a shoe"
    free = settings.with_row(moved, row(moved, "controls[1]") | {"where": ""})
    assert free.controls[1].mask is None
    renamed = settings.with_masks(placed, {"a cap": ctrl.Picture.of(SOFT)})
    assert renamed == placed.replace(regions=[ctrl.Region("a cap", SOFT, 0.7)])
    gone = settings.with_masks(moved, {})
    assert gone.regions == () and gone.controls[1].mask is None


def test_a_mask_that_is_no_region_is_kept():
    own = MANY.replace(regions=[])
    assert row(own, "controls[1]")["where"] == settings.OWN
    made = settings.with_row(own, row(own, "controls[1]") | {"weight": 0.1})
    assert np.array_equal(made.controls[1].mask.pixels, MANY.controls[1].mask.pixels)


def test_a_row_of_another_recipe_is_left_out():
    assert settings.with_row(PLAIN, row(MANY, "controls[0]") | {"weight": 0.1}) is PLAIN


def test_settings_without_effect_count_as_settings():
    off = PLAIN.replace(controls=[ctrl.Pose("waving", 0.5, on=False)])
    other = PLAIN.replace(controls=[ctrl.Pose("waving", 0.6, on=False)])
    assert off == other and not settings.same(off, other)
