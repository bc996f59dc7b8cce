"""Samplers against what is known: diffusers' own loops, and a Gaussian whose every noise level has a closed form.

If pixels are N(mu, s²), then at a level (alpha, sigma) they are N(alpha·mu, alpha²s² + sigma²), the best prediction is
linear in them, and the probability-flow ODE keeps every pixel's number of standard deviations.
"""

import copy
import math
import re
from dataclasses import dataclass
from types import SimpleNamespace

import diffusers
import pytest
import torch

from ctrl import recipe
from ctrl.model.samplers import SPACINGS, TABLE
from ctrl.model.solver import Solver
from ctrl.predictions import KINDS

NOISE = {  # Stable Diffusion 1.5's
    "_class_name": "PNDMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
SAMPLERS = tuple(row.name for row in TABLE)
VP = [name for name in SAMPLERS if name != "flow euler"]
ODE = ["ddim", "pndm", "euler", "heun", "dpm++ 2m", "unipc"]
SDE = ["ddpm", "euler a", "dpm++ 2m sde", "dpm++ sde", "lcm", "tcd"]


@dataclass(frozen=True)
class Gaussian:
    mu: torch.Tensor | float
    s: torch.Tensor | float

    def std(self, level):
        return (level.alpha**2 * self.s**2 + level.sigma**2) ** 0.5

    def at(self, level, z):
        """What is `z` standard deviations from the mean at this level."""
        return level.alpha * self.mu + self.std(level) * z

    def predict(self, level, sample, kind):
        x = sample.double()
        pull = level.alpha * self.s**2 / self.std(level) ** 2
        clean = self.mu + pull * (x - level.alpha * self.mu)
        return level.convert(clean, x, have="sample", want=kind).to(sample)


PIXELS = Gaussian(torch.linspace(-1, 1, 16).view(1, 1, 4, 4).double(), torch.linspace(1.5, 0.2, 16).view(1, 1, 4, 4))


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def config(sampler, kind):
    return FLOW if sampler == "flow euler" else {**NOISE, "prediction_type": kind}


def start(solver, data, z):
    """Latents that are `z` standard deviations from the mean where the run begins."""
    return (data.at(solver.level(0), z) / solver.scale(torch.ones(1), 0)).float()


def walk(solver, data, latents, until=None):
    """The latents after every step before `until`."""
    for index in range(len(solver.timesteps) if until is None else until):
        prediction = data.predict(solver.level(index), solver.scale(latents, index), solver.kind)
        latents, _ = solver.step(prediction, index, latents)
    return latents


def error(sampler, spacing, conf, steps, stop):
    """How far the run is from the ODE's solution at timestep `stop`, or at the last one for None.

    Not at 0: the last step of every sampler here jumps from its lowest noise to none, whatever their number.
    """
    solver = Solver.of(sampler, spacing, conf, steps, "cpu", [])
    z = torch.randn(1, 1, 4, 4, generator=seeded(1)[0], dtype=torch.float64)
    index = len(solver.timesteps) - 1 if stop is None else int((solver.timesteps == stop).nonzero()[-1])
    latents = walk(solver, PIXELS, start(solver, PIXELS, z), index)
    return (solver.scale(latents, index) - PIXELS.at(solver.level(index), z)).abs().max().item()


def slopes(sampler, spacing, conf, counts, stop):
    errors = [error(sampler, spacing, conf, steps, stop) for steps in counts]
    assert errors[-1] > 1e-6  # else it is float32's rounding that is measured
    return [math.log(errors[i] / errors[i + 1]) / math.log(counts[i + 1] / counts[i]) for i in range(len(counts) - 1)]


# UniPC's corrector makes a 3 of its solver_order of 2; PNDM's formula of four steps starts with order 2 and keeps it.
@pytest.mark.parametrize(
    ("sampler", "order"), [("ddim", 1), ("euler", 1), ("heun", 2), ("dpm++ 2m", 2), ("unipc", 3), ("pndm", 2)]
)
@pytest.mark.parametrize("kind", KINDS[:3])
def test_halving_the_steps_divides_the_error_by_two_to_the_order(sampler, order, kind):
    if (sampler, kind) == ("pndm", "v_prediction"):
        order = 1  # diffusers averages v over the steps and only then makes it ε
    # 1000 is divisible by these, so that timesteps are even and 199 is among them. The measured slopes lie within 0.3
    # of the order: it is reached in the limit, and these are few steps.
    for slope in slopes(sampler, "trailing", config(sampler, kind), (20, 40, 100), 199):
        assert abs(slope - order) < 0.35


@pytest.mark.parametrize("spacing", ["karras", "exponential"])
@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2), ("dpm++ 2m", 2), ("unipc", 3)])
def test_orders_hold_where_steps_are_spaced_by_noise(sampler, order, spacing):
    conf = {**config(sampler, "epsilon"), "timestep_spacing": "linspace"}  # the same ends for any number of steps
    for slope in slopes(sampler, spacing, conf, (20, 40, 80), None):
        assert abs(slope - order) < 0.35


@pytest.mark.parametrize("spacing", ["default", "karras", "exponential"])
def test_flow_matching_euler_has_order_one(spacing):
    for slope in slopes("flow euler", spacing, FLOW, (20, 40, 80), None):
        assert abs(slope - 1) < 0.1


@pytest.mark.parametrize("sampler", SDE)
def test_stochastic_samplers_keep_the_known_mean_and_variance_of_a_point(sampler):
    # Of data in one point x₀ is known at any level, and each of these samplers is exact with any number of steps.
    point = Gaussian(0.7, 0.0)
    solver = Solver.of(sampler, "default", config(sampler, "epsilon"), 6, "cpu", seeded(0))
    latents = start(solver, point, torch.randn(1, 1, 128, 128, generator=seeded(1)[0]))
    for index in range(len(solver.timesteps)):
        level, sample = solver.level(index), solver.scale(latents, index)
        many, var = sample.numel(), level.sigma**2
        assert abs(sample.mean().item() - 0.7 * level.alpha) < 4 * (var / many) ** 0.5  # four standard errors
        assert abs(sample.var().item() - var) < 4 * var * (2 / many) ** 0.5
        latents, _ = solver.step(point.predict(level, sample, solver.kind), index, latents)
    assert latents.std() < 0.05


@pytest.mark.parametrize("sampler", ["ddpm", "euler a", "dpm++ 2m sde", "dpm++ sde"])
def test_stochastic_samplers_come_nearer_to_the_variance_with_more_steps(sampler):
    def shortfall(steps):
        conf = {**config(sampler, "epsilon"), "timestep_spacing": "linspace"}
        solver = Solver.of(sampler, "default", conf, steps, "cpu", seeded(0))
        data = Gaussian(0.7, 0.5)
        latents = walk(solver, data, start(solver, data, torch.randn(1, 1, 128, 128, generator=seeded(1)[0])))
        assert abs(latents.mean().item() - 0.7) < 5 * 0.5 / 128
        return 1 - latents.var().item() / 0.25

    few, many = shortfall(10), shortfall(80)
    assert abs(many) < 0.2  # order one in distribution: DDPM lacks about 10 / steps of the variance
    assert abs(many) < few / 2.5


def theirs(sampler, spacing, conf, steps, strength, clean, noise):
    """What diffusers' pipelines do with a scheduler, from a picture or, at strength None, from noise."""
    row = next(row for row in TABLE if row.name == sampler)
    options = dict(row.options)
    options |= {"karras": {"use_karras_sigmas": True}, "exponential": {"use_exponential_sigmas": True}}.get(spacing, {})
    options |= {"timestep_spacing": "trailing"} if spacing == "trailing" else {}
    scheduler = getattr(diffusers, row.scheduler).from_config(conf, **options)
    scheduler.set_timesteps(steps)
    pipe, timesteps = SimpleNamespace(scheduler=scheduler), scheduler.timesteps
    flow = sampler == "flow euler"
    if strength is None:
        latents = noise * (1.0 if flow else scheduler.init_noise_sigma)
    else:
        kind = diffusers.StableDiffusion3Img2ImgPipeline if flow else diffusers.StableDiffusionImg2ImgPipeline
        timesteps, _ = kind.get_timesteps(pipe, steps, strength, "cpu")
        times = timesteps[:1].repeat(len(clean))
        latents = scheduler.scale_noise(clean, times, noise) if flow else scheduler.add_noise(clean, noise, times)
    first, extra = latents, {}
    if not flow:
        eta = 0.3 if sampler == "tcd" else 0.0
        extra = diffusers.StableDiffusionPipeline.prepare_extra_step_kwargs(pipe, seeded(0, 1), eta)
    for t in timesteps:
        sample = latents if flow else scheduler.scale_model_input(latents, t)
        latents = scheduler.step(network(sample, t), t, latents, **extra, return_dict=False)[0]
    return timesteps, first, latents


def network(sample, t):
    """Any function will do for a model."""
    return torch.sin(sample * 3 + t / 500)


def test_a_recipe_knows_the_samplers_and_spacings_that_there_are():
    assert recipe.SAMPLERS == SAMPLERS
    assert recipe.SPACINGS == SPACINGS


def pairs():
    return [(row.name, spacing) for row in TABLE for spacing in row.spacings]


@pytest.mark.quick(strength=[None, 0.6])
@pytest.mark.parametrize("strength", [None, 1.0, 0.6])
@pytest.mark.parametrize(("sampler", "spacing"), pairs())
def test_every_number_is_that_of_diffusers_pipelines(sampler, spacing, strength):
    clean, noise = torch.randn(2, 2, 4, 3, 3, generator=seeded(5)[0])
    for kind in ("epsilon", "v_prediction"):
        conf = config(sampler, kind)
        times, first, last = theirs(sampler, spacing, conf, 8, strength, clean, noise)
        solver = Solver.of(sampler, spacing, conf, 8, "cpu", seeded(0, 1), strength=strength or 1.0)
        latents = noise * solver.init_sigma if strength is None else solver.add_noise(clean, noise, 0)
        assert torch.equal(solver.timesteps, times)
        assert torch.equal(latents, first)
        for index, t in enumerate(solver.timesteps):
            latents, _ = solver.step(network(solver.scale(latents, index), t), index, latents)
        assert torch.equal(latents, last)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_runs_with_every_spacing_or_refuses_it_in_a_sentence(sampler, spacing):
    spacings = next(row.spacings for row in TABLE if row.name == sampler)
    for kind in KINDS[:3] if sampler != "flow euler" else KINDS[3:]:
        if spacing not in spacings:
            with pytest.raises(
                ValueError, match=re.escape(f"sampler '{sampler}' has no '{spacing}' spacing; accepted: ")
            ):
                Solver.of(sampler, spacing, config(sampler, kind), 5, "cpu", [])
            continue
        for steps in (1, 2, 3, 4, 5, 20):
            solver = Solver.of(sampler, spacing, config(sampler, kind), steps, "cpu", seeded(0))
            assert solver.kind == kind
            latents = torch.randn(1, 1, 4, 4, generator=seeded(1)[0]) * solver.init_sigma
            assert walk(solver, PIXELS, latents).abs().max() < 10  # neither NaN nor large


@pytest.mark.parametrize("sampler", VP)
def test_zero_terminal_snr_stays_finite(sampler):
    conf = {**config(sampler, "v_prediction"), "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    for steps in (1, 5):
        solver = Solver.of(sampler, "default", conf, steps, "cpu", seeded(0))
        latents = torch.randn(1, 1, 4, 4, generator=seeded(1)[0]) * solver.init_sigma
        assert walk(solver, PIXELS, latents).abs().max() < 10
        assert solver.level(0).time == 1


@pytest.mark.parametrize("sampler", SDE)
def test_a_batch_is_bit_equal_to_its_pictures_alone(sampler):
    noise = torch.randn(3, 4, 5, 5, generator=seeded(7)[0])

    def run(latents, *seeds):
        solver = Solver.of(sampler, "default", config(sampler, "v_prediction"), 5, "cpu", seeded(*seeds))
        latents = latents * solver.init_sigma
        for index, t in enumerate(solver.timesteps):
            latents, _ = solver.step(network(solver.scale(latents, index), t), index, latents)
        return latents

    together = run(noise, 3, 4, 5)
    for at, seed in enumerate((3, 4, 5)):
        assert torch.equal(together[at : at + 1], run(noise[at : at + 1], seed))
    assert not torch.equal(together[:1], run(noise[:1], 4))


@pytest.mark.parametrize("kind", KINDS[:3])
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "lcm"])
def test_a_step_says_what_the_prediction_stands_for(sampler, kind):
    solver = Solver.of(sampler, "default", config(sampler, kind), 5, "cpu", seeded(0))
    latents = torch.randn(1, 4, 3, 3, generator=seeded(1)[0]) * solver.init_sigma
    for index, t in enumerate(solver.timesteps):
        sample = solver.scale(latents, index)
        prediction = network(sample, t)
        latents, denoised = solver.step(prediction, index, latents)
        expected = solver.level(index).convert(prediction, sample, have=solver.kind, want="sample")
        torch.testing.assert_close(denoised, expected, rtol=1e-4, atol=1e-4)


def test_lcm_believes_in_what_it_goes_on_from():
    solver = Solver.of("lcm", "default", config("lcm", "epsilon"), 1, "cpu", seeded(0))
    latents, denoised = solver.step(torch.ones(1, 4, 3, 3), 0, torch.ones(1, 4, 3, 3))
    assert torch.equal(latents, denoised)


@pytest.mark.parametrize("sampler", ["pndm", "euler a"])
def test_what_predicts_the_clean_runs_where_diffusers_reads_only_noise(sampler):
    ends = []
    for kind in ("epsilon", "sample"):
        solver = Solver.of(sampler, "default", config(sampler, kind), 10, "cpu", seeded(0))
        latents = torch.randn(1, 1, 4, 4, generator=seeded(1)[0]) * solver.init_sigma
        ends.append(walk(solver, PIXELS, latents))
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_noise_is_added_and_scaled_at_any_step_of_a_run(sampler):
    solver = Solver.of(sampler, "default", config(sampler, "epsilon"), 6, "cpu", seeded(0), strength=0.7)
    clean, noise = torch.randn(2, 1, 4, 3, 3, generator=seeded(5)[0])
    solver.step(noise, 0, clean)
    for index in (*range(len(solver.timesteps)), 1):
        level = solver.level(index)
        shown = solver.scale(solver.add_noise(clean, noise, index), index)
        torch.testing.assert_close(shown, level.alpha * clean + level.sigma * noise, rtol=1e-4, atol=1e-5)
        assert level.time == pytest.approx(min(solver.timesteps[index].item() / 999, 1))
    assert solver.add_noise(clean, noise, len(solver.timesteps)) is clean


def test_steps_come_in_their_order():
    solver = Solver.of("unipc", "default", NOISE, 5, "cpu", [])
    x = torch.ones(1, 4, 3, 3)
    solver.step(x, 0, x)
    for index in (0, 2):
        with pytest.raises(ValueError, match=f"index must be 1, the next step of this run; got {index}"):
            solver.step(x, index, x)


@pytest.mark.parametrize("sampler", ["unipc", "dpm++ 2m sde", "heun", "pndm"])
def test_a_copy_of_a_solver_goes_on_alike(sampler):
    solver = Solver.of(sampler, "default", NOISE, 5, "cpu", seeded(0))
    x = torch.ones(1, 4, 3, 3)
    for index in range(3):
        x, _ = solver.step(network(x, 1), index, x)
    other = copy.deepcopy(solver)
    assert torch.equal(solver.step(x, 3, x)[0], other.step(x, 3, x)[0])


def test_a_spacing_replaces_the_one_of_the_model():
    karras = {**NOISE, "use_karras_sigmas": True}
    for spacing in ("trailing", "exponential"):
        times = [Solver.of("euler", spacing, conf, 7, "cpu", []).timesteps for conf in (NOISE, karras)]
        assert torch.equal(*times)
    assert not torch.equal(*(Solver.of("euler", "default", conf, 7, "cpu", []).timesteps for conf in (NOISE, karras)))


V = {"prediction_type": "v_prediction"}
SHIFTED = {"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": True}


def test_a_flow_model_may_be_configured_for_another_scheduler():
    moved = Solver.of("flow euler", "default", {**SHIFTED, "flow_shift": 3.0}, 7, "cpu", [])
    assert torch.equal(moved.timesteps, Solver.of("flow euler", "default", FLOW, 7, "cpu", []).timesteps)


@pytest.mark.parametrize(
    ("sampler", "spacing", "changes", "steps", "strength", "message"),
    [
        ("dpm", "default", {}, 5, 1.0, "sampler 'dpm' is unknown; accepted: ddpm, ddim"),
        ("euler", "beta", {}, 5, 1.0, "sampler 'euler' has no 'beta' spacing; accepted: default, karras"),
        ("ddim", "karras", {}, 5, 1.0, "sampler 'ddim' has no 'karras' spacing; accepted: default, trailing"),
        ("euler", "default", FLOW, 5, 1.0, "sampler 'euler' is for an ε, v or x₀ model, and this one predicts 'flow'"),
        ("flow euler", "default", V, 5, 1.0, "for a flow-matching model, and this one predicts 'v_prediction'"),
        ("euler", "default", {"prediction_type": "score"}, 5, 1.0, "prediction_type 'score' is unknown"),
        ("euler", "default", {"_class_name": "EDMEulerScheduler"}, 5, 1.0, "class EDMEulerScheduler"),
        ("euler", "default", {"timestep_type": "continuous"}, 5, 1.0, "timestep_type='continuous'"),
        ("flow euler", "default", {**FLOW, "use_dynamic_shifting": True}, 5, 1.0, "use_dynamic_shifting=True"),
        ("lcm", "default", {}, 51, 1.0, "sampler 'lcm' takes 1 to 50 steps on this model; got 51"),
        ("tcd", "default", {}, 60, 1.0, "sampler 'tcd' takes 1 to 50 steps on this model; got 60"),
        ("pndm", "default", {"skip_prk_steps": False}, 3, 1.0, "sampler 'pndm' takes 4 to 1000 steps"),
        ("pndm", "default", {"skip_prk_steps": False}, 5, 0.5, "strength must be 1, got 0.5"),
        ("ddim", "default", {}, 0, 1.0, "sampler 'ddim' takes 1 to 1000 steps on this model; got 0"),
        ("ddim", "default", {}, 1001, 1.0, "sampler 'ddim' takes 1 to 1000 steps on this model; got 1001"),
        ("ddim", "default", {}, 1000, 1.0, "cannot place 1000 steps .* go from 1000 to 1"),
        ("euler", "trailing", {}, 61, 1.0, "'trailing' spacing cannot place 61 steps .* go from 999 to -1"),
        ("dpm++ 2m", "default", {"timestep_spacing": "linspace"}, 1000, 1.0, "cannot place 1000 steps"),
        ("euler", "default", {}, 5, 0.0, "strength must be above 0 and at most 1; got 0.0"),
        ("euler", "default", {}, 5, 1.5, "strength must be above 0 and at most 1; got 1.5"),
        ("euler", "default", {}, 5, 0.1, "strength 0.1 of 5 steps is less than one of them"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(sampler, spacing, changes, steps, strength, message):
    with pytest.raises(ValueError, match=message) as refusal:
        Solver.of(sampler, spacing, {**NOISE, **changes}, steps, "cpu", [], strength=strength)
    text = str(refusal.value)
    assert text.endswith(".") and ". " not in text and "\n" not in text
