"""The leaves of a Studio: made from a recipe, shown another one, and read back into one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL import Image

from ctrl import Control, Depth, Lora, People, Picture, Pose, Recipe, Shot, Skeleton
from widgets.curve import CurvePad
from widgets.frame import FrameView
from widgets.gallery import Gallery
from widgets.heat import TokenHeat
from widgets.map import MapPad
from widgets.offers import detector
from widgets.pose import PosePad
from widgets.settings import (
    GUIDANCE,
    LIMITS,
    place,
    plain,
    weight_of,
    with_masks,
    with_parts,
    with_weight,
)
from widgets.shelf import StyleShelf

if TYPE_CHECKING:
    from ctrl import Model

KEPT = 100  # unmarked pictures in the gallery
NAME = 60  # characters of a region's name on the pad
Taken = Callable[[Recipe], Recipe]


class Pads:
    """A picture, four pads that a recipe is read from, the heat of its words, and a gallery.

    `moved(hand, take)` is called where a person moved something: `take` puts it into a recipe.
    """

    def __init__(self, model: Model, recipe: Recipe, moved: Callable[[str, Taken], None]) -> None:
        width, height = (recipe.width or model.size[0], recipe.height or model.size[1])
        self._size = model.size
        self.picture = FrameView(alt=str(recipe.prompt))
        self.pose = PosePad(width=width, height=height, detect=detector(model, "pose"))
        self.map = MapPad(size=(width, height), detect=detector(model, "depth"))
        self.shelf = StyleShelf(sees=_sees(model))
        self.curve = CurvePad(1.0, limit=LIMITS[GUIDANCE], steps=recipe.steps, label=GUIDANCE)
        self.heat, self.gallery = TokenHeat(), Gallery()
        self._kinds = model.controls
        self._prompts: dict[str, str] = {}  # of regions, by the name on the pad
        self._shown: tuple[Picture | None, dict[str, Any]] = (None, {})  # of the recipe, as the map pad shows it
        self._painted: tuple[Picture | None, dict[str, Picture]] = (None, {})  # by the map pad, when that was
        self._people: tuple[Skeleton, ...] = ()  # on the pose pad, when it was last shown or taken
        self._under = {"pose": b"", "map": b""}  # the pixels put under the pads, which a person may replace
        self.curve_of = GUIDANCE
        self._showing = False
        self.show(recipe)
        for hand, pad, names, take in (
            ("pose", self.pose, "figures", self._take_pose),
            ("map", self.map, ["revision", "palette", "low", "high", "inverted"], self._take_map),
            ("style", self.shelf, "items", self._take_styles),
            ("curve", self.curve, ["points", "start", "until", "by"], self._take_curve),
        ):
            pad.observe(lambda _change, hand=hand, take=take: moved(hand, partial(self._taken, take)), names=names)

    @property
    def all(self) -> tuple[Any, ...]:
        """Every leaf."""
        return (self.picture, self.pose, self.map, self.shelf, self.curve, self.heat, self.gallery)

    def close(self) -> None:
        """Close every leaf."""
        for leaf in self.all:
            leaf.unobserve_all()
            leaf.close()

    def show(self, recipe: Recipe) -> None:
        """Show the recipe in every pad; pads that already show it are unchanged."""
        self._showing = True
        try:
            self._show_pose(recipe)
            self._show_map(recipe)
            self.shelf.regions = {str(region.prompt): region.mask for region in recipe.regions}
            styles = tuple(one for one in recipe.styles if one.on)
            if self.shelf.styles != styles:
                self.shelf.styles = styles
            self.show_curve(recipe)
        finally:
            self._showing = False

    def show_curve(self, recipe: Recipe, of: str | None = None) -> None:
        """Show the weight of a part as a curve, or the new weight of the part shown now."""
        self.curve_of = self.curve_of if of is None else of
        try:
            weight = weight_of(recipe, self.curve_of)
        except IndexError:  # the part was removed
            self.curve_of, weight = GUIDANCE, weight_of(recipe, GUIDANCE)
        limit = LIMITS[GUIDANCE if self.curve_of == GUIDANCE else place(self.curve_of)[0]]
        with self.curve.hold_sync():
            self.curve.steps, self.curve.label, self.curve.limit = recipe.steps, self.curve_of, limit
            if plain(self.curve.schedule) != plain(weight):
                self.curve.schedule = weight

    def lay_under(self, image: Image.Image) -> None:
        """Put a picture under the figures and the map, unless a person put another there or removed it."""
        for name, pad in (("pose", self.pose), ("map", self.map)):
            if _bytes(pad.background) == self._under[name]:
                pad.background = image
                self._under[name] = _bytes(pad.background)

    def keep(self, shot: Shot) -> None:
        """Put a picture into the gallery, which drops the oldest unmarked one."""
        entries = self.gallery.entries
        if entries and entries[-1].recipe == shot.recipe:
            return
        self.gallery.add(shot)
        loose = [entry.key for entry in entries if not (entry.favourite or entry.pinned)]
        if len(loose) >= KEPT:
            self.gallery.remove(*loose[: len(loose) - KEPT + 1])

    def history(self, most: int) -> list[Shot]:
        """The pictures of the gallery that have recipes, at most so many: marked ones first, then the newest.

        They come the newest first.
        """
        known = [one for one in self.gallery.entries if one.recipe is not None]
        kept = sorted(known, key=lambda one: (one.favourite or one.pinned, one.key))[-most:]
        return [
            Shot(one.image, one.recipe) for one in sorted(kept, key=lambda one: one.key, reverse=True) if one.recipe
        ]

    def with_new(self, recipe: Recipe, what: str) -> Recipe:
        """The recipe with another control, of the kind `what` and with what its pad shows, or with a LoRA."""
        if what in self._kinds:
            picture: Any = self.map.picture if what == "depth" else Image.new("L", (self.map.width, self.map.height))
            control = Pose(self.pose.people or "standing") if what == "pose" else Control(what, picture)
            return with_parts(recipe, "controls", [*recipe.controls, control])
        return with_parts(recipe, "loras", [*recipe.loras, Lora(what)])

    def _show_pose(self, recipe: Recipe) -> None:
        control, picture = _first(recipe, "pose"), _picture(recipe, "pose")
        people = picture.skeletons if isinstance(picture, People) else (picture,)
        emptied = not self.pose.people and control is not None and not control.on
        if isinstance(picture, Skeleton | People) and self.pose.people != people and not emptied:
            self.pose.people = picture
        self._people = self.pose.people

    def _show_map(self, recipe: Recipe) -> None:
        depth, masks = self._shown
        width, height = recipe.width or self._size[0], recipe.height or self._size[1]
        self.map.shape = width / height  # its pixels stay: they are what was painted
        wanted = _picture(recipe, "depth")
        if isinstance(wanted, Picture) and wanted != depth:
            self.map.picture = wanted
        self._prompts = {str(region.prompt)[:NAME]: str(region.prompt) for region in recipe.regions}
        given = _masks_of(recipe)
        self.map.palette = [
            one for one in self.map.palette if self._prompt(one) in given or self._prompt(one) not in masks
        ]
        for prompt, mask in given.items():
            if mask != masks.get(prompt):
                self.map.add_region(prompt[:NAME], mask)
        self._shown = (wanted if isinstance(wanted, Picture) else None, given)
        self._painted = (self._depth(), self._masks())

    def _taken(self, take: Taken, recipe: Recipe) -> Recipe:
        """The recipe with what a person moved; changes of a pad that come from showing a recipe are ignored."""
        return recipe if self._showing else take(recipe)

    def _take_pose(self, recipe: Recipe) -> Recipe:
        before, people = self._people, self.pose.people
        self._people = people
        pose = Pose(people[0] if len(people) == 1 else People(people)) if people else None
        return _with_first(recipe, "pose", pose, begins=not before)

    def _take_map(self, recipe: Recipe) -> Recipe:
        """What was painted since it was last shown or read; a map of another size than the pad is left unchanged."""
        before, self._painted = self._painted, (self._depth(), self._masks())
        depth, masks = self._painted
        if depth != before[0]:
            begins = before[0] is None
            recipe = _with_first(recipe, "depth", None if depth is None else Depth(depth), begins=begins)
        if masks != before[1]:
            recipe = with_masks(recipe, masks)
        self._shown = (_picture(recipe, "depth"), _masks_of(recipe))
        return recipe

    def _take_styles(self, recipe: Recipe) -> Recipe:
        off = [one for one in recipe.styles if not one.on]
        return with_parts(recipe, "styles", [*self.shelf.styles, *off])

    def _take_curve(self, recipe: Recipe) -> Recipe:
        return with_weight(recipe, self.curve_of, self.curve.schedule)

    def _depth(self) -> Picture | None:
        """The painted map; None before anything was painted."""
        return Picture.of(self.map.picture) if self.map.painted else None

    def _masks(self) -> dict[str, Picture]:
        """The painted regions by their prompts."""
        return {self._prompts.get(name, name): Picture.of(mask) for name, mask in self.map.regions.items()}

    def _prompt(self, entry: dict[str, str]) -> str:
        return self._prompts.get(entry["name"], entry["name"])


def _bytes(image: Image.Image | None) -> bytes:
    return b"" if image is None else image.convert("RGB").tobytes()


def _masks_of(recipe: Recipe) -> dict[str, Picture]:
    """The masks of a recipe's regions by their prompts, without those made of `Words`, which no pad can show."""
    return {str(region.prompt): region.mask for region in recipe.regions if isinstance(region.mask, Picture)}


def _first(recipe: Recipe, kind: str) -> Control | None:
    """The first control of a kind; None where there is none."""
    return next((one for one in recipe.controls if one.kind == kind), None)


def _picture(recipe: Recipe, kind: str) -> Any:
    """The picture of the first control of a kind; None where there is none."""
    control = _first(recipe, kind)
    return None if control is None else control.picture


def _with_first(recipe: Recipe, kind: str, control: Control | None, *, begins: bool) -> Recipe:
    """The recipe with a control's picture in its first of that kind, or with the control where it has none.

    Without a control, its first is switched off; where one `begins`, after a pad that was empty, it is switched on.
    """
    controls = list(recipe.controls)
    at = next((at for at, one in enumerate(controls) if one.kind == kind), None)
    if at is None:
        return recipe if control is None else with_parts(recipe, "controls", [*controls, control])
    if control is None:
        controls[at] = replace(controls[at], on=False)
    else:
        controls[at] = replace(controls[at], picture=control.picture, on=begins or controls[at].on)
    return with_parts(recipe, "controls", controls)


def _sees(model: Model) -> Callable[[Image.Image], Any] | None:
    """The part of a picture that the model's image encoder sees. The encoder is loaded for the first picture."""
    return (lambda picture: model.ip_adapter().style_crop(picture)) if model.styles else None
