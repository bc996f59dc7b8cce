"""What survives which change of a live session: the table, a row a change, its costs counted.

Costs are evaluations: of the U-Net, of its encoder alone, of the pose's ControlNet and of its picture's embedding,
of the text encoder and of the image encoder, and pictures decoded. The base recipe takes N = 6 of the first three.
"""

from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from handrun import RECIPE, STEPS, Bench, at_rest
from variety import LEFT, MAP, OTHER, REFERENCE

import ctrl

N, HALF = STEPS, STEPS // 2
POSE, DEPTH = RECIPE.controls
BASE = RECIPE.replace(
    prompt=ctrl.Blend({"a red ball": 0.6, "a blue hat": 0.4}),
    seed=ctrl.SeedBlend(3, 8, 0.25),
    directions=[ctrl.Direction("by day", "at night", 0.4)],
)


NAG = BASE.replace(prompt="a red ball", negative="blue", guidance=ctrl.Guidance(1.0, nag=ctrl.NAG(4.0)), directions=[])
BIAS = BASE.replace(prompt="a red ball", regions=[ctrl.Region("ball", LEFT, 1.0, by="bias")], directions=[])
BESIDE = {  # other bases, what moves, and what it costs
    "NAG": (NAG, {"guidance": ctrl.Guidance(1.0, nag=ctrl.NAG(6.0))}, (N, N, N - 1)),
    "NAG's tau": (NAG, {"guidance": ctrl.Guidance(1.0, nag=ctrl.NAG(4.0, tau=4.0))}, (N, N, N - 1)),
    "a control beside NAG": (NAG, {"controls": [ctrl.Pose(MAP, 0.2), DEPTH]}, (N, N - 1, N - 1)),
    "a region's bias": (BIAS, {"regions": [ctrl.Region("ball", LEFT, 0.3, by="bias")]}, (N, N, N)),
    "a bias's mask": (BIAS, {"regions": [ctrl.Region("ball", 255 - LEFT, 1.0, by="bias")]}, (N, N, N)),
    "a control beside a bias": (BIAS, {"controls": [ctrl.Pose(MAP, 0.2), DEPTH]}, (N, N - 1, N - 1)),
}


class Cost(NamedTuple):
    unet: int = 0
    encoder: int = 0
    controlnet: int = 0
    control: int = 0
    text: int = 0
    image: int = 0
    decoded: int = 1


def pose(**how):
    return {"controls": [ctrl.Pose(MAP, **how), DEPTH]}


WHOLE = Cost(N, N, N)
MOVES = {  # what moves, and what it costs
    "guidance": ({"guidance": 7.0}, Cost(N - 1, N - 1, N - 1)),
    "guidance with APG": ({"guidance": ctrl.Guidance(5.0, apg=ctrl.APG())}, Cost(N - 1, N - 1, N - 1)),
    "guidance from the middle": (
        {"guidance": ctrl.curve((0, 5), (0.5, 5), (1, 9))}, Cost(N - HALF - 1, N - HALF - 1, N - HALF - 1)
    ),
    "a window that ends earlier": (
        {"controls": [POSE, ctrl.Depth(OTHER, ctrl.hold(0.5, until=0.34))]}, Cost(N - 2, N - 2, N - 2)
    ),
    "a control's weight": (pose(weight=0.5), Cost(N, N - 1, N - 1)),
    "a control's weight from the middle": (
        pose(weight=ctrl.curve((0, 0.8), (0.5, 0.8), (1, 0.1))), Cost(N - HALF, N - HALF, N - HALF)
    ),
    "a control's blocks": (pose(weight=0.8, blocks=[0.5] * 7), Cost(N, N - 1, N - 1)),
    "a control that acts less on uncond": (pose(weight=0.8, uncond=0.5), Cost(N, N - 1, N - 1)),
    "a control switched off": (pose(weight=0.8, on=False), Cost(N, N - 1, 0)),
    "a control's picture": ({"controls": [ctrl.Pose(REFERENCE, 0.8), DEPTH]}, Cost(N, N - 1, N, control=1)),
    "a control's mask": (pose(weight=0.8, mask=LEFT), Cost(N, N - 1, N, control=1)),
    "a style's weight": ({"styles": [ctrl.Style(REFERENCE, 0.3)]}, Cost(N, N, N - 1)),
    "a style's picture": ({"styles": [ctrl.Style(OTHER, 0.6)]}, Cost(N, N, N - 1, image=1)),
    "a region": ({"regions": [ctrl.Region("a box", LEFT)]}, Cost(N, N, N, text=1)),
    "the prompt": ({"prompt": "a box"}, Cost(N, N, N, text=1)),
    "a prompt blend's weight": ({"prompt": ctrl.Blend({"a red ball": 0.3, "a blue hat": 0.7})}, WHOLE),
    "a prompt blend to its end": ({"prompt": "a blue hat"}, WHOLE),
    "a direction's weight": ({"directions": [ctrl.Direction("by day", "at night", -0.2)]}, WHOLE),
    "a direction from the middle": (
        {"directions": [*BASE.directions, ctrl.Direction("by day", "at night", ctrl.hold(1, start=0.5))]},
        Cost(N - HALF, N - HALF, N - HALF),
    ),
    "a seed blend's weight": ({"seed": ctrl.SeedBlend(3, 8, 0.6)}, WHOLE),
    "the seed": ({"seed": 8}, WHOLE),
    "nothing": ({}, Cost(decoded=0)),
    "another spelling of the same": (
        {"guidance": ctrl.Guidance(5.0), "controls": RECIPE.controls[::-1], "prompt": ctrl.Blend(
            {"a blue hat": 4, "a red ball": 6})},
        Cost(decoded=0),
    ),
    "a control that is switched off": ({"controls": [POSE, DEPTH, ctrl.Edges(MAP, on=False)]}, Cost(decoded=0)),
}  # fmt: skip


def counted(model, work):
    """The cost of some work."""
    modules = {
        "unet": model.unet,
        "encoder": model.unet.down_blocks[0].resnets[0],
        "controlnet": model.controlnet("pose").module,
        "control": model.controlnet("pose").module.controlnet_cond_embedding.conv_in,
        "text": model.parts.text_encoders[0].encoder,
        "image": model.ip_adapter().encoder,
        "decoded": model.vae.decoder,
    }
    counts = dict.fromkeys(modules, 0)

    def count(name):
        def note(*_):
            counts[name] += 1

        return note

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_pre_hook(count(name)).remove)
        work()
    return Cost(**counts)


@pytest.mark.parametrize("move", MOVES)
def test_a_change_costs_what_it_reaches_and_no_more(model, move):
    change, cost = MOVES[move]
    bench = Bench(model)
    bench.ask(BASE)
    assert counted(model, lambda: bench.ask(BASE.replace(**change))) == cost
    assert at_rest(bench, BASE.replace(**change))


@pytest.mark.parametrize("move", BESIDE)
def test_what_else_acts_on_attention_is_not_taken_for_the_same(model, move):
    base, change, cost = BESIDE[move]
    bench = Bench(model)
    bench.ask(base)
    assert counted(model, lambda: bench.ask(base.replace(**change)))[:3] == cost
    assert at_rest(bench, base.replace(**change))


@pytest.mark.slow
def test_a_control_s_weight_moved_at_the_same_step_again_begins_with_the_decoder(model):
    bench = Bench(model)
    bench.ask(BASE)
    for last in (0.1, 0.3):
        moved = BASE.replace(**pose(weight=ctrl.curve((0, 0.8), (0.5, 0.8), (1, last))))
        cost = counted(model, lambda moved=moved: bench.ask(moved))
        again = last == 0.3
        assert cost == Cost(N - HALF, N - HALF - again, N - HALF - again)
        assert at_rest(bench, moved)


@pytest.mark.slow
def test_of_several_earlier_runs_the_one_that_knows_the_next_step_serves(model):
    bench = Bench(model)
    for recipe in (BASE.replace(prompt="a box"), BASE, BASE.replace(seed=8)):
        bench.ask(recipe)
    assert counted(model, lambda: bench.ask(BASE.replace(guidance=7.0))).unet == N - 1
    assert at_rest(bench, BASE.replace(guidance=7.0))


@pytest.mark.slow
def test_what_is_kept_of_a_first_step_is_dropped_for_newer_things(model):
    bench = Bench(model, memory=1 << 20)
    for number in range(30):
        bench.ask(BASE.replace(seed=number))
        assert bench.follower.memory.bytes <= 2 << 20
    assert at_rest(bench, BASE.replace(seed=29))


@pytest.mark.slow
def test_a_distilled_model_reads_its_guidance_so_a_move_of_it_is_a_new_run(model):
    torch.manual_seed(3)
    config = {key: value for key, value in model.unet.config.items() if not key.startswith("_")}
    unet = UNet2DConditionModel(**config | {"time_cond_proj_dim": 16}).eval().requires_grad_(False)
    distilled = ctrl.Model(replace(model.parts, unet=unet), model.extras, device=model.device, dtype=model.dtype)
    plain = RECIPE.replace(styles=[], controls=[POSE])
    bench = Bench(distilled)
    bench.ask(plain)
    for change in ({"guidance": 7.0}, {"controls": [ctrl.Pose(MAP, 0.3)]}):
        cost = counted(distilled, lambda change=change: bench.ask(plain.replace(**change)))
        assert cost.unet == N
        assert at_rest(bench, plain.replace(**change))
    _, second = ctrl.sweep(distilled, plain, {"guidance": [5.0, 7.0]})
    assert np.array_equal(second.image, ctrl.sample(distilled, plain.replace(guidance=7.0)).image)
