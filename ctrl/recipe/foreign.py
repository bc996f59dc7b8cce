"""Names of arguments and samplers in diffusers, ComfyUI, A1111 and InvokeAI, and their names here."""

from __future__ import annotations

# Class, then foreign names, then the name here. Compared without case, underscores, spaces and hyphens.
ARGUMENTS: dict[str, dict[tuple[str, ...], str]] = {
    "Recipe": {
        ("num_inference_steps", "inference_steps", "num_steps", "n_steps", "sampling_steps"): "steps",
        ("guidance_scale", "cfg", "cfg_scale", "scale", "unconditional_guidance_scale"): "guidance",
        ("negative_prompt", "neg_prompt", "uncond_prompt"): "negative",
        ("positive", "positive_prompt", "text", "caption"): "prompt",
        ("sampler_name", "sampling_method", "sampler_index"): "sampler",
        ("scheduler", "schedule"): 'sampler, and spacing for its timesteps, such as "karras"',
        ("schedule_type", "noise_schedule", "timestep_spacing", "use_karras_sigmas", "karras"): "spacing",
        ("generator", "noise_seed", "manual_seed", "random_seed", "rng"): "seed",
        ("denoise", "denoising_strength", "image_strength"): "strength",
        ("init_image", "input_image", "start_image", "source_image", "img", "img2img"): "image",
        ("mask_image", "inpaint_mask", "masked_image"): "mask",
        ("guidance_rescale", "cfg_rescale", "rescale"): "guidance=Guidance(6.0, rescale=0.7)",
        ("pag_scale", "pag", "perturb"): "guidance=Guidance(6.0, perturb=[PAG(3.0)])",
        ("seg_scale", "seg"): "guidance=Guidance(6.0, perturb=[SEG(3.0)])",
        ("apg",): "guidance=Guidance(6.0, apg=APG())",
        ("size", "resolution", "image_size"): "width and height",
        ("w", "image_width"): "width, together with height",
        ("h", "image_height"): "height, together with width",
        ("controlnet", "controlnets", "control", "control_image", "hint"): "controls=[Pose(...), Depth(...)]",
        ("pose", "depth", "edges"): "controls=[Pose(...), Depth(...), Edges(...)]",
        ("controlnet_conditioning_scale", "control_scale"): "controls=[Depth(picture, weight=1.0)]",
        ("control_guidance_start", "control_guidance_end"): "controls=[Depth(picture, hold(1, until=0.8))]",
        ("style", "ip_adapter", "ip_adapter_image", "reference", "reference_image"): "styles=[Style(picture)]",
        ("ip_adapter_scale", "style_weight"): "styles=[Style(picture, weight=1.0)]",
        ("region", "regional_prompts", "areas"): 'regions=[Region("...", mask)]',
        ("lora", "lora_weights", "adapters", "lora_scale", "cross_attention_kwargs"): 'loras=[Lora("name", 0.8)]',
        ("batch_size", "num_images_per_prompt", "num_images", "n_iter"): "sample_many(model, [recipe, ...])",
        ("model", "checkpoint", "pipe", "device"): "a recipe names no model: sample(model, recipe)",
    },
    "Control": {
        ("image", "control_image", "hint", "map", "cond_image"): "picture",
        ("scale", "strength", "conditioning_scale", "controlnet_conditioning_scale", "control_weight"): "weight",
        ("start", "until", "end", "start_percent", "end_percent", "control_guidance_start", "control_guidance_end"):
            "weight=hold(1.0, start=0.0, until=0.8)",
        ("guess_mode", "control_mode"): 'mode="control first"',
        ("resize_mode",): "resize",
        ("type", "model", "name", "control_type"): "kind",
        ("enabled", "active", "enable"): "on",
    },
    "Style": {
        ("image", "ip_adapter_image", "reference", "images", "pictures"): "picture",
        ("scale", "strength", "ip_adapter_scale"): "weight",
        ("start", "until", "end", "start_at", "end_at"): "weight=hold(1.0, start=0.0, until=0.8)",
        ("combine_embeds",): 'combine="average"',
        ("weight_type", "layers"): 'blocks="style"',
        ("image_negative", "negative_image"): "negative",
        ("model", "name", "ipadapter"): "adapter",
        ("enabled", "active", "enable"): "on",
    },
    "Region": {
        ("strength", "scale"): "weight",
        ("text", "positive"): "prompt",
        ("area", "box", "where"): "mask",
        ("enabled", "active", "enable"): "on",
    },
    "Lora": {
        ("scale", "strength", "alpha", "strength_model", "adapter_weight"): "weight",
        ("adapter_name", "path", "file"): "name",
        ("enabled", "active", "enable"): "on",
    },
    "Guidance": {
        ("scale", "guidance_scale", "cfg", "cfg_scale", "guidance"): "weight",
        ("guidance_rescale", "cfg_rescale", "phi", "multiplier"): "rescale",
        ("pag", "pag_scale", "seg", "seg_scale"): "perturb=[PAG(3.0)]",
        ("cfg_zero", "zero_init", "use_zero_init"): "zero=CFGZero()",
        ("mask",): "map",
        ("start", "until", "end"): "weight=hold(6.0, start=0.2, until=0.8)",
    },
}  # fmt: skip

# Sampler, spacing, then their foreign names.
SAMPLERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("ddpm", "default"): ("DDPMScheduler",),
    ("ddim", "default"): ("DDIMScheduler",),
    ("pndm", "default"): ("PNDMScheduler", "plms"),
    ("euler", "default"): ("EulerDiscreteScheduler", "k_euler"),
    ("euler a", "default"): ("EulerAncestralDiscreteScheduler", "euler_ancestral", "k_euler_a", "k_euler_ancestral"),
    ("heun", "default"): ("HeunDiscreteScheduler", "k_heun"),
    ("dpm++ 2m", "default"): ("DPMSolverMultistepScheduler", "dpmpp_2m", "k_dpmpp_2m", "dpm-solver++", "dpmsolver++"),
    ("dpm++ 2m sde", "default"): ("dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "k_dpmpp_2m_sde"),
    ("dpm++ sde", "default"): (
        "dpmpp_sde", "dpmpp_sde_gpu", "k_dpmpp_sde", "DPMSolverSDEScheduler", "DPMSolverSinglestepScheduler",
    ),
    ("unipc", "default"): ("UniPCMultistepScheduler", "uni_pc"),
    ("lcm", "default"): ("LCMScheduler",),
    ("tcd", "default"): ("TCDScheduler",),
    ("flow euler", "default"): ("FlowMatchEulerDiscreteScheduler", "flow_match_euler", "flowmatch"),
}  # fmt: skip
SPACINGS = {
    "karras": ("use_karras_sigmas",),
    "exponential": ("use_exponential_sigmas",),
    "trailing": ("sgm_uniform", "sgmuniform"),
    "default": ("normal", "simple", "uniform", "automatic", "ddim_uniform", "leading", "linspace"),
}


def sampler_of(foreign: str) -> tuple[str, str] | None:
    """The (sampler, spacing) for a foreign name such as "DPM++ 2M Karras"; None for an unknown name."""
    key = _key(foreign)
    for spacing in SPACINGS:
        base = key.removesuffix(spacing) if spacing != "default" else key
        if base != key or spacing == "default":
            for (sampler, _), names in SAMPLERS.items():
                if base in map(_key, (sampler, *names)):
                    return sampler, spacing
    return None


def argument_hint(owner: str, name: str) -> str | None:
    """The name here of another library's argument, as the end of a sentence; None for an unknown one."""
    owner = "Control" if owner in ("Pose", "Depth", "Edges") else owner
    for names, ours in ARGUMENTS.get(owner, {}).items():
        if _key(name) in map(_key, names):
            return ours if ours.startswith("a ") else f"here that is {ours}"
    return None


def value_hint(argument: str, value: str) -> str | None:
    """The name here of another library's sampler or spacing, as the end of a sentence; None for an unknown one."""
    if argument == "sampler":
        ours = sampler_of(value)
        if ours is not None:
            spacing = "" if ours[1] == "default" else f", spacing={ours[1]!r}"
            return f"here that is sampler={ours[0]!r}{spacing}"
    if argument == "spacing":
        for spacing, names in SPACINGS.items():
            if _key(value) in map(_key, (spacing, *names)):
                return f"here that is spacing={spacing!r}"
    return None


def _key(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum() or letter == "+").replace("pp", "++")
