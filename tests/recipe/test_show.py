"""What recipes print, show in a notebook and write as code; and the names that other tools have for things."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from diffusers import DDIMScheduler
from hypothesis import given
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from random_recipes import quick, recipes, schedules

import ctrl
from ctrl.recipe import SAMPLERS, Recipe
from ctrl.recipe.foreign import sampler_of

PICTURE = np.random.default_rng(0).integers(0, 255, (64, 48, 3), np.uint8)
LARGE = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)


def test_a_recipe_prints_what_was_said_and_no_more():
    depth = ctrl.Depth(PICTURE, ctrl.hold(1, until=0.5), on=False)
    recipe = Recipe("a <b>fox</b>", controls=[ctrl.Pose("waving"), depth])
    assert repr(recipe) == (
        "Recipe('a <b>fox</b>', controls=[Pose(Skeleton.named('waving')), "
        "Depth(<48×64>, weight=hold(1.0, until=0.5), on=False)])"
    )
    assert str(recipe).splitlines()[1] == "    prompt='a <b>fox</b>',"
    shown = recipe._repr_html_()
    assert "&lt;b&gt;fox" in shown and "<b>" not in shown
    assert shown.count("<img") == 2 and "guidance" not in shown
    assert len(Recipe("a", image=LARGE)._repr_html_()) < 40_000


def test_a_difference_is_a_table():
    old = Recipe("a")
    shown = old.diff(old.replace(prompt="<i>", negative="b", guidance=1.0))._repr_html_()
    assert [row.findtext("th") for row in ElementTree.fromstring(shown)] == ["step 1", "step 1", "step 1"]
    assert "&lt;i&gt;" in shown
    assert old.diff(old) == () and "no difference" in old.diff(old)._repr_html_()


@given(schedules)
def test_a_schedule_is_a_small_curve(schedule):
    svg = ElementTree.fromstring(schedule._repr_svg_())
    (line,) = [one for one in svg if one.tag.endswith("polyline")]
    xs, ys = np.array([pair.split(",") for pair in line.attrib["points"].split()], float).T
    assert (np.diff(xs) >= 0).all() and xs[0] == 4 and xs[-1] == 156
    assert (ys >= 4).all() and (ys <= 36).all()
    if schedule.highest > 0.01:
        assert ys.min() == 4  # its highest number


@quick
@given(recipes)
def test_every_recipe_shows_itself(recipe):
    assert repr(recipe).startswith("Recipe(")
    assert ElementTree.fromstring(recipe._repr_html_()).tag == "table"


def test_code_keeps_its_pictures_in_files_beside_it(tmp_path, monkeypatch):
    controls = [ctrl.Depth(LARGE), ctrl.Edges(PICTURE, mask=LARGE[..., 0])]
    recipe = Recipe("a", controls=controls, styles=[ctrl.Style(LARGE)])
    path = tmp_path / "made" / "fox.py"
    path.parent.mkdir()
    code = recipe.code(path)
    assert path.read_text() == code and len(code) < 1000
    assert sorted(file.name for file in path.parent.iterdir()) == ["fox.py", "fox_1.png", "fox_2.png", "fox_3.png"]
    names = {"ctrl": ctrl}
    exec(code, names)
    assert names["recipe"] == recipe
    monkeypatch.chdir(tmp_path)
    exec(recipe.code("near.py"), names)
    assert names["recipe"] == recipe and "ctrl.Picture.of('near_1.png')" in recipe.code("near.py")


def test_code_without_a_path_is_short_and_names_the_files_that_a_path_writes(tmp_path, monkeypatch):
    recipe = Recipe("a", image=LARGE, controls=[ctrl.Depth(PICTURE)])
    code = recipe.code()
    assert len(code) < 400 and code.startswith("# recipe.code('recipe.py') writes")
    monkeypatch.chdir(tmp_path)
    recipe.code("recipe.py")
    names = {"ctrl": ctrl}
    exec(code, names)
    assert names["recipe"] == recipe
    with pytest.raises(ValueError, match=r"must end in \.py"):
        Recipe("a").code("recipe.txt")


def test_code_carries_tiny_pictures_itself():
    recipe = Recipe("a", image=PICTURE[:16, :16])
    names = {"ctrl": ctrl}
    exec(recipe.code(), names)
    assert names["recipe"] == recipe and len(recipe.code()) < 5000


FOREIGN = [
    ("Recipe", "num_inference_steps", "steps"),
    ("Recipe", "num_steps", "steps"),
    ("Recipe", "guidance_scale", "guidance"),
    ("Recipe", "cfg", "guidance"),
    ("Recipe", "CFG Scale", "guidance"),
    ("Recipe", "negative_prompt", "negative"),
    ("Recipe", "generator", "seed"),
    ("Recipe", "denoising_strength", "strength"),
    ("Recipe", "init_image", "image"),
    ("Recipe", "mask_image", "mask"),
    ("Recipe", "W", "width"),
    ("Recipe", "size", "width and height"),
    ("Recipe", "scheduler", "sampler, and spacing"),
    ("Recipe", "guidance_rescale", r"guidance=Guidance\(6.0, rescale=0.7\)"),
    ("Recipe", "controlnet_conditioning_scale", "controls="),
    ("Recipe", "ip_adapter_image", "styles="),
    ("Recipe", "num_images_per_prompt", "sample_many"),
    ("Recipe", "model", "a recipe names no model"),
    ("Depth", "image", "picture"),
    ("Depth", "conditioning_scale", "weight"),
    ("Depth", "guess_mode", 'mode="control first"'),
    ("Pose", "control_guidance_end", r"weight=hold\(1.0"),
    ("Style", "scale", "weight"),
    ("Lora", "strength", "weight"),
    ("Region", "enabled", "on"),
    ("Guidance", "guidance_scale", "weight"),
    ("Recipe", "cfg_scale", "guidance"),
    ("Recipe", "denoise", "strength"),
    ("Recipe", "sampler_name", "sampler"),
    ("Recipe", "noise_seed", "seed"),
    ("Recipe", "latent_image", "image"),
    ("Recipe", "batch_count", "sample_many"),
    ("Recipe", "seeds", "ctrl.sweep"),
    ("Recipe", "clip_skip", r"ctrl.load\(..., clip_skip=1\)"),
    ("Recipe", "torch_dtype", r"ctrl.load\(..., dtype="),
    ("Recipe", "callback_on_step_end", "ctrl.sample"),
    ("Edges", "preprocessor", "a map, which ctrl.detect makes from a picture"),
    ("Depth", "guidance_end", r"weight=hold\(1.0"),
    ("Style", "attn_mask", "mask"),
    ("Lora", "strength_clip", "text"),
    ("Region", "bbox", "mask"),
]


@pytest.mark.parametrize(("owner", "name", "ours"), FOREIGN)
def test_a_name_that_people_bring_is_answered_with_ours(owner, name, ours):
    hint = ours if ours.startswith("a recipe") else f"here that is {ours}"
    with pytest.raises(TypeError, match=rf"{owner} has no argument '{name}'; {hint}"):
        getattr(ctrl, owner)(**{name: 1})


SAMPLERS_OF_OTHERS = [
    ("euler_ancestral", "euler a", "default"),
    ("Euler a", "euler a", "default"),
    ("k_euler_a", "euler a", "default"),
    ("EulerAncestralDiscreteScheduler", "euler a", "default"),
    ("DPMSolverMultistepScheduler", "dpm++ 2m", "default"),
    ("dpmpp_2m", "dpm++ 2m", "default"),
    ("DPM++ 2M Karras", "dpm++ 2m", "karras"),
    ("dpmpp_2m_sde_gpu", "dpm++ 2m sde", "default"),
    ("DPM++ 2M SDE Karras", "dpm++ 2m sde", "karras"),
    ("DPM++ 2M SDE Exponential", "dpm++ 2m sde", "exponential"),
    ("DPM++ SDE", "dpm++ sde", "default"),
    ("PLMS", "pndm", "default"),
    ("DDIMScheduler", "ddim", "default"),
    ("uni_pc", "unipc", "default"),
    ("UniPCMultistepScheduler", "unipc", "default"),
    ("LCM", "lcm", "default"),
]


SAMPLERS_OF_OTHERS += [  # a spacing at the end, in the words of ComfyUI, A1111 and InvokeAI
    ("dpmpp_2m_k", "dpm++ 2m", "karras"),
    ("euler_k", "euler", "karras"),
    ("sample_euler_ancestral", "euler a", "default"),
    ("DPM++ 2M SGM Uniform", "dpm++ 2m", "trailing"),
    ("Euler Normal", "euler", "default"),
    ("uni_pc_bh2", "unipc", "default"),
]


@pytest.mark.parametrize(("name", "sampler", "spacing"), SAMPLERS_OF_OTHERS)
def test_a_sampler_s_other_names_are_known(name, sampler, spacing):
    assert sampler_of(name) == (sampler, spacing)
    wanted = f"here that is sampler='{sampler}'" + ("" if spacing == "default" else f", spacing='{spacing}'")
    with pytest.raises(ValueError, match=re.escape(wanted)):
        Recipe("a", sampler=name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("lms", "dpm++ 2m"), ("LMS Karras", "dpm++ 2m"), ("k_lms", "dpm++ 2m"), ("LMSDiscreteScheduler", "dpm++ 2m"),
        ("dpm_2", "heun"), ("DPM2 a Karras", "euler a"), ("KDPM2DiscreteScheduler", "heun"), ("heunpp2", "heun"),
        ("dpmpp_3m_sde", "dpm++ 2m sde"), ("DPM++ 2S a", "dpm++ sde"), ("deis", "dpm++ 2m"), ("ipndm", "pndm"),
    ],
)  # fmt: skip
def test_a_sampler_that_is_not_here_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=re.escape(f"no counterpart here, and the nearest is sampler='{nearest}'")):
        Recipe("a", sampler=name)


@pytest.mark.parametrize("name", ["eta", "prompt_embeds", "latents", "refiner", "tiling", "output_type"])
def test_an_argument_that_is_not_here_is_not_answered_with_another(name):
    with pytest.raises(TypeError, match=f"Recipe has no argument '{name}'; it has no counterpart here; it takes"):
        Recipe("a", **{name: 1})


@pytest.mark.parametrize("name", ["beta", "kl_optimal", "Align Your Steps", "polyexponential"])
def test_a_spacing_that_is_not_here_is_not_answered_with_another(name):
    with pytest.raises(ValueError, match="is unknown; it has no counterpart here; there is default, karras"):
        Recipe("a", spacing=name)


def test_a_scheduler_object_is_answered_with_its_name_here():
    for scheduler in (DDIMScheduler, DDIMScheduler()):
        with pytest.raises(ValueError, match="here that is sampler='ddim'"):
            Recipe("a", sampler=scheduler)
    assert all(sampler_of(name) == (name, "default") for name in SAMPLERS)
    assert sampler_of("LMS") is None and sampler_of("karras") is None


def test_a_pose_by_name_and_by_its_points():
    waving = ctrl.Skeleton.named("waving")
    assert ctrl.Pose("waving") == ctrl.Pose(waving)
    points = np.linspace(0, 1, 36).reshape(18, 2)
    assert ctrl.Pose(points) == ctrl.Pose(points.tolist()) == ctrl.Pose(ctrl.Skeleton(points))
    with pytest.raises(ValueError, match="there is no pose 'wavin'; there are standing, waving"):
        ctrl.Pose("wavin")


def test_several_people_in_one_pose_travel_with_the_recipe():
    recipe = Recipe("a", controls=[ctrl.Pose(["waving", ctrl.Skeleton.named("running")])])
    names = {"ctrl": ctrl}
    exec(recipe.code(), names)
    assert names["recipe"] == recipe == Recipe.from_json(recipe.to_json())
    assert recipe != Recipe("a", controls=[ctrl.Pose("waving")])
    both, one = (recipe.controls[0].hint(64, 64), ctrl.Pose("waving").hint(64, 64))
    assert (both > 0).sum() > (one > 0).sum()
    assert recipe._repr_html_().count("<img") == 1


def test_pictures_may_travel_beside_the_json_each_once():
    large = ctrl.Picture.of(LARGE)
    recipe = Recipe("a", image=large, mask=PICTURE, controls=[ctrl.Depth(large), ctrl.Depth(large, 0.5, on=False)])
    written, pictures = recipe.to_parts()
    files = {picture.sha256: picture.encoded for picture in pictures}
    assert len(pictures) == 2 and len(written) < 3000
    assert Recipe.from_json(written, files).to_json() == recipe.to_json()
    with pytest.raises(ValueError, match="a picture has wrong or missing fields"):
        Recipe.from_json(written)
    swapped = dict(zip(files, reversed(files.values()), strict=True))
    with pytest.raises(ValueError, match="sha256 differs"):
        Recipe.from_json(written, swapped)


def parameters(path, text):
    """A picture as AUTOMATIC1111's program writes it."""
    info = PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def test_another_program_s_picture_gives_its_recipe_and_warns_of_what_is_left_out(tmp_path):
    path = parameters(
        tmp_path / "a.png",
        "a fox, (red:1.2) <lora:ink:0.8>\nNegative prompt: blur\nSteps: 30, Sampler: DPM++ 2M Karras, CFG scale: 7, "
        "Seed: 5, Size: 512x768, Model: sd15, Clip skip: 2",
    )
    with pytest.warns(UserWarning) as warned:
        recipe = Recipe.load(path)
    assert recipe == Recipe(
        "a fox, (red:1.2)", negative="blur", steps=30, spacing="karras", guidance=7, seed=5, width=512, height=768,
        loras=[ctrl.Lora("ink", 0.8)],
    )  # fmt: skip
    said = " ".join(str(one.message) for one in warned)
    assert "sd15" in said and "clip skip 2" in said
    assert {one.filename for one in warned} == {__file__}


def test_what_lies_outside_a_recipe_s_bounds_is_left_out_with_a_warning(tmp_path):
    path = parameters(tmp_path / "a.png", "a\nSteps: 5000, Sampler: LMS, CFG scale: 700, Seed: -1, Size: 4x9999")
    with pytest.warns(UserWarning) as warned:
        assert Recipe.load(path) == Recipe("a")
    assert len(warned) == 5


@pytest.mark.parametrize(
    ("prompt", "read", "why"),
    [
        ("a (red:-1) ball", "a (red:0) ball", "got -1 at '(red:-1) ball'; such weights were cut to 0 or 5"),
        ("a (red:6.5) ball", "a (red:5) ball", "got 6.5 at '(red:6.5) ball'; such weights were cut to 0 or 5"),
        ("((red:3):3)", r"\(\(red:3\):3\)", "its parentheses and brackets are text"),
    ],
)
def test_another_program_s_weights_out_of_bounds_do_not_lose_the_recipe(tmp_path, prompt, read, why):
    path = parameters(tmp_path / "a.png", f"{prompt}\nSteps: 9, Seed: 5")
    with pytest.warns(UserWarning) as warned:
        assert Recipe.load(path) == Recipe(read, steps=9, seed=5)
    assert why in str(warned[0].message) and len(warned) == 1


def test_another_program_s_loras_out_of_bounds_are_left_out_with_a_warning(tmp_path):
    tags = "".join(f"<lora:toy{at}:0.5>" for at in range(17)) + f"<lora:{'x' * 65}:1>"
    path = parameters(tmp_path / "a.png", f"a {tags}\nSteps: 9")
    with pytest.warns(UserWarning) as warned:
        recipe = Recipe.load(path)
    assert [lora.name for lora in recipe.loras] == [f"toy{at}" for at in range(16)]
    assert [("'toy16' was left out" in str(one.message), "'xxx" in str(one.message)) for one in warned] == [
        (True, False),
        (False, True),
    ]
