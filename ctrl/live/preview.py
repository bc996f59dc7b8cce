"""A rough picture of latents by one small matrix: no decoder is run.

A linear map from a latent's channels to red, green and blue, one pixel a latent. The map of Stable Diffusion 1 is the
one published at https://discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204, that of SDXL at
https://huggingface.co/blog/TimothyAlexisVass/explaining-the-sdxl-latent-space. That of the atelier is fitted to its
first 48 scenes, as its codec encodes them, and a test holds it against a new fit. Any other model's is fitted to its
first picture. All fits are by least squares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ctrl.atelier.language import is_atelier

if TYPE_CHECKING:
    from ctrl.model import Model


@dataclass(frozen=True, eq=False)
class LatentRGB:
    """weights · latent + bias, RGB in [0, 1]: `weights` is (3, C), `bias` (3,), of latents as the U-Net knows them."""

    weights: Tensor
    bias: Tensor

    @staticmethod
    def of(weights: Sequence[Sequence[float]], bias: Sequence[float]) -> LatentRGB:
        """From numbers, C rows of three."""
        return LatentRGB(torch.tensor(weights).T.contiguous(), torch.tensor(bias))

    @staticmethod
    def fit(latents: Tensor, image: Image.Image) -> LatentRGB:
        """The least-squares map from latents (C, h, w) to their picture, reduced to one pixel a latent."""
        channels, height, width = latents.shape
        small = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BOX), np.float32) / 255
        given = latents.detach().float().cpu().reshape(channels, -1).T
        known = torch.cat([given, torch.ones(len(given), 1)], dim=1)  # (h·w, C + 1)
        wanted = torch.from_numpy(small).reshape(-1, 3)
        penalty = 1e-3 * len(given) * torch.eye(channels + 1)
        penalty[-1, -1] = 0
        found = torch.linalg.solve(known.T @ known + penalty, known.T @ wanted)  # (C + 1, 3)
        return LatentRGB(found[:-1].T.contiguous(), found[-1])

    def __call__(self, latents: Tensor, size: tuple[int, int]) -> Image.Image:
        """The picture of latents (C, h, w) at `size`, (width, height) in pixels."""
        weights, bias = self.weights.to(latents.device), self.bias.to(latents.device)
        rgb = torch.einsum("rc,chw->hwr", weights, latents.detach().float()) + bias
        pixels = (rgb.clamp(0, 1) * 255).round().byte().cpu().numpy()
        return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def latents_of(model: Model) -> str | None:
    """Whose latents a model's are, a name in `PUBLISHED`; None for one of its own kind."""
    if model.family.key is None and is_atelier(model.parts.text_encoders[0].tokenizer.get_vocab()):
        return "atelier"
    return model.family.latents


Decode = Callable[[], Image.Image]


class Previewer:
    """Rough pictures of latents: by the `published` map of that name, else by one fitted to the model's own pictures.

    `tiny_vae` is a small autoencoder for the same latents, such as diffusers' AutoencoderTiny (TAESD,
    https://github.com/madebyollin/taesd); where there is one it draws the previews.
    """

    def __init__(self, published: str | None, tiny_vae: Any = None) -> None:
        if tiny_vae is not None and not callable(getattr(tiny_vae, "decode", None)):
            raise TypeError(f"tiny_vae must be a loaded autoencoder, such as AutoencoderTiny, got {tiny_vae!r:.60}.")
        self._published = PUBLISHED.get(published or "")
        self._fitted: LatentRGB | None = None
        self._tiny_vae = tiny_vae

    def __call__(self, latents: Tensor, size: tuple[int, int], decode: Decode) -> Image.Image:
        """The picture of latents (C, h, w) at `size` in pixels; `decode` is asked once, before anything is known."""
        if self._tiny_vae is not None:
            return self._by_tiny_vae(latents)
        linear = self._published if self._fits(latents) else self._fitted
        if linear is not None:
            return linear(latents, size)
        image = decode()
        self.learn(latents, image)
        return image

    def learn(self, latents: Tensor, image: Image.Image) -> None:
        """Fit the map to latents (C, h, w) and their picture, for a model without a published one."""
        if not self._fits(latents):
            self._fitted = LatentRGB.fit(latents, image)

    def _fits(self, latents: Tensor) -> bool:
        """Whether there is a published map for latents of so many channels."""
        return self._published is not None and self._published.weights.shape[1] == len(latents)

    @torch.no_grad()
    def _by_tiny_vae(self, latents: Tensor) -> Image.Image:
        vae = self._tiny_vae
        pixels = vae.decode(latents[None].to(vae.device, vae.dtype)).sample[0]  # (3, H, W) in [-1, 1]
        rgb = ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round().byte()
        return Image.fromarray(rgb.permute(1, 2, 0).cpu().numpy())


PUBLISHED = {
    "sd1": LatentRGB.of(
        [[0.149, 0.1035, 0.104], [0.0935, 0.143, 0.0865], [-0.079, 0.0945, 0.132], [-0.092, -0.1355, -0.2365]],
        [0.5, 0.5, 0.5],
    ),
    "sdxl": LatentRGB.of(
        [[0.235, 0.235, 0.235], [-0.235, -0.020, 0.039], [0.098, 0.059, -0.020], [-0.275, -0.196, -0.137]],
        [0.588, 0.549, 0.510],
    ),
    "atelier": LatentRGB.of(
        [
            [-0.1921, -0.2268, -0.1322],
            [-0.1361, -0.155, -0.0731],
            [0.0917, 0.075, 0.0732],
            [0.1905, 0.1942, 0.0555],
            [0.2243, 0.2835, 0.1788],
            [0.1974, 0.3173, 0.3006],
            [-0.4721, -0.437, -0.2904],
            [-0.0505, -0.0344, 0.0329],
        ],
        [0.5257, 0.4926, 0.5091],
    ),
}
