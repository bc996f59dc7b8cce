"""The parts of recipes as tensors for a model, cached in a memory by their content.

N is the number of pictures made at once, from recipes that one batch can hold. A *column* is one part of each of them:
their first controls, their second styles. Weights and schedules are not included: they are numbers of a step, so a part
is prepared once for all its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.images import Picture, PictureLike
from ctrl.memory import Memory
from ctrl.recipe import MAX_SIDE, Control, Guidance, Recipe, Region, Style
from ctrl.rows import PromptRows

if TYPE_CHECKING:
    from ctrl.model import ControlNet, IPAdapter, Model, StyleReference, Text, TextEncoders, UNet

    Network: TypeAlias = UNet | ControlNet | IPAdapter | TextEncoders

Size = tuple[int, int]  # width and height in pixels


@dataclass(frozen=True, eq=False)
class Prompts:
    """The encoded prompts of N recipes at a step, all of one length: (N, T, D). `number` is for cache keys."""

    number: int
    cond: PromptRows
    uncond: PromptRows
    regions: tuple[tuple[PromptRows, Tensor], ...]  # with masks (N, 1, H, W) in [0, 1], times the region's weight


@dataclass(frozen=True, eq=False)
class ControlInput:
    """The hints (N, 3, H, W) in [0, 1] of a column of controls, and their masks (N, 1, H, W) in [0, 1]."""

    number: int
    revision: Hashable  # of the ControlNet
    hint: Tensor
    mask: Tensor | None


@dataclass(frozen=True, eq=False)
class Start:
    """The pictures that a run starts from, (N, 3, H, W) in [-1, 1], and the inpainting mask (N, 1, h, w)."""

    pixels: Tensor
    mask: Tensor | None


def size_of(model: Model, recipe: Recipe) -> Size:
    """The size of the picture; a ValueError for one that the model cannot draw."""
    if recipe.width is None or recipe.height is None:
        if max(model.size) > MAX_SIDE:
            pixels = f"{model.size[0]}×{model.size[1]}"
            raise ValueError(f"the model's own size is {pixels}, above the limit of {MAX_SIDE}; give width and height.")
        return model.size
    step = model.vae_scale_factor
    for name, size in (("width", recipe.width), ("height", recipe.height)):
        if size % step:
            near = max(1, round(size / step)) * step
            raise ValueError(f"{name} must be a multiple of {step} for this model, got {size}; try {near}.")
    return recipe.width, recipe.height


class Conditioning:
    """The parts of recipes as tensors, for one run of a model at one size; `memory` may outlive it.

    The weights of networks must not change during the run.
    """

    def __init__(self, model: Model, size: Size, memory: Memory) -> None:
        self.model, self.size, self.memory = model, size, memory
        self.revision: Callable[[Network], Hashable] = cache(lambda network: network.revision)

    def texts(self, recipe: Recipe) -> tuple[Text, ...]:
        """The encoded prompt, negative prompt and regions' prompts of a recipe, not padded to each other."""
        encoders = self.model.text
        key = self.revision(encoders)

        def encoded(prompt: str) -> Text:
            return self.memory((key, prompt), lambda: encoders.encode(prompt))

        negative = recipe.negative
        uncond = self.memory((key, "negative", negative), lambda: encoders.as_negative(negative, encoded(negative)))
        regions = [encoded(region.prompt) for region in recipe.regions if region.on and region.weight != 0]
        return (encoded(recipe.prompt), uncond, *regions)

    def prompts(self, steps: Sequence[Recipe]) -> Prompts:
        """The prompts of recipes at a step (`Recipe.at`).

        Without guidance the negative prompt is left out: its length could only add padding to the others.
        """
        guided = Guidance.of(steps[0].guidance).guided
        words = tuple((step.prompt, step.negative if guided else None, step.regions) for step in steps)
        key = ("prompts", self.revision(self.model.text), self.size, words)
        return self.memory(key, lambda: self._prompts(steps, guided=guided))

    def _prompts(self, steps: Sequence[Recipe], *, guided: bool) -> Prompts:
        encoders = self.model.text
        encoded = [self.texts(step) for step in steps]
        if not guided:
            encoded = [(prompt, prompt, *regions) for prompt, _, *regions in encoded]
        padded = iter(encoders.pad_to_longest([text for row in encoded for text in row]))
        cond, uncond, *regions = zip(*[[next(padded) for _ in row] for row in encoded], strict=True)
        masks = [self._region_mask(column) for column in zip(*(step.regions for step in steps), strict=True)]
        pairs = zip([encoders.rows(column) for column in regions], masks, strict=True)
        return Prompts(self.memory.new_number(), encoders.rows(cond), encoders.rows(uncond), tuple(pairs))

    def _region_mask(self, column: Sequence[Region]) -> Tensor:
        masks = torch.cat([self._mask(region.mask) for region in column])
        weights = torch.tensor([region.weight for region in column], device=masks.device, dtype=masks.dtype)
        return masks * weights[:, None, None, None]

    def control(self, column: Sequence[Control]) -> ControlInput:
        """A column of controls. A ValueError for a missing ControlNet or a wrong number of blocks."""
        first = column[0]
        net = self.model.controlnet(first.kind)
        if first.blocks is not None and len(first.blocks) != net.count:
            raise ValueError(
                f"blocks must hold {net.count} weights for this model's {first.kind} ControlNet, "
                f"got {len(first.blocks)}."
            )
        pictures = tuple((type(part).__name__, part.picture, part.resize, part.mask) for part in column)
        key = ("control", self.revision(net), self.size, pictures)
        return self.memory(key, lambda: self._control(net, column))

    def _control(self, net: ControlNet, column: Sequence[Control]) -> ControlInput:
        hints = np.stack([part.hint(*self.size) for part in column])  # (N, H, W, 3)
        hint = torch.from_numpy(hints.transpose(0, 3, 1, 2).copy()).to(self.model.device, self.model.dtype)
        mask = self._masks([part.mask for part in column])
        return ControlInput(self.memory.new_number(), self.revision(net), hint, mask)

    def style(self, column: Sequence[Style]) -> StyleReference:
        """A column of styles. A ValueError if the model has no such IP-Adapter, or no such blocks."""
        adapter = self.model.ip_adapter(column[0].adapter)
        key = ("style", self.revision(adapter), self.size, tuple(replace(part, weight=1.0) for part in column))
        return self.memory(key, lambda: self._style(adapter, column))

    def _style(self, adapter: IPAdapter, column: Sequence[Style]) -> StyleReference:
        def embeds(pictures: tuple[Picture, ...]) -> Tensor:
            key = ("image embeds", self.revision(adapter), pictures)
            return self.memory(key, lambda: adapter.embed(pictures))

        negatives = [() if part.negative is None else (Picture.of(part.negative),) for part in column]
        return adapter.reference(
            torch.stack([embeds(part.pictures) for part in column]),
            torch.stack([embeds(pictures) for pictures in negatives]),
            blocks=column[0].blocks,
            combine=column[0].combine,
            mask=self._masks([part.mask for part in column]),
            keep=self.memory.part(("style", self.memory.new_number())),
        )

    def start(self, recipes: Sequence[Recipe]) -> Start | None:
        """The pictures that the recipes start from; None if they start from noise alone."""
        pictures = [Picture.of(recipe.image).fit(*self.size) for recipe in recipes if recipe.image is not None]
        if not pictures:
            return None
        coloured = [array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2) for array in pictures]
        # Not copied: as in diffusers, channels are last in memory, and a convolution rounds by its input's strides.
        pixels = torch.from_numpy(np.stack(coloured).transpose(0, 3, 1, 2))
        mask = self._masks([recipe.mask for recipe in recipes])
        if mask is not None:
            mask = F.interpolate(mask, size=self._latent).to(self.model.dtype)  # nearest, as diffusers does
        return Start((2.0 * pixels - 1.0).to(self.model.device, self.model.dtype), mask)

    def guidance_map(self, column: Sequence[PictureLike | None]) -> Tensor | None:
        """The map of where guidance acts, (N, 1, h, w) in [0, 1]; None for everywhere."""

        def make() -> Tensor | None:
            masks = self._masks(column)
            return None if masks is None else F.interpolate(masks, size=self._latent, mode="area")

        return self.memory(("guidance map", self._latent, self.size, str(self.model.device), tuple(column)), make)

    @property
    def _latent(self) -> tuple[int, int]:
        """Height and width in latents."""
        return self.size[1] // self.model.vae_scale_factor, self.size[0] // self.model.vae_scale_factor

    def _masks(self, column: Sequence[PictureLike | None]) -> Tensor | None:
        """Masks at the size of the picture, (N, 1, H, W) float32 in [0, 1], as in diffusers; None if there are none."""
        fitted = [self._mask(mask) for mask in column if mask is not None]
        return torch.cat(fitted) if fitted else None

    def _mask(self, mask: PictureLike) -> Tensor:
        return torch.from_numpy(Picture.of(mask).fit(*self.size)[None, None]).to(self.model.device)
