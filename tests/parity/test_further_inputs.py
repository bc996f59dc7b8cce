"""U-Nets with further inputs, the mask of inpainting models and the guidance of LCMs, against diffusers' pipelines."""

import copy
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model
from PIL import Image
from recipes import DEPTH, HOLE, MAP, PHOTO, POSE, RECIPE
from sides import SCHEDULERS, Sides, difference

import ctrl
from ctrl.conditioning import Conditioning
from ctrl.memory import Memory
from ctrl.model.loading.control_modules import OneKind

INPAINT = RECIPE.replace(image=PHOTO, mask=HOLE)
WHITE = np.full_like(HOLE, 255)


def other_unet(sides, **differing):
    """The same family with another U-Net, of its own weights."""
    torch.manual_seed(11)
    config = {key: value for key, value in sides.family.components["unet"].config.items() if not key.startswith("_")}
    unet = UNet2DConditionModel(**config | differing).eval().requires_grad_(False)
    return Sides(replace(sides.family, components={**sides.family.components, "unet": unet}, adapters={}))


@pytest.fixture(scope="module")
def inpainting(sides):
    return other_unet(sides, in_channels=9)


@pytest.fixture(scope="module")
def distilled(sides):
    return other_unet(sides, time_cond_proj_dim=16)


@pytest.mark.parametrize("more", [{}, {"strength": 0.6}, {"guidance": 1.0}, {"sampler": "euler a"}], ids=str)
def test_an_inpainting_unet_draws_what_diffusers_does(inpainting, more):
    recipe = INPAINT.replace(**more)
    assert difference(inpainting.ours(recipe), inpainting.theirs(recipe)) == 0
    other = recipe.replace(mask=255 - HOLE)
    assert difference(inpainting.ours(recipe), inpainting.ours(other)) > 1e-2


def test_it_inpaints_with_controlnets(inpainting):
    recipe = INPAINT.replace(controls=[POSE, DEPTH])
    assert difference(inpainting.ours(recipe), inpainting.theirs(recipe)) == 0


def test_without_a_mask_it_draws_everywhere(inpainting):
    white = INPAINT.replace(mask=WHITE, strength=1.0)
    theirs = inpainting.theirs(white)
    assert difference(inpainting.ours(white), theirs) == 0
    assert difference(inpainting.ours(RECIPE), theirs) == 0
    half = INPAINT.replace(mask=None, strength=0.5)
    assert difference(inpainting.ours(half), inpainting.theirs(white.replace(strength=0.5))) == 0


def test_a_lora_of_peft_acts_in_it_as_peft_merges_it(inpainting, tmp_path):
    components = inpainting.family.components
    torch.manual_seed(5)
    config = LoraConfig(r=4, lora_alpha=6, init_lora_weights=False, target_modules=["to_q", "to_out.0", "conv_in"])
    net = get_peft_model(copy.deepcopy(components["unet"]), config)
    net.save_pretrained(tmp_path)
    model = ctrl.load(inpainting.plain, lora={"toy": tmp_path})
    *_, ours = ctrl.steps(model, INPAINT.replace(loras=[ctrl.Lora("toy")]))
    merged = Sides(replace(inpainting.family, components={**components, "unet": net.merge_and_unload()}))
    assert difference(ours.latents, merged.theirs(INPAINT)) < 1e-4
    assert difference(ours.latents, inpainting.ours(INPAINT)) > 1e-2


def test_a_run_of_it_can_be_resumed(inpainting):
    run = list(ctrl.steps(inpainting.model, INPAINT.replace(sampler="ddpm")))
    again = list(ctrl.steps(inpainting.model, INPAINT.replace(sampler="ddpm"), after=run[1]))
    assert torch.equal(run[-1].latents, again[-1].latents)


def test_a_soft_mask_is_hard_for_it_as_in_diffusers(inpainting):
    soft = np.clip(np.linspace(0, 255, HOLE.shape[1]), 0, 255).astype(np.uint8)[None].repeat(HOLE.shape[0], 0)
    recipe = INPAINT.replace(mask=soft)
    assert difference(inpainting.ours(recipe), inpainting.theirs(recipe)) == 0


@pytest.mark.parametrize("weight", [8.5, 1.0, 2.0])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_distilled_unet_reads_its_guidance(distilled, weight, steps):
    recipe = RECIPE.replace(sampler="lcm", guidance=weight, steps=steps)
    assert difference(distilled.ours(recipe), distilled.theirs(recipe)) == 0
    assert difference(distilled.ours(recipe), distilled.ours(recipe.replace(guidance=4.0))) > 1e-4


@pytest.mark.parametrize("sides", ["SD"], indirect=True)
def test_it_is_the_pipeline_of_latent_consistency_models(distilled):
    recipe = RECIPE.replace(sampler="lcm", negative="")
    parts = {name: part for name, part in distilled.family.components.items()}
    parts["scheduler"] = SCHEDULERS["lcm"](distilled.plain.scheduler.config)
    pipe = diffusers.LatentConsistencyModelPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        recipe.prompt,
        guidance_scale=6.0,
        num_inference_steps=4,
        width=recipe.width,
        height=recipe.height,
        generator=torch.Generator().manual_seed(recipe.seed),
        output_type="latent",
    ).images
    assert difference(distilled.ours(recipe), theirs) == 0
    model = ctrl.load(pipe)
    assert torch.equal(list(ctrl.steps(model, recipe))[-1].latents, theirs)


def test_a_distilled_unet_takes_controls_images_and_a_schedule_of_guidance(distilled):
    for more in ({"controls": [POSE]}, {"image": PHOTO, "strength": 0.75}):
        recipe = RECIPE.replace(sampler="lcm", **more)
        assert difference(distilled.ours(recipe), distilled.theirs(recipe)) == 0
    falling = RECIPE.replace(sampler="lcm", guidance=ctrl.hold(8.0, until=0.5))
    found = [distilled.ours(RECIPE.replace(sampler="lcm", guidance=weight)) for weight in (8.0, 1.0)]
    assert all(difference(distilled.ours(falling), each) > 1e-4 for each in found)


@pytest.mark.parametrize("mask", [None, HOLE])
def test_with_an_image_and_controls_it_reads_the_guidance_that_diffusers_leaves_out(distilled, mask):
    recipe = RECIPE.replace(sampler="lcm", guidance=8.0, image=PHOTO, strength=0.75, controls=[POSE], mask=mask)
    embedded = distilled.plain.get_guidance_scale_embedding(torch.tensor([8.0 - 1.0]), embedding_dim=16)

    def read(module, arguments, named):
        assert named.get("timestep_cond") is None  # these pipelines never give it
        return arguments, named | {"timestep_cond": embedded}

    ours = distilled.ours(recipe)
    given = distilled.family.components["unet"].register_forward_pre_hook(read, with_kwargs=True)
    try:
        assert difference(ours, distilled.theirs(recipe, guidance_scale=1.0)) == 0
    finally:
        given.remove()
    assert difference(ours, distilled.theirs(recipe, guidance_scale=1.0)) > 1e-4


def test_what_it_cannot_do_is_noted(distilled):
    recipe = RECIPE.replace(sampler="euler", negative="e")
    notes = ctrl.sample(distilled.model, recipe).notes
    assert "this model reads its guidance, so the negative prompt has no effect" in notes
    assert "this model was distilled for sampler 'lcm', and runs with 'euler'" in notes
    by_nag = recipe.replace(guidance=ctrl.Guidance(3.0, nag=ctrl.NAG()))
    assert not [note for note in ctrl.sample(distilled.model, by_nag).notes if "negative prompt" in note]
    assert difference(distilled.ours(by_nag), distilled.ours(by_nag.replace(negative="f"))) > 1e-4
    bare = ctrl.sample(distilled.model, recipe.replace(negative="", sampler="lcm")).notes
    assert not [note for note in bare if "this model" in note]
    map_note = ctrl.sample(distilled.model, recipe.replace(guidance=ctrl.Guidance(3.0, map=HOLE))).notes
    assert "this model reads its guidance, so apg, zero and map have no effect" in map_note
    low = ctrl.sample(distilled.model, recipe.replace(guidance=0.5, sampler="lcm", negative="")).notes
    assert "guidance 0.5 is taken for 1, the least that this model reads" in low
    assert difference(distilled.ours(recipe), distilled.ours(recipe.replace(negative=""))) == 0


NOISY = ("ddpm", "euler a", "dpm++ 2m sde", "dpm++ sde", "lcm", "tcd")


@pytest.mark.parametrize("strength", [1.0, 0.75])
@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_inpainting_is_diffusers_under_every_sampler(sides, sampler, strength):
    recipe = INPAINT.replace(sampler=sampler, strength=strength)
    if sampler == "pndm":  # where theirs of SD 1 and 2 inpaints it sets skip_prk_steps, as published schedules do
        schedule = SCHEDULERS["pndm"](sides.plain.scheduler.config, skip_prk_steps=True)
        sides = Sides(replace(sides.family, components={**sides.family.components, "scheduler": schedule}))
    assert difference(sides.ours(recipe), sides.theirs(recipe)) == 0
    if sampler in NOISY:
        assert difference(sides.ours(recipe), sides.ours(recipe.replace(seed=4))) > 1e-2


@pytest.mark.parametrize("sampler", NOISY)
def test_with_controls_too(sides, sampler):
    recipe = INPAINT.replace(sampler=sampler, controls=[ctrl.Pose(MAP, 0.5)])
    assert difference(sides.ours(recipe), sides.theirs(recipe)) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "more", [{"image": PHOTO, "strength": 0.75}, {"image": PHOTO, "mask": HOLE}], ids=["image", "mask"]
)
def test_pictures_are_encoded_in_the_type_that_diffusers_takes(sides, dtype, more):
    """SDXL's VAE would overflow: its pipelines encode in float32 (`force_upcast`), also a bfloat16 model's."""
    cast = {
        name: copy.deepcopy(part).to(dtype) if isinstance(part, torch.nn.Module) else part
        for name, part in sides.family.components.items()
    }
    half = Sides(replace(sides.family, components=cast, nets={}, adapters={}))
    recipe = RECIPE.replace(sampler="ddpm", **more)
    pixels = Conditioning(half.model, (recipe.width, recipe.height), Memory()).start([recipe]).pixels
    seed = [torch.Generator().manual_seed(3)]
    ours, pipe = half.model.encode(pixels, seed), half.pipe(recipe)
    xl = "text_encoder_2" in sides.family.components
    assert half.model.encodes_in == (torch.float32 if xl else dtype)
    if more.get("mask") is not None:
        theirs = pipe._encode_vae_image(pixels, torch.Generator().manual_seed(3))
        assert torch.equal(ours, theirs)
    assert difference(half.ours(recipe), half.theirs(recipe)) == 0
    assert half.model.vae.dtype == (torch.float32 if xl and dtype == torch.float16 else dtype)


def condition(image, mask):
    """diffusers' documentation's `make_inpaint_condition`, for arrays of one size: -1 where the mask is white."""
    pixels = image.astype(np.float32) / 255.0
    pixels[mask.astype(np.float32) / 255.0 > 0.5] = -1.0
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None])


@pytest.fixture(scope="module")
def filling(sides):
    """The same family with a ControlNet for inpainting."""
    return Sides(replace(sides.family, nets={**sides.family.nets, "inpaint": sides.family.nets["depth"]}, adapters={}))


def test_an_inpainting_controlnet_is_shown_the_hole(filling):
    transparent = Image.fromarray(np.dstack([PHOTO, 255 - HOLE]))
    recipe = INPAINT.replace(controls=[ctrl.Inpaint(PHOTO, 0.8)])
    hint = condition(PHOTO, HOLE)
    theirs = filling.theirs(recipe, control_image=hint)
    own = {"of the recipe's mask": ctrl.Inpaint(PHOTO, 0.8), "given": ctrl.Inpaint(PHOTO, 0.8, hole=HOLE),
           "transparent": ctrl.Inpaint(transparent, 0.8), "a control": ctrl.Control("inpaint", PHOTO, 0.8)}  # fmt: skip
    for name, control in own.items():
        assert difference(filling.ours(recipe.replace(controls=[control])), theirs) == 0, name
    assert difference(filling.ours(recipe.replace(controls=[ctrl.Inpaint(PHOTO, 0.8, hole=255 - HOLE)])), theirs) > 1e-2
    alone = RECIPE.replace(controls=[ctrl.Inpaint(transparent)])  # text to image
    assert difference(filling.ours(alone), filling.theirs(alone, image=hint)) == 0


def test_an_inpaint_control_without_a_hole_is_refused(filling):
    with pytest.raises(ValueError, match="Inpaint has no hole: give a picture that is transparent there, hole=, or"):
        ctrl.steps(filling.model, RECIPE.replace(controls=[ctrl.Inpaint(PHOTO)]))
    transparent = Image.fromarray(np.dstack([PHOTO, 255 - HOLE]))
    with pytest.raises(ValueError, match=r"must be given as ctrl.Inpaint\(picture\)"):
        ctrl.Control("inpaint", transparent)
    one = ctrl.Recipe("a", controls=[ctrl.Inpaint(transparent)])
    assert ctrl.Recipe.from_json(one.to_json()) == one
    assert one == ctrl.Recipe("a", controls=[ctrl.Inpaint(PHOTO, hole=HOLE)])
    assert one != ctrl.Recipe("a", controls=[ctrl.Inpaint(PHOTO, hole=255 - HOLE)])
    assert "Inpaint" in one.code()


@pytest.mark.parametrize("sides", ["SDXL"], indirect=True)
def test_a_unions_hole_is_black(filling, monkeypatch):
    net = filling.model.control("inpaint")
    seen = []
    recipe = INPAINT.replace(controls=[ctrl.Inpaint(PHOTO)])
    for kind in (net, replace(net, module=OneKind(net.module, 7))):
        monkeypatch.setitem(filling.model._loaded.controls, "inpaint", kind)
        given = Conditioning(filling.model, (recipe.width, recipe.height), Memory())
        seen.append(given.control([recipe.controls[0].around(recipe.mask)]).hint)
    inside = torch.from_numpy(HOLE > 127)
    assert (seen[0][0, :, inside] == -1).all() and (seen[1][0, :, inside] == 0).all()
    assert torch.equal(seen[0][0, :, ~inside], seen[1][0, :, ~inside])
