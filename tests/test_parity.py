"""The same weights and seed give the same picture as plain diffusers, to the bit, in float32."""

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import ctrl

STEPS, SEED = 5, 3
RECIPE = ctrl.Recipe("a red ball", negative="blue", steps=STEPS, seed=SEED)
SAMPLERS = [
    ("dpm++", DPMSolverMultistepScheduler),
    ("euler", EulerDiscreteScheduler),
    ("euler a", EulerAncestralDiscreteScheduler),
    ("ddim", DDIMScheduler),
    ("unipc", UniPCMultistepScheduler),
    ("lcm", LCMScheduler),
]
rng = np.random.default_rng(0)
A, B, STYLE = (
    Image.fromarray(rng.integers(0, 255, size, np.uint8)) for size in [(64, 64, 3), (90, 70, 3), (50, 80, 3)]
)


@pytest.fixture(scope="module")
def plain(folder):
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    return pipe


@pytest.fixture(scope="module")
def controlled(folder, plain):
    nets = [
        ControlNetModel.from_pretrained(folder, subfolder=f"controlnet_{kind}", dtype=torch.float32)
        for kind in ("depth", "pose")
    ]
    pipes = []
    for net in (nets[1], nets):
        pipe = StableDiffusionControlNetPipeline(
            **plain.components, controlnet=net, requires_safety_checker=False
        )
        pipe.set_progress_bar_config(disable=True)
        pipes.append(pipe)
    return pipes


def theirs(pipe, guidance, **rest):
    image = pipe(
        RECIPE.prompt,
        negative_prompt=RECIPE.negative,
        guidance_scale=guidance,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(SEED),
        height=64,
        width=64,
        **rest,
    ).images[0]
    return np.asarray(image)


def ours(model, guidance, **changes):
    return np.asarray(ctrl.sample(model, RECIPE.replace(guidance=guidance, **changes)).image)


@pytest.mark.parametrize("guidance", [1.0, 6.0])
@pytest.mark.parametrize(("name", "scheduler"), SAMPLERS)
def test_plain(model, plain, guidance, name, scheduler):
    kept = plain.scheduler
    plain.scheduler = scheduler.from_config(kept.config)
    try:
        assert (theirs(plain, guidance) == ours(model, guidance, sampler=name)).all()
    finally:
        plain.scheduler = kept


@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_one_controlnet(model, controlled, guidance):
    expected = theirs(controlled[0], guidance, image=A, controlnet_conditioning_scale=0.7)
    assert (expected == ours(model, guidance, controls=[ctrl.Pose(A, 0.7)])).all()
    assert (expected != ours(model, guidance)).any()


@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_two_controlnets_with_windows(model, controlled, guidance):
    expected = theirs(
        controlled[1],
        guidance,
        image=[B, A],
        controlnet_conditioning_scale=[1.2, 0.7],
        control_guidance_start=[0.2, 0.0],
        control_guidance_end=[1.0, 0.6],
    )
    pose, depth = ctrl.Pose(A, ctrl.hold(0.7, until=0.6)), ctrl.Depth(B, ctrl.hold(1.2, start=0.2))
    assert (expected == ours(model, guidance, controls=[pose, depth])).all()


@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_ip_adapter_alone_and_under_a_controlnet(model, folder, guidance):
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.feature_extractor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")
    pipe.load_ip_adapter(str(folder), subfolder="ip_adapter", weight_name="ip_adapter.safetensors")
    pipe.set_ip_adapter_scale(0.7)
    pipe.set_progress_bar_config(disable=True)
    style = ctrl.Style(STYLE, 0.7)
    expected = theirs(pipe, guidance, ip_adapter_image=STYLE)
    assert (expected == ours(model, guidance, styles=[style])).all()
    assert (expected != ours(model, guidance)).any()
    net = ControlNetModel.from_pretrained(folder, subfolder="controlnet_pose", dtype=torch.float32)
    both = StableDiffusionControlNetPipeline(**pipe.components, controlnet=net, requires_safety_checker=False)
    both.set_progress_bar_config(disable=True)
    expected = theirs(both, guidance, image=A, ip_adapter_image=STYLE)
    assert (expected == ours(model, guidance, controls=[ctrl.Pose(A)], styles=[style])).all()


@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_ip_adapter_twice_and_masked(model, folder, guidance):
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.feature_extractor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")
    pipe.load_ip_adapter(str(folder), subfolder="ip_adapter", weight_name="ip_adapter.safetensors")
    pipe.set_progress_bar_config(disable=True)
    pipe.set_ip_adapter_scale(0.7)
    left = np.zeros((64, 64), np.uint8)
    left[:, :32] = 255
    mask = torch.from_numpy(left / 255.0).float()[None, None]
    expected = theirs(
        pipe, guidance, ip_adapter_image=STYLE, cross_attention_kwargs={"ip_adapter_masks": [mask]}
    )
    assert (expected == ours(model, guidance, styles=[ctrl.Style(STYLE, 0.7, mask=left)])).all()


def test_the_lora_is_merged_as_diffusers_applies_it(model, folder):
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    pipe.load_lora_weights(str(folder), subfolder="lora")
    pipe.set_progress_bar_config(disable=True)
    fast = RECIPE.fast().replace(steps=STEPS)
    expected = pipe(
        RECIPE.prompt,
        guidance_scale=1.0,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(SEED),
        output_type="latent",
    ).images
    *_, last = ctrl.steps(model, fast)
    *_, bare = ctrl.steps(model, fast.replace(loras=[]))
    assert torch.allclose(last.latents, expected, atol=1e-4)
    assert not torch.allclose(last.latents, bare.latents, atol=1e-1)
