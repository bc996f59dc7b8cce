"""Models in one .safetensors file of the original layout: SD 1.x, SD 2.x and SDXL base.

Nothing else is needed but a tokenizer: the modules' configurations are read from the tensors' shapes (`shapes.py`).
What no tensor tells is the family's: the codec's scaling factor, the noise schedule, the size, and whether the model
predicts ε or v. Of that the header may have a note (Stability's modelspec) and some files have an empty tensor
`v_pred`; else SD 2 is taken for v and the others for ε. Every tensor of the U-Net, the codec and the text towers
must be used and none may lack.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctrl.model.loading.configs import checked
from ctrl.model.loading.files import read_tensors
from ctrl.model.loading.folder import fitting, vae_dtype
from ctrl.model.loading.libraries import classes
from ctrl.model.loading.original_names import Drawer, open_clip_name, open_clip_part, unet_name, vae_name, vae_part
from ctrl.model.loading.pretrained import build, on_meta, read_tokenizer
from ctrl.model.loading.shapes import TELLING, text_config, unet_config, vae_config
from ctrl.model.parts import Parts, Tower

PREDICTIONS = ("epsilon", "v")
UNET, VAE = "model.diffusion_model.", "first_stage_model."


@dataclass(frozen=True)
class Text:
    """A text tower in a file: where its names begin, whether they are open_clip's, and what its texts are padded with.

    `skipped` layers at the end are left out: SD 2 reads the states before the last one.
    """

    prefix: str
    open_clip: bool = False
    projects: bool = False
    skipped: int = 0
    pad: str | None = None


@dataclass(frozen=True)
class Layout:
    """How the models of a family lie in a file, and what no tensor of theirs tells; sizes are in pixels."""

    name: str
    texts: tuple[Text, ...]
    size: int
    size_of_v: int
    prediction: str = "epsilon"
    scaling_factor: float = 0.18215
    spacing: str | None = None


SD1 = Layout("SD 1", (Text("cond_stage_model.transformer."),), size=512, size_of_v=768)
SD2 = Layout(
    "SD 2",
    (Text("cond_stage_model.model.", open_clip=True, skipped=1, pad="!"),),
    size=512,
    size_of_v=768,
    prediction="v",
)
SDXL = Layout(
    "SDXL",
    (
        Text("conditioner.embedders.0.transformer."),
        Text("conditioner.embedders.1.model.", open_clip=True, projects=True, pad="!"),
    ),
    size=1024,
    size_of_v=1024,
    scaling_factor=0.13025,
    spacing="leading",
)

# Left by training: averages, counters, the noise schedule's tables; and two notes that are read.
UNREAD = (
    "model_ema.",
    "betas",
    "alphas_cumprod",
    "sqrt_",
    "log_one_minus_alphas_cumprod",
    "posterior_",
    "lvlb_weights",
    "logvar",
    "global_step",
    "iteration",
    "denoiser.",
    "v_pred",
    "ztsnr",
)
UNREAD_INSIDE = ("loss.", "logit_scale", "embeddings.position_ids", "text_model.embeddings.position_ids")
OTHERS = (
    (("lora_", "unet.", "text_encoder."), "it is a LoRA; give it as lora="),
    (("control_model.", "controlnet_", "input_hint_block."), "it is a ControlNet; give it in controlnets="),
    (("ip_adapter.", "image_proj."), "it is an IP-Adapter; give it as ip_adapter="),
    (("down_blocks.", "input_blocks."), "it is a U-Net alone, and a model has a codec and a text encoder too"),
    (("double_blocks.", "joint_blocks.", UNET + "double_blocks.", UNET + "joint_blocks."), "it has no U-Net but a "
     "diffusion transformer, such as SD 3's or Flux's"),
)  # fmt: skip


def parts_of_file(
    file: Path, tokenizer: Path, *, device: torch.device, dtype: torch.dtype, prediction: str | None = None
) -> Parts:
    """The parts of a model in one file; `tokenizer` is a folder with CLIP's vocabulary.

    `prediction` is "epsilon" or "v", None for what the file notes or its family does. A file that is no such model,
    or not a whole one, raises a ValueError.
    """
    if prediction not in (None, *PREDICTIONS):
        raise ValueError(f"prediction must be 'epsilon', 'v' or None, got {prediction!r}.")
    tensors, notes = read_tensors(file)
    layout = _layout(file.name, tensors)
    predicts = prediction or _noted(tensors, notes) or layout.prediction
    maker = _Maker(file.name, tensors, device, dtype)
    vae = maker.vae(layout, size := layout.size_of_v if predicts == "v" else layout.size)
    unet = maker.unet(size // 2 ** (len(vae.config.block_out_channels) - 1))
    encoders = [maker.text(text) for text in layout.texts]
    maker.nothing_left(layout)
    towers = [
        Tower(read_tokenizer(tokenizer, encoder, text.pad), encoder)
        for text, encoder in zip(layout.texts, encoders, strict=True)
    ]
    schedule = _schedule(layout, predicts, zero_snr="ztsnr" in tensors)
    return fitting(Parts(file.stem, unet, vae, tuple(towers), schedule, zero_negative=len(towers) > 1))


def _layout(name: str, tensors: Mapping[str, Tensor]) -> Layout:
    def has(*prefixes: str) -> bool:
        return any(key.startswith(prefixes) for key in tensors)

    if "edm_mean" in tensors:
        raise ValueError(f"{name} is an EDM model (Playground 2.5), whose noise schedule ctrl does not have.")
    if has("conditioner.embedders.0.model."):
        raise ValueError(f"{name} is an SDXL refiner; ctrl steers the base model.")
    for beginnings, sentence in OTHERS:
        if has(*beginnings):
            raise ValueError(f"{name} holds no whole model: {sentence}.")
    for layout in (SDXL, SD2, SD1):
        if has(UNET) and has(VAE) and all(has(text.prefix) for text in layout.texts):
            return layout
    parts = ((UNET, "U-Net"), (VAE, "codec"), ("cond", "text encoder"))
    lacks = [f"no {part} ({prefix}…)" for prefix, part in parts if not has(prefix)]
    why = f"it has {' and '.join(lacks)}" if lacks else "its text encoder is of no layout that is known"
    raise ValueError(f"{name} is no SD 1.x, SD 2.x or SDXL model in the original layout: {why}.")


def _noted(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str | None:
    """The prediction as the file says it, if it does."""
    said = notes.get("modelspec.prediction_type", "v" if "v_pred" in tensors else None)
    return said if said in PREDICTIONS else None


@dataclass(frozen=True, eq=False)
class _Maker:
    """Makes modules of one file's tensors."""

    file: str
    tensors: Mapping[str, Tensor]
    device: torch.device
    dtype: torch.dtype

    def unet(self, size: int) -> Any:
        inside = self._inside(UNET)
        config = unet_config(inside, self.file, size)
        return self._made("U-Net", classes().unet, config, inside, partial(unet_name, config=config), _whole)

    def vae(self, layout: Layout, size: int) -> Any:
        inside = self._inside(VAE)
        config = vae_config(inside, self.file, size=size, scaling_factor=layout.scaling_factor)
        dtype = vae_dtype(config, self.dtype, towers=len(layout.texts))
        maker = replace(self, dtype=dtype)
        return maker._made("codec", classes().codec, config, inside, partial(vae_name, config=config), vae_part)

    def text(self, text: Text) -> Any:
        inside = self._inside(text.prefix)
        name: Callable[[str], str] = open_clip_name if text.open_clip else _clip_name(inside)
        part = open_clip_part if text.open_clip else _whole
        layers = 0
        while name(f"encoder.layers.{layers}.layer_norm1.weight") in inside:
            layers += 1
        layers -= text.skipped
        unread = [open_clip_name(f"encoder.layers.{layers}.")] * text.skipped
        kind = classes().projecting
        if not text.projects:
            kind = classes().tower
            unread.append("text_projection")
        telling = [one for one in TELLING if name(one) in inside and name(one) not in unread]
        shaped = {one: part(one, inside[name(one)]) for one in telling}
        config = text_config(shaped, self.file, layers=layers, act="gelu" if text.open_clip else "quick_gelu")
        return self._made(f"text encoder at {text.prefix}…", kind, config, inside, name, part, unread)

    def nothing_left(self, layout: Layout) -> None:
        """Warn of what is of no part of the model."""
        known = (UNET, VAE, *(text.prefix for text in layout.texts), *UNREAD)
        if strange := sorted(key for key in self.tensors if not key.startswith(known)):
            many = f"{len(strange)} tensors, such as {strange[0]}"
            warnings.warn(f"{self.file} has {many}, that no {layout.name} model has; they are left out.", stacklevel=4)

    def _inside(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): own for key, own in self.tensors.items() if key.startswith(prefix)}

    def _made(
        self,
        what: str,
        kind: Any,
        config: Mapping[str, Any],
        inside: Mapping[str, Tensor],
        name: Callable[[str], str],
        part: Callable[[str, Tensor], Tensor],
        unread: Sequence[str] = (),
    ) -> Any:
        """A module of the file's tensors, which go by other names there, and of which none may be left."""
        config = checked(kind, config, self.file)
        called = f"the {what} in {self.file}"
        drawer = Drawer(inside, set())
        found = drawer.take(on_meta(kind, config, called).state_dict(), name)
        found = {key: part(key, tensor) for key, tensor in found.items()}
        left = [key for key in drawer.left() if not key.startswith((*UNREAD_INSIDE, *unread))]
        if left:
            raise ValueError(f"{called} has {len(left)} tensors that it has no place for, such as {left[0]}.")
        return build(kind, config, found, name=called, dtype=self.dtype, device=self.device)


def _clip_name(inside: Mapping[str, Tensor]) -> Callable[[str], str]:
    """transformers' names as they were when these files were made, or as some programs write them."""
    whole = any(key.startswith("text_model.") for key in inside)
    return (lambda key: f"text_model.{key}") if whole else str


def _whole(key: str, tensor: Tensor) -> Tensor:
    return tensor


def _schedule(layout: Layout, prediction: str, *, zero_snr: bool) -> dict[str, Any]:
    """The noise schedule that the family's published configurations have in common."""
    schedule: dict[str, Any] = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction" if prediction == "v" else "epsilon",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
    }
    if layout.spacing:
        schedule["timestep_spacing"] = layout.spacing
    if zero_snr:
        schedule["rescale_betas_zero_snr"] = True
    return schedule
