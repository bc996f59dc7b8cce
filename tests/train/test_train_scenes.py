"""What the training pool adds to the world's scenes: figures away from the middle, and props named by regions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ctrl.atelier import world
from ctrl.atelier.captions import describe
from ctrl.atelier.scene import SIDES, sample
from ctrl.atelier.solids import PARTS
from ctrl.train import regional
from ctrl.train.elsewhere import elsewhere
from ctrl.train.pool import scene_of

PROPPED = next(seed for seed in range(100) if len(sample(seed).props) == 2)


def test_every_other_scene_of_the_pool_is_as_the_world_has_it() -> None:
    assert [scene_of(row) == sample(row) for row in range(8)] == [True, False] * 4


def test_a_scene_seen_from_elsewhere_has_its_figure_and_its_props_in_the_picture() -> None:
    scenes = [elsewhere(sample(seed)) for seed in range(24)]
    view = world.look(scenes, 48)
    middle = view.keypoints.mean(1)
    assert middle[:, 0].min() < 0.35 and middle[:, 0].max() > 0.65
    assert ((middle > 0.1) & (middle < 0.9)).all()
    for scene, part in zip(scenes, view.part, strict=True):
        for prop in scene.props:
            columns = (part == PARTS.index(f"{prop.side} prop")).nonzero()[:, 1]
            assert len(columns), "the caption would speak of a prop that is not in the picture"
            assert (columns.float().mean() < 24) == (prop.side == "left")


def test_a_scene_from_elsewhere_keeps_what_it_shows() -> None:
    scene = sample(PROPPED)
    moved = elsewhere(scene)
    assert (moved.pose, moved.shirt, moved.style, moved.seed) == (scene.pose, scene.shirt, scene.style, scene.seed)
    assert {prop.side for prop in moved.props} <= {prop.side for prop in scene.props}


def _cells(side: str) -> Tensor:
    """A prop of two by three cells on a side."""
    cells = torch.zeros(1, len(PARTS), 16, 16)
    left = 2 if side == "left" else 11
    cells[0, PARTS.index(f"{side} prop"), 8:11, left : left + 2] = 1.0
    return cells


@pytest.mark.parametrize("side", SIDES)
def test_a_prop_named_by_a_region_leaves_the_caption_and_stands_in_its_place(side: str) -> None:
    scene = sample(PROPPED)
    cells, scenes = _cells(side), []
    for seed in range(200):
        scenes += regional.take_apart([scene], cells, torch.Generator().manual_seed(seed))
    apart = [one for one in scenes if one.mask is not None]
    prop = next(prop for prop in scene.props if prop.side == side)
    assert apart, "no region in two hundred scenes"
    for one in apart:
        assert [other.side for other in one.scene.props] == [other for other in SIDES if other != side]
        assert f"{prop.kind} on the {side}" not in describe(one.scene).text
        assert one.words.split()[-1] == prop.kind
        assert one.mask is not None and (one.mask[8:11][cells[0, PARTS.index(f"{side} prop"), 8:11] > 0] == 1).all()
    assert len({one.words for one in apart}) <= 2


def test_a_scene_without_props_has_no_region() -> None:
    scene = next(scene for scene in map(sample, range(100)) if not scene.props)
    scenes = regional.take_apart([scene] * 64, _cells("left").expand(64, -1, -1, -1), torch.Generator().manual_seed(0))
    assert regional.places(scenes).sum() == 0 and {one.words for one in scenes} == {""}
