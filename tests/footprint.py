"""What a run could leave behind, on a model and in the process."""

import hashlib
import itertools
import os
import random
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Trace:
    """What a run could leave behind: on the model, as bytes and as the very objects, and in the process."""

    digest: str
    held: tuple[object, ...]  # compared by identity, and kept so that none is taken for another
    process: tuple[object, ...]

    def same_as(self, other):
        """Nothing was changed, added, taken away or exchanged."""
        alike = len(self.held) == len(other.held) and all(map(lambda a, b: a is b, self.held, other.held))
        return alike and self.digest == other.digest and self.process == other.process


def modules(model):
    """All there is of a model, as far as it was loaded."""
    yield from (model.unet, model.vae, *(tower.encoder for tower in model.parts.text_encoders))
    yield from (net.module for net in model._loaded.controls.values())
    for style in model._loaded.ip_adapters.values():
        yield from (style.adapter.projection, style.encoder)


def trace(model, *more):
    """The model, more modules and the process as they are."""
    digest, held = hashlib.sha256(), [model.lock, model.parts, model.extras, model.denoiser, model.text, *vars(model)]
    held += [*model._loaded.controls.values(), *model._loaded.ip_adapters.values()]
    for whole in (*modules(model), *more):
        for name, module in whole.named_modules():
            digest.update(f"{name} {module.training} {sorted(vars(module))}".encode())
            held += [module, getattr(module, "processor", None)]
            for kept in vars(module).values():
                held += list(kept.values()) if isinstance(kept, dict) else []
        for tensor in itertools.chain(whole.parameters(), whole.buffers()):
            digest.update(f"{tensor.requires_grad} {tensor.dtype}".encode() + tensor.detach().numpy().tobytes())
    for style in model._loaded.ip_adapters.values():
        for pair in style.adapter.projections.values():
            digest.update(pair.to_k.numpy().tobytes() + pair.to_v.numpy().tobytes())
    digest.update(repr(sorted(model.parts.scheduler.items(), key=str)).encode())
    return Trace(digest.hexdigest(), tuple(held), process())


def process():
    """The switches and the random numbers of everybody."""
    cuda = torch.backends.cuda
    flags = (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled())
    modes = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    more = (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(), torch.is_autocast_enabled("cpu"))
    drawn = (torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate())
    return (*flags, *modes, *more, *drawn, torch._C._len_torch_function_stack(), dict(os.environ))
