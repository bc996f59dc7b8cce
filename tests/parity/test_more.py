"""What the cells of the matrix do not say: pictures, texts, further words of styles and guidance, and what is left."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from recipes import DEPTH, HOLE, INK, LEFT, MAP, PHOTO, POSE, RECIPE, STYLE, WASH
from sides import Sides, difference, mask

import ctrl
from ctrl.sampling import sample_many

pytestmark = pytest.mark.quick(sides=["SD"])
BUSY = RECIPE.replace(
    sampler="euler", controls=[POSE, DEPTH], styles=[STYLE, ctrl.Style(WASH, 0.5, mask=LEFT, adapter="plus")]
)


@pytest.mark.parametrize(
    "recipe", [RECIPE, BUSY, RECIPE.replace(image=PHOTO, mask=HOLE, strength=0.75)], ids=["plain", "busy", "inpaint"]
)
def test_decoded_pictures_are_the_same_too(sides, recipe):
    ours = np.asarray(ctrl.sample(sides.model, recipe.replace(unmasked="latents")).image)
    (theirs,) = sides.theirs(recipe, output="pil")
    assert np.array_equal(ours, np.asarray(theirs))
    assert ours.std() > 1  # of 255: no grey


def test_no_negative_prompt_is_none_of_diffusers(sides):
    bare = RECIPE.replace(negative="")
    assert difference(sides.ours(bare), sides.theirs(bare, negative_prompt=None)) == 0
    assert difference(sides.ours(bare), sides.ours(RECIPE)) > 1e-2


@pytest.mark.parametrize("sides", ["SDXL"], indirect=True)
def test_no_negative_prompt_is_zeros_in_sdxl_unless_its_pipeline_says_otherwise(sides):
    bare = RECIPE.replace(negative="")
    other = Sides(replace(sides.family, components={**sides.family.components, "force_zeros_for_empty_prompt": False}))
    assert difference(other.ours(bare), other.theirs(bare)) == 0
    assert difference(other.ours(bare), sides.ours(bare)) > 1e-2
    assert difference(other.ours(bare), sides.theirs(bare, negative_prompt="")) == 0


@pytest.mark.parametrize("phi", [0.7, 1.0])
@pytest.mark.parametrize("more", [{}, {"styles": [STYLE]}], ids=["plain", "styled"])
def test_rescale_in_the_space_of_the_prediction_is_guidance_rescale(sides, phi, more):
    recipe = RECIPE.replace(guidance=ctrl.Guidance(6.0, rescale=phi), **more)
    assert difference(sides.ours(recipe), sides.theirs(recipe)) == 0
    assert difference(sides.ours(recipe), sides.ours(recipe.replace(guidance=6.0))) > 1e-2


def test_weights_of_blocks_are_a_dictionary_of_scales(sides):
    recipe = RECIPE.replace(styles=[ctrl.Style(INK, blocks={"up_blocks.1": 0.5, "mid_block": 2, "down_blocks.1": 1})])
    scale = {"up": {"block_1": 0.5}, "mid": 2.0, "down": {"block_1": 1.0}}
    assert difference(sides.ours(recipe), sides.theirs(recipe, scale=scale)) == 0
    one = RECIPE.replace(styles=[ctrl.Style(INK, blocks={"up_blocks.1.attentions.1": 1.0})])
    assert difference(sides.ours(one), sides.theirs(one, scale={"up": {"block_1": [0.0, 1.0]}})) == 0
    everywhere = RECIPE.replace(styles=[ctrl.Style(INK)])
    found = [sides.ours(each) for each in (recipe, one, everywhere, RECIPE)]
    assert all(difference(found[i], found[j]) > 1e-2 for i in range(4) for j in range(i))


@pytest.mark.parametrize("adapter", ["base", "plus"])
def test_a_negative_picture_is_the_embedding_of_the_uncond_row(sides, adapter):
    recipe = RECIPE.replace(styles=[ctrl.Style(INK, 0.7, negative=WASH, adapter=adapter)])
    pipe, (style,) = sides.pipe(recipe), recipe.styles
    with torch.no_grad():
        embeds = [
            pipe.encode_image(one.image, torch.device("cpu"), 1, adapter == "plus")[0]
            for one in (style.negative, style.picture)
        ]
    given = {"ip_adapter_image": None, "ip_adapter_image_embeds": [torch.stack(embeds)]}  # (2, 1, *S)
    assert difference(sides.ours(recipe), sides.theirs(recipe, **given)) == 0
    blank = RECIPE.replace(styles=[ctrl.Style(INK, 0.7, adapter=adapter)])
    assert difference(sides.ours(recipe), sides.ours(blank)) > 1e-2


def test_two_masked_styles_are_two_masked_pictures_of_one_adapter(sides, monkeypatch):
    recipe = RECIPE.replace(styles=[ctrl.Style(INK, 0.7, mask=LEFT), ctrl.Style(WASH, 0.5, mask=255 - LEFT)])
    styles = sorted(recipe.styles, key=lambda style: style.sort_key)
    images, single = [style.picture.image for style in styles], RECIPE.replace(styles=[STYLE])
    words = {
        "scale": [[style.weight for style in styles]],
        "cross_attention_kwargs": {"ip_adapter_masks": [torch.cat([mask(s.mask.image) for s in styles], dim=1)]},
    }
    # Left to itself the pipeline puts both pictures through the encoder and the projection at once, and a product of
    # more rows may be rounded otherwise: 5e-7 on the embeddings, 5e-5 here, on latents of up to 50. We show them each
    # style alone, so that a style does not depend on which others there are.
    assert difference(sides.ours(recipe), sides.theirs(single, **words, ip_adapter_image=[images])) < 1e-3
    pipe = sides.pipe(single)
    with torch.no_grad():
        cond = torch.cat([pipe.encode_image([image], torch.device("cpu"), 1, False)[0] for image in images])
    (projection,) = pipe.unet.encoder_hid_proj.image_projection_layers
    whole = projection.forward

    def each_alone(embeds):  # (R * 2, E), the pictures of a row side by side
        return torch.stack([whole(one) for one in embeds.unflatten(0, (-1, 2)).unbind(1)], 1).flatten(0, 1)

    monkeypatch.setattr(projection, "forward", each_alone)
    given = {"ip_adapter_image": None, "ip_adapter_image_embeds": [torch.stack([0 * cond, cond])]}  # (2, 2, E)
    assert difference(sides.ours(recipe), sides.theirs(single, **words, **given)) == 0


def test_a_control_does_what_its_conditioning_scale_does_at_any_scale(sides):
    made = []
    for weight in (0.25, 1.0, 2.0):
        recipe = RECIPE.replace(controls=[ctrl.Pose(MAP, weight)])
        made.append(sides.ours(recipe))
        assert difference(made[-1], sides.theirs(recipe)) == 0
    assert all(difference(one, other) > 1e-2 for one, other in pairwise(made))


MANY = {
    "plain": RECIPE,
    "busy": BUSY,
    "guess mode": RECIPE.replace(controls=[ctrl.Pose(MAP, mode="control first")]),
    "inpaint": RECIPE.replace(image=PHOTO, mask=HOLE, strength=0.75, sampler="ddim"),
}


@pytest.mark.parametrize("which", MANY)
def test_several_pictures_at_once_are_a_batch_of_diffusers(sides, which, monkeypatch):
    recipe, decoded = MANY[which].replace(unmasked="latents"), []
    monkeypatch.setattr(sides.model, "decode", lambda latents: decoded.append(latents) or [None] * len(latents))
    sample_many(sides.model, [recipe, recipe.replace(seed=4)])
    generators = [torch.Generator().manual_seed(seed) for seed in (recipe.seed, 4)]
    start = {}
    if recipe.image is not None:  # one each, or theirs draws one's latents for both
        start = {"image": [recipe.image.image] * 2, "mask_image": [recipe.mask.image] * 2}
    theirs = sides.theirs(recipe, num_images_per_prompt=2, generator=generators, **start)
    assert difference(*decoded, theirs) == 0
    assert difference(theirs[0], theirs[1]) > 1e-2


def test_a_run_leaves_the_pipeline_as_it_was(sides):
    before, picture = looks(sides), sides.theirs(RECIPE)
    for recipe in (BUSY, BUSY.replace(image=PHOTO, strength=0.5)):
        ctrl.sample(sides.model, recipe)
        assert looks(sides) == before
    run = ctrl.steps(sides.model, BUSY)
    next(run)
    assert looks(sides) == before
    run.close()
    assert looks(sides) == before
    assert difference(sides.theirs(RECIPE), picture) == 0
    assert sides.plain.unet is sides.family.components["unet"]
    shared = zip(sides.model.unet.parameters(), sides.plain.unet.parameters(), strict=True)
    assert all(ours is theirs for ours, theirs in shared)


def looks(sides):
    """Everything of the shared modules that a run might leave behind."""
    parts = [sides.family.components[name] for name in ("unet", "vae")] + [*sides.family.nets.values()]
    modules = [module for part in parts for module in part.modules()]
    hooks = [len(one._forward_hooks) + len(one._forward_pre_hooks) + ("forward" in one.__dict__) for one in modules]
    held = [
        (tensor.data_ptr(), tensor._version, tensor.double().sum().item())
        for part in parts
        for tensor in part.state_dict().values()
    ]
    processors = {name: id(one) for name, one in sides.plain.unet.attn_processors.items()}
    flags = [one.training for one in modules]
    return hooks, held, processors, flags, dict(sides.plain.scheduler.config)
