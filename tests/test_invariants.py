"""Exactness over random recipes: off is absent, watching changes nothing, and whatever happened leaves no trace.

Runs are compared by the latents and clean latents of every step, to the last bit unless a bound is said.
"""

import itertools
import sys
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from footprint import process, trace
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from variety import (
    BLACK,
    EVERYTHING,
    LEFT,
    LONG,
    MAP,
    OTHER,
    PICTURES,
    PLAIN,
    SIZE,
    SOFT,
    WHITE,
    controls,
    few,
    recipes,
    regions,
    run,
    styles,
    with_guidance,
)

import ctrl
from ctrl.attention import Hooks, sites, tap
from ctrl.guidance import cfg
from ctrl.rows import PromptRows


def plus(name, *more):
    """A change of a recipe: more of some part."""
    return lambda recipe: recipe.replace(**{name: [*getattr(recipe, name), *more]})


def perturbed_by(*more):
    return lambda recipe: with_guidance(recipe, perturb=[*recipe.guidance.perturb, *more])


def each(name, **how):
    """A change of a recipe: every control or every style otherwise."""
    return lambda recipe: recipe.replace(**{name: [replace(part, **how) for part in getattr(recipe, name)]})


BETWEEN = {"start": 0.4, "until": 0.4001}  # narrower than a step
NOTHING = {
    "a control of weight 0": plus("controls", ctrl.Edges(OTHER, 0.0), ctrl.Depth(MAP, ctrl.hold(0))),
    "a control whose window has no step": plus("controls", ctrl.Edges(OTHER, ctrl.hold(1, **BETWEEN))),
    "a control whose window has no noise": plus("controls", ctrl.Edges(OTHER, ctrl.hold(1, **BETWEEN, by="noise"))),
    "a control under a mask of zeros": plus("controls", ctrl.Depth(OTHER, mask=BLACK)),
    "a control whose blocks are 0": plus("controls", ctrl.Depth(OTHER, blocks=[0] * 7, mode="prompt first")),
    "a style of weight 0": plus("styles", ctrl.Style(MAP, 0.0), ctrl.Style((MAP, OTHER), ctrl.ramp(0, 0))),
    "a style whose window has no step": plus("styles", ctrl.Style(MAP, ctrl.hold(1, **BETWEEN))),
    "a style whose window has no noise": plus("styles", ctrl.Style(MAP, ctrl.hold(1, **BETWEEN, by="noise"))),
    "a style under a mask of zeros": plus("styles", ctrl.Style(MAP, mask=BLACK)),
    "a style whose blocks are 0": plus("styles", ctrl.Style(MAP, blocks={"mid_block": 0.0})),
    "a region of weight 0": plus("regions", ctrl.Region("blue", SOFT, 0.0), ctrl.Region(LONG * 2, LEFT, 0.0)),
    "a region nowhere": plus("regions", ctrl.Region("blue", BLACK)),
    "a LoRA of weight 0": plus("loras", ctrl.Lora("lcm", 0.0)),
    "PAG of weight 0": perturbed_by(ctrl.PAG(0.0), ctrl.PAG(ctrl.hold(2, **BETWEEN))),
    "SEG of weight 0": perturbed_by(ctrl.SEG(0.0), ctrl.SEG(ctrl.hold(2, **BETWEEN, by="noise"), 1.0)),
}


@pytest.mark.parametrize("nothing", NOTHING)
@few(2)
@given(recipe=recipes())
def test_off_is_absent(model, nothing, recipe):
    assert torch.equal(run(model, recipe), run(model, NOTHING[nothing](recipe)))


def test_what_is_off_is_not_even_asked(model):
    def fail(*_):
        raise AssertionError("it was asked")

    asked = [model.controlnet("edges").module, model.ip_adapter().adapter.projection]
    handles = [module.register_forward_pre_hook(fail) for module in asked]
    try:
        for weight in (0.0, ctrl.hold(0), ctrl.hold(1, **BETWEEN), ctrl.hold(1, **BETWEEN, by="noise")):
            off = PLAIN.replace(controls=[ctrl.Edges(OTHER, weight)], styles=[ctrl.Style(MAP, weight)])
            assert torch.equal(run(model, off), run(model, PLAIN))
        for part in ({"controls": [ctrl.Edges(OTHER)]}, {"styles": [ctrl.Style(MAP)]}):
            with pytest.raises(AssertionError, match="it was asked"):
                run(model, PLAIN.replace(**part))
    finally:
        for handle in handles:
            handle.remove()


@few(4)
@given(recipe=recipes())
def test_all_that_is_off_at_once_is_absent(model, recipe):
    changed = recipe
    for change in NOTHING.values():
        changed = change(changed)
    assert torch.equal(run(model, recipe), run(model, changed))


def all_sites(model):
    return {site.name.removeprefix("unet."): 1.0 for site in sites(model.unet)}


def weighed_by(change):
    """A change of a recipe: the weights of controls and styles that are numbers, otherwise said."""

    def otherwise(part):
        return part if isinstance(part.weight, ctrl.Schedule) else replace(part, weight=change(part.weight))

    return lambda recipe: recipe.replace(
        controls=[otherwise(part) for part in recipe.controls], styles=[otherwise(part) for part in recipe.styles]
    )


def halved(part):
    """One that acts for the first half of the run, and the same for the second."""
    if isinstance(part.weight, ctrl.Schedule):
        return [part]
    first, second = ctrl.hold(part.weight, until=0.5), ctrl.hold(part.weight, start=0.5)
    return [replace(part, weight=first), replace(part, weight=second)]


SAME = {
    "controls under a mask of ones": (each("controls", mask=None), each("controls", mask=WHITE)),
    "blocks of ones": (each("controls", blocks=None), each("controls", blocks=[1] * 7)),
    "the mode's own uncond": (
        each("controls", uncond=None),
        lambda r: r.replace(controls=[replace(one, uncond=float(one.mode != "control first")) for one in r.controls]),
    ),
    "a style in no block but its own": (
        each("styles", blocks={"mid_block": 0.5, "up_blocks.1": 1.0}),
        each("styles", blocks={"mid_block": 0.5, "up_blocks": 0.0, "up_blocks.1": 1.0}),
    ),
    "a guidance map of ones": (partial(with_guidance, map=None), partial(with_guidance, map=WHITE)),
    "no rescale in another space": (
        partial(with_guidance, rescale=0.0, rescale_in="v"),
        partial(with_guidance, rescale=0.0, rescale_in="x0"),
    ),
    "a strength of nothing": (
        lambda r: r.replace(image=None, mask=None, strength=0.3),
        lambda r: r.replace(image=None, mask=None, strength=0.9),
    ),
    "weights held": (lambda r: r, weighed_by(ctrl.hold)),
    "weights ramped to themselves": (lambda r: r, weighed_by(lambda weight: ctrl.ramp(weight, weight))),
    "a window and a curve that falls": (
        weighed_by(lambda weight: ctrl.hold(weight, until=0.5)),
        weighed_by(lambda weight: ctrl.ramp(weight, 0)),
    ),
    "a window and its two halves": (
        lambda r: r.replace(controls=r.controls[:1], styles=r.styles[:1], sampler="dpm++ 2m", image=None, mask=None),
        lambda r: r.replace(
            controls=halved(r.controls[0]), styles=halved(r.styles[0]), sampler="dpm++ 2m", image=None, mask=None
        ),
    ),
    "words of weight 1": (lambda r: r.replace(prompt="a red ball"), lambda r: r.replace(prompt="a (red:1) ball")),
    "the negative prompt without guidance": (
        lambda r: with_guidance(r.replace(negative=""), weight=1.0),
        lambda r: with_guidance(r.replace(negative=LONG * 2), weight=ctrl.ramp(1, 0)),
    ),
    "a recipe that was written down": (lambda r: r, lambda r: ctrl.Recipe.from_json(r.to_json())),
}


@pytest.mark.parametrize("pair", SAME)
@few(3)
@given(recipe=recipes(least=1))
def test_what_says_the_same_is_the_same(model, pair, recipe):
    one, other = (change(recipe) for change in SAME[pair])
    if pair == "a window and a curve that falls":  # is one over two evaluations
        one, other = (each_run.replace(sampler="ddim", image=None, mask=None) for each_run in (one, other))
    assert torch.equal(run(model, one), run(model, other))


@few(3)
@given(recipe=recipes(least=1))
def test_every_site_by_its_name_is_all(model, recipe):
    recipe = each("styles", blocks="all")(recipe)
    named = recipe.replace(styles=[replace(one, blocks=all_sites(model)) for one in recipe.styles])
    assert torch.equal(run(model, recipe), run(model, named))


@few(6)
@given(recipe=recipes(least=1), data=st.data())
def test_order_is_of_no_consequence(model, recipe, data):
    recipe = recipe.replace(controls=[*recipe.controls, ctrl.Edges(OTHER, 0.7), ctrl.Depth(MAP, 0.3)])
    recipe = plus("loras", ctrl.Lora("lcm", 0.25))(plus("styles", ctrl.Style(MAP, 0.9, blocks="layout"))(recipe))
    mixed = {name: data.draw(st.permutations(getattr(recipe, name))) for name in ("controls", "styles", "loras")}
    assert torch.equal(run(model, recipe), run(model, recipe.replace(**mixed)))


NEAR = {  # what sums of other orders may differ by, in latents of standard deviation near 1
    # a bicubic filter of ones is not 1
    "styles under a mask of ones": (each("styles", mask=None), each("styles", mask=WHITE), 1e-4),
    "a mask of ones over what is made anew in part": (  # image to image and inpainting lay their pixels out otherwise
        lambda r: r.replace(image=OTHER, mask=None, strength=0.5),
        lambda r: r.replace(image=OTHER, mask=WHITE, strength=0.5),
        1e-4,
    ),
    "a picture shown twice": (
        each("styles", picture=MAP, combine="concat"),
        each("styles", picture=(MAP, MAP), combine="concat"),
        1e-4,
    ),
    "a picture averaged with itself": (
        each("styles", picture=MAP, combine="concat"),
        each("styles", picture=(MAP, MAP), combine="average"),
        1e-4,
    ),
    "a control in two halves": (
        lambda r: r.replace(controls=[ctrl.Depth(MAP, 1.0)]),
        lambda r: r.replace(controls=[ctrl.Depth(MAP, 0.5), ctrl.Depth(MAP, 0.5)]),
        1e-4,
    ),
    "guidance just above 1": (
        lambda r: r.replace(guidance=1.0),
        lambda r: r.replace(guidance=1 + 1e-7, negative="blue"),
        1e-4,
    ),
    "guidance under a map of zeros": (
        lambda r: with_guidance(r, weight=1.0, rescale=0.0, apg=None, zero=None),
        lambda r: with_guidance(r.replace(negative="blue"), weight=5.0, rescale=0.0, apg=None, zero=None, map=BLACK),
        1e-4,
    ),
    "APG that keeps everything": (
        lambda r: with_guidance(r, apg=None),
        lambda r: with_guidance(r, apg=ctrl.APG(eta=1.0, momentum=0.0, threshold=0.0)),
        1e-3,
    ),
}


@pytest.mark.parametrize("pair", NEAR)
@few(3)
@given(recipe=recipes(least=1))
def test_what_says_nearly_the_same_is_nearly_the_same(model, pair, recipe):
    *changes, bound = NEAR[pair]
    one, other = (run(model, change(recipe)) for change in changes)
    assert (one - other).abs().max() <= bound * one.abs().max()


@pytest.mark.slow
def test_every_part_of_a_recipe_matters(model):
    found = run(model, EVERYTHING)
    for name in ("controls", "styles"):
        for left in ([], getattr(EVERYTHING, name)[:1], getattr(EVERYTHING, name)[1:]):
            assert not torch.equal(run(model, EVERYTHING.replace(**{name: left})), found)
    others = [{"prompt": "a red ball"}, {"negative": ""}, {"regions": []}, {"loras": []}, {"mask": None}, {"seed": 8}]
    others += [{"guidance": replace(EVERYTHING.guidance, **{name: 0})} for name in ("weight", "rescale")]
    others += [{"guidance": replace(EVERYTHING.guidance, perturb=[one])} for one in EVERYTHING.guidance.perturb]
    for changes in others:
        assert not torch.equal(run(model, EVERYTHING.replace(**changes)), found), changes


@few(6)
@given(recipe=recipes())
def test_the_same_recipe_is_the_same_picture_and_stays_as_it_was(model, recipe):
    given, written = [picture.copy() for picture in (*PICTURES, SOFT, LEFT)], recipe.to_json()
    first = run(model, recipe)
    assert torch.equal(run(model, recipe), first)
    assert recipe.to_json() == written
    assert all(np.array_equal(*pair) for pair in zip(given, (*PICTURES, SOFT, LEFT), strict=True))


def test_the_models_own_size_is_none(model):
    width, height = model.size
    own, said = PLAIN.replace(width=None, height=None), PLAIN.replace(width=width, height=height)
    assert torch.equal(run(model, own), run(model, said))


@few(5)
@given(recipe=recipes(least=1))
def test_watching_changes_nothing(model, recipe):
    recipe = with_guidance(recipe, zero=None)  # which may ask the U-Net nothing
    expected, seen = run(model, recipe), []

    def watch(call, terms):
        seen.append((call.site, float(call.q.sum()), float(call.k.sum()), [float(term.v.sum()) for term in terms]))

    unet = model.with_loras([(lora.name, lora.weight) for lora in recipe.loras]).unet
    places, hooks = sites(unet, kind="all"), Hooks(observers=[watch])
    with tap(places, hooks), tap(places, hooks):
        watched = run(model, recipe)
    assert torch.equal(watched, expected)
    assert {site for site, *_ in seen} == {site.name for site in sites(model.unet)}


def test_watching_controlnets_changes_nothing(model):
    expected, seen = run(model, EVERYTHING), set()
    net = model.controlnet("pose")
    with tap(net.sites, Hooks(observers=[lambda call, terms: seen.add(call.site)])):
        assert torch.equal(run(model, EVERYTHING), expected)
    assert seen == {site.name for site in net.sites if site.kind == "cross"}


@few(4)
@given(recipe=recipes())
def test_looking_between_steps_changes_nothing(model, recipe):
    expected, found = run(model, recipe), []
    for step in ctrl.steps(model, recipe):
        step.preview()
        model.text.encode("something else")
        run(model, EVERYTHING.replace(steps=1))  # another run within this one
        found += [step.latents, step.denoised]
    assert torch.equal(torch.cat(found), expected)


def test_a_control_without_uncond_by_hand(model):
    recipe = PLAIN.replace(controls=[ctrl.Depth(MAP, 0.8, uncond=0.0)], guidance=4.0, sampler="ddim", negative="blue")
    found = run(model, recipe)
    generators = [torch.Generator().manual_seed(recipe.seed)]
    solver = model.solver("ddim", "default", recipe.steps, generators)
    cond, uncond = (model.text.rows([model.text.encode(text)]) for text in (recipe.prompt, recipe.negative))
    both, net = PromptRows(torch.cat([uncond.embeds, cond.embeds])), model.controlnet("depth")
    hint = torch.from_numpy(recipe.controls[0].hint(SIZE, SIZE).transpose(2, 0, 1)[None].copy())
    embedded = net.embed(hint)
    latents = model.noise(generators, SIZE, SIZE) * solver.init_sigma
    for index, t in enumerate(solver.timesteps):
        given = net.residuals(latents, t, cond, embedded, Hooks())
        residuals = tuple(torch.cat([torch.zeros_like(one), 0.8 * one]) for one in given)
        rows = solver.scale(torch.cat([latents] * 2), index)
        without, told = model.denoiser.predict(rows, t, both, residuals, Hooks()).chunk(2)
        guided = cfg(told, without, 4.0)
        latents, _ = solver.step(guided, index, latents)
        assert torch.equal(found[2 * index], latents[0])


@few(4)
@given(recipe=recipes(), data=st.data())
def test_many_are_near_each(model, recipe, data):
    changes = st.fixed_dictionaries(
        {"prompt": st.sampled_from(["a red ball", "(blue:1.2) hat", LONG]), "seed": st.integers(0, 9)}
    )
    batch = [recipe.replace(**data.draw(changes)) for _ in range(3)]
    for shot, each_recipe in zip(ctrl.sample_many(model, batch), batch, strict=True):
        single = np.asarray(ctrl.sample(model, each_recipe).image).astype(int)
        assert np.abs(np.asarray(shot.image) - single).max() <= 2  # of 255


@few(4)
@given(one=recipes(), other=recipes(least=1))
def test_runs_taken_in_turns_are_as_if_alone(model, one, other):
    expected = [run(model, recipe) for recipe in (one, other)]
    found = [[], []]
    for pair in itertools.zip_longest(*(ctrl.steps(model, recipe) for recipe in (one, other))):
        for own, step in zip(found, pair, strict=True):
            own += [] if step is None else [step.latents, step.denoised]
    assert all(torch.equal(torch.cat(own), alone) for own, alone in zip(found, expected, strict=True))


@few(3)
@given(given=st.lists(recipes(), min_size=2, max_size=2))
def test_threads_are_as_if_alone(model, given):
    given = [*given, EVERYTHING]
    expected = [run(model, recipe) for recipe in given]
    found, barrier, switching = {}, threading.Barrier(len(given)), sys.getswitchinterval()

    def work(at):
        barrier.wait(60)
        found[at] = [run(model, given[at]) for _ in range(2)]

    threads = [threading.Thread(target=work, args=(at,), daemon=True) for at in range(len(given))]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    finally:
        sys.setswitchinterval(switching)
    assert sorted(found) == [0, 1, 2]
    assert all(torch.equal(one, expected[at]) for at, own in found.items() for one in own)


def test_the_first_run_of_a_model_is_as_any_and_draws_no_one_elses_numbers(folder, model):
    fresh = ctrl.load(folder, device="cpu")
    before = process()
    assert torch.equal(run(fresh, EVERYTHING), run(model, EVERYTHING))  # loads its ControlNets, its adapter, its LoRA
    assert process() == before
    assert torch.equal(run(fresh, PLAIN), run(model, PLAIN))


class Stopped(Exception):
    """Raised in a run from outside."""


class Machine(RuleBasedStateMachine):
    """A recipe that parts come to and go from, and runs of it that end in every way."""

    def __init__(self, model, expected, before):
        super().__init__()
        self.model, self.expected, self.before = model, expected, before

    @initialize(recipe=recipes())
    def begin(self, recipe):
        self.recipe = recipe
        self.process = process()

    @rule(part=controls)
    def attach_control(self, part):
        self.recipe = self.recipe.replace(controls=[*self.recipe.controls[-2:], part])

    @rule(part=styles)
    def attach_style(self, part):
        self.recipe = self.recipe.replace(styles=[*self.recipe.styles[-2:], part])

    @rule(part=regions)
    def attach_region(self, part):
        self.recipe = self.recipe.replace(regions=[*self.recipe.regions[-1:], part])

    @rule(weight=st.sampled_from([0.5, 1.0]))
    def attach_lora(self, weight):
        self.recipe = self.recipe.replace(loras=[ctrl.Lora("lcm", weight)])

    @rule(name=st.sampled_from(["controls", "styles", "regions", "loras"]))
    def detach(self, name):
        self.recipe = self.recipe.replace(**{name: getattr(self.recipe, name)[1:]})

    @rule()
    def run_to_the_end(self):
        assert ctrl.sample(self.model, self.recipe).recipe == self.recipe

    @rule(at=st.integers(0, 1), keep=st.booleans())
    def cancel(self, at, keep):
        steps = ctrl.steps(self.model, self.recipe)
        next(itertools.islice(steps, at, None), None)
        self.left = steps if keep else steps.close()  # a run left standing holds nothing

    @rule(at=st.integers(0, 1))
    def run_into_a_callback_that_raises(self, at):
        def stop(step):
            if step.index >= min(at, step.count - 1):
                raise Stopped(at)

        with pytest.raises(Stopped):
            ctrl.sample(self.model, self.recipe, on_step=stop)

    @rule(
        wrong=st.sampled_from(
            [
                {"controls": [ctrl.Control("scribble", MAP)]},
                {"controls": [ctrl.Depth(MAP, blocks=[1, 1])]},
                {"styles": [ctrl.Style(MAP, blocks={"nowhere": 1.0})]},
                {"styles": [ctrl.Style(MAP, adapter="other")]},
                {"loras": [ctrl.Lora("other")]},
                {"width": 34, "height": 34},
                {"sampler": "flow euler"},
                {"guidance": ctrl.Guidance(3.0, perturb=[ctrl.PAG(1.0, "nowhere")])},
            ]
        )
    )
    def be_refused(self, wrong):
        with pytest.raises(ValueError, match=r"\w+ \w+"):
            ctrl.sample(self.model, self.recipe.replace(**wrong))

    @rule(part=st.sampled_from(["mid_block", "down_blocks.0", "up_blocks.2.attentions.0", "conv_out"]))
    def fail_within(self, part):
        def fail(*_):
            raise Stopped(part)

        unet = self.model.with_loras([(lora.name, lora.weight) for lora in self.recipe.loras]).unet
        handle = unet.get_submodule(part).register_forward_pre_hook(fail)
        try:
            with pytest.raises(Stopped):
                ctrl.sample(self.model, with_guidance(self.recipe, zero=None))
        finally:
            handle.remove()

    @invariant()
    def nothing_is_left_behind(self):
        if hasattr(self, "process"):
            assert process() == self.process
        now = trace(self.model)
        assert (now.digest, process()) == (self.before.digest, now.process)
        assert all(map(lambda a, b: a is b, now.held, self.before.held))
        assert torch.equal(run(self.model, PLAIN), self.expected)


def test_whatever_happens_leaves_no_trace(model):
    expected = run(model, PLAIN)
    ctrl.sample(model, EVERYTHING.replace(controls=[*EVERYTHING.controls, ctrl.Edges(MAP)]))
    model.with_loras([("lcm", 0.25)])
    run_state_machine_as_test(
        lambda: Machine(model, expected, trace(model)),
        settings=settings(few(5), stateful_step_count=8),
    )
