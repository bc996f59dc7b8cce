"""Models in one .safetensors file of the original layout: SD 1.x, SD 2.x and SDXL base.

Nothing else is needed but a tokenizer: the modules' configurations are read from the tensors' shapes (`shapes.py`).
What no tensor shows is the family's: the VAE's scaling factor, the noise schedule, the size, and whether the model
predicts ε or v where the file does not say it (`markers.py`). Every tensor of the U-Net, the VAE and the text encoders
must be used and none may lack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ctrl.caller import warn_caller
from ctrl.model.loading.configs import checked
from ctrl.model.loading.families import FAMILIES, Family, TextEncoderFormat
from ctrl.model.loading.files import guess_file_kind, read_tensors
from ctrl.model.loading.folder import checked_parts, vae_dtype
from ctrl.model.loading.libraries import classes
from ctrl.model.loading.markers import PREDICTION_NOTE, stated_prediction, states_zero_snr
from ctrl.model.loading.original_names import (
    TensorPicker,
    open_clip_name,
    open_clip_part,
    unet_name,
    vae_name,
    vae_part,
)
from ctrl.model.loading.pretrained import build, on_meta
from ctrl.model.loading.shapes import SIZE_TENSORS, text_config, unet_config, vae_config
from ctrl.model.loading.vae import read_vae
from ctrl.model.parts import Parts, TextEncoder

PREDICTIONS = ("epsilon", "v")
UNET, VAE = "model.diffusion_model.", "first_stage_model."


class CLIPSize(NamedTuple):
    """Sizes of a published text encoder."""

    width: int
    layers: int


CLIP_H = CLIPSize(width=1024, layers=24)
# Left by training: averages, counters, the noise schedule's tables; and two notes that are read.
IGNORED = (
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
IGNORED_INSIDE = ("loss.", "logit_scale")


Tokenizer = Callable[[Any, str | None], Any]  # of an encoder, with this padding


def parts_of_file(
    file: Path,
    tokenizer: Tokenizer,
    *,
    device: torch.device,
    dtype: torch.dtype,
    prediction: str | None = None,
    vae: Path | None = None,
) -> Parts:
    """The parts of a model in one file; `tokenizer` makes one for an encoder, `vae` is read in place of the file's.

    `prediction` is "epsilon" or "v", None for what the file notes or its family does. A file that is no such model,
    or not a whole one, raises a ValueError.
    """
    if prediction not in (None, *PREDICTIONS):
        raise ValueError(f"prediction must be 'epsilon', 'v' or None, got {prediction!r}.")
    tensors, notes = read_tensors(file)
    family = _family(file.name, tensors, needs_vae=vae is None)
    predicts = prediction or stated_prediction(tensors, notes, family) or _of_family(file.name, notes, family)
    builder = _Builder(file.name, tensors, device, dtype, family)
    size = family.size_of_v if predicts == "v" else family.size
    own_scale = family.scaling_factor
    autoencoder = (
        builder.vae(size) if vae is None else read_vae(vae, family, scale=own_scale, device=device, dtype=dtype)
    )
    unet = builder.unet(size // 2 ** (len(autoencoder.config.block_out_channels) - 1))
    encoders = [builder.text_encoder(row) for row in family.text_encoders]
    builder.warn_of_others()
    text_encoders = [
        TextEncoder(tokenizer(encoder, row.pad), encoder)
        for row, encoder in zip(family.text_encoders, encoders, strict=True)
    ]
    schedule = _schedule(family, predicts, zero_snr=predicts == "v" and states_zero_snr(tensors, notes))
    return checked_parts(Parts(file.stem, unet, autoencoder, tuple(text_encoders), schedule, family.zero_negative))


def _of_family(name: str, notes: Mapping[str, str], family: Family) -> str:
    """The prediction of a file that does not say it: the family's usual; a warning where it may be another."""
    usual, stated = family.predictions[0], notes.get(PREDICTION_NOTE)
    if len(family.predictions) > 1 or stated is not None:
        says = "does not say what it predicts" if stated is None else f"says that it predicts {stated!r:.40}"
        other = "v" if usual == "epsilon" else "epsilon"
        warn_caller(
            f"{name} {says} and is taken for {usual}, as {family.name} usually is; "
            f"if its pictures are noise or of wrong colours, load it with prediction={other!r}."
        )
    return usual


def _family(name: str, tensors: Mapping[str, Tensor], *, needs_vae: bool) -> Family:
    def has(*prefixes: str) -> bool:
        return any(key.startswith(prefixes) for key in tensors)

    if has("edm_mean", "edm_vpred."):
        raise ValueError(f"{name} is an EDM model (Playground 2.5, CosXL), whose noise schedule ctrl does not have.")
    if has("conditioner.embedders.0.model."):
        raise ValueError(f"{name} is an SDXL refiner; ctrl steers the base model.")
    looks = guess_file_kind(tensors, not_a="a whole model")
    if "tensors that are no part" not in looks and not (looks.endswith("a VAE alone") and has(UNET)):
        raise ValueError(f"{name} holds no whole model: {looks}.")
    for family in reversed(FAMILIES):
        if has(UNET) and (has(VAE) or not needs_vae) and all(has(row.prefix) for row in family.text_encoders):
            return family
    parts = ((UNET, "U-Net"), *([(VAE, "VAE")] if needs_vae else []), ("cond", "text encoder"))
    lacks = [f"no {part} ({prefix}…)" for prefix, part in parts if not has(prefix)]
    why = f"it has {' and '.join(lacks)}" if lacks else "its text encoder is of no layout that is known"
    raise ValueError(f"{name} is no SD 1.x, SD 2.x or SDXL model in the original layout: {why}.")


@dataclass(frozen=True, eq=False)
class _Builder:
    """Builds modules from one file's tensors."""

    file: str
    tensors: Mapping[str, Tensor]
    device: torch.device
    dtype: torch.dtype
    family: Family

    def unet(self, size: int) -> Any:
        inside = self._inside(UNET)
        config = unet_config(inside, self.file, size)
        return self._build("U-Net", classes().unet, config, inside, partial(unet_name, config=config), _whole)

    def vae(self, size: int) -> Any:
        inside = self._inside(VAE)
        config = vae_config(inside, self.file, size=size, scaling_factor=self.family.scaling_factor)
        upcast = replace(self, dtype=vae_dtype(config, self.dtype, self.family))
        return upcast._build("VAE", classes().vae, config, inside, partial(vae_name, config=config), vae_part)

    def text_encoder(self, row: TextEncoderFormat) -> Any:
        inside = self._inside(row.prefix)
        name: Callable[[str], str] = open_clip_name if row.open_clip else _clip_name(inside)
        part = open_clip_part if row.open_clip else _whole
        layers = 0
        while name(f"encoder.layers.{layers}.layer_norm1.weight") in inside:
            layers += 1
        ignored = []
        if row.from_end > 1 and _has_last_layer(inside, layers):
            layers -= row.from_end - 1
            ignored = [open_clip_name(f"encoder.layers.{layers}.")]
        kind = classes().projecting
        if not row.projects:
            kind = classes().text_encoder
            ignored.append("text_projection")
        sizes = [key for key in SIZE_TENSORS if name(key) in inside and name(key) not in ignored]
        shaped = {key: part(key, inside[name(key)]) for key in sizes}
        config = text_config(shaped, self.file, layers=layers, act="gelu" if row.open_clip else "quick_gelu")
        return self._build(f"text encoder at {row.prefix}…", kind, config, inside, name, part, ignored)

    def warn_of_others(self) -> None:
        """Warn of what is of no part of the model."""
        known = (UNET, VAE, *(row.prefix for row in self.family.text_encoders), *IGNORED)
        if strange := sorted(key for key in self.tensors if not key.startswith(known)):
            many, kind = f"{len(strange)} tensors, such as {strange[0]}", self.family.name
            warn_caller(f"{self.file} has {many}, that no {kind} model has; they are left out.")

    def _inside(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): tensor for key, tensor in self.tensors.items() if key.startswith(prefix)}

    def _build(
        self,
        what: str,
        kind: Any,
        config: Mapping[str, Any],
        inside: Mapping[str, Tensor],
        name: Callable[[str], str],
        part: Callable[[str, Tensor], Tensor],
        ignored: Sequence[str] = (),
    ) -> Any:
        """A module from the file's tensors, by their original names; a ValueError if one is left over."""
        config = checked(kind, config, self.file)
        called = f"the {what} in {self.file}"
        picker = TensorPicker(inside, set())
        picked = picker.take(on_meta(kind, config, called).state_dict(), name)
        parts = {key: part(key, tensor) for key, tensor in picked.items()}
        left = [key for key in picker.left() if not key.startswith((*IGNORED_INSIDE, *ignored))]
        left = [key for key in left if not key.endswith("position_ids")]  # counted, and in no module today
        if left:
            raise ValueError(f"{called} has {len(left)} tensors that it has no place for, such as {left[0]}.")
        return build(kind, config, parts, name=called, dtype=self.dtype, device=self.device)


def _has_last_layer(tensors: Mapping[str, Tensor], layers: int) -> bool:
    """Whether open_clip's last layer is there, which SD 2 does not read: a file converted from a folder has none.

    Then its projection is missing too, unless a program wrote another in its place; so CLIP H's layers are counted.
    """
    width = tensors["ln_final.weight"].shape[0] if "ln_final.weight" in tensors else 0
    return layers >= CLIP_H.layers if width == CLIP_H.width else "text_projection" in tensors


def _clip_name(inside: Mapping[str, Tensor]) -> Callable[[str], str]:
    """transformers' names as they were when these files were made, or as some programs write them."""
    whole = any(key.startswith("text_model.") for key in inside)
    return (lambda key: f"text_model.{key}") if whole else str


def _whole(key: str, tensor: Tensor) -> Tensor:
    return tensor


def _schedule(family: Family, prediction: str, *, zero_snr: bool) -> dict[str, Any]:
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
    if family.spacing:
        schedule["timestep_spacing"] = family.spacing
    if zero_snr:
        schedule["rescale_betas_zero_snr"] = True
    return schedule
