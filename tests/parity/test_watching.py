"""Somebody else's pipelines, watched: the same picture to the bit, true maps, and nothing left behind."""

import copy
from dataclasses import replace

import diffusers
import families
import numpy as np
import pytest
import torch
from PIL import Image

import ctrl
from ctrl.maps.pipeline_parts import pixels_of

rng = np.random.default_rng(0)
REFERENCE, OTHER, HINT = (Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)) for _ in range(3))
LEFT = np.zeros((48, 64), np.uint8)
LEFT[:, :32] = 255
PROMPT, NEGATIVE = "a red ball", "dark"
WATCH = ctrl.Watch(smallest=4)


@pytest.fixture(scope="module")
def family(sides):
    """One family of modules."""
    return sides.family


def call(pipe, **more):
    words = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "num_inference_steps": 4, "width": 64, "height": 48}
    return pipe(**words | {"generator": torch.Generator().manual_seed(3)} | more, output_type="np").images


def held(pipe):
    """What watching could leave behind."""
    parts = [pipe, *(part for part in pipe.components.values() if isinstance(part, torch.nn.Module))]
    modules = [module for part in parts if isinstance(part, torch.nn.Module) for module in part.modules()]
    return (
        [sorted(part.__dict__) for part in [*parts, pipe.scheduler]],
        [(sorted(m.__dict__), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in modules],
        {name: id(processor) for name, processor in pipe.unet.attn_processors.items()},
    )


def plain(family):
    return family.pipelines.text(**family.components)


def controlled(family):
    return family.pipelines.control_text(**family.components, controlnet=[family.nets["pose"], family.nets["depth"]])


def styled(family):
    pipe = family.pipelines.text(**{**family.components, "unet": copy.deepcopy(family.components["unet"])})
    paths = [family.adapters["base"], family.adapters["plus"]]
    pipe.load_ip_adapter(
        [str(path.parent) for path in paths],
        subfolder="",
        weight_name=[path.name for path in paths],
    )
    pipe.set_ip_adapter_scale([0.6, 0.4])
    return pipe


STYLES = {"ip_adapter_image": [[REFERENCE, OTHER], REFERENCE]}
PIPES = {
    "plain": (plain, {}),
    "guidance off": (plain, {"guidance_scale": 1.0}),
    "two pictures": (plain, {"num_images_per_prompt": 2}),
    "two prompts": (plain, {"prompt": [PROMPT, "a blue dog"], "negative_prompt": [NEGATIVE, NEGATIVE]}),
    "ControlNets": (controlled, {"image": [HINT, HINT]}),
    "guess mode": (controlled, {"image": [HINT, HINT], "guess_mode": True}),
    "IP-Adapters": (styled, STYLES),
}


@pytest.mark.parametrize("case", PIPES)
def test_a_pipeline_is_watched_and_changes_by_no_bit(family, case):
    make, more = PIPES[case]
    pipe = make(family)
    pipe.set_progress_bar_config(disable=True)
    images, before = call(pipe, **more), held(pipe)
    with ctrl.watching(pipe, WATCH) as watch:
        again = call(pipe, **more)
    assert np.array_equal(images, again)
    assert held(pipe) == before
    assert len(watch.attentions) == len(images)
    for attention, image in zip(watch.attentions, images, strict=True):
        receipt = attention.receipt
        assert receipt.ok and receipt.error < 1e-5 and receipt.steps == (0, 1, 2, 3)
        assert attention.cells == (12, 16)
        assert np.abs(np.asarray(attention.ground.picture) / 255 - image).max() <= 0.5 / 255 + 1e-6
    first = watch.attention
    assert [word.text for word in first.words()] == ["a", "red", "ball"]
    if case == "two prompts":
        assert "dog" in watch.attentions[1] and "dog" not in first
    if case == "guidance off":
        assert set(first.receipt.rows) == {"cond"}
    else:
        assert first.map("dark", source="negative").heat.max() > 0
    if "image" in more:
        assert set(first.components) == {"unet", "controlnet0", "controlnet1"}
        assert first.map("red", component="controlnet1").heat.max() > 0
    if case == "IP-Adapters":
        assert np.allclose(first.style(0, 0).heat + first.style(0, 1).heat, 1, atol=1e-5)
        assert first.style(1).heat.shape == (12, 16)


def test_it_sees_what_our_own_run_sees(sides, family):
    """The same weights, seed and settings, watched both ways."""
    pipe = plain(family)
    pipe.set_progress_bar_config(disable=True)
    with ctrl.watching(pipe, WATCH) as watch:
        call(pipe, guidance_scale=5.0)
    recipe = ctrl.Recipe(PROMPT, negative=NEGATIVE, steps=4, sampler="ddim", seed=3, guidance=5.0, width=64, height=48)
    ours = ctrl.sample(sides.model, recipe, watch=WATCH).attention
    for word in ("red", "ball"):
        assert np.array_equal(watch.attention[word].heat, ours[word].heat)
    theirs = watch.attention.map("dark", source="negative").heat
    assert np.array_equal(theirs, ours.map("dark", source="negative").heat)


def test_masks_of_ip_adapters_make_a_style_of_each_picture(family):
    pipe = styled(family)
    pipe.set_progress_bar_config(disable=True)
    masks = diffusers.image_processor.IPAdapterMaskProcessor().preprocess([LEFT, 255 - LEFT], height=48, width=64)
    masks = [masks.reshape(1, 2, 48, 64), torch.ones(1, 1, 48, 64)]
    with ctrl.watching(pipe, WATCH) as watch:
        call(pipe, **STYLES, cross_attention_kwargs={"ip_adapter_masks": masks})
    attention = watch.attention
    assert attention.receipt.ok
    assert {"style 0", "style 1", "style 2"} <= set(attention.sources)
    left, right = attention.style(0).heat, attention.style(1).heat
    assert left[:, :6].min() > 0.9 and abs(left[:, 11:]).max() < 0.1 < 0.9 < right[:, 11:].min()
    pipe.set_ip_adapter_scale([0.0, 0.4])  # an adapter that makes no call keeps its number
    with ctrl.watching(pipe, WATCH) as watch:
        call(pipe, **STYLES)
    assert "style 0" not in watch.attention.sources and "style 1" in watch.attention.sources


def test_steps_are_shown_and_a_run_is_cancelled(family):
    pipe = plain(family)
    pipe.set_progress_bar_config(disable=True)
    call(pipe)
    seen, before = [], held(pipe)

    def on_step(step):
        seen.append((step.index, step.count, step.preview().size, step.watch.attention["red"].heat.max() > 0))
        return step.index < 1

    with ctrl.watching(pipe, WATCH, on_step=on_step) as watch:
        call(pipe)
        pytest.fail("a cancelled run goes no further")
    assert watch.cancelled and held(pipe) == before
    assert seen == [(0, 4, (64, 48), True), (1, 4, (64, 48), True)]
    with pytest.raises(ZeroDivisionError), ctrl.watching(pipe, WATCH, on_step=lambda step: 1 / 0):
        call(pipe)
    assert held(pipe) == before
    with ctrl.watching(pipe, WATCH) as watch:
        call(pipe)
        call(pipe, prompt="a blue dog")
    assert [word.text for word in watch.attention.words()] == ["a", "blue", "dog"]


@pytest.mark.parametrize("case", ["plain", "ControlNets", "guess mode", "IP-Adapters"])
def test_influence_is_split_and_its_shares_sum_to_one(family, case):
    make, more = PIPES[case]
    pipe = make(family)
    pipe.set_progress_bar_config(disable=True)
    images, before = call(pipe, **more), held(pipe)
    with ctrl.watching(pipe, ctrl.Watch(smallest=4, influence=True)) as watch:
        assert np.array_equal(call(pipe, **more), images)
    split = watch.attention.influence
    assert split.ok and split.error < 1e-4
    assert np.allclose(sum(split.parties.values()), 1, atol=1e-4)
    assert ("controlnets" in split.controls) == (make is controlled)
    styles = {name for name in split.parties if name.startswith("style ")}
    assert len(styles) == (2 if case == "IP-Adapters" else 0)
    assert all(abs(split.parties[name]).max() > 0 for name in styles)
    assert held(pipe) == before


@pytest.mark.parametrize("text", ["", "a red ball"])
def test_the_rows_of_a_prompt_that_is_its_own_negative_are_labelled_in_diffusers_order(family, text):
    pipe = plain(family)
    with ctrl.watching(pipe, WATCH) as watch:
        call(pipe, prompt=text, negative_prompt=text)
    assert watch.attention.receipt.rows == ("uncond", "cond")
    assert watch.attention.receipt.ok and watch.attention.text("negative") == watch.attention.text()


def test_embeddings_have_the_words_that_were_read_for_them(family):
    """Given beside a negative prompt that is text, and two readings long, as programs for long prompts make them."""
    pipe = plain(family)
    pipe.set_progress_bar_config(disable=True)
    xl = family.pipelines.text is diffusers.StableDiffusionXLPipeline

    def encoded(text):
        made = pipe.encode_prompt(text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
        return made[0], {"pooled_prompt_embeds": made[2]} if xl else {}

    def watched(embeds, more, **others):
        words = {"prompt": None, "prompt_embeds": embeds} | more | others
        call(pipe, **words)
        return [[word.text for word in watch.attention.words(source)] for source in ("prompt", "negative")]

    outside, pooled = encoded("a red ball")
    with ctrl.watching(pipe, WATCH) as watch:
        if not xl:
            words, negative = watched(outside, pooled)
            assert words[:2] == ["0", "1"] and negative == ["dark"]
    with ctrl.watching(pipe, WATCH) as watch:
        parts = [encoded(text)[0] for text in ("a red ball", "a blue dog")]
        zeros = {"negative_prompt_embeds": torch.zeros_like(torch.cat(parts, 1)), "negative_prompt": None}
        zeros |= {"negative_pooled_prompt_embeds": pooled["pooled_prompt_embeds"]} if xl else {}
        words, _ = watched(torch.cat(parts, 1), pooled, **zeros)
        assert words == ["a", "red", "ball", "a", "blue", "dog"]
        dog = watch.attention.text().find("dog")
        assert watch.attention.text().between(dog.start, dog.end)[0] > parts[0].shape[1]


def test_an_empty_negative_prompt_has_no_words(family):
    """SDXL's is zeros that nothing read, which are no words either."""
    pipe = plain(family)
    pipe.set_progress_bar_config(disable=True)
    with ctrl.watching(pipe, WATCH) as watch:
        call(pipe, negative_prompt=None)
    attention = watch.attention
    assert attention.receipt.rows == ("uncond", "cond") and attention.receipt.ok
    assert attention.words("negative") == () and attention.sources == ("prompt",)
    assert {entry.source for entry in attention.stack().entries} == {"prompt"}


def test_what_cannot_be_watched_is_refused(family):
    with pytest.raises(TypeError, match="pipe must be a diffusers pipeline with a U-Net"), ctrl.watching(3):
        pass
    pipe = plain(family)
    pipe.set_progress_bar_config(disable=True)
    with ctrl.watching(pipe, WATCH) as watch:
        pass
    with pytest.raises(RuntimeError, match="did not run inside the block"):
        _ = watch.attention


def refiner(family):
    """SDXL's refiner, whose only text tower is the second."""
    parts = {name: part for name, part in family.components.items() if name not in ("text_encoder", "tokenizer")}
    config = dict(family.components["unet"].config) | {"cross_attention_dim": families.TEXT // 2}
    config["projection_class_embeddings_input_dim"] = families.TEXT // 2 + 5 * 8
    torch.manual_seed(0)
    parts["unet"] = diffusers.UNet2DConditionModel(
        **{name: value for name, value in config.items() if not name.startswith("_")}
    ).eval()
    empty = {"text_encoder": None, "tokenizer": None, "requires_aesthetics_score": True}
    return family.pipelines.image(**parts, **empty)


def test_words_are_those_of_the_second_tower_where_there_is_no_first(family):
    if family.pipelines.text is not diffusers.StableDiffusionXLPipeline:
        pytest.skip("only SDXL has a refiner")
    pipe = refiner(family)
    pipe.set_progress_bar_config(disable=True)
    more = {"image": REFERENCE, "strength": 0.9, "width": None, "height": None}
    images = call(pipe, **more)
    with ctrl.watching(pipe, WATCH) as watch:
        assert np.array_equal(call(pipe, **more), images)
    assert [word.text for word in watch.attention.words()] == ["a", "red", "ball"]
    assert [word.text for word in watch.attention.words("negative")] == ["dark"]


def test_previews_of_sdxl_are_decoded_in_float32_where_float16_overflows(family):
    vae = copy.deepcopy(family.components["vae"]).half()
    vae.decoder.conv_in.weight.data.normal_(0, 5e3, generator=torch.Generator().manual_seed(0))
    before = copy.deepcopy(vae.state_dict())
    latents = torch.randn(1, 4, 12, 16, generator=torch.Generator().manual_seed(0)).half()
    pixels = pixels_of(family.pipelines.text(**family.components | {"vae": vae}), latents)
    assert bool(pixels.isfinite().all()) == (family.pipelines.text is diffusers.StableDiffusionXLPipeline)
    assert all(
        tensor.dtype == torch.float16 and torch.equal(before[n], tensor) for n, tensor in vae.state_dict().items()
    )


def test_latents_with_a_mean_and_a_deviation_are_shown_as_the_pipeline_shows_them(family):
    vae = copy.deepcopy(family.components["vae"])
    vae.register_to_config(latents_mean=[0.5, -1.0, 0.2, 0.0], latents_std=[2.0, 0.5, 1.0, 3.0])
    pipe = family.pipelines.text(**family.components | {"vae": vae})
    pipe.set_progress_bar_config(disable=True)
    last = []
    with ctrl.watching(pipe, WATCH, on_step=lambda step: last.append(step.latents)) as watch:
        call(pipe)
    shown = np.asarray(watch.pictures_of(last[-1])[0]) / 255
    assert np.abs(shown - call(pipe)[0]).max() < 0.01  # which SDXL's reads, and no other


def test_a_controlnet_that_is_used_twice_has_one_name(family):
    net = family.nets["pose"]
    pipe = family.pipelines.control_text(**family.components, controlnet=[net, net])
    pipe.set_progress_bar_config(disable=True)
    images = call(pipe, image=[HINT, OTHER])
    with ctrl.watching(pipe, WATCH) as watch:
        assert np.array_equal(call(pipe, image=[HINT, OTHER]), images)
    assert set(watch.attention.components) == {"unet", "controlnet0"} and watch.attention.receipt.ok


def test_the_rows_of_instruct_pix2pix_are_told_apart(family):
    """It has the prompt first, then the negative prompt twice."""
    if family.pipelines.text is diffusers.StableDiffusionXLPipeline:
        pytest.skip("SDXL's edits pictures in rows of another kind")
    config = dict(family.components["unet"].config) | {"in_channels": 8}
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(**{n: value for n, value in config.items() if not n.startswith("_")}).eval()
    names = ("vae", "text_encoder", "tokenizer", "scheduler")
    parts = {name: family.components[name] for name in names} | {"safety_checker": None, "feature_extractor": None}
    pipe = diffusers.StableDiffusionInstructPix2PixPipeline(**parts, unet=unet, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    words = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "image": REFERENCE, "num_inference_steps": 4}
    with ctrl.watching(pipe, WATCH) as watch:
        pipe(**words)
    assert watch.attention.receipt.rows == ("cond", "uncond", "uncond")
    assert [word.text for word in watch.attention.words()] == ["a", "red", "ball"]
    assert watch.attention.map("dark", source="negative").heat.max() > 0


def test_networks_that_draw_no_pictures_from_a_text_are_refused(family):
    pipe = plain(family)
    with ctrl.watching(pipe, WATCH), pytest.raises(TypeError, match=r"a sample of \(1, 4, 2, 12, 16\), with a text"):
        pipe.unet(torch.zeros(1, 4, 2, 12, 16), 1, torch.zeros(1, 5, 8))
    with ctrl.watching(pipe, WATCH), pytest.raises(TypeError, match=r"a sample of \(1, 4, 12, 16\), without a text"):
        pipe.unet(torch.zeros(1, 4, 12, 16), 1, None)


def modular(family, guider):
    from diffusers.modular_pipelines import SequentialPipelineBlocks
    from diffusers.modular_pipelines.stable_diffusion_xl import StableDiffusionXLAutoBlocks

    blocks = StableDiffusionXLAutoBlocks()
    assert isinstance(blocks, SequentialPipelineBlocks)
    pipe = blocks.init_pipeline()
    names = ("unet", "vae", "scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    parts = {name: family.components[name] for name in names}
    pipe.update_components(**parts, guider=guider)
    return pipe


@pytest.mark.parametrize("name", ["ClassifierFreeGuidance", "PerturbedAttentionGuidance"])
def test_a_modular_pipeline_is_watched_through_its_guider(family, name):
    if family.pipelines.text is not diffusers.StableDiffusionXLPipeline:
        pytest.skip("diffusers has modular blocks for SDXL only, among those families")
    layers = diffusers.LayerSkipConfig(
        indices=[0],
        fqn="mid_block.attentions.0.transformer_blocks",
        skip_attention=False,
        skip_ff=False,
        skip_attention_scores=True,
    )
    more = {"perturbed_guidance_config": layers} if name == "PerturbedAttentionGuidance" else {}
    guider = getattr(diffusers, name)(guidance_scale=5.0, **more)
    pipe = modular(family, guider)
    words = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "num_inference_steps": 4, "width": 64, "height": 48}

    def run():
        return pipe(**words, generator=torch.Generator().manual_seed(3), output_type="np", output="images")

    images, previews = run(), []
    with ctrl.watching(pipe, WATCH, on_step=lambda step: previews.append(step.preview().size)) as watch:
        again = run()
    assert np.array_equal(images, again)
    assert previews == [(64, 48)] * 4
    attention = watch.attention
    assert attention.receipt.ok and attention.receipt.steps == (0, 1, 2, 3)
    assert attention["ball"].heat.max() > 0 and attention.map("dark", source="negative").heat.max() > 0
    with ctrl.watching(pipe, replace(WATCH, influence=True), on_step=lambda step: step.index < 2) as cancelled:
        run()
    assert cancelled.cancelled and cancelled.attention.receipt.steps == (0, 1, 2)
    assert cancelled.attention.influence.ok and len(cancelled.attention.influence.parties) == 3
    assert np.array_equal(run(), images)
    plain_pipe = family.pipelines.text(**family.components)
    plain_pipe.set_progress_bar_config(disable=True)
    if name == "ClassifierFreeGuidance":
        with ctrl.watching(plain_pipe, WATCH) as other:
            call(plain_pipe, guidance_scale=5.0)
        assert np.allclose(attention["ball"].heat, other.attention["ball"].heat, atol=1e-5)
