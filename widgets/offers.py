"""What a model has for a panel to offer, and why a part of a recipe cannot act."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from PIL import Image

import ctrl
from ctrl import Recipe
from widgets.settings import GUIDANCE
from widgets.switches import QUICK

if TYPE_CHECKING:
    from ctrl import Live, Model

AT_REST, ON_REQUEST, REQUESTED = "at rest", "on request", "requested"  # when a panel measures obedience
DETECTORS = {"pose": "openpose", "depth": "midas"}  # for pictures of Stable Diffusion models; the atelier has its own


def offers(model: Model) -> dict[str, Any]:
    """Samplers and spacings, the model's own size, controls, styles and LoRAs, and when obedience is measured.

    The atelier's eyes are at hand; detectors for other models are loaded, and perhaps downloaded, on request.
    """
    hints = get_type_hints(Recipe)
    return {
        "samplers": _names(hints["sampler"]),
        "spacings": _names(hints["spacing"]),
        "size": list(model.size),
        "controls": list(model.controls),
        "styles": list(model.styles),
        "loras": list(model.loras),
        "obedience": AT_REST if model.family.key is None else ON_REQUEST,
    }


def detector(model: Model, kind: str) -> Callable[[Image.Image], Any]:
    """The detector for pictures like the model's, as `Shot.obeys` chooses it."""
    own = "atelier" if model.family.key is None else DETECTORS[kind]
    return partial(getattr(ctrl.detect, kind), detector=own)


def reasons(live: Live, recipe: Recipe) -> dict[str, str]:
    """Why knobs and tabs cannot act, by their names."""
    model, found = live.model, {one.name: one.reason for one in live.active(recipe) if one.reason}
    if GUIDANCE in found and recipe.negative:
        found["negative"] = "without guidance the negative prompt has no effect"
    if recipe.image is None:
        found["strength"] = "the recipe has no picture to start from"
    if QUICK not in model.loras:
        found["fast"] = "this model has no LCM-LoRA; ctrl.load(loras={'lcm': file}) gives it one"
    for at, control in enumerate(recipe.controls):
        if control.kind not in model.controls:
            found[f"controls[{at}]"] = f"this model has no ControlNet for {control.kind!r}"
    there = {"pose": "pose" in model.controls, "map": "depth" in model.controls, "style": bool(model.styles)}
    words = {"pose": "pose ControlNet", "map": "depth ControlNet", "style": "IP-Adapter"}
    return found | {f"tab {tab}": f"this model has no {words[tab]}" for tab in there if not there[tab]}


def advice(message: str) -> str:
    """What to do about an error of a run."""
    if "memory" in message:
        return "Halve the size, or close other programs that use the GPU."
    return "Undo, or change the settings that the sentence names."


def _names(hint: Any) -> list[str]:
    """The names that a type of literals allows, short ones left out."""
    inner = [one for one in get_args(hint) if not isinstance(one, str)]
    return _names(inner[0]) if inner else list(get_args(hint))
