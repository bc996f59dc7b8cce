"""AttentionPanel: a watched shot in the leaf, its shares, texts, pictures and receipt."""

import numpy as np
import pytest

import ctrl
from widgets import AttentionPanel

rng = np.random.default_rng(0)
INK, OTHER = (rng.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(2))
RECIPE = ctrl.Recipe("a red ball", negative="dark", steps=4, seed=7, styles=[ctrl.Style([INK, OTHER], 0.5)])


@pytest.fixture(scope="module")
def shot(model):
    return ctrl.sample(model, RECIPE, watch=ctrl.Watch(history=True, influence=True))


def test_the_panel_shows_the_shares_of_the_shot(shot):
    heat = AttentionPanel(shot).heat
    assert [(one.text, one.source) for one in heat.words[:6]] == [
        ("a", "prompt"),
        ("red", "prompt"),
        ("ball", "prompt"),
        ("dark", "negative"),
        ("style 0, picture 0", "style 0"),
        ("style 0, picture 1", "style 0"),
    ]
    assert heat.words[4].picture.startswith(b"\x89PNG")
    assert {one.text for one in heat.words if one.source == "influence"} >= {"words", "the model itself", "style 0"}
    assert heat.layers == shot.attention.layers() and len(heat.steps) == 4
    shares = heat.maps / 255 * heat.scales[..., None, None]
    red = shot.attention.map("red", layers=heat.layers[-1]).steps[2]
    assert np.abs(shares[-1, 2, 1] - red).max() <= red.max() * 0.01
    assert heat.places == (16, 16) and len(heat.attends) == 256
    assert "sites" in heat.note and "rebuilt" in heat.note


def test_without_history_there_is_one_step_and_without_watching_a_sentence(model, shot):
    plain = ctrl.sample(model, RECIPE, watch=ctrl.Watch(self_attention=False))
    panel = AttentionPanel(plain)
    assert panel.heat.steps == ("all steps",) and panel.heat.places == (0, 0)
    panel.show_shot(shot)
    assert len(panel.heat.steps) == 4
    with pytest.raises(ValueError, match="the shot was not watched"):
        AttentionPanel(ctrl.sample(model, RECIPE))
