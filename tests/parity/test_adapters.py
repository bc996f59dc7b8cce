"""T2I-Adapters: bit for bit what diffusers' adapter pipelines draw, and run once."""

import copy
from contextlib import contextmanager

import diffusers
import numpy as np
import pytest
import torch
from diffusers import MultiAdapter, T2IAdapter
from families import HEIGHT, LEVELS, WIDTH
from recipes import LEFT, MAP, OTHER, RECIPE, STYLE
from sides import SCHEDULERS, _ordered, _words, difference

import ctrl
from ctrl.memory import Memory
from ctrl.sampling import sample_many

pytestmark = pytest.mark.quick(sides=["SD"])
CELL = 4  # pixels to a latent of these families
FORMS = {"SD": ("full_adapter", "light_adapter"), "SD v-pred": ("full_adapter",), "SDXL": ("full_adapter_xl",)}


def adapter(form, seed=5, colours=3):
    torch.manual_seed(seed)
    xl = form == "full_adapter_xl"
    channels = [*LEVELS, LEVELS[-1]] if xl else [*LEVELS[:-1]] if form == "light_adapter" else [*LEVELS]
    net = T2IAdapter(colours, channels, 2, 2 * CELL if xl else CELL, form).eval().requires_grad_(False)
    for parameter in net.parameters():  # as they begin, little gets through
        parameter.mul_(2.0)
    return net


@pytest.fixture
def forms(sides, request):
    return FORMS[request.node.callspec.params["sides"]]


def steered(sides, *nets):
    """A model of the same modules that draws poses, then depths, by these networks."""
    model = ctrl.load(sides.plain, controlnets=dict(zip(("pose", "depth"), nets, strict=False)))
    return model, lambda recipe: list(ctrl.steps(model, recipe))[-1].latents


def adapted(sides, net, recipe, **words):
    """What diffusers' adapter pipeline makes of it."""
    xl = "text_encoder_2" in sides.family.components
    kind = diffusers.StableDiffusionXLAdapterPipeline if xl else diffusers.StableDiffusionAdapterPipeline
    parts = dict(sides.family.components)
    if not xl:
        parts.pop("image_encoder")
    parts.pop("add_watermarker", None)
    parts["scheduler"] = SCHEDULERS[recipe.sampler](sides.plain.scheduler.config)
    pipe = kind(**parts, adapter=net)
    pipe.set_progress_bar_config(disable=True)
    own = _words(recipe.replace(controls=[]))
    return pipe(**own | words, output_type="latent").images


def test_each_form_is_diffusers_adapter_pipeline(sides, forms):
    for form in forms:
        net = adapter(form)
        _, ours = steered(sides, net)
        found = [ours(RECIPE)]
        for weight in (1.0, 0.6):
            recipe = RECIPE.replace(controls=[ctrl.Pose(OTHER, weight)])
            words = {"image": recipe.controls[0].picture.image, "adapter_conditioning_scale": weight}
            theirs = adapted(sides, net, recipe, **words)
            assert difference(ours(recipe), theirs) == 0
            found.append(theirs)
        assert all(difference(found[i], found[j]) > 1e-2 for i in range(3) for j in range(i))


def test_one_of_grey_maps_is_shown_grey(sides, forms):
    net = adapter(forms[0], colours=1)
    _, ours = steered(sides, net)
    grey = RECIPE.replace(controls=[ctrl.Pose(MAP[..., 0])])
    theirs = adapted(sides, net, grey, image=grey.controls[0].picture.image)
    assert difference(ours(grey), theirs) == 0
    in_colours = RECIPE.replace(controls=[ctrl.Pose(np.repeat(MAP[..., :1], 3, axis=2))])
    assert difference(ours(in_colours), theirs) == 0


def test_two_are_a_multi_adapter(sides, forms):
    nets = [adapter(forms[0], seed) for seed in (5, 6)]
    _, ours = steered(sides, *nets)
    recipe = RECIPE.replace(controls=[ctrl.Pose(MAP, 0.7), ctrl.Depth(OTHER, 1.2)])
    controls = _ordered(recipe.controls)
    by_kind = dict(zip(("pose", "depth"), nets, strict=True))
    multi = MultiAdapter([by_kind[control.kind] for control in controls])
    theirs = adapted(
        sides,
        multi,
        recipe,
        image=[control.picture.image for control in controls],
        adapter_conditioning_scale=[control.weight for control in controls],
    )
    assert difference(ours(recipe), theirs) == 0
    assert difference(ours(RECIPE.replace(controls=[ctrl.Pose(MAP, 0.7)])), theirs) > 1e-2


@pytest.mark.parametrize("sides", ["SDXL"], indirect=True)
@pytest.mark.parametrize("factor", [0.25, 0.5, 0.6, 1.0])
def test_the_end_of_its_window_is_adapter_conditioning_factor(sides, factor):
    net = adapter("full_adapter_xl")
    _, ours = steered(sides, net)
    recipe = RECIPE.replace(controls=[ctrl.Pose(MAP, ctrl.hold(1.0, until=factor))])
    image = recipe.controls[0].picture.image
    assert difference(ours(recipe), adapted(sides, net, recipe, image=image, adapter_conditioning_factor=factor)) == 0


def test_it_adds_up_with_controlnets_and_styles(sides, forms, monkeypatch):
    net = adapter(forms[0])
    both = RECIPE.replace(controls=[ctrl.Pose(MAP, 0.7), ctrl.Depth(OTHER, 0.5)], styles=[STYLE])
    _, ours = steered(sides, net, sides.family.nets["depth"])
    model = ctrl.load(
        sides.plain,
        controlnets={"pose": net, "depth": sides.family.nets["depth"]},
        ip_adapter=dict(sides.family.adapters),
    )
    *_, last = ctrl.steps(model, both)
    alone = both.replace(controls=[ctrl.Depth(OTHER, 0.5)])
    pipe = sides.pipe(alone)
    hint = torch.from_numpy(MAP.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    added = [torch.cat([0.7 * one] * 2) for one in net(hint)]
    forward = pipe.unet.forward
    monkeypatch.setattr(
        pipe.unet,
        "forward",
        lambda *args, **named: forward(*args, **named, down_intrablock_additional_residuals=list(added)),
    )
    monkeypatch.setattr(sides, "pipe", lambda _: pipe)
    theirs = sides.theirs(alone)
    assert difference(last.latents, theirs) == 0
    assert difference(ours(both.replace(styles=[])), theirs) > 1e-2


def test_several_pictures_at_once_are_a_batch_of_diffusers(sides, forms, monkeypatch):
    net = adapter(forms[0])
    model, _ = steered(sides, net)
    recipe, decoded = RECIPE.replace(controls=[ctrl.Pose(MAP)]), []
    monkeypatch.setattr(model, "decode", lambda latents: decoded.append(latents) or [None] * len(latents))
    sample_many(model, [recipe, recipe.replace(seed=4)])
    words = {
        "image": recipe.controls[0].picture.image,
        "num_images_per_prompt": 2,
        "generator": [torch.Generator().manual_seed(seed) for seed in (recipe.seed, 4)],
    }
    assert difference(*decoded, adapted(sides, net, recipe, **words)) == 0


def test_what_is_off_is_bit_equal_to_absent_and_a_white_mask_to_none(sides, forms):
    _, ours = steered(sides, adapter(forms[0]))
    plain, full = ours(RECIPE), ours(RECIPE.replace(controls=[ctrl.Pose(MAP)]))
    black, white = np.zeros_like(LEFT), np.full_like(LEFT, 255)
    nothing = [0.0] * (4 if forms == FORMS["SDXL"] else 3)
    for off in (
        ctrl.Pose(MAP, 0.0),
        ctrl.Pose(MAP, on=False),
        ctrl.Pose(MAP, mask=black),
        ctrl.Pose(MAP, blocks=nothing),
    ):
        assert difference(ours(RECIPE.replace(controls=[off])), plain) == 0
    assert difference(ours(RECIPE.replace(controls=[ctrl.Pose(MAP, mask=white)])), full) == 0
    found = [plain, full]
    for part in (ctrl.Pose(MAP, mask=LEFT), ctrl.Pose(MAP, mode="prompt first"), ctrl.Pose(MAP, mode="control first")):
        found.append(ours(RECIPE.replace(controls=[part])))
    assert all(difference(found[i], found[j]) > 1e-3 for i in range(5) for j in range(i))


@contextmanager
def runs(net):
    """How often a module was called."""
    seen = []
    handle = net.register_forward_hook(lambda *_: seen.append(1))
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.slow
def test_it_runs_once_and_again_only_for_another_picture(sides, forms):
    net, memory = adapter(forms[0]), Memory()
    model, _ = steered(sides, net)
    first = RECIPE.replace(controls=[ctrl.Pose(MAP)])
    moved = [
        first.replace(controls=[ctrl.Pose(MAP, 0.4)]),
        first.replace(controls=[ctrl.Pose(MAP, ctrl.hold(0.4, until=0.5), mask=LEFT)]),
        first.replace(prompt="d", guidance=1.0, seed=9),
        first.replace(guidance=ctrl.Guidance(5.0, perturb=[ctrl.PAG(2.0)])),
    ]
    with runs(net) as seen:
        for recipe in (first, *moved):
            alone = list(ctrl.steps(model, recipe))[-1].latents
            with_memory = list(ctrl.steps(model, recipe, memory=memory))[-1].latents
            assert difference(alone, with_memory) == 0
        assert len(seen) == len(moved) + 2  # each without the memory, and one with it
        seen.clear()
        list(ctrl.steps(model, first.replace(controls=[ctrl.Pose(OTHER)]), memory=memory))
        assert len(seen) == 1
        sample_many(model, [first, first.replace(seed=4), first.replace(controls=[ctrl.Pose(OTHER)])])
        assert len(seen) == 3  # two pictures
        seen.clear()
        with ctrl.Live(model, first) as live:
            for recipe in moved[:2]:
                live.update(recipe)
                frame = live.wait(60)
                assert frame.exact and np.array_equal(frame.image, ctrl.sample(model, recipe).image)
            live.cache.clear()
        assert len(seen) == 3  # once in the session, and in each run outside of it


def test_words_mask_it_from_their_start_on(sides, forms):
    model, _ = steered(sides, adapter(forms[0]))
    recipe, words = RECIPE.replace(controls=[ctrl.Pose(MAP, 0.7)]), ctrl.Words("ab", start=0.5)
    masked = list(ctrl.steps(model, RECIPE.replace(controls=[ctrl.Pose(MAP, 0.7, mask=words)])))
    everywhere = list(ctrl.steps(model, recipe))
    assert difference(masked[1].latents, everywhere[1].latents) == 0
    effect = difference(masked[2].latents, everywhere[2].latents)
    (heat,) = masked[1].checkpoint.words.mask(words.asked, 0.5)
    by_hand = np.kron(heat[0].numpy() * 255, np.ones((CELL, CELL))).astype(np.uint8)
    frozen = recipe.replace(controls=[ctrl.Pose(MAP, 0.7, mask=by_hand)])
    resumed = next(ctrl.steps(model, frozen, after=masked[1]))
    assert effect > 1e-3
    assert difference(resumed.latents, masked[2].latents) < 1e-5


def test_an_adapter_pipeline_is_taken_with_its_adapters(sides, forms):
    net = adapter(forms[0])
    net.register_to_config(_name_or_path="TencentARC/t2iadapter_depth_sd15v2")
    xl = "text_encoder_2" in sides.family.components
    kind = diffusers.StableDiffusionXLAdapterPipeline if xl else diffusers.StableDiffusionAdapterPipeline
    left = "add_watermarker" if xl else "image_encoder"
    parts = {name: part for name, part in sides.family.components.items() if name != left}
    recipe = RECIPE.replace(controls=[ctrl.Depth(MAP)])
    theirs = adapted(sides, net, recipe, image=recipe.controls[0].picture.image)
    model = ctrl.load(kind(**parts, adapter=net))
    assert "depth" in model.controls
    assert difference(list(ctrl.steps(model, recipe))[-1].latents, theirs) == 0
    other = adapter(forms[0], 6)
    with pytest.warns(
        UserWarning, match=r"T2I-Adapter that does not say its kind.*controlnets=\{'pose': pipe.adapter\}"
    ):
        model = ctrl.load(kind(**parts, adapter=MultiAdapter([net, other])))
    assert {"depth", "control"} <= {*model.controls}


def test_one_that_does_not_fit_is_refused_in_a_sentence(sides, forms):
    wrong = "full_adapter" if forms == FORMS["SDXL"] else "full_adapter_xl"
    model, _ = steered(sides, adapter(wrong))
    with pytest.raises(ValueError, match="the pose T2I-Adapter was made for another model: it adds to blocks of"):
        ctrl.steps(model, RECIPE.replace(controls=[ctrl.Pose(MAP)]))
    net = adapter(forms[0])
    model, ours = steered(sides, net)
    with pytest.raises(ValueError, match="weights for this model's pose T2I-Adapter, got 5"):
        ours(RECIPE.replace(controls=[ctrl.Pose(MAP, blocks=[1.0] * 5)]))
    with pytest.raises(ValueError, match="the pose control is a T2I-Adapter"):
        model.controlnet("pose")
    if forms == FORMS["SDXL"]:
        with pytest.raises(
            ValueError, match=r"width must be a multiple of 8 for this model's pose T2I-Adapter, got 60"
        ):
            ours(RECIPE.replace(width=WIDTH - CELL, height=HEIGHT, controls=[ctrl.Pose(MAP)]))


@pytest.mark.parametrize("sides", ["SD"], indirect=True)
def test_a_folder_that_a_pipeline_saved_brings_its_controls(sides, tmp_path):
    named, unnamed = (copy.deepcopy(sides.family.nets[kind]) for kind in ("pose", "depth"))
    named.register_to_config(_name_or_path="lllyasviel/control_v11p_sd15_openpose")
    parts = sides.family.components
    diffusers.StableDiffusionControlNetPipeline(**parts, controlnet=[named, unnamed]).save_pretrained(tmp_path / "nets")
    with pytest.warns(UserWarning, match="in controlnet_1 does not say its kind; ctrl calls it 'control'"):
        model = ctrl.load(tmp_path / "nets", device="cpu")
    assert {"pose", "control"} <= {*model.controls} and "1" not in model.controls
    net = adapter("full_adapter")
    net.register_to_config(_name_or_path="TencentARC/t2iadapter_depth_sd15v2")
    parts = {name: part for name, part in parts.items() if name != "image_encoder"}
    diffusers.StableDiffusionAdapterPipeline(**parts, adapter=net).save_pretrained(tmp_path / "adapted")
    model = ctrl.load(tmp_path / "adapted", device="cpu")
    again = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "adapted", dtype=torch.float32)
    other = ctrl.load(again, controlnets={"depth": net})
    recipe = RECIPE.replace(controls=[ctrl.Depth(MAP)])
    drawn = [list(ctrl.steps(each, recipe))[-1].latents for each in (model, other)]
    assert difference(*drawn) < 1e-3  # rounded as their weights lie in memory
    assert difference(drawn[0], list(ctrl.steps(model, RECIPE))[-1].latents) > 1e-2
