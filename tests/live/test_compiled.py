"""A compiled U-Net and ControlNet: live moves and a watched run break no graph and compile nothing again."""

import numpy as np
import pytest
import torch
from beside import beside
from handrun import Bench
from torch import _dynamo as dynamo
from torch._dynamo.utils import counters
from variety import MAP, PLAIN

import ctrl
from ctrl.sampling.walk import prepare, walk

RECIPE = PLAIN.replace(steps=2, guidance=5.0, controls=[ctrl.Pose(MAP, 0.8)])
pytestmark = [
    pytest.mark.slow,  # a minute of compiling
    pytest.mark.skipif(not dynamo.is_dynamo_supported(), reason="torch.compile does not run on this Python"),
]


@pytest.fixture(scope="module")
def compiled(folder):
    """A model whose U-Net and pose ControlNet run as graphs, warmed up by one run."""
    dynamo.reset()
    counters.clear()
    model = ctrl.load(folder, device="cpu")
    for module in (model.unet, model.controlnet("pose").module):
        module.compile(backend="eager")  # the graph itself, run by torch: only what dynamo does is of interest
    ctrl.sample(model, RECIPE)
    yield model
    dynamo.reset()


def graphs():
    """How many graphs were compiled so far, and the breaks in them."""
    return counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())


def moved(number):
    """A hundred different recipes: of numbers, words, blends and seeds."""
    share = number / 100
    kinds = [
        {"guidance": 3 + 5 * share},
        {"controls": [ctrl.Pose(MAP, 0.5 + share)]},
        {"prompt": ctrl.Blend({"a red ball": 1 - share, "a box": share or 0.01})},
        {"seed": ctrl.SeedBlend(1, 2, share)},
        {"directions": [ctrl.Direction("by day", "at night", 0.1 + share)]},
        {"prompt": f"a box {'abcdefghij'[number // 10]}"},
        {"negative": "blue" * (number % 3)},
        {"guidance": ctrl.ramp(6 + share, 3), "seed": number},
    ]
    return RECIPE.replace(**kinds[number % len(kinds)])


def test_a_hundred_live_moves_break_no_graph_and_compile_nothing(compiled, model):
    assert graphs() == (2, 0), "one graph for the U-Net and one for the ControlNet, both whole"
    bench, frames = Bench(compiled), []
    for number in range(100):
        bench.mailbox.put(moved(number))
        frames += bench.follower.follow(bench.mailbox.take())
    assert graphs() == (2, 0)
    exact = [frame for frame in frames if getattr(frame, "exact", False)]
    assert len(exact) == 100
    for frame in exact[::9]:
        assert np.array_equal(frame.image, ctrl.sample(model, frame.recipe).image)  # of the same model, not compiled


def test_a_watched_run_has_one_more_graph_of_each_network_and_compiles_nothing_at_any_step(compiled, model):
    """Whatever is watched, and whatever edits there are: hooks are in no graph."""
    recipe = RECIPE.replace(steps=9)
    ctrl.sample(compiled, recipe, watch=ctrl.Watch())
    known = graphs()
    assert known == (4, 0), "a graph with hooks and one without for the U-Net and the ControlNet"
    for prompt, watch in (
        ("a red ball", ctrl.Watch(history=True, self_attention=False)),
        ("a red ball", ctrl.Watch(steps=(0.5, 1.0), heads=(0,), layers=("mid_block", "up_blocks"), smallest=2)),
        ("a (red:1.3) ball", ctrl.Watch()),
    ):
        shot = ctrl.sample(compiled, recipe.replace(prompt=prompt), watch=watch)
        eager = ctrl.sample(model, recipe.replace(prompt=prompt), watch=watch)
        assert graphs() == known and shot.notes == eager.notes
        assert np.array_equal(shot.image, eager.image)
        assert np.array_equal(shot.attention["ball"].heat, eager.attention["ball"].heat)
        assert shot.attention.receipt == eager.attention.receipt and shot.attention.receipt.ok
    assert np.array_equal(ctrl.sample(compiled, recipe).image, ctrl.sample(model, recipe).image)
    assert graphs() == known


def test_where_influence_reads_what_controls_add_the_network_runs_eagerly_and_a_note_says_so(compiled, model):
    ctrl.sample(compiled, RECIPE, watch=ctrl.Watch())
    known = graphs()
    shot = ctrl.sample(compiled, RECIPE, watch=ctrl.Watch(influence=True))
    assert graphs() == known
    assert any("ran eagerly at the steps where influence of controls read its layers" in note for note in shot.notes)
    eager = ctrl.sample(model, RECIPE, watch=ctrl.Watch(influence=True))
    assert np.array_equal(shot.image, eager.image) and not any("eagerly" in note for note in eager.notes)
    ours, theirs = (one.attention.influence.controls["pose 0"] for one in (shot, eager))
    assert np.array_equal(ours, theirs)


def test_what_an_edit_raises_in_a_graph_ends_the_run_and_leaves_the_model_as_it_was(compiled, model):
    def fails(call, terms):
        raise ZeroDivisionError("as asked")

    before = {name: dict(vars(module)) for name, module in compiled.unet.named_modules()}
    with pytest.raises(ZeroDivisionError, match="as asked"):
        run = prepare(compiled, [RECIPE], None, observers=[fails])
        next(walk(run, compiled, None))
    for name, module in compiled.unet.named_modules():
        assert vars(module) == before[name]
    assert np.array_equal(ctrl.sample(compiled, RECIPE).image, ctrl.sample(model, RECIPE).image)


@pytest.mark.parametrize("how", ["the module's own compile", "torch.compile"])
def test_a_compiled_pipeline_is_watched_as_a_graph_by_either_way_of_compiling(folder, how):
    pipe = beside(folder).plain

    def run(steps=3):
        noise = torch.Generator().manual_seed(0)
        return pipe("a red ball", num_inference_steps=steps, generator=noise, output_type="latent").images

    true = run()
    with ctrl.watching(pipe) as eager:
        run()
    if how == "torch.compile":
        pipe.unet = torch.compile(pipe.unet, backend="eager")
    else:
        pipe.unet.compile(backend="eager")
    dynamo.reset()
    counters.clear()
    for steps, expected in ((3, 1), (9, 2), (20, 2), (3, 2)):  # a graph for steps that are read, one for the others
        with ctrl.watching(pipe) as watch:
            latents = run(steps)
        assert graphs() == (expected, 0)
    assert torch.equal(latents, true)
    assert np.array_equal(watch.attention["ball"].heat, eager.attention["ball"].heat)
    assert watch.attention.receipt == eager.attention.receipt and watch.attention.receipt.ok
    assert torch.equal(run(), true) and graphs() == (2, 0), "without a watch it is the graph of the steps not read"
    dynamo.reset()
