"""Model files in further forms that diffusers, PEFT and other programs save, and files that are something else."""

import shutil

import numpy as np
import pytest
import tiny_formats as tiny
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelImg2ImgPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig
from PIL import Image

import ctrl

RECIPE = ctrl.Recipe("ab, c", negative="d", steps=2, seed=3, width=32, height=32, guidance=5.0, sampler="ddim")
offline = pytest.fixture(autouse=True)(tiny.offline)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_folder(tiny.sd1(), tmp_path_factory.mktemp("saved") / "sd1")


@pytest.fixture(scope="module")
def pipe(folder):
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def drawn(folder):
    return draw(ctrl.load(folder, device="cpu"))


def draw(model, **changes):
    return np.asarray(ctrl.sample(model, RECIPE.replace(**changes), progress=False).image)


@pytest.mark.parametrize("size", ["5GB", "20KB"])
@pytest.mark.parametrize("variant", ["fp16", "bf16", "non_ema"])
def test_a_variant_that_is_the_only_one_is_read(pipe, drawn, tmp_path, variant, size):
    pipe.save_pretrained(tmp_path, variant=variant, max_shard_size=size)
    assert np.array_equal(draw(ctrl.load(tmp_path, device="cpu")), drawn)


def test_of_several_variants_without_a_plain_one_the_files_are_named(pipe, tmp_path):
    for variant in ("ema", "non_ema"):
        pipe.save_pretrained(tmp_path, variant=variant)
    with pytest.raises(FileNotFoundError, match=r"'unet' has no .* but diffusion_pytorch_model\.ema.*non_ema.*rename"):
        ctrl.load(tmp_path, device="cpu")


def test_an_ending_in_capitals_is_the_ending(drawn, tmp_path):
    file = tiny.save_single(tiny.sd1(), tmp_path / "MODEL.SAFETENSORS")
    model = ctrl.load(file, device="cpu", tokenizer=tiny.tokenizer(tmp_path / "clip"))
    assert np.array_equal(draw(model), drawn)


@pytest.mark.parametrize(
    ("begins", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 100\n", "it is git-lfs' note of a file"),
        (b"<!DOCTYPE html><html></html>", "it is a web page"),
        (b"GGUF\x03\0\0\0", "it is GGUF"),
        (b"", "it is empty"),
        (b"\x80\x02}q\0.", "it is a pickle"),
    ],
)
def test_what_is_no_safetensors_is_named_before_a_tokenizer_is_asked_for(tmp_path, begins, sentence):
    (tmp_path / "model.safetensors").write_bytes(begins)
    with pytest.raises(ValueError, match=f"model.safetensors cannot be read as safetensors: {sentence}"):
        ctrl.load(tmp_path / "model.safetensors", device="cpu")


def test_a_page_of_the_hub_is_answered_with_its_id():
    with pytest.raises(FileNotFoundError, match="for the hub's model give 'stabilityai/sd-turbo'"):
        ctrl.load("https://huggingface.co/stabilityai/sd-turbo/tree/main")


def autoencoder(**config):
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(**blocks, block_out_channels=(32, 64), **config)


def test_a_vae_of_another_family_is_refused_or_warned_of(folder, tmp_path):
    autoencoder(latent_channels=16).save_pretrained(tmp_path / "sixteen")
    with pytest.raises(ValueError, match="answers with 4 channels, and its VAE's latents have 16: they are not of one"):
        ctrl.load(folder, device="cpu", vae=tmp_path / "sixteen")
    autoencoder(scaling_factor=0.13025).save_pretrained(tmp_path / "xl")
    with pytest.warns(UserWarning, match=r"the VAE in 'xl' scales latents by 0.13025, and the model's by 0.18215"):
        ctrl.load(folder, device="cpu", vae=tmp_path / "xl")


@pytest.fixture
def lora(pipe):
    """A PEFT LoRA in a U-Net: its state, by PEFT's names with the adapter's name inside."""
    torch.manual_seed(1)
    own = StableDiffusionPipeline(**{**pipe.components, "unet": tiny.sd1().unet})
    config = LoraConfig(r=4, lora_alpha=4, init_lora_weights=False, target_modules=["to_q", "to_v"])
    own.unet.add_adapter(config, adapter_name="toy")
    return {f"unet.{key}": tensor for key, tensor in own.unet.state_dict().items() if "lora_" in key}


def with_lora(folder, tensors, file):
    model = ctrl.load(folder, device="cpu", lora={"toy": tiny.save(tensors, file)})
    return draw(model, loras=[ctrl.Lora("toy")])


def test_a_lora_keeps_no_name_of_its_adapter(folder, drawn, lora, tmp_path):
    plain = {key.replace(".toy.", "."): tensor for key, tensor in lora.items()}
    expected = with_lora(folder, plain, tmp_path / "plain.safetensors")
    assert not np.array_equal(expected, drawn)
    for at, (old, new) in enumerate({".toy.": ".toy.", "unet.": "diffusion_model.", ".lora_": ".lora_"}.items()):
        renamed = {key.replace(old, new): tensor for key, tensor in (lora if at != 1 else plain).items()}
        assert np.array_equal(with_lora(folder, renamed, tmp_path / f"{at}.safetensors"), expected)
    two = lora | {key.replace(".toy.", ".other."): tensor for key, tensor in lora.items()}
    with pytest.raises(ValueError, match=r"two.safetensors holds 2 LoRAs, other, toy; save each on its own"):
        with_lora(folder, two, tmp_path / "two.safetensors")


def test_a_lora_of_eight_bits_is_read_and_a_damaged_one_is_told_by_its_own_spelling(folder, lora, tmp_path):
    plain = {key.replace(".toy.", "."): tensor for key, tensor in lora.items()}
    small = {key: tensor.to(torch.float8_e4m3fn) for key, tensor in plain.items()}
    whole = {key: tensor.float() for key, tensor in small.items()}
    eight, full = (with_lora(folder, held, tmp_path / f"{len(held)}.safetensors") for held in (small, whole))
    assert np.array_equal(eight, full)
    with pytest.raises(ValueError, match=r"changes lora_unet_conv_in and lacks lora_unet_conv_in\.lora_up\.weight"):
        with_lora(folder, {"lora_unet_conv_in.lora_down.weight": torch.ones(1, 4)}, tmp_path / "half.safetensors")


@pytest.mark.parametrize(
    ("sampler", "kind", "options"),
    [
        ("euler", EulerDiscreteScheduler, {"use_exponential_sigmas": True}),
        ("euler", EulerDiscreteScheduler, {"use_karras_sigmas": True, "rescale_betas_zero_snr": True}),
        ("dpm++ 2m", DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    ],
)
def test_a_schedule_whose_last_step_goes_nowhere_runs_as_in_diffusers(folder, pipe, tmp_path, sampler, kind, options):
    scheduler = kind.from_config(pipe.scheduler.config, final_sigmas_type="sigma_min", **options)
    theirs = StableDiffusionPipeline(**{**pipe.components, "scheduler": scheduler})
    theirs.set_progress_bar_config(disable=True)
    theirs.save_pretrained(tmp_path)
    given = {"num_inference_steps": 4, "guidance_scale": 5.0, "width": 32, "height": 32, "negative_prompt": "d"}
    expected = theirs("ab, c", generator=torch.Generator().manual_seed(3), **given).images[0]
    assert np.array_equal(draw(ctrl.load(tmp_path, device="cpu"), sampler=sampler, steps=4), np.asarray(expected))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_pndm_with_its_runge_kutta_steps_says_how_many_it_takes(folder, tmp_path, steps):
    shutil.copytree(folder, tmp_path / "own")
    config = tmp_path / "own" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace('"skip_prk_steps": true', '"skip_prk_steps": false'))
    model = ctrl.load(tmp_path / "own", device="cpu")
    before = draw(model)
    with pytest.raises(ValueError, match=f"'pndm' takes 4 to 1000 steps on this model; got {steps}"):  # diffusers too
        draw(model, sampler="pndm", steps=steps)
    assert np.array_equal(draw(model), before)
    assert draw(model, sampler="pndm", steps=4).any()


@pytest.mark.parametrize(("theirs", "strength", "ours"), [(4, 0.5, 8), (2, 0.5, 4), (4, 1.0, 4)])
def test_an_lcms_img2img_pipeline_counts_the_steps_that_are_walked(pipe, theirs, strength, ours):
    """The README's line: its 4 steps at strength 0.5 are 8 here, as in all other pipelines of diffusers."""
    torch.manual_seed(5)
    unet = UNet2DConditionModel.from_config(pipe.unet.config, time_cond_proj_dim=16)
    scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    own = LatentConsistencyModelImg2ImgPipeline(**{**pipe.components, "unet": unet, "scheduler": scheduler})
    own.set_progress_bar_config(disable=True)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    given = {"image": photo, "num_inference_steps": theirs, "strength": strength, "guidance_scale": 5.0}
    expected = np.asarray(own("ab, c", generator=torch.Generator().manual_seed(3), **given).images[0])
    found = draw(ctrl.load(own), image=photo, strength=strength, steps=ours, sampler="lcm", negative="")
    assert np.array_equal(found, expected)
