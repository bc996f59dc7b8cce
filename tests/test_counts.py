"""What a run costs, counted: evaluations, rows, projections and aten operations, beside diffusers' for the same work.

What is the same at every step is found by the difference between a longer and a shorter run, so that setting up and
decoding fall out.
"""

from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from beside import beside, each_step
from PIL import Image
from torch.overrides import TorchFunctionMode

import ctrl
from ctrl.attention import sites
from ctrl.memory import Memory
from ctrl.model.samplers import TABLE
from ctrl.sampling import sample_many

rng = np.random.default_rng(0)
MAP, OTHER, REFERENCE = (Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)) for _ in range(3))
LEFT = np.zeros((64, 64), np.uint8)
LEFT[:, :32] = 255
STEPS = 4
RECIPE = ctrl.Recipe("a red ball", negative="blue", steps=STEPS, seed=3)
PERTURB = {"pag": ctrl.PAG(2.0), "seg": ctrl.SEG(2.0), "early": ctrl.PAG(ctrl.hold(2.0, until=0.5))}
CROSSING = ctrl.hold(6.0, start=0.5)  # two steps of one row, two of two
EVERYTHING = RECIPE.replace(
    guidance=ctrl.Guidance(6.0, rescale=0.5, map=LEFT, apg=ctrl.APG(), perturb=[PERTURB["pag"], PERTURB["seg"]]),
    regions=[ctrl.Region("a (green:1.2) box", LEFT)],
    controls=[ctrl.Pose(MAP, 0.7, mask=LEFT, mode="prompt first"), ctrl.Depth(OTHER, mask=LEFT, uncond=0.5)],
    styles=[ctrl.Style(REFERENCE, 0.7, mask=LEFT), ctrl.Style([MAP, OTHER], 0.5)],
)


@contextmanager
def rows(module):
    """The rows of every call of a module, in their order."""
    seen = []
    handle = module.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(next(iter([*args, *kwargs.values()])))), with_kwargs=True
    )
    try:
        yield seen
    finally:
        handle.remove()


class Linears(TorchFunctionMode):
    """How often each weight was multiplied with."""

    def __init__(self):
        super().__init__()
        self.by_weight = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.linear:
            self.by_weight[id(args[1])] += 1
        return func(*args, **(kwargs or {}))

    def of(self, weights):
        return {self.by_weight[id(weight)] for weight in weights}


class Forgetting(Memory):
    """Keeps nothing, or nothing of the keys that begin with a word."""

    def __init__(self, word=None):
        super().__init__(limit=None)
        self.word = word

    def __call__(self, key, make):
        return make() if self.word in (None, key[0]) else super().__call__(key, make)


def last(model, recipe, memory=None):
    *_, step = ctrl.steps(model, recipe, memory=memory)
    return step.latents


# Evaluations and their rows


FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}
EVALUATIONS = [
    *((row.name, {}, STEPS) for row in TABLE if row.name not in ("heun", "pndm", "flow euler")),
    ("heun", {}, 2 * STEPS - 1),
    ("pndm", {"skip_prk_steps": True}, STEPS + 1),  # Stable Diffusion's
    ("pndm", {"skip_prk_steps": False}, STEPS + 9),  # three Runge-Kutta steps of four first
    ("flow euler", FLOW, STEPS),
]


@pytest.mark.parametrize(("sampler", "schedule", "expected"), EVALUATIONS)
def test_each_sampler_evaluates_the_unet_as_often_as_it_should(model, sampler, schedule, expected):
    own = dict(model.parts.scheduler) | schedule
    model = ctrl.Model(replace(model.parts, scheduler=own), model.extras, device=model.device, dtype=model.dtype)
    with rows(model.unet) as seen:
        steps = list(ctrl.steps(model, RECIPE.replace(sampler=sampler)))
    assert seen == [2] * expected
    assert len(steps) == expected


@pytest.mark.parametrize(("strength", "expected"), [(1.0, 4), (0.8, 3), (0.5, 2)])
def test_what_starts_from_a_picture_evaluates_only_its_part(model, strength, expected):
    for mask in (None, LEFT):
        with rows(model.unet) as seen:
            last(model, RECIPE.replace(image=MAP, mask=mask, strength=strength))
        assert seen == [2] * expected


@pytest.mark.parametrize(
    ("weight", "more", "expected"),
    [
        (1.0, {}, [1, 1, 1, 1]),
        (6.0, {}, [2, 2, 2, 2]),
        (CROSSING, {}, [1, 1, 2, 2]),
        (1.0, {"perturb": [PERTURB["pag"]]}, [2, 2, 2, 2]),
        (6.0, {"perturb": [PERTURB["pag"]]}, [3, 3, 3, 3]),
        (6.0, {"perturb": [PERTURB["pag"], PERTURB["seg"]]}, [4, 4, 4, 4]),
        (6.0, {"perturb": [PERTURB["early"], ctrl.SEG(0.0)]}, [3, 3, 2, 2]),
        (6.0, {"zero": ctrl.CFGZero()}, [2, 2, 2, 2]),
        (6.0, {"zero": ctrl.CFGZero(steps=3), "perturb": [PERTURB["pag"]]}, [3]),
        (6.0, {"apg": ctrl.APG(), "rescale": 0.5, "map": LEFT}, [2, 2, 2, 2]),
    ],
)
def test_a_step_has_the_rows_its_guidance_needs_and_a_silent_one_none(model, weight, more, expected):
    recipe = RECIPE.replace(guidance=ctrl.Guidance(weight, **more))
    with rows(model.unet) as seen:
        last(model, recipe)
        assert seen == expected
        sample_many(model, [recipe, recipe.replace(seed=4, prompt="a box")])
    assert seen == expected + [2 * one for one in expected]


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (1.0, [0, 1, 2, 3]),
        (ctrl.hold(1.0, until=0.5), [0, 1]),
        (ctrl.hold(1.0, start=0.25, until=0.75), [1, 2]),
        (ctrl.hold(1.0, start=0.6, until=0.7), []),
        (ctrl.ramp(1.0, 0.0), [0, 1, 2]),
        (0.0, []),
        (ctrl.hold(0.0), []),
    ],
)
def test_a_controlnet_is_asked_at_the_steps_of_its_window_alone(model, weight, expected):
    acted = []
    with rows(model.controlnet("pose").module) as pose, rows(model.controlnet("depth").module) as depth:
        for step in ctrl.steps(model, RECIPE.replace(controls=[ctrl.Pose(MAP, weight), ctrl.Depth(OTHER)])):
            acted += [step.index] * (len(pose) - len(acted))
    assert (acted, pose) == (expected, [2] * len(expected))
    assert depth == [2] * STEPS


@pytest.mark.parametrize(
    ("guidance", "how", "expected"),
    [
        (1.0, {}, [1, 1, 1, 1]),
        (6.0, {"mode": "prompt first"}, [2, 2, 2, 2]),
        (6.0, {"mode": "control first"}, [1, 1, 1, 1]),
        (6.0, {"uncond": 0.0}, [1, 1, 1, 1]),
        (6.0, {"mode": "control first", "uncond": 0.5}, [2, 2, 2, 2]),
        (CROSSING, {}, [1, 1, 2, 2]),
        (ctrl.Guidance(6.0, perturb=[PERTURB["pag"], PERTURB["seg"]]), {}, [2, 2, 2, 2]),
        (ctrl.Guidance(6.0, zero=ctrl.CFGZero(steps=1)), {}, [2, 2, 2]),
    ],
)
def test_a_controlnet_is_shown_only_rows_that_differ_and_that_it_acts_on(model, guidance, how, expected):
    with rows(model.controlnet("pose").module) as seen:
        last(model, RECIPE.replace(guidance=guidance, controls=[ctrl.Pose(MAP, **how)]))
    assert seen == expected


# What is done once a run


@pytest.mark.parametrize(("guidance", "layouts"), [(1.0, [1]), (6.0, [2]), (CROSSING, [1, 2])])
def test_a_control_picture_is_embedded_once_a_run(model, guidance, layouts):
    with rows(model.controlnet("pose").module.controlnet_cond_embedding.conv_in) as seen:
        for steps in (2, 4):
            seen.clear()
            last(model, RECIPE.replace(guidance=guidance, steps=steps, controls=[ctrl.Pose(MAP)]))
            assert seen == layouts


def test_a_text_is_encoded_once_however_often_it_is_said(model):
    tower = model.parts.text_encoders[0].encoder.get_input_embeddings()  # of ids, one row a text
    again = RECIPE.replace(negative=RECIPE.prompt, regions=[ctrl.Region(RECIPE.prompt, LEFT)])
    others = [RECIPE.replace(seed=seed) for seed in range(3)]
    with rows(tower) as seen:
        for run, expected in [
            (lambda: last(model, RECIPE), 2),
            (lambda: last(model, RECIPE.replace(steps=2)), 2),
            (lambda: last(model, again), 1),
            (lambda: sample_many(model, others), 2),
        ]:
            seen.clear()
            run()
            assert seen == [1] * expected


MANY_STYLES = RECIPE.replace(
    styles=[
        ctrl.Style(REFERENCE, 0.5, negative=MAP),
        ctrl.Style(REFERENCE, ctrl.hold(0.7, until=0.5), mask=LEFT),
        ctrl.Style([REFERENCE, MAP], 0.3, combine="average"),
        ctrl.Style(MAP, 0.2),
    ]
)  # two pictures together are not rounded as they are alone


def test_a_reference_picture_is_encoded_once_for_all_that_are_made_by_it(model):
    styled = RECIPE.replace(styles=[ctrl.Style(REFERENCE)])
    against = RECIPE.replace(styles=[ctrl.Style([REFERENCE, MAP], negative=OTHER)])
    with rows(model.ip_adapter().encoder.vision_model) as seen:  # (pictures, 3, s, s)
        for run, expected in [
            (lambda: last(model, styled), [1]),
            (lambda: last(model, styled.replace(steps=2)), [1]),
            (lambda: last(model, against), [2, 1]),
            (lambda: sample_many(model, [styled, styled.replace(seed=4)]), [1]),
            (lambda: last(model, MANY_STYLES), [1, 1, 2]),
        ]:
            seen.clear()
            run()
            assert seen == expected


def test_a_picture_that_several_styles_show_is_bit_equal_to_encoding_it_for_each(model):
    once = last(model, MANY_STYLES)
    with rows(model.ip_adapter().encoder.vision_model) as seen:
        assert torch.equal(last(model, MANY_STYLES, Forgetting("image embeds")), once)
    assert sorted(seen) == [1, 1, 1, 1, 2]


def weights_of_text(*components):
    return [layer.weight for one in components for site in sites(one) for layer in (site.module.to_k, site.module.to_v)]


def weights_of_style(adapter):
    return [weight for pair in adapter.projections.values() for weight in (pair.to_k, pair.to_v)]


@pytest.mark.parametrize(("guidance", "layouts"), [(1.0, 1), (6.0, 1), (CROSSING, 2)])
def test_keys_and_values_are_projected_once_a_run(model, guidance, layouts):
    adapter = model.ip_adapter().adapter
    recipe = RECIPE.replace(guidance=guidance, controls=[ctrl.Pose(MAP)], styles=[ctrl.Style(REFERENCE)])
    for steps in (2, 4):
        with Linears() as linears:
            last(model, recipe.replace(steps=steps))
        assert linears.of(weights_of_text(model.unet, model.controlnet("pose").module)) == {layouts}
        assert linears.of(weights_of_style(adapter)) == {layouts}
        assert linears.of(adapter.projection.image_embeds.parameters()) == {0, layouts}  # its bias is no factor


def test_what_is_kept_is_bit_equal_to_doing_it_at_every_step(model):
    kept, net = last(model, EVERYTHING), model.controlnet("pose").module
    with Linears() as linears, rows(net.controlnet_cond_embedding.conv_in) as embedded:
        anew = last(model, EVERYTHING, Forgetting())
    # The prompt's and the region's before the call, and the prompt's in it: what forgets makes it another tensor.
    assert linears.of(weights_of_text(net)) == {3 * STEPS}
    assert linears.of(weights_of_style(model.ip_adapter().adapter)) == {2 * STEPS}  # of two styles
    assert len(embedded) == STEPS
    assert torch.equal(kept, anew)


@contextmanager
def encodings(model):
    """All that a run could have kept: what goes into the encoders, and the keys and values of texts and styles."""
    net, adapter = model.controlnet("pose").module, model.ip_adapter()
    encoders = (
        model.parts.text_encoders[0].encoder.get_input_embeddings(),
        net.controlnet_cond_embedding.conv_in,
        adapter.encoder.vision_model,
    )
    with ExitStack() as stack:
        seen = [stack.enter_context(rows(encoder)) for encoder in encoders]
        linears = stack.enter_context(Linears())
        weights = weights_of_text(model.unet, net), weights_of_style(adapter.adapter)
        yield lambda: ([len(one) for one in seen], [linears.of(some) for some in weights])


NOTHING = ([0, 0, 0], [{0}, {0}])
AGAIN = {  # changes of a recipe that need nothing encoded
    "nothing": {},
    "the seed": {"seed": 4},
    "the sampler and more steps": {"sampler": "euler", "steps": 6},
    "the weights of controls": {"controls": [replace(one, weight=0.4) for one in EVERYTHING.controls]},
    "when styles act": {"styles": [replace(one, weight=ctrl.hold(0.9, until=0.5)) for one in EVERYTHING.styles]},
    "no style": {"styles": []},
    "the weight of guidance": {"guidance": replace(EVERYTHING.guidance, weight=3.0, rescale=0.0)},
    "less of it": {"regions": [], "controls": EVERYTHING.controls[:1], "styles": EVERYTHING.styles[1:]},
}


@pytest.fixture(scope="module")
def remembering(model):
    """The memory of one run of everything."""
    memory = Memory()
    last(model, EVERYTHING, memory)
    return memory


@pytest.mark.parametrize("change", AGAIN)
def test_a_memory_that_outlives_a_run_spares_what_was_encoded_and_no_bit_changes(model, remembering, change):
    recipe = EVERYTHING.replace(**AGAIN[change])
    alone = last(model, recipe)
    if change == "less of it":  # without its region a prompt is another set of rows
        last(model, recipe, remembering)
    with encodings(model) as counted:
        assert torch.equal(last(model, recipe, remembering), alone)
        assert counted() == NOTHING


@pytest.mark.slow
def test_a_memory_that_outlives_a_run_encodes_only_what_is_new(model, remembering):
    for change, encoded in (
        ({"prompt": "a box"}, [1, 0, 0]),
        ({"negative": "grey"}, [1, 0, 0]),
        ({"controls": [replace(EVERYTHING.controls[0], picture=REFERENCE)]}, [0, 1, 0]),
        ({"styles": [ctrl.Style([OTHER, REFERENCE])]}, [0, 0, 1]),
        ({"width": 32, "height": 32}, [0, 1, 0]),
    ):
        recipe = EVERYTHING.replace(**change)
        alone = last(model, recipe)
        with encodings(model) as counted:
            assert torch.equal(last(model, recipe, remembering), alone)
            assert counted()[0] == encoded, change


# Beside diffusers


@pytest.fixture(scope="module")
def sides(folder):
    return beside(folder)


CONTROLLED = RECIPE.replace(controls=[ctrl.Pose(MAP, 0.7)])
STYLED = RECIPE.replace(styles=[ctrl.Style(REFERENCE, 0.7)])
WORK = [
    RECIPE.replace(guidance=1.0),
    RECIPE,
    CONTROLLED,
    STYLED,
    CONTROLLED.replace(styles=STYLED.styles),
    CONTROLLED.replace(styles=STYLED.styles, guidance=1.0),
    *(RECIPE.replace(sampler=sampler) for sampler in ("ddim", "euler", "euler a", "heun", "unipc", "lcm")),
]
NAMES = ["unguided", "guided", "control", "style", "both", "both unguided", *(one.sampler for one in WORK[6:])]


@pytest.mark.parametrize("recipe", WORK, ids=NAMES)
def test_a_step_takes_no_more_operations_than_diffusers_and_waits_once_more_for_the_device(sides, recipe):
    assert torch.equal(sides.ours(recipe), sides.theirs(recipe))  # it is the same work
    ours = each_step(lambda steps: sides.ours(recipe.replace(steps=steps)))
    theirs = each_step(lambda steps: sides.theirs(recipe.replace(steps=steps)))
    assert ours.total() <= theirs.total()
    once = 2 if recipe.sampler == "heun" else 1  # for whether the latents are finite
    assert ours["_local_scalar_dense"] <= theirs["_local_scalar_dense"] + once
    assert ours["lift_fresh"] <= theirs["lift_fresh"]  # numbers sent to the device


def test_whatever_acts_a_step_waits_for_the_device_once(model):
    found = each_step(lambda steps: last(model, EVERYTHING.replace(steps=steps)))
    assert (found["_local_scalar_dense"], found["lift_fresh"]) == (1, 0)
    assert [found.get(name) for name in ("upsample_bicubic2d", "_adaptive_avg_pool2d")] == [0, 0]  # masks: once
