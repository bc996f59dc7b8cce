"""A model that was read from a folder, fp16 on disk and float32 here, is what diffusers reads from it."""

import pytest
import torch
from diffusers import ControlNetModel, LCMScheduler, StableDiffusionPipeline
from families import KINDS, SD, Family
from recipes import LEFT, MAP, OTHER, PHOTO, RECIPE, STYLE
from sides import Sides, difference
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import ctrl

RECIPE = RECIPE.replace(prompt="a red ball", negative="blue", sampler="dpm++ 2m")
POSE, DEPTH = ctrl.Pose(MAP, ctrl.hold(0.7, until=0.75)), ctrl.Depth(OTHER, ctrl.hold(1.2, start=0.25))
RECIPES = {
    "plain": RECIPE,
    "without guidance": RECIPE.replace(guidance=1.0),
    "two ControlNets": RECIPE.replace(controls=[POSE, DEPTH]),
    "IP-Adapter": RECIPE.replace(styles=[STYLE]),
    "all": RECIPE.replace(controls=[POSE, DEPTH], styles=[ctrl.Style(PHOTO, mask=LEFT)], guidance=3.0),
    "from a picture": RECIPE.replace(image=PHOTO, strength=0.5),
}


def read(folder):
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def loaded(folder, model):
    components = read(folder).components | {"requires_safety_checker": False}
    # Whichever is installed would be taken, and torchvision's resizes otherwise.
    components["feature_extractor"] = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")
    nets = {
        kind: ControlNetModel.from_pretrained(folder, subfolder=f"controlnet_{kind}", dtype=torch.float32)
        for kind in KINDS
    }
    return Sides(Family(SD, components, nets, {"base": folder / "ip_adapter" / "ip_adapter.safetensors"}), model)


@pytest.mark.parametrize("which", RECIPES)
def test_a_loaded_model_makes_what_diffusers_makes_of_the_folder(loaded, which):
    recipe = RECIPES[which]
    assert difference(loaded.ours(recipe), loaded.theirs(recipe)) == 0
    others = [loaded.ours(other) for name, other in RECIPES.items() if name != which]
    assert min(difference(loaded.ours(recipe), other) for other in others) > 1e-2


def test_the_lora_is_merged_as_diffusers_applies_it(folder, model):
    pipe = read(folder)
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    pipe.load_lora_weights(str(folder), subfolder="lora")
    fast = RECIPE.fast()
    *_, last = ctrl.steps(model, fast)
    *_, bare = ctrl.steps(model, fast.replace(loras=[]))
    expected = pipe(
        RECIPE.prompt,
        guidance_scale=1.0,
        num_inference_steps=fast.steps,
        generator=torch.Generator().manual_seed(RECIPE.seed),
        width=RECIPE.width,
        height=RECIPE.height,
        output_type="latent",
    ).images
    # Not to the bit: diffusers adds the LoRA's product to that of the layer, we add it to the layer's weight.
    assert difference(last.latents, expected) < 1e-4
    assert difference(last.latents, bare.latents) > 1e-1
