"""How far a picture follows the controls and styles of its recipe, by what a detector finds in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ctrl import detect
from ctrl.atelier.metrics import edge_f1, pck, spearman
from ctrl.images import Picture
from ctrl.recipe import Control, Recipe, Style, highest, words_of
from ctrl.skeleton import People, Skeleton

ATELIER = {"pose": "atelier", "depth": "atelier", "edges": "atelier", "style": "atelier"}
OTHERS = {"pose": "openpose", "depth": "midas", "edges": "canny"}
GRID = 64  # cells a side at which depths are compared
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Obedience:
    """How far a picture follows one part of its recipe, such as "controls[0]": by a `measure`, from bad to 1.

    - "PCK": the part of the skeleton's joints found within a tenth of the figure's height (Yang and Ramanan 2013).
    - "rank correlation": Spearman's, of the depth found with the depth asked for; from -1.
    - "edge F1": of outlines within 2 pixels of each other (Martin, Fowlkes and Malik 2004).
    - "style": 1 where the style read in the picture is the reference's, else 0.

    Where nothing could be measured `value` is None and `reason` says why. Of a control with a mask, what is in its
    white half counts.
    """

    name: str
    measure: str
    value: float | None
    reason: str = ""


@dataclass(frozen=True)
class Course:
    """How far the previews of a run follow one part of its recipe: the `value` of an `Obedience` after each evaluation.

    None stands for what could not be measured; where nothing could, `reason` says why.
    """

    name: str
    measure: str
    values: tuple[float | None, ...]
    reason: str = ""


def over_steps(
    previews: Iterable[Image.Image], recipe: Recipe, family: str | None, detectors: Mapping[str, Any]
) -> tuple[Course, ...]:
    """Measure every control and style of a recipe in the previews of a run; the arguments are those of `obedience`."""
    steps = [obedience(preview, recipe, family, detectors) for preview in previews]
    return tuple(
        Course(part[-1].name, part[-1].measure, tuple(one.value for one in part), part[-1].reason)
        for part in zip(*steps, strict=True)
    )


def obedience(
    image: Image.Image, recipe: Recipe, family: str | None, detectors: Mapping[str, Any]
) -> tuple[Obedience, ...]:
    """Measure every control and style of a recipe; `family` is the model's, None for one of its own."""
    own = ATELIER if family is None else OTHERS
    unknown = sorted(set(detectors) - set(ATELIER))
    if unknown:
        raise TypeError(f"obeys has no argument {unknown[0]!r}; it takes a detector for {', '.join(ATELIER)}.")
    chosen = own | dict(detectors)
    controls = [_control(f"controls[{at}]", one, image, chosen) for at, one in enumerate(recipe.controls)]
    return (*controls, *(_style(f"styles[{at}]", one, image, chosen) for at, one in enumerate(recipe.styles)))


def _control(name: str, control: Control, image: Image.Image, detectors: Mapping[str, Any]) -> Obedience:
    measure, how = MEASURES.get(control.kind, ("", None))
    if reason := _idle(control):
        return Obedience(name, measure, None, reason)
    if how is None:
        return Obedience(name, measure, None, f"there is no measure for {control.kind!r}")
    try:
        value = how(control, image, detectors[control.kind])
    except Unmeasured as why:
        return Obedience(name, measure, None, str(why))
    return Obedience(name, measure, value)


class Unmeasured(Exception):  # no error: it says why there is no value
    """Why a control cannot be measured."""


def _idle(part: Control | Style) -> str:
    if not part.on:
        return "it is switched off"
    return "its weight is 0" if highest(part.weight) == 0 else ""


def _pose(control: Control, image: Image.Image, detector: Any) -> float:
    """Of several figures, each counts with the nearest one that was found, and their mean is taken."""
    asked: Any = control.picture
    if not isinstance(asked, Skeleton | People):
        raise Unmeasured("its pose is a picture; give a Skeleton, or one of ctrl.detect.pose")
    wanted = asked.skeletons if isinstance(asked, People) else (asked,)
    scale, inside = np.array(image.size, np.float64), _inside(control, image.size)
    values = []
    for one in wanted:
        true = np.asarray(one.points, np.float64) * scale
        shown = np.asarray(one.shown, bool) & _at(inside, true)
        if shown.any():
            values.append(
                max((pck(each * scale, true, shown) for each in _figures(image, detector, len(wanted))), default=0.0)
            )
    if not values:
        raise Unmeasured("none of its joints is in sight")
    return float(np.mean(values))


def _figures(image: Image.Image, detector: Any, most: int) -> list[Array]:
    """The joints (18, 2) of up to `most` figures in a picture; those out of sight are infinitely far for networks."""
    found: list[Array] = []
    for person in range(most):
        try:
            one = detect.pose(image, detector=detector, person=person)
        except ValueError:  # there are no more
            break
        points = np.asarray(one.points, np.float64)
        sure = np.asarray(one.shown, bool) if detector != "atelier" else np.ones(len(points), bool)
        found.append(np.where(sure[:, None], points, np.inf))
    return found


def _depth(control: Control, image: Image.Image, detector: Any) -> float:
    width, height = image.size
    found = detect.depth(image, detector=detector).fit(width, height)
    asked, inside = control.hint(width, height)[..., 0], _inside(control, image.size)
    size = (min(GRID, width), min(GRID, height))
    small = [
        cv2.resize(np.asarray(one, np.float32), size, interpolation=cv2.INTER_AREA) for one in (found, asked, inside)
    ]
    within = small[2] >= 0.5
    if not within.any():
        raise Unmeasured("its mask is black")
    return spearman(small[0][within], small[1][within])


def _edges(control: Control, image: Image.Image, detector: Any) -> float:
    width, height = image.size
    size = None if detector == "canny" else max(64, min(width, height))
    found = detect.edges(image, detector=detector, size=size).fit(width, height)
    inside = _inside(control, image.size)
    asked = control.hint(width, height)[..., 0]
    return edge_f1((found >= 0.5) & inside, (asked >= 0.5) & inside)


def _style(name: str, style: Style, image: Image.Image, detectors: Mapping[str, Any]) -> Obedience:
    reader = detectors.get("style")
    reason = _idle(style)
    if not reason and reader is None:
        reason = "no detector reads styles here; give one, obeys(style=a function of a picture)"
    if reason:
        return Obedience(name, "style", None, reason)
    read: Any = _atelier_style if reader == "atelier" else reader
    seen = read(image.convert("RGB"))
    same = [read(picture.image.convert("RGB")) == seen for picture in style.pictures]
    return Obedience(name, "style", float(np.mean(same)))


def _atelier_style(image: Image.Image) -> str | None:
    import torch
    from torch.nn import functional

    from ctrl.atelier.eyes import SIZE, load

    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255  # (1, 3, h, w)
    sized = functional.interpolate(pixels, size=(SIZE, SIZE), mode="bilinear", antialias=True)
    with torch.inference_mode():
        return load().read(sized.clamp(0, 1)).words()[0].style


def _inside(control: Control, size: tuple[int, int]) -> Array:
    """Where a control acts, (h, w) bool."""
    if words_of(control.mask) is not None:
        raise Unmeasured("its mask was made of attention during the run and is not known any more")
    if control.mask is None:
        return np.ones(size[::-1], bool)
    return np.asarray(Picture.of(control.mask).fit(*size)) >= 0.5


def _at(inside: Array, points: Array) -> Array:
    """Whether each of the points (K, 2), in pixels, is where it is true and in the picture."""
    height, width = inside.shape
    x, y = np.floor(points).astype(int).T
    within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.asarray(within & inside[y.clip(0, height - 1), x.clip(0, width - 1)])


MEASURES: Mapping[str, tuple[str, Callable[[Control, Image.Image, Any], float]]] = {
    "pose": ("PCK", _pose),
    "depth": ("rank correlation", _depth),
    "edges": ("edge F1", _edges),
}
