"""Both sides of a comparison: a recipe run by us, and the same recipe put into diffusers' words and run by it."""

import copy
from functools import cache, partial
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from diffusers.image_processor import IPAdapterMaskProcessor
from families import Family
from torch import Tensor

import ctrl

MATRIX = ("ddim", "euler", "dpm++ 2m", "unipc")
SDE = {"algorithm_type": "sde-dpmsolver++"}
SCHEDULERS = {
    "ddim": DDIMScheduler.from_config,
    "euler": EulerDiscreteScheduler.from_config,
    "dpm++ 2m": DPMSolverMultistepScheduler.from_config,
    "unipc": UniPCMultistepScheduler.from_config,
    "ddpm": DDPMScheduler.from_config,
    "pndm": PNDMScheduler.from_config,
    "euler a": EulerAncestralDiscreteScheduler.from_config,
    "heun": HeunDiscreteScheduler.from_config,
    "dpm++ 2m sde": partial(DPMSolverMultistepScheduler.from_config, **SDE),
    "dpm++ sde": partial(DPMSolverSinglestepScheduler.from_config, **SDE),
    "lcm": LCMScheduler.from_config,
    "tcd": TCDScheduler.from_config,
}


class Sides:
    """One family's modules in diffusers' pipelines and, the very same objects if none is given, in a model of ours.

    An IP-Adapter changes the U-Net it is loaded into, so diffusers gets a copy of it for each set of adapters.
    """

    def __init__(self, family: Family, model: ctrl.Model | None = None) -> None:
        self.family = family
        self.plain = family.pipelines.text(**family.components)
        self.model = model or ctrl.load(self.plain, controlnets=dict(family.nets), ip_adapter=dict(family.adapters))
        self.ours = cache(self._ours)  # cells are also compared with each other
        self.unet_with = cache(self._unet_with)

    def _ours(self, recipe: ctrl.Recipe) -> Tensor:
        """The last latents (1, 4, h, w) of our run."""
        *_, last = ctrl.steps(self.model, recipe)
        return last.latents

    def theirs(self, recipe: ctrl.Recipe, *, scale: Any = None, output: str = "latent", **instead: Any) -> Any:
        """What diffusers' pipeline makes of the recipe; `scale` and `instead` replace words of the translation."""
        pipe = self.pipe(recipe)
        if recipe.styles:
            pipe.set_ip_adapter_scale([style.weight for style in _ordered(recipe.styles)] if scale is None else scale)
        return pipe(**{**_words(recipe), **instead}, output_type=output).images

    def pipe(self, recipe: ctrl.Recipe) -> Any:
        """The pipeline that can do what the recipe asks for, of these modules, with a fresh scheduler."""
        start = "text" if recipe.image is None else "image" if recipe.mask is None else "inpaint"
        nets = [self.family.nets[control.kind] for control in _ordered(recipe.controls)]
        parts = dict(self.family.components)
        parts["scheduler"] = SCHEDULERS[recipe.sampler](self.plain.scheduler.config)
        if nets:
            parts["controlnet"] = nets if len(nets) > 1 else nets[0]
        if recipe.styles:
            parts["unet"] = self.unet_with(tuple(style.adapter or "base" for style in _ordered(recipe.styles)))
        pipe = getattr(self.family.pipelines, f"control_{start}" if nets else start)(**parts)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def _unet_with(self, adapters: tuple[str, ...]) -> Any:
        pipe = self.family.pipelines.text(
            **{**self.family.components, "unet": copy.deepcopy(self.family.components["unet"])}
        )
        files = [self.family.adapters[name] for name in adapters]
        pipe.load_ip_adapter([str(file.parent) for file in files], subfolder="", weight_name=[f.name for f in files])
        for parameter in pipe.unet.parameters():  # how a product of one row is rounded depends, on some processors, on
            parameter.data = parameter.data.clone()  # where its weights lie, and theirs lie as they do in the file
        return pipe.unet


def difference(one: Tensor, other: Tensor) -> float:
    """The largest absolute difference; a NaN is one too."""
    assert one.shape == other.shape
    return (one - other).abs().max().item()


def _ordered(parts: tuple[Any, ...]) -> list[Any]:
    """A sum of floats depends on its order. diffusers adds in the caller's, we in one of our own: it is given ours."""
    return sorted(parts, key=lambda part: part.sort_key)


def _words(recipe: ctrl.Recipe) -> dict[str, Any]:
    guidance = recipe.guidance if isinstance(recipe.guidance, ctrl.Guidance) else ctrl.Guidance(recipe.guidance)
    words = {
        "prompt": recipe.prompt,
        "negative_prompt": recipe.negative or None,
        "guidance_scale": guidance.weight,
        "num_inference_steps": recipe.steps,
        "generator": torch.Generator().manual_seed(recipe.seed),
        **({"guidance_rescale": guidance.rescale} if guidance.rescale else {}),
        **({"eta": 0.3} if recipe.sampler == "tcd" else {}),  # the scheduler's own default; the pipelines' is 0
        **_start(recipe),
        **_controls(recipe),
        **_styles(recipe),
    }
    if recipe.image is None or recipe.mask is not None or recipe.controls:  # else the picture's size is taken
        words |= {"width": recipe.width, "height": recipe.height}
    return words


def _start(recipe: ctrl.Recipe) -> dict[str, Any]:
    if recipe.image is None:
        return {}
    masked = {} if recipe.mask is None else {"mask_image": recipe.mask.image}
    return {"image": recipe.image.image, "strength": recipe.strength, **masked}


def _controls(recipe: ctrl.Recipe) -> dict[str, Any]:
    """Of one control a value, of several a list."""
    if not recipe.controls:
        return {}
    controls = _ordered(recipe.controls)
    weights = [c.weight if isinstance(c.weight, ctrl.Schedule) else ctrl.hold(c.weight) for c in controls]
    words = {
        "image" if recipe.image is None else "control_image": [control.picture.image for control in controls],
        "controlnet_conditioning_scale": [weight.points[0][1] for weight in weights],
        "control_guidance_start": [weight.start for weight in weights],
        "control_guidance_end": [weight.until for weight in weights],
    }
    guess = {control.mode == "control first" for control in controls}
    assert len(guess) == 1  # theirs is one word for all
    return {name: value if len(value) > 1 else value[0] for name, value in words.items()} | {"guess_mode": guess.pop()}


def _styles(recipe: ctrl.Recipe) -> dict[str, Any]:
    if not recipe.styles:
        return {}
    styles = _ordered(recipe.styles)
    words: dict[str, Any] = {"ip_adapter_image": [[one.image for one in style.pictures] for style in styles]}
    if any(style.mask is not None for style in styles):
        masks = [None if style.mask is None else mask(style.mask.image) for style in styles]
        words["cross_attention_kwargs"] = {"ip_adapter_masks": masks}
    return words


def mask(image: Any) -> Tensor:
    """(1, 1, H, W): a mask as diffusers prepares it, of zeros and ones."""
    return IPAdapterMaskProcessor().preprocess(image, height=image.size[1], width=image.size[0])
