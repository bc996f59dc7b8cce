"""The parts of recipes as tensors for a model, cached in a memory by their content.

N is the number of pictures made at once, from recipes that one batch can hold. A *column* is one part of each of them:
their first controls, their second styles. Weights and schedules are not included: they are numbers of a step, so a part
is prepared once for all its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.blending import blended, moved
from ctrl.images import Picture
from ctrl.memory import Memory
from ctrl.recipe import (
    MAX_SIDE,
    Blend,
    Control,
    Direction,
    Guidance,
    MaskLike,
    Recipe,
    Region,
    Style,
    as_number,
    highest,
    prompts_of,
    words_of,
)
from ctrl.rows import PromptRows, Residuals

if TYPE_CHECKING:
    from ctrl.model import ControlNet, IPAdapter, Model, PromptEmbeds, StyleReference, T2IAdapter, TextEncoders, UNet

    Network: TypeAlias = UNet | ControlNet | T2IAdapter | IPAdapter | TextEncoders

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
    """The hints (N, 3, H, W) in [0, 1] of a column of controls, and their masks (N, 1, H, W) in [0, 1].

    `inside` are the residuals of N rows that a T2I-Adapter makes of the hints, None of a ControlNet.
    """

    number: int
    revision: Hashable  # of the network
    hint: Tensor
    mask: Tensor | None
    inside: Residuals | None = None


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
    for name, side in (("width", recipe.width), ("height", recipe.height)):
        _check_multiple(name, side, model.vae_scale_factor, "this model")
    return recipe.width, recipe.height


def _check_multiple(name: str, side: int, step: int, reader: str) -> None:
    if side % step:
        near = max(1, round(side / step)) * step
        raise ValueError(f"{name} must be a multiple of {step} for {reader}, got {side}; try {near}.")


class Conditioning:
    """The parts of recipes as tensors, for one run of a model at one size; `memory` may outlive it.

    The weights of networks must not change during the run.
    """

    def __init__(self, model: Model, size: Size, memory: Memory) -> None:
        self.model, self.size, self.memory = model, size, memory
        self.revision: Callable[[Network], Hashable] = cache(lambda network: network.revision)

    def read(self, recipe: Recipe) -> tuple[tuple[str, PromptEmbeds], ...]:
        """Every prompt of a recipe, encoded, with a name for it; those of a blend one by one."""
        prompt, negative = recipe.prompts_read
        whole = [("prompt", self._encoded, prompt), ("negative", self._negative, negative)]
        whole += [("region's prompt", self._encoded, region.prompt) for region in gated(recipe) if _acts(region)]
        for part in filter(_acts, recipe.directions):
            whole += [(f"direction's {name}", self._encoded, getattr(part, name)) for name in ("source", "target")]
        if recipe.edit is not None and recipe.edit.acts:
            whole.append(("edit's source", self._encoded, recipe.edit.source))
        return tuple((name, encode(text)) for name, encode, prompt in whole for text in prompts_of(prompt))

    def texts(self, step: Recipe) -> tuple[PromptEmbeds, ...]:
        """The encoded prompt, negative prompt and prompts of regions by gate of a step, each of its own length."""
        prompt = self._moved(self._blended(step.prompt, self._encoded), step.directions)
        regions = [self._blended(region.prompt, self._encoded) for region in gated(step)]
        return (prompt, self._blended(step.negative, self._negative), *regions)

    def _encoded(self, prompt: str) -> PromptEmbeds:
        encoders = self.model.text
        return self.memory((self.revision(encoders), prompt), lambda: encoders.encode(prompt))

    def _negative(self, prompt: str) -> PromptEmbeds:
        encoders = self.model.text
        key = (self.revision(encoders), "negative", prompt)
        return self.memory(key, lambda: encoders.as_negative(prompt, self._encoded(prompt)))

    def _blended(self, prompt: str | Blend, encode: Callable[[str], PromptEmbeds]) -> PromptEmbeds:
        if isinstance(prompt, str):
            return encode(prompt)
        texts = self.model.text.pad_to_longest([encode(text) for text, _ in prompt.pairs])
        return blended(texts, [as_number(weight) for _, weight in prompt.pairs])

    def _moved(self, text: PromptEmbeds, directions: Sequence[Direction]) -> PromptEmbeds:
        for one in directions:
            source, target = self._encoded(one.source), self._encoded(one.target)
            text = moved(self.model.text.pad_to_longest([text, source, target]), as_number(one.weight))
        return text

    def prompts(self, steps: Sequence[Recipe]) -> Prompts:
        """The prompts of recipes at a step (`Recipe.at`).

        Where the negative prompt is not read it is left out: its length could only add padding to the others.
        """
        guidance = Guidance.of(steps[0].guidance)
        negative = guidance.nag is not None or (guidance.guided and not self.model.denoiser.reads_guidance)
        words = tuple(
            (step.prompt, step.directions, step.negative if negative else None, tuple(map(_without_start, gated(step))))
            for step in steps
        )
        key = ("prompts", self.revision(self.model.text), self.size, words)
        return self.memory(key, lambda: self._prompts(steps, negative=negative))

    def _prompts(self, steps: Sequence[Recipe], *, negative: bool) -> Prompts:
        encoders = self.model.text
        encoded = [self.texts(step) for step in steps]
        if not negative:
            encoded = [(prompt, prompt, *regions) for prompt, _, *regions in encoded]
        padded = iter(encoders.pad_to_longest([text for row in encoded for text in row]))
        cond, uncond, *regions = zip(*[[next(padded) for _ in row] for row in encoded], strict=True)
        masks = [self.region_mask(column) for column in zip(*map(gated, steps), strict=True)]
        pairs = zip([encoders.rows(column) for column in regions], masks, strict=True)
        return Prompts(self.memory.new_number(), encoders.rows(cond), encoders.rows(uncond), tuple(pairs))

    def region_mask(self, column: Sequence[Region]) -> Tensor:
        """The masks of a column of regions times their weights, (N, 1, H, W)."""
        masks = torch.cat([self._region(region.mask) for region in column])
        weights = torch.tensor([region.weight for region in column], device=masks.device, dtype=masks.dtype)
        return masks * weights[:, None, None, None]

    def _region(self, mask: MaskLike) -> Tensor:
        """(1, 1, H, W), white for a mask that is made during the run."""
        if words_of(mask) is None:
            return self._mask(mask)
        return torch.ones(1, 1, *self.size[::-1], device=self.model.device)

    def control(self, column: Sequence[Control]) -> ControlInput:
        """A column of controls. A ValueError for a missing network, a wrong number of blocks or an odd size."""
        first = column[0]
        net = self.model.control(first.kind)
        named = f"{first.kind} {net.title}"
        if first.blocks is not None and len(first.blocks) != net.count:
            raise ValueError(f"blocks must hold {net.count} weights for this model's {named}, got {len(first.blocks)}.")
        for name, side in zip(("width", "height"), self.size, strict=True):
            _check_multiple(name, side, net.multiple, f"this model's {named}")
        pictures = tuple((*part.drawn_from, part.mask) for part in column)
        key = ("control", self.revision(net), self.size, pictures)
        return self.memory(key, lambda: self._control(net, column))

    def _control(self, net: ControlNet | T2IAdapter, column: Sequence[Control]) -> ControlInput:
        hints = np.stack([part.hint(*self.size) for part in column])  # (N, H, W, 3)
        # Channels are last in memory, as diffusers shows maps to T2I-Adapters: convolutions round by strides.
        hint = torch.from_numpy(hints.transpose(0, 3, 1, 2)).to(self.model.device, self.model.dtype)
        if not net.reads_holes:
            hint = hint.clamp(min=0)
        mask = self._masks([part.mask for part in column])
        inside = self._inside(cast("T2IAdapter", net), column, hint) if net.runs_once else None
        return ControlInput(self.memory.new_number(), self.revision(net), hint.contiguous(), mask, inside)

    def _inside(self, net: T2IAdapter, column: Sequence[Control], hint: Tensor) -> Residuals:
        """A T2I-Adapter's residuals of a column: it runs once for each picture, whatever else is changed."""
        made = []
        for part, shown in zip(column, hint.split(1), strict=True):
            key = ("t2i adapter", self.revision(net), self.size, *part.drawn_from)
            made.append(self.memory(key, partial(net.residuals, shown)))
        return tuple(torch.cat(rows) if len(rows) > 1 else rows[0] for rows in zip(*made, strict=True))

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

    def hole(self, recipes: Sequence[Recipe], start: Start | None) -> tuple[Tensor, Tensor]:
        """What an inpainting model is shown: where it draws, (N, 1, h, w), and pictures (N, 3, H, W) that are 0 there.

        The mask is of zeros and ones. Without one it draws everywhere.
        """
        mask = self._masks([recipe.mask for recipe in recipes])
        width, height = self.size
        if mask is None:
            mask = torch.ones(len(recipes), 1, height, width, device=self.model.device)
        drawn = (mask >= 0.5).to(self.model.dtype)
        # Channels are last in memory, as those of a picture.
        grey = drawn.new_zeros(len(recipes), height, width, 3).permute(0, 3, 1, 2)
        pixels = grey if start is None else start.pixels
        return F.interpolate(drawn, size=self._latent), pixels * (mask < 0.5)

    def guidance_map(self, column: Sequence[MaskLike | None]) -> Tensor | None:
        """The map of where guidance acts, (N, 1, h, w) in [0, 1]; None for everywhere."""

        def make() -> Tensor | None:
            masks = self._masks(column)
            return None if masks is None else F.interpolate(masks, size=self._latent, mode="area")

        return self.memory(("guidance map", self._latent, self.size, str(self.model.device), tuple(column)), make)

    @property
    def _latent(self) -> tuple[int, int]:
        """Height and width in latents."""
        return self.size[1] // self.model.vae_scale_factor, self.size[0] // self.model.vae_scale_factor

    def _masks(self, column: Sequence[MaskLike | None]) -> Tensor | None:
        """Masks at the size of the picture, (N, 1, H, W) float32 in [0, 1], as in diffusers; None if there are none."""
        fitted = [self._mask(mask) for mask in column if mask is not None]
        return torch.cat(fitted) if fitted else None

    def _mask(self, mask: Any) -> Tensor:
        return torch.from_numpy(Picture.of(mask).fit(*self.size)[None, None]).to(self.model.device)


def gated(recipe: Recipe) -> list[Region]:
    """The regions of a recipe that have a prompt of their own."""
    return [region for region in recipe.regions if region.by == "gate"]


def _acts(part: Region | Direction) -> bool:
    """Whether a part of a recipe has an effect at all."""
    return part.on and highest(part.weight) != 0


def _without_start(region: Region) -> Region:
    """A region whose words' mask is the same at every step: it is made during the run."""
    words = words_of(region.mask)
    return region if words is None else replace(region, mask=replace(words, start=0.0))
