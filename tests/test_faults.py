"""Faults at the n-th call of every component: they come out as they were raised, and the model is as it was."""

import contextlib
import errno
import functools
import gc
import io
import os
import tempfile
import threading
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from footprint import process, trace
from PIL import Image
from variety import EVERYTHING, MAP, PLAIN, run

import ctrl
from ctrl.model.loading.extras import Extras

ERRORS = [
    RuntimeError("CUDNN_STATUS_ALLOC_FAILED"),
    KeyboardInterrupt(),
    torch.OutOfMemoryError("out of memory"),
    MemoryError(),
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
]
RECIPE = EVERYTHING.replace(controls=[*EVERYTHING.controls, ctrl.Edges(MAP, 0.5, mode="control first")])
SCHEDULER = diffusers.DPMSolverMultistepScheduler  # of the recipe's sampler
MODULES = {  # of a model under the recipe's LoRA
    "text encoder": lambda model: model.parts.text_encoders[0].encoder,
    "a text layer": lambda model: next(
        module for name, module in model.parts.text_encoders[0].encoder.named_modules() if name.endswith("layers.1")
    ),
    "unet": lambda model: model.unet,
    "a down block": lambda model: model.unet.down_blocks[0],
    "middle": lambda model: model.unet.mid_block,
    "self-attention": lambda model: model.unet.mid_block.attentions[0].transformer_blocks[0].attn1,
    "cross-attention": lambda model: model.unet.up_blocks[1].attentions[0].transformer_blocks[0].attn2,
    "keys of cross-attention": lambda model: model.unet.up_blocks[1].attentions[0].transformer_blocks[0].attn2.to_k,
    "last convolution": lambda model: model.unet.conv_out,
    "controlnet": lambda model: model.controlnet("pose").module,
    "a ControlNet's middle": lambda model: model.controlnet("edges").module.mid_block,
    "hint embedding": lambda model: model.controlnet("depth").module.controlnet_cond_embedding,
    "a hint's convolution": lambda model: model.controlnet("depth").module.controlnet_cond_embedding.blocks[1],
    "image encoder": lambda model: model.ip_adapter().encoder,
    "projection of tokens": lambda model: model.ip_adapter().adapter.projection,
    "vae encoder": lambda model: model.vae.encoder,
    "vae decoder": lambda model: model.vae.decoder,
    "a decoder's block": lambda model: model.vae.decoder.up_blocks[1],
}


class Fault:
    """Counts calls, and raises at the n-th; at none where n is 0."""

    def __init__(self, at=0, error=None):
        self.at, self.error, self.calls = at, error, 0

    def __call__(self, *_, **__):
        self.calls += 1
        if self.calls == self.at:
            raise self.error


@contextlib.contextmanager
def in_module(module, fault, *, after=False):
    """The fault before or after a module's forward."""
    register = module.register_forward_hook if after else module.register_forward_pre_hook
    handle = register(fault)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def in_function(owner, name, fault, *, after=False):
    """The fault before or after a function of a module or class."""
    inner = getattr(owner, name)

    @functools.wraps(inner)  # what it takes is looked at
    def faulty(*args, **kwargs):
        if not after:
            fault()
        out = inner(*args, **kwargs)
        if after:
            fault()
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, faulty)
        yield


def functions(model):
    """Where else a run can fail: (owner, name) of what it calls."""
    return {
        "tokenizer": (type(model.parts.text_encoders[0].tokenizer), "__call__"),
        "image processor": (type(model.ip_adapter().processor), "__call__"),
        "scheduler's tables": (SCHEDULER, "set_timesteps"),
        "scheduler.step": (SCHEDULER, "step"),
        "scheduler.add_noise": (SCHEDULER, "add_noise"),
        "vae.encode": (type(model.vae), "encode"),
        "vae.decode": (type(model.vae), "decode"),
        "masks": (F, "interpolate"),
        "finite": (torch, "isfinite"),
        "picture": (Image, "fromarray"),
    }


FUNCTIONS = (
    "tokenizer", "image processor", "scheduler's tables", "scheduler.step", "scheduler.add_noise", "vae.encode",
    "vae.decode", "masks", "finite", "picture",
)  # fmt: skip


@pytest.fixture(scope="module")
def warm(model):
    """The model with all loaded, its view under the recipe's LoRA, a plain run and a picture of all."""
    picture = ctrl.sample(model, RECIPE).image
    view = model.with_loras([(lora.name, lora.weight) for lora in RECIPE.loras])
    return model, view, run(model, PLAIN), picture


def whole(model, view):
    """What a fault may not change."""
    return trace(model, view.unet, *(tower.encoder for tower in view.parts.text_encoders))


def spread(count, most):
    """Some of 1 … count, the first and the last among them."""
    return sorted({round(at) for at in np.linspace(1, count, min(count, most))})


def free(lock):
    """Whether another thread can have the lock."""
    found = []

    def take():
        found.append(lock.acquire(timeout=10))
        if found[0]:
            lock.release()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(20)
    return found == [True]


def every_fault_passes_and_leaves_no_trace(warm, where, most=4):
    """`where(fault)` is a context in which the fault lies in wait."""
    model, view, plain, picture = warm
    before, counted = whole(model, view), Fault()
    with where(counted):
        assert ctrl.sample(model, RECIPE).image == picture  # after the faults of the tests before
    assert counted.calls > 0, "the component was never called: the test would prove nothing"
    for turn, at in enumerate(spread(counted.calls, most)):
        error = ERRORS[(turn + counted.calls) % len(ERRORS)]
        with where(Fault(at, error)), pytest.raises(type(error)) as caught:
            ctrl.sample(model, RECIPE)
        assert caught.value is error and error.__cause__ is None
        error.__traceback__ = None
        assert free(model.lock)
        assert whole(model, view).same_as(before)
        assert torch.equal(run(model, PLAIN), plain)


@pytest.mark.parametrize("part", MODULES)
def test_a_fault_in_a_module_leaves_no_trace(warm, part):
    every_fault_passes_and_leaves_no_trace(warm, lambda fault: in_module(MODULES[part](warm[1]), fault))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["unet", "controlnet", "cross-attention", "hint embedding", "image encoder"])
def test_a_fault_after_a_module_leaves_no_trace(warm, part):
    every_fault_passes_and_leaves_no_trace(warm, lambda fault: in_module(MODULES[part](warm[1]), fault, after=True), 3)


@pytest.mark.parametrize("part", FUNCTIONS)
def test_a_fault_in_a_function_leaves_no_trace(warm, part):
    every_fault_passes_and_leaves_no_trace(warm, lambda fault: in_function(*functions(warm[0])[part], fault))


def test_a_fault_after_a_schedulers_step_leaves_no_trace(warm):
    every_fault_passes_and_leaves_no_trace(warm, lambda fault: in_function(SCHEDULER, "step", fault, after=True))


class FaultyAttention(torch.overrides.TorchFunctionMode):
    """The fault inside every call of attention, under whatever catches it."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            self.fault()
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
def test_a_fault_inside_attention_leaves_no_trace(warm):
    every_fault_passes_and_leaves_no_trace(warm, FaultyAttention, 8)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_kind_of_fault_passes_as_it_is(warm, error):
    model, view, plain, _ = warm
    before = whole(model, view)
    with in_module(view.unet.mid_block, Fault(2, error)), pytest.raises(type(error)) as caught:
        ctrl.sample(model, RECIPE)
    assert caught.value is error
    assert whole(model, view).same_as(before)
    assert torch.equal(run(model, PLAIN), plain)


def test_a_fault_of_one_of_many_leaves_no_trace(warm):
    model, view, plain, _ = warm
    before, many = whole(model, view), [RECIPE, PLAIN, RECIPE.replace(seed=9)]
    for error in ERRORS[:2]:
        with in_module(view.unet.mid_block, Fault(2, error)), pytest.raises(type(error)):
            ctrl.sample_many(model, many)
    assert whole(model, view).same_as(before)
    assert torch.equal(run(model, PLAIN), plain)


def test_a_fault_between_two_runs_in_turns_is_one_runs_own(warm):
    model, view, plain, picture = warm
    steps, found = ctrl.steps(model, PLAIN), []
    step = next(steps)
    found += [step.latents, step.denoised]
    with in_module(view.unet.mid_block, Fault(1, ERRORS[0])), pytest.raises(RuntimeError):
        ctrl.sample(model, RECIPE)
    found += [part for step in steps for part in (step.latents, step.denoised)]
    assert torch.equal(torch.cat(found), plain)
    assert ctrl.sample(model, RECIPE).image == picture


def test_a_run_that_failed_is_over(warm):
    model, view, *_ = warm
    steps = ctrl.steps(model, RECIPE)
    with in_module(view.unet.mid_block, Fault(1, ERRORS[1])), pytest.raises(KeyboardInterrupt):
        next(steps)
    assert list(steps) == []  # and not the rest of it, as if nothing had been


@pytest.mark.parametrize("part", ["controlnet", "adapter_file", "image_encoder", "lora"])
def test_a_fault_while_a_part_is_loaded_leaves_it_unloaded(folder, warm, part):
    model = ctrl.load(folder, device="cpu")
    before, switches = trace(model), process()
    for after in (False, True):
        for error in ERRORS[:2]:
            with in_function(Extras, part, Fault(1, error), after=after), pytest.raises(type(error)) as caught:
                ctrl.sample(model, RECIPE)
            assert caught.value is error
    assert process() == switches
    if part == "lora":  # the first thing a run asks for
        assert trace(model).same_as(before)
    assert torch.equal(run(model, PLAIN), warm[2])
    assert ctrl.sample(model, RECIPE).image == warm[3]


WRITES = {
    "making it": (tempfile, "NamedTemporaryFile"),
    "naming it": (os, "open"),
    "opening it": (io, "open"),
    "its rights": (Path, "chmod"),
    "renaming it": (Path, "replace"),
    "encoding it": (Image.Image, "save"),
}


def descriptors():
    """How many files the process has open, where the system tells."""
    opened = Path("/proc/self/fd")
    return len(list(opened.iterdir())) if opened.is_dir() else 0


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", WRITES)
def test_a_fault_while_saving_keeps_the_old_file_whole(tmp_path, place, error):
    old, new = (ctrl.Shot(Image.new("RGB", (8, 8), colour), PLAIN) for colour in ("red", "blue"))
    old.save(tmp_path / "shot.png")
    written = (tmp_path / "shot.png").read_bytes()
    opened = descriptors()
    for name in ("shot.png", "another.png"):
        with in_function(*WRITES[place], Fault(1, error)), pytest.raises(type(error)) as caught:
            new.save(tmp_path / name)
        assert caught.value is error
    assert [path.name for path in tmp_path.iterdir()] == ["shot.png"]
    assert (tmp_path / "shot.png").read_bytes() == written
    assert descriptors() == opened
    new.save(tmp_path / "shot.png")
    assert ctrl.Recipe.load(tmp_path / "shot.png") == PLAIN
    assert Image.open(tmp_path / "shot.png").getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("bytes_written", [0, 1, 100])
def test_a_full_disk_keeps_the_old_file_whole(tmp_path, monkeypatch, bytes_written):
    shot = ctrl.Shot(Image.new("RGB", (8, 8), "red"), PLAIN)
    shot.save(tmp_path / "shot.png")
    written, opening = (tmp_path / "shot.png").read_bytes(), tempfile.NamedTemporaryFile

    def full(*args, **kwargs):
        file = opening(*args, **kwargs)
        writing = file.write

        class Full:
            name = file.name

            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, data):
                writing(data[:bytes_written])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Full()

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        ctrl.Shot(Image.new("RGB", (8, 8), "blue"), PLAIN).save(tmp_path / "shot.png")
    assert [path.name for path in tmp_path.iterdir()] == ["shot.png"]
    assert (tmp_path / "shot.png").read_bytes() == written


def cycle(model, view):
    """A run to the end, one left early, one that fails, one that is refused."""
    short = RECIPE.replace(steps=1)
    ctrl.sample(model, short)
    for _ in ctrl.steps(model, RECIPE):
        break
    with in_module(view.unet.mid_block, Fault(1, RuntimeError("stop"))), contextlib.suppress(RuntimeError):
        ctrl.sample(model, short)
    with contextlib.suppress(ValueError):
        ctrl.sample(model, RECIPE.replace(sampler="flow euler"))


def counted():
    """How many objects, tensors and threads there are."""
    gc.collect()
    objects = gc.get_objects()
    tensors = sum(issubclass(type(one), torch.Tensor) for one in objects)
    return len(objects), tensors, threading.active_count()


@pytest.mark.slow
def test_many_cycles_leave_nothing_in_memory(warm):
    model, view, _, picture = warm
    before = whole(model, view)
    for _ in range(3):
        cycle(model, view)
    objects, tensors, threads = counted()
    for _ in range(30):
        cycle(model, view)
    more, more_tensors, more_threads = counted()
    assert more - objects <= 50
    assert more_tensors == tensors
    assert more_threads <= threads, "one that an earlier test left may end meanwhile"
    assert whole(model, view).same_as(before)
    assert ctrl.sample(model, RECIPE).image == picture
