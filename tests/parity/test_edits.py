"""NAG, edits, aligned styles and biased regions on every family: they act, are seen, and leave nothing."""

import numpy as np
import pytest

import ctrl

SIZE = {"width": 64, "height": 48}
LEFT = np.zeros((48, 64), np.uint8)
LEFT[:, :32] = 255
PLAIN = ctrl.Recipe("a blue ball", negative="x", steps=2, seed=3, guidance=4.0, **SIZE)
FEW = PLAIN.replace(guidance=1.0)
WAYS = {
    "NAG": (FEW, {"guidance": ctrl.Guidance(1.0, nag=ctrl.NAG())}),
    "an edit": (PLAIN, {"edit": ctrl.Edit("a red hat", blend="ball")}),
    "aligned": (PLAIN, {"aligned": ctrl.StyleAligned(ctrl.Recipe("a fox"))}),
    "biased": (PLAIN, {"regions": [ctrl.Region("ball", LEFT, by="bias")]}),
}
WAYS["all"] = (PLAIN, {**WAYS["an edit"][1], **WAYS["aligned"][1], **WAYS["biased"][1]})
WAYS["all"][1]["edit"] = ctrl.Edit("a red ball", blend="ball")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("controlled", [False, True])
def test_it_acts_is_seen_and_leaves_nothing(sides, way, controlled):
    plain, how = WAYS[way]
    if controlled:
        rng = np.random.default_rng(0)
        picture = rng.integers(0, 255, (48, 64, 3), np.uint8)
        plain = plain.replace(controls=[ctrl.Depth(picture, 0.7)], styles=[ctrl.Style(picture, 0.5, adapter="base")])
    before = ctrl.sample(sides.model, plain).image
    changed = plain.replace(**how)
    shot = ctrl.sample(sides.model, changed, watch=ctrl.Watch(smallest=1, influence=True))
    assert shot.attention.receipt.ok and shot.attention.influence.ok
    assert shot.image == ctrl.sample(sides.model, changed).image != before
    assert ctrl.sample(sides.model, plain).image == before
