from contextlib import ExitStack

import pytest
import torch

from ctrl.attention import Projections, Reference, Term, sites, tap

ROWS, TOKENS, WIDTH = 2, 24, 32


@pytest.fixture(scope="module")
def unet(model):
    return model.unet


@pytest.fixture(scope="module")
def inputs():
    draw = torch.Generator().manual_seed(1)
    return (
        torch.randn(ROWS, 8, 16, 8, generator=draw),  # twice as high as wide
        torch.tensor(500),
        torch.randn(ROWS, TOKENS, WIDTH, generator=draw),
    )


@torch.no_grad()
def run(unet, inputs):
    return unet(*inputs, return_dict=False)[0]


def state(unet):
    """What attaching something could change: forwards, hooks, processors by identity."""
    modules = dict(unet.named_modules())
    return (
        {name: "forward" in module.__dict__ for name, module in modules.items()},
        {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in modules.items()},
        {name: id(processor) for name, processor in unet.attn_processors.items()},
    )


def test_sites_are_in_the_order_diffusers_numbers_them(unet):
    ours = [site.name for site in sites(unet)]
    theirs = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    assert ours == [f"unet.{name.removesuffix('.processor')}" for name in theirs]


def test_watching_is_bit_equal_to_not_watching(unet, inputs):
    plain, before, seen = run(unet, inputs), state(unet), {}
    with tap(unet, observers=[lambda site, q, k, size: seen.setdefault(site, (q.shape, k.shape, size))]):
        watched = run(unet, inputs)
    assert torch.equal(plain, watched)
    assert state(unet) == before
    assert list(seen) and set(seen) == {site.name for site in sites(unet)}
    for q, k, (height, width) in seen.values():
        assert height == 2 * width
        assert q[0] == k[0] == ROWS
        assert q[2] == height * width
        assert k[2] == TOKENS
        assert q[1] == k[1]


def test_an_observer_can_rebuild_the_output_from_what_it_sees(unet, inputs):
    """softmax(q·kᵀ/√d) of the observed q and k, applied to v, is what the module computed."""
    pairs = {}

    def note(call, terms):
        pairs[call.site] = (call.q, call.k, call.v)
        return terms

    plain = run(unet, inputs)
    with tap(unet, edits=[note]):
        assert torch.equal(run(unet, inputs), plain)
    q, k, v = next(iter(pairs.values()))
    p = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
    assert torch.allclose(p.sum(-1), torch.ones(()))
    assert torch.allclose(p @ v, torch.nn.functional.scaled_dot_product_attention(q, k, v), atol=1e-6)


def test_an_edit_that_changes_nothing_is_bit_equal_and_one_that_does_is_seen(unet, inputs):
    plain = run(unet, inputs)
    with tap(unet, edits=[lambda call, terms: list(terms)]):
        assert torch.equal(run(unet, inputs), plain)
    with tap(unet, edits=[lambda call, terms: [Term(call.q, call.k, 3 * call.v)]]):
        assert not torch.allclose(run(unet, inputs), plain, atol=1e-3)
    assert torch.equal(run(unet, inputs), plain)


def references(unet, gate, mask=None):
    draw = torch.Generator().manual_seed(2)
    projections = {
        site.name: Projections(*(torch.randn(site.module.to_k.weight.shape, generator=draw) for _ in "kv"))
        for site in sites(unet)
    }
    return Reference(torch.randn(ROWS, 4, WIDTH, generator=draw), projections, gate, mask)


def test_a_reference_masked_out_adds_nothing_and_masked_in_everything(unet, inputs):
    plain = run(unet, inputs)
    outs = []
    for mask in (None, torch.ones(1, 1, 64, 32), torch.zeros(1, 1, 64, 32)):
        with tap(unet, edits=[references(unet, 0.7, mask)]):
            outs.append(run(unet, inputs))
    assert not torch.allclose(outs[0], plain, atol=1e-3)
    assert torch.allclose(outs[0], outs[1], atol=1e-5)
    assert torch.equal(outs[2], plain)


def test_taps_nest_and_each_sees_the_text_only(unet, inputs):
    before, seen = state(unet), []
    watching = tap(unet, observers=[lambda site, q, k, size: seen.append(k.shape[2])])
    with watching, tap(unet, edits=[references(unet, 0.7)]):
        nested = run(unet, inputs)
    with tap(unet, edits=[references(unet, 0.7)]):
        alone = run(unet, inputs)
    assert torch.equal(nested, alone)
    assert seen == [TOKENS] * len(sites(unet))
    assert state(unet) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_in_the_middle_leaves_nothing(unet, inputs, error):
    plain, before, calls = run(unet, inputs), state(unet), []

    def fail(site, q, k, size):
        calls.append(site)
        if len(calls) == 3:
            raise error

    with pytest.raises(error), tap(unet, observers=[fail]):
        run(unet, inputs)
    assert len(calls) == 3
    assert state(unet) == before
    assert torch.equal(run(unet, inputs), plain)
    assert torch.overrides._len_torch_function_stack() == 0


def test_a_forward_that_somebody_else_put_there_is_given_back(unet, inputs):
    module = sites(unet)[0].module
    original, calls = module.forward, []

    def theirs(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    module.forward = theirs
    try:
        with tap(unet, observers=[lambda *_: None]):
            run(unet, inputs)
        assert calls == [1]
        assert module.__dict__["forward"] is theirs
    finally:
        del module.forward


def test_blindness_is_an_error(unet, inputs):
    with pytest.raises(RuntimeError, match="were never reached"), tap(unet):
        pass
    with pytest.raises(RuntimeError, match="nothing to tap"), tap(torch.nn.Linear(1, 1)):
        pass
    from diffusers.models.attention_processor import AttnProcessor

    kept = dict(unet.attn_processors)
    with ExitStack() as stack:
        stack.callback(unet.set_attn_processor, kept)
        unet.set_attn_processor(AttnProcessor())  # computes probabilities by hand
        sentence = "no scaled_dot_product_attention call under AttnProcessor"
        with pytest.raises(RuntimeError, match=sentence), tap(unet):
            run(unet, inputs)
