"""A model whose networks are a few sums, on a virtual clock: an evaluation takes a tick, of ten layers.

Its predictions depend on everything that a network's do, so whatever is stale shows in the picture.
"""

import copy

import numpy as np
import torch
from PIL import Image

import ctrl
from ctrl.attention import Regions, WordWeights

LAYERS = 10
TICK = 0.05  # seconds


class Clock:
    """Seconds that pass when the fake works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def digest(edit):
    """A number that stands for what an edit of attention does."""
    if isinstance(edit, WordWeights):
        return edit.weights.mean()
    if isinstance(edit, Regions):
        return sum((part.states.mean() + 1) * part.mask.mean() for part in edit.regions)
    return edit.weight * (1 + edit.style.cond.mean())


class FakeUNet:
    """Counts what it completes, and passes time layer by layer, in which it may be stopped."""

    sites, compiled, reads_guidance, inpaints = (), False, False, False

    def __init__(self, clock, key=()):
        self.clock, self.key, self.version = clock, key, 0
        self.layers = self.completed = self.running = 0
        self.on_layer = lambda: None

    @property
    def revision(self):
        return ("fake", self.key, self.version)

    def predict(self, sample, t, prompt, residuals, hooks, *, inside, hole, guidance, keep=None):
        assert self.running == 0, "two evaluations at once"
        self.running += 1
        try:
            for _ in range(LAYERS):
                self.layers += 1
                self.clock.now += TICK / LAYERS
                self.on_layer()
                for observer in hooks.observers:
                    observer(None, ())
        finally:
            self.running -= 1
        self.completed += 1
        words = prompt.embeds.mean((1, 2))[:, None, None, None]
        edits = sum((number + 1) * digest(edit) for number, edit in enumerate(hooks.edits))
        controls = 0 if residuals is None else sum(residuals)
        strength = 1 + self.version + sum((number + 1) * lora[1] for number, lora in enumerate(self.key))
        return torch.sin(sample * strength + words + edits + controls + t / 1000)


class FakeControlNet:
    """Two residuals of its picture, the latents and the prompt."""

    sites, count, pools = (), 7, False
    title, multiple, runs_once, reads_holes = "ControlNet", 8, False, False

    def __init__(self, kind):
        self.kind, self.version, self.completed = kind, 0, 0

    @property
    def revision(self):
        return ("fake", self.kind, self.version)

    def embed(self, hint):
        return hint.mean((1, 2, 3))[:, None, None, None] + self.version

    def residuals(self, sample, t, prompt, embedded, hooks):
        self.completed += 1
        words = prompt.embeds.mean((1, 2))[:, None, None, None]
        return (torch.cos(sample + words) + embedded * (1 + len(self.kind)), embedded * sample)


class FakeModel(ctrl.Model):
    """The tiny model with fakes for its U-Net, ControlNets and VAE; its text and image encoders are its own."""

    def __init__(self, real, clock):
        self.__dict__.update(real.__dict__)
        self.denoiser, self.drawn, self.vae_version = FakeUNet(clock), [], 0
        self.nets = {kind: FakeControlNet(kind) for kind in real.controls}

    @property
    def revision(self):
        nets = tuple(net.revision for net in self.nets.values())
        return (self.denoiser.revision, self.text.revision, nets, self.ip_adapter().revision, self.vae_version)

    def control(self, kind):
        return self.nets[kind]

    def with_loras(self, loras):
        if not loras:
            return self
        other = copy.copy(self)
        other.denoiser = copy.copy(self.denoiser)
        other.denoiser.key = tuple(loras)
        return other

    def decode(self, latents):
        self.drawn.append(len(latents))
        pixels = (127.5 * (1 + torch.tanh(latents[:, :3] / 3 + self.vae_version))).byte().permute(0, 2, 3, 1).numpy()
        return [Image.fromarray(np.ascontiguousarray(picture)) for picture in pixels]
