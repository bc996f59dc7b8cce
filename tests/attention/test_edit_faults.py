"""Faults in a run with all edits of attention: they come out as they were raised, and the model is as it was."""

import pytest
import torch
from test_faults import ERRORS, Fault, FaultyAttention, free, in_function, in_module, spread, whole
from variety import LEFT, PLAIN, run

import ctrl
from ctrl.attention import NormalizedNegative, ReplacedWords, SharedAttention, sites

RECIPE = PLAIN.replace(
    prompt="a (blue:1.3) ball",
    negative="x",
    regions=[ctrl.Region("ball", LEFT, by="bias")],
    guidance=ctrl.Guidance(4.0, perturb=[ctrl.PAG(2.0)], nag=ctrl.NAG()),
    edit=ctrl.Edit("a red ball", blend="ball"),
    aligned=ctrl.StyleAligned(ctrl.Recipe("a fox", seed=3)),
)
WHERE = {
    "middle": lambda model, fault: in_module(model.unet.mid_block, fault),
    "after a block": lambda model, fault: in_module(model.unet.up_blocks[1], fault, after=True),
    "queries": lambda model, fault: in_module(sites(model.unet)[-1].module.to_q, fault),
    "attention": lambda model, fault: FaultyAttention(fault),
    "NAG": lambda model, fault: in_function(NormalizedNegative, "combine", fault),
    "an edit's words": lambda model, fault: in_function(ReplacedWords, "__call__", fault),
    "shared attention": lambda model, fault: in_function(SharedAttention, "__call__", fault, after=True),
}


@pytest.fixture(scope="module")
def warm(model):
    picture = ctrl.sample(model, RECIPE).image
    return model, run(model, PLAIN), picture


@pytest.mark.slow
@pytest.mark.parametrize("where", WHERE)
def test_a_fault_leaves_no_trace(warm, where):
    model, plain, picture = warm
    before, counted = whole(model, model), Fault()
    with WHERE[where](model, counted):
        assert ctrl.sample(model, RECIPE).image == picture
    assert counted.calls > 0, "the component was never called: the test would prove nothing"
    for turn, at in enumerate(spread(counted.calls, 4)):
        error = ERRORS[turn % len(ERRORS)]
        with WHERE[where](model, Fault(at, error)), pytest.raises(type(error)) as caught:
            ctrl.sample(model, RECIPE)
        assert caught.value is error and error.__cause__ is None
        error.__traceback__ = None
        assert free(model.lock)
        assert whole(model, model).same_as(before)
        assert torch.equal(run(model, PLAIN), plain)
