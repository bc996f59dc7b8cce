"""Previews: what draws them before a picture is finished, and how near they come."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from variety import PLAIN

import ctrl
from ctrl.atelier.bench import look, pixels
from ctrl.atelier.latents import encode
from ctrl.atelier.scene import EVALUATION_SEEDS, sample
from ctrl.live import Settings
from ctrl.live.preview import PUBLISHED, LatentRGB, Previewer, latents_of

SEED = EVALUATION_SEEDS + 30_000  # scenes that the atelier's map was not fitted to


def test_a_tiny_autoencoder_draws_the_previews_where_there_is_one(model):
    tiny = AutoencoderTiny(
        latent_channels=8,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()
    recipe, frames = PLAIN.replace(steps=2), []
    with ctrl.Live(model, recipe, frames.append, settings=Settings(previews=0.0), tiny_vae=tiny) as live:
        live.wait(60)
    step = next(iter(ctrl.steps(model, recipe)))
    with torch.no_grad():
        drawn = tiny.decode(step.denoised).sample[0].permute(1, 2, 0)
    assert [frame.kind for frame in frames] == ["preview", "exact"]
    assert np.array_equal(frames[0].image, ((drawn / 2 + 0.5).clamp(0, 1) * 255).round().byte().numpy())


@pytest.mark.slow
def test_the_atelier_is_previewed_without_decoding_as_well_as_a_map_fitted_to_what_is_shown():
    model = ctrl.load(device="cpu")
    assert latents_of(model) == "atelier"
    views = [look([sample(SEED + number)], model.size[0]).picture for number in range(6)]
    latents = torch.cat([encode(model, view)[0] for view in views], dim=2)  # side by side
    shown = Image.fromarray(np.concatenate([pixels(view)[0] for view in views], axis=1))
    cells = (latents.shape[2], latents.shape[1])
    wanted = np.asarray(shown.resize(cells, Image.Resampling.BOX), float)

    def away(preview):
        return np.abs(np.asarray(preview, float) - wanted).mean()

    def decode():
        raise AssertionError("the atelier's map is published")

    first, own = Previewer("atelier")(latents, cells, decode), LatentRGB.fit(latents, shown)(latents, cells)
    assert away(first) < 1.15 * away(own)
    assert away(first) < 0.5 * np.abs(wanted - wanted.mean((0, 1))).mean(), "half of what the mean colour is away"


def test_published_maps_are_for_the_latents_of_their_models(model):
    assert {name: one.weights.shape[1] for name, one in PUBLISHED.items()} == {"sd1": 4, "sdxl": 4, "atelier": 8}
    assert latents_of(model) is None, "a model of its own kind, whose map is fitted to its pictures"
