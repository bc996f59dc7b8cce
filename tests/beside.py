"""diffusers' pipelines and our model, of the same weights and for the same work; and what a step of either takes."""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionPipeline
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import ctrl
from ctrl.model.samplers import TABLE


class Operations(TorchDispatchMode):
    """How often each aten operation was done; `launches` are those that do more than look otherwise at a tensor."""

    def __init__(self):
        super().__init__()
        self.by_name, self.launches = Counter(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.by_name[func.overloadpacket.__name__] += 1
        self.launches += not (func.is_view or func.overloadpacket.__name__ == "_unsafe_view")
        return func(*args, **(kwargs or {}))


def each_step(run: Callable[[int], Any], few: int = 2, many: int = 4) -> Counter:
    """The aten operations that each further step of `run(steps)` takes: setting up and decoding fall out."""
    run(few)  # whatever is loaded or kept at a first time
    found = []
    for steps in (few, many):
        with Operations() as operations:
            run(steps)
        found.append(operations.by_name)
    return Counter({name: (found[1][name] - found[0][name]) / (many - few) for name in found[1]})


@dataclass(frozen=True)
class Beside:
    """Both sides, of the very same modules; only the pipelines with an IP-Adapter have a U-Net of their own."""

    model: ctrl.Model
    plain: StableDiffusionPipeline
    controlled: StableDiffusionControlNetPipeline
    styled: StableDiffusionPipeline
    both: StableDiffusionControlNetPipeline

    def ours(self, recipe: ctrl.Recipe, on_step: Callable[[int], None] | None = None) -> Tensor:
        """Our latents; `on_step` is called with every step's index."""
        for step in ctrl.steps(self.model, recipe):
            if on_step is not None:
                on_step(step.index)
        return step.latents

    def theirs(self, recipe: ctrl.Recipe, on_step: Callable[[int], None] | None = None) -> Tensor:
        """Those that diffusers makes of a recipe with at most one control and one style of constant weights."""

        def after(pipe: Any, index: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            on_step(index)
            return tensors

        pipe, more = self.pipe(recipe), {}
        row = next(row for row in TABLE if row.name == recipe.sampler)
        pipe.scheduler = getattr(diffusers, row.scheduler).from_config(self.model.parts.scheduler, **row.options)
        for control in recipe.controls:
            more |= {"image": control.picture.image, "controlnet_conditioning_scale": control.weight}
        for style in recipe.styles:
            pipe.set_ip_adapter_scale(style.weight)
            more["ip_adapter_image"] = style.picture.image
        return pipe(
            recipe.prompt,
            negative_prompt=recipe.negative,
            guidance_scale=recipe.guidance,
            num_inference_steps=recipe.steps,
            generator=torch.Generator().manual_seed(recipe.seed),
            output_type="latent",
            callback_on_step_end=None if on_step is None else after,
            **more,
        ).images

    def pipe(self, recipe: ctrl.Recipe) -> Any:
        """The pipeline that does it."""
        if recipe.styles:
            return self.both if recipe.controls else self.styled
        return self.controlled if recipe.controls else self.plain


def beside(folder: Path, *, device: str = "cpu") -> Beside:
    """Both sides of a model folder laid out as the package's own, in float32."""
    plain = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    plain.feature_extractor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")
    net = ControlNetModel.from_pretrained(folder, subfolder="controlnet_pose", dtype=torch.float32)
    styled = StableDiffusionPipeline(**plain.components | {"unet": copy.deepcopy(plain.unet)})
    styled.load_ip_adapter(str(folder), subfolder="ip_adapter", weight_name="ip_adapter.safetensors")
    controlled, both = (
        StableDiffusionControlNetPipeline(**pipe.components, controlnet=net) for pipe in (plain, styled)
    )
    for pipe in (plain, controlled, styled, both):
        pipe.to(device)
        pipe.set_progress_bar_config(disable=True)
    file = folder / "ip_adapter" / "ip_adapter.safetensors"
    model = ctrl.load(plain, controlnets={"pose": net}, ip_adapter=file)
    return Beside(model, plain, controlled, styled, both)
