"""`PosePanel`, `DepthPanel` and `StylePanel`: one leaf each, beside the picture that follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from widgets.knobs import Knob, seed_knob, size, weight_knob
from widgets.live_panel import LivePanel
from widgets.map import MapPad
from widgets.offers import detector
from widgets.pose import PosePad
from widgets.shelf import StyleShelf

import ipywidgets  # isort: skip

import numpy as np
from PIL import Image

import ctrl


class PosePanel(LivePanel):
    """Drag the figures of a recipe's pose, beside the picture that follows them; see `LivePanel`.

    Without a pose in the recipe it begins with a standing figure. `pad` is the `PosePad`. A ValueError if the recipe's
    pose is a picture, which has no joints to drag.

    >>> panel = PosePanel(ctrl.load(), ctrl.Recipe("a figure in a red shirt, on grass"))    # doctest: +SKIP
    >>> panel.recipe.controls[0].picture                                                    # doctest: +SKIP
    """

    pad: PosePad

    def prepare(self, recipe: ctrl.Recipe) -> ctrl.Recipe:
        """The recipe with a pose."""
        poses = [control for control in recipe.controls if control.kind == "pose"]
        if not poses:
            return recipe.replace(controls=[*recipe.controls, ctrl.Pose("standing")])
        if not any(_has_joints(pose) for pose in poses):
            raise ValueError(
                "the recipe's pose is a picture, which has no joints to drag; "
                "take its figures first: ctrl.Pose(ctrl.detect.pose(picture, detector='openpose'))."
            )
        return recipe

    def knobs(self, recipe: ctrl.Recipe) -> Iterator[Knob]:
        """The weight of the pose, the seed, the backdrop, and the figures."""
        at = next(i for i, control in enumerate(recipe.controls) if control.kind == "pose" and _has_joints(control))
        width, height = _size(self, recipe)
        self.pad = PosePad(recipe.controls[at].picture, width=width, height=height, detect=detector(self.model, "pose"))
        yield weight_knob(recipe, "controls", at)
        yield seed_knob(recipe)
        yield _backdrop(self, self.pad)
        note = "There is no figure, so the pose is left out."
        yield _control_knob(self.pad, at, lambda: self.pad.people, bool, note, ("figures",))


class DepthPanel(LivePanel):
    """Paint the depth of a scene, beside the picture that follows it; see `LivePanel`.

    Without depth in the recipe it begins with a blank map, and depth is left out until something is painted. `pad` is
    the `MapPad`.

    >>> panel = DepthPanel(ctrl.load(), ctrl.Recipe("a figure in a red shirt, on grass"))    # doctest: +SKIP
    """

    pad: MapPad

    def prepare(self, recipe: ctrl.Recipe) -> ctrl.Recipe:
        """The recipe with a depth map."""
        if any(control.kind == "depth" for control in recipe.controls):
            return recipe
        return recipe.replace(controls=[*recipe.controls, ctrl.Depth(Image.new("L", _size(self, recipe)))])

    def knobs(self, recipe: ctrl.Recipe) -> Iterator[Knob]:
        """The weight of the depth, the seed, the backdrop, and the map."""
        at = next(i for i, control in enumerate(recipe.controls) if control.kind == "depth")
        picture: Any = recipe.controls[at].picture
        self.pad = MapPad(picture.grey(), subject="depth", detect=detector(self.model, "depth"))
        yield weight_knob(recipe, "controls", at)
        yield seed_knob(recipe)
        yield _backdrop(self, self.pad)
        note = "The map has one grey only, so depth is left out: paint something."
        traits = ("revision", "low", "high", "inverted")
        yield _control_knob(self.pad, at, lambda: ctrl.Picture.of(self.pad.picture), _varies, note, traits)


class StylePanel(LivePanel):
    """Drop, crop and weigh style references, beside the picture that follows them; see `LivePanel`.

    `shelf` is the `StyleShelf`. References that are switched off in the recipe are switched off on it.

    >>> recipe = ctrl.Recipe("a figure waving, on grass", styles=[ctrl.Style(ink)])    # doctest: +SKIP
    >>> panel = StylePanel(ctrl.load(), recipe)                                       # doctest: +SKIP
    """

    shelf: StyleShelf

    def knobs(self, recipe: ctrl.Recipe) -> Iterator[Knob]:
        """The seed, and the references."""
        self.shelf = StyleShelf(
            [replace(style, on=True) for style in recipe.styles],
            sees=lambda picture: self.model.ip_adapter().style_crop(picture),  # loads the adapter when first called
        )
        self.shelf.items = [
            {**item, "on": style.on} for item, style in zip(self.shelf.items, recipe.styles, strict=True)
        ]
        yield seed_knob(recipe)
        yield Knob(
            self.shelf,
            (self.shelf,),
            lambda: self.shelf.styles,
            lambda recipe, styles: recipe.replace(styles=styles),
            ("items", "revision"),
        )


def _control_knob(
    pad: Any, at: int, value: Callable[[], Any], acts: Callable[[Any], bool], note: str, traits: tuple[str, ...]
) -> Knob:
    """A pad whose value is the picture of control `at`; a value that does not act leaves the control out.

    It comes after the knobs of other controls, since leaving one out renumbers the rest. The recipe's own picture is
    kept, bit for bit, as long as the pad is as it began.
    """
    began = value()

    def apply(recipe: ctrl.Recipe, value: Any) -> ctrl.Recipe:
        controls = list(recipe.controls)
        if not acts(value):
            del controls[at]
        elif value != began:
            controls[at] = replace(controls[at], picture=value)
        return recipe.replace(controls=controls)

    return Knob(pad, (pad,), value, apply, traits, lambda value: "" if acts(value) else note)


def _backdrop(panel: LivePanel, pad: Any) -> Knob:
    """A button that puts the finished picture under the pad; it changes nothing of the recipe."""
    button = ipywidgets.Button(description="put under the pad", tooltip="The picture as a backdrop")
    size(button, {"width": "11em"})

    def put(_button: object) -> None:
        if panel.history:
            pad.background = panel.history[-1].image

    button.on_click(put)
    return Knob(button, (button,), lambda: None, lambda recipe, _value: recipe)


def _size(panel: LivePanel, recipe: ctrl.Recipe) -> tuple[int, int]:
    if recipe.width is None or recipe.height is None:
        return panel.model.size
    return recipe.width, recipe.height


def _has_joints(control: ctrl.Control) -> bool:
    return isinstance(control.picture, ctrl.Skeleton | ctrl.People)


def _varies(picture: ctrl.Picture) -> bool:
    return bool(np.ptp(picture.pixels))
