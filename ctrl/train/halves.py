"""The two halves of a codec, each a module of its own, to be trained while the other rests."""

from __future__ import annotations

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn


class Encoding(nn.Module):
    """Pictures (B, 3, h, w) in [-1, 1] to means and log variances (B, 2 C, h / f, w / f)."""

    def __init__(self, codec: AutoencoderKL) -> None:
        super().__init__()
        assert codec.quant_conv is not None
        self.encoder, self.quant = codec.encoder, codec.quant_conv

    def forward(self, picture: Tensor) -> Tensor:
        """What the codec's posterior is made of."""
        said: Tensor = self.quant(self.encoder(picture))
        return said


class Decoding(nn.Module):
    """Latents (B, C, h, w) to pictures (B, 3, f h, f w), about [-1, 1]."""

    def __init__(self, codec: AutoencoderKL) -> None:
        super().__init__()
        assert codec.post_quant_conv is not None
        self.post, self.decoder = codec.post_quant_conv, codec.decoder

    def forward(self, latents: Tensor) -> Tensor:
        """What the codec decodes."""
        made: Tensor = self.decoder(self.post(latents))
        return made
