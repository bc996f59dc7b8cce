"""Names of arguments and samplers in diffusers, ComfyUI, A1111 and InvokeAI, and their names here."""

from __future__ import annotations

NONE = "it has no counterpart here"

# Class, then foreign names, then the name here. Compared without case, underscores, spaces and hyphens.
ARGUMENTS: dict[str, dict[tuple[str, ...], str]] = {
    "Recipe": {
        ("num_inference_steps", "inference_steps", "num_steps", "n_steps", "sampling_steps"): "steps",
        ("guidance_scale", "cfg", "cfg_scale", "scale", "unconditional_guidance_scale", "true_cfg_scale"):
            "guidance",
        ("guidance_start", "guidance_end", "cfg_start", "cfg_end"): "guidance=hold(6.0, start=0.0, until=0.8)",
        ("negative_prompt", "negative_prompts", "neg", "neg_prompt", "uncond_prompt"): "negative",
        ("positive", "positive_prompt", "text", "caption"): "prompt",
        ("sampler_name", "sampling_method", "sampler_index"): "sampler",
        ("scheduler", "schedule"): 'sampler, and spacing for its timesteps, such as "karras"',
        ("schedule_type", "noise_schedule", "timestep_spacing", "use_karras_sigmas", "karras"): "spacing",
        ("generator", "noise_seed", "manual_seed", "random_seed", "rng"): "seed",
        ("subseed", "variation_seed", "subseed_strength", "variation_strength"): "seed=SeedBlend(3, 8, 0.25)",
        ("direction", "edit_direction", "slider"): 'directions=[Direction("by day", "at night", 0.4)]',
        ("prompts", "blend", "prompt_weights"): 'prompt=Blend({"a cat": 0.6, "a dog": 0.4})',
        ("seeds",): 'ctrl.sweep(model, recipe, {"seed": range(4)})',
        ("denoise", "denoising_strength", "image_strength"): "strength",
        ("start_at_step", "start_step", "begin_step"): "strength, with an image",
        ("end_at_step", "last_step", "stop_at_step"): "ctrl.steps(model, recipe), left by break",
        ("init_image", "input_image", "start_image", "source_image", "img", "img2img", "init_images", "latent_image"):
            "image",
        ("mask_image", "inpaint_mask", "masked_image"): "mask",
        ("mask_blur", "blur_factor", "feather"): "a soft mask: masks may be grey",
        ("guidance_rescale", "cfg_rescale", "rescale"): "guidance=Guidance(6.0, rescale=0.7)",
        ("pag_scale", "pag", "perturb"): "guidance=Guidance(6.0, perturb=[PAG(3.0)])",
        ("seg_scale", "seg"): "guidance=Guidance(6.0, perturb=[SEG(3.0)])",
        ("nag_scale", "nag", "nag_tau", "nag_alpha"): "guidance=Guidance(1.0, nag=NAG(4.0, tau=2.5, alpha=0.25))",
        ("apg",): "guidance=Guidance(6.0, apg=APG())",
        ("size", "resolution", "image_size"): "width and height",
        ("w", "image_width"): "width, together with height",
        ("h", "image_height"): "height, together with width",
        (
            "controlnet", "controlnets", "control", "control_image", "control_images", "hint", "guess_mode",
            "control_mode",
        ): "controls=[Pose(...), Depth(...)]",
        ("pose", "depth", "edges"): "controls=[Pose(...), Depth(...), Edges(...)]",
        ("controlnet_conditioning_scale", "control_scale", "controlnet_scale", "control_weight"):
            "controls=[Depth(picture, weight=1.0)]",
        ("control_guidance_start", "control_guidance_end"): "controls=[Depth(picture, hold(1, until=0.8))]",
        ("style", "ip_adapter", "ip_adapter_image", "reference", "reference_image", "style_image"):
            "styles=[Style(picture)]",
        ("ip_adapter_scale", "style_weight", "ip_scale"): "styles=[Style(picture, weight=1.0)]",
        ("region", "regional_prompts", "areas"): 'regions=[Region("...", mask)]',
        ("cross_replace_steps", "self_replace_steps", "edit_type", "source_prompt", "prompt_to_prompt", "p2p"):
            'edit=Edit("the source\'s prompt", cross=hold(1, until=0.8))',
        ("style_aligned", "stylealigned", "shared_attention", "reference_only"): "aligned=StyleAligned(recipe)",
        ("lora", "lora_weights", "adapters", "lora_scale", "loras_scale", "cross_attention_kwargs"):
            'loras=[Lora("name", 0.8)]',
        ("batch_size", "batch_count", "num_images_per_prompt", "num_images", "n_iter", "n_samples"):
            "sample_many(model, [recipe, ...])",
        ("model", "checkpoint", "ckpt_name", "sd_model_checkpoint", "pipe", "device"):
            "a recipe names no model: sample(model, recipe)",
        ("clip_skip", "clip_stop_at_last_layers"): "ctrl.load(..., clip_skip=1)",
        ("vae", "sd_vae"): "ctrl.load(..., vae=path)",
        ("embeddings", "textual_inversion"): "ctrl.load(..., embeddings={word: path})",
        ("dtype", "torch_dtype"): "ctrl.load(..., dtype=...)",
        ("prediction_type", "v_prediction"): "ctrl.load(..., prediction=...)",
        ("callback", "callback_on_step_end", "on_step"): "ctrl.sample(model, recipe, on_step)",
        ("watch", "memory", "after", "progress"): "an argument of ctrl.sample",
        (
            "eta", "latents", "prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "timesteps", "sigmas",
            "ip_adapter_image_embeds", "output_type", "original_size", "target_size", "crops_coords_top_left",
            "padding_mask_crop", "inpaint_full_res", "inpainting_fill", "tiling", "restore_faces", "enable_hr",
            "hires_fix", "refiner", "freeu", "safety_checker", "distilled_cfg_scale",
            "image_guidance_scale", "pag_adaptive_scale", "s_churn", "s_noise", "upscaler", "script_name",
        ): NONE,
    },
    "Control": {
        ("image", "control_image", "input_image", "hint", "map", "cond_image"): "picture",
        ("scale", "strength", "conditioning_scale", "controlnet_conditioning_scale", "control_weight"): "weight",
        (
            "start", "until", "end", "start_percent", "end_percent", "control_guidance_start", "control_guidance_end",
            "guidance_start", "guidance_end", "begin_step_percent", "end_step_percent",
        ): "weight=hold(1.0, start=0.0, until=0.8)",
        ("guess_mode", "control_mode"): 'mode="control first"',
        ("resize_mode",): "resize",
        ("attn_mask", "effective_region_mask", "mask_image"): "mask",
        ("weight_type", "layer_weights", "soft_weights"): "blocks",
        ("preprocessor", "processor", "module", "processor_res", "pixel_perfect", "detector"):
            "a map, which ctrl.detect makes from a picture",
        ("lowvram", "low_vram"): NONE,
        ("type", "model", "name", "control_type"): "kind",
        ("enabled", "active", "enable"): "on",
    },
    "Style": {
        ("image", "ip_adapter_image", "reference", "images", "pictures"): "picture",
        ("scale", "strength", "ip_adapter_scale", "style_weight"): "weight",
        ("attn_mask", "mask_image"): "mask",
        ("image_embeds", "embeds_scaling", "clip_vision", "noise", "faceid", "weight_faceidv2"): NONE,
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
        ("area", "box", "bbox", "where"): "mask",
        ("mode", "method", "how"): 'by="gate" or "bias"',
        ("feather", "mask_blur"): "a soft mask: masks may be grey",
        ("negative", "negative_prompt"): NONE,
        ("enabled", "active", "enable"): "on",
    },
    "Blend": {
        ("prompts", "texts", "conditionings", "weights"): 'parts={"a cat": 0.6, "a dog": 0.4}',
    },
    "SeedBlend": {
        ("seed", "seed1"): "first",
        ("subseed", "variation_seed", "seed2"): "second",
        ("subseed_strength", "variation_seed_strength", "variation_strength", "strength", "t"): "weight",
    },
    "Direction": {
        ("away", "from_text", "start", "negative"): "source",
        ("towards", "to", "to_text", "end", "positive"): "target",
        ("strength", "scale", "amount"): "weight",
        ("enabled", "active", "enable"): "on",
    },
    "Edit": {
        ("prompt", "source_prompt", "from"): "source",
        ("cross_replace_steps", "cross_steps"): "cross=hold(1, until=0.8)",
        ("self_replace_steps", "self_steps", "selfs"): "self_attention=hold(1, until=0.4)",
        ("edit_type", "type", "mode"): 'exchanged="replace" or "refine"',
        ("local_blend", "local_blend_words", "blend_words"): 'blend="shirt"',
        ("equalizer", "equalizer_words", "equalizer_strengths", "reweight"):
            "the weight of a word in the recipe's prompt, (word:1.5)",
        ("enabled", "active", "enable"): "on",
    },
    "LocalBlend": {
        ("word", "blend_words", "local_blend_words"): "words",
        ("th", "thres"): "threshold",
        ("start_blend", "start_at"): "start",
    },
    "StyleAligned": {
        ("recipe", "shot", "source", "prompt"): "reference",
        ("scale", "strength", "shared_score_scale", "shared_score_shift"): "weight",
        ("enabled", "active", "enable"): "on",
    },
    "NAG": {
        ("scale", "phi", "nag_phi"): "weight",
        ("nag_scale",): "weight, which is nag_scale - 1",
        ("nag_tau",): "tau",
        ("nag_alpha",): "alpha",
        ("negative", "negative_prompt", "nag_negative_prompt"): "Recipe(..., negative=...)",
        ("start", "until", "end", "nag_end"): "weight=hold(4.0, until=0.8)",
    },
    "Lora": {
        ("scale", "strength", "alpha", "strength_model", "adapter_weight", "adapter_weights"): "weight",
        ("strength_clip", "clip_strength", "text_encoder_scale", "te", "te_weight"): "text",
        ("adapter_name", "path", "file"): "name",
        ("enabled", "active", "enable"): "on",
    },
    "Guidance": {
        ("scale", "guidance_scale", "cfg", "cfg_scale", "guidance"): "weight",
        ("guidance_rescale", "cfg_rescale", "phi", "multiplier"): "rescale",
        ("pag", "pag_scale", "seg", "seg_scale"): "perturb=[PAG(3.0)]",
        ("nag_scale", "nag_tau", "nag_alpha"): "nag=NAG(4.0, tau=2.5, alpha=0.25)",
        ("cfg_zero", "zero_init", "use_zero_init"): "zero=CFGZero()",
        ("eta", "momentum", "norm_threshold", "adaptive_projected_guidance"): "apg=APG()",
        ("mimic_scale", "dynamic_thresholding", "threshold_percentile"): "rescale, or apg=APG()",
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
    ("euler a", "default"): (
        "EulerAncestralDiscreteScheduler", "euler_ancestral", "k_euler_a", "k_euler_ancestral",
    ),
    ("heun", "default"): ("HeunDiscreteScheduler", "k_heun"),
    ("dpm++ 2m", "default"): ("DPMSolverMultistepScheduler", "dpmpp_2m", "k_dpmpp_2m", "dpm-solver++", "dpmsolver++"),
    ("dpm++ 2m sde", "default"): ("dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "k_dpmpp_2m_sde"),
    ("dpm++ sde", "default"): (
        "dpmpp_sde", "dpmpp_sde_gpu", "k_dpmpp_sde", "DPMSolverSDEScheduler", "DPMSolverSinglestepScheduler",
    ),
    ("unipc", "default"): ("UniPCMultistepScheduler", "uni_pc", "uni_pc_bh2"),
    ("lcm", "default"): ("LCMScheduler",),
    ("tcd", "default"): ("TCDScheduler",),
    ("flow euler", "default"): ("FlowMatchEulerDiscreteScheduler", "flow_match_euler", "flowmatch"),
}  # fmt: skip
SPACINGS = {
    "karras": ("use_karras_sigmas",),
    "exponential": ("use_exponential_sigmas",),
    "trailing": ("sgm_uniform", "sgmuniform", "simple"),
    "default": ("normal", "uniform", "automatic", "ddim_uniform", "leading", "linspace"),
}


# Samplers and spacings of others that are not here, each with the nearest that is.
NEAREST = {
    "euler": ("euler_cfg_pp", "EDMEulerScheduler", "restart"),
    "euler a": ("euler_ancestral_cfg_pp", "dpm_2_ancestral", "dpm2 a", "KDPM2AncestralDiscreteScheduler"),
    "heun": ("heunpp2", "heun++", "dpm_2", "dpm2", "kdpm_2", "KDPM2DiscreteScheduler"),
    "pndm": ("ipndm", "ipndm_v", "IPNDMScheduler"),
    "dpm++ 2m": (
        "lms", "LMSDiscreteScheduler", "deis", "DEISMultistepScheduler", "dpm_fast", "dpm_adaptive", "dpm-solver",
        "dpmsolver", "res_multistep", "gradient_estimation",
    ),
    "dpm++ 2m sde": (
        "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "dpmpp_2m_sde_heun", "er_sde", "sde-dpmsolver++",
        "CosineDPMSolverMultistepScheduler",
    ),
    "dpm++ sde": ("dpmpp_2s_ancestral", "dpmpp_2s", "dpmpp_2s a", "SASolverScheduler"),
}  # fmt: skip
OTHER_SPACINGS = (
    "beta", "use_beta_sigmas", "kl_optimal", "linear_quadratic", "polyexponential", "ays", "align_your_steps", "turbo",
)  # fmt: skip


def sampler_of(foreign: str) -> tuple[str, str] | None:
    """The (sampler, spacing) for a foreign name such as "DPM++ 2M Karras"; None for an unknown name."""
    for key, spacing in _without_spacing(foreign):
        for (sampler, _), names in SAMPLERS.items():
            if key in map(_key, (sampler, *names)):
                return sampler, spacing
    return None


def _without_spacing(foreign: str) -> list[tuple[str, str]]:
    """The keys that a foreign name may be of, each with the spacing at its end: "karras", or "k" in InvokeAI's."""
    key = _key(foreign).removeprefix("sample")  # as ComfyUI calls its functions
    endings = {_key(name): spacing for spacing, names in SPACINGS.items() for name in (spacing, *names)}
    cut = [(key.removesuffix(end), spacing) for end, spacing in {**endings, "k": "karras"}.items() if key.endswith(end)]
    return [(key, "default"), *cut]


def _nearest(foreign: str) -> str | None:
    """The sampler here that is nearest to one of others that is not here; None for an unknown name."""
    keys = {name for key, _ in _without_spacing(foreign) for name in (key, key.removeprefix("k"))}
    return next((ours for ours, names in NEAREST.items() for name in names if _key(name) in keys), None)


def argument_hint(owner: str, name: str) -> str | None:
    """The name here of another library's argument, as the end of a sentence; None for an unknown one."""
    for names, ours in ARGUMENTS.get(owner, {}).items():
        if _key(name) in map(_key, names):
            return ours if ours == NONE or ours.startswith("a recipe") else f"here that is {ours}"
    return None


def value_hint(argument: str, value: str) -> str | None:
    """The name here of another library's sampler or spacing, as the end of a sentence; None for an unknown one."""
    if argument == "sampler":
        ours = sampler_of(value)
        if ours is not None:
            spacing = "" if ours[1] == "default" else f", spacing={ours[1]!r}"
            return f"here that is sampler={ours[0]!r}{spacing}"
        nearest = _nearest(value)
        if nearest is not None:
            return f"{NONE}, and the nearest is sampler={nearest!r}"
    if argument == "spacing":
        for spacing, names in SPACINGS.items():
            if _key(value) in map(_key, (spacing, *names)):
                return f"here that is spacing={spacing!r}"
        if _key(value) in map(_key, OTHER_SPACINGS):
            return NONE
    return None


def _key(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum() or letter == "+").replace("pp", "++")
