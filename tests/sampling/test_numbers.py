"""What observers are told of styles and regions is their number in the recipe, whatever acts at a step."""

import pytest
from variety import LEFT, MAP, OTHER, PLAIN, REFERENCE, SOFT

import ctrl
from ctrl.attention import At
from ctrl.sampling.walk import prepare, walk

RECIPE = PLAIN.replace(
    steps=4,
    regions=[ctrl.Region("blue", SOFT, on=False), ctrl.Region("a hat", LEFT), ctrl.Region("a box", SOFT, 0.5)],
    styles=[
        ctrl.Style(REFERENCE, 0.0),
        ctrl.Style(OTHER, ctrl.hold(0.5, until=0.5)),
        ctrl.Style(MAP, ctrl.hold(0.8, start=0.25)),
    ],
)


def watched(model, recipe, observers):
    for _ in walk(prepare(model, [recipe], None, observers), model, None):
        pass


def test_a_part_keeps_its_number_when_others_come_and_go(model):
    seen = {}

    def note(call, terms):
        seen.setdefault(call.step, set()).update(str(term.source) for term in terms)

    watched(model, RECIPE, [note])
    regions = {"prompt", "region 1", "region 2"}
    assert seen[0] == regions | {"style 1"}
    assert seen[1] == regions | {"style 1", "style 2"}
    assert seen[2] == seen[3] == regions | {"style 2"}


def test_a_region_by_its_number_is_the_region(model):
    shares = {}

    def note(call, terms):
        for term in terms:
            if term.source.kind == "region":
                shares[term.source.index] = float(term.mask[call.rows.cond[0]].mean())

    watched(model, RECIPE.replace(regions=RECIPE.regions[1:2]), [note])
    alone = shares[0]
    watched(model, RECIPE.replace(regions=[*RECIPE.regions[:1], RECIPE.regions[1]]), [note])
    assert shares[1] == alone


@pytest.mark.parametrize(
    "at", [{"where": "mid_blok"}, {"component": "poze"}, {"where": ["up_blocks.9"], "kind": "self"}], ids=str
)
def test_a_hook_that_would_act_nowhere_is_refused_before_the_first_step(model, at):
    with pytest.raises(ValueError, match="acts nowhere; the run's components are unet"):
        prepare(model, [PLAIN], None, [At(lambda call, terms: None, **at)])
