"""Switches of a panel that a recipe has no field for: guidance off and on, and fast mode."""

from __future__ import annotations

from typing import Any

from ctrl import Recipe
from widgets import settings
from widgets.settings import GUIDANCE, Row

QUICK = "lcm"


class Switches:
    """Puts rows and switches into recipes, and remembers what was switched off, to bring it back."""

    def __init__(self, recipe: Recipe) -> None:
        self._guided, self._slow = recipe, recipe

    def rows(self, recipe: Recipe, rows: list[Row]) -> Recipe:
        """The recipe with the values of rows."""
        for row in rows:
            was = settings.rows(recipe)[0]  # of guidance
            if row["name"] == GUIDANCE and row["on"] != was["on"] and row["weight"] == was["weight"]:
                recipe = self._guidance(recipe, on=row["on"])
            else:
                recipe = settings.with_row(recipe, row)
        return recipe

    def fast(self, recipe: Recipe, *, on: bool) -> Recipe:
        """Four steps by the LCM-LoRA, or the sampler, steps and guidance from before."""
        if on:
            self._slow = recipe
            return recipe.fast()
        others = [lora for lora in recipe.loras if lora.name != QUICK]
        before = Recipe(recipe.prompt) if is_fast(self._slow) else self._slow
        kept = {name: getattr(before, name) for name in ("sampler", "spacing", "steps", "guidance")}
        return settings.changed(recipe, {"loras": others, **kept})

    def _guidance(self, recipe: Recipe, *, on: bool) -> Recipe:
        """Off is weight 1, and on is the weight it had last."""
        if not on:
            self._guided = recipe
            return settings.with_weight(recipe, GUIDANCE, 1.0)
        kept = settings.weight_of(self._guided, GUIDANCE)
        default = settings.weight_of(Recipe(""), GUIDANCE)
        return settings.with_weight(recipe, GUIDANCE, kept if settings.height(kept) > 1 else default)


def is_fast(recipe: Recipe) -> bool:
    """Whether the recipe has the LCM-LoRA on."""
    return any(lora.name == QUICK and lora.on for lora in recipe.loras)


def knob_values(recipe: Recipe) -> dict[str, Any]:
    """What the knobs of a panel show of a recipe, by their names."""
    size = {"width": recipe.width or 0, "height": recipe.height or 0}
    scalars = {name: settings.scalar(recipe, name) for name in settings.SCALARS}
    return {**scalars, **size, "fast": is_fast(recipe), "rows": settings.rows(recipe)}


def moved_rows(change: Any) -> str:
    """Which rows of a change of `rows` were moved."""
    old, new = change["old"] or [], change["new"]
    moved = [one["name"] for one, was in zip(new, old, strict=False) if one != was]
    return f"rows {' '.join(moved)}"
