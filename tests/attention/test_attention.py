import copy
import threading
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from variety import share

from ctrl.attention import (
    SELF,
    At,
    BlurredQueries,
    Call,
    Hooks,
    IdentityAttention,
    Projections,
    Regions,
    RegionTerm,
    Source,
    Term,
    TextKV,
    WordWeights,
    sites,
    tap,
)
from ctrl.attention.tap import _summand
from ctrl.memory import Memory

ROWS, TOKENS, WIDTH = 2, 24, 32


@dataclass(frozen=True, eq=False)
class Reference:
    """A term of its own, as a style adds one."""

    tokens: torch.Tensor
    projections: dict
    gate: float
    mask: torch.Tensor | None = None

    def __call__(self, call, terms):
        weights = self.projections[call.site]
        rows, heads, _, depth = call.q.shape
        k, v = (
            F.linear(self.tokens, weight).view(rows, -1, heads, depth).transpose(1, 2)
            for weight in (weights.to_k, weights.to_v)
        )
        mask = self.mask
        if mask is not None:
            mask = F.interpolate(mask, size=(call.height, call.width), mode="bicubic").flatten(2)[..., None]
        return [*terms, Term(call.q, k, v, gate=self.gate, mask=mask, source=Source("style"))]


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


def tapped(network, *edits, observers=(), kv=None, name="unet"):
    """The tap on all attention of a network."""
    return tap(sites(network, name, kind="all"), Hooks(edits, observers, kv))


def ignore(call, terms):
    """An observer that does nothing."""


@torch.no_grad()
def run(unet, inputs):
    return unet(*inputs, return_dict=False)[0]


def state(unet):
    """What attaching something could change: forwards, hooks, processors by identity."""
    modules = dict(unet.named_modules())
    return (
        {name: {key: id(module.__dict__[key]) for key in module.__dict__} for name, module in modules.items()},
        {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in modules.items()},
        {name: id(processor) for name, processor in unet.attn_processors.items()},
    )


def test_sites_are_in_the_order_diffusers_numbers_them(unet):
    ours = [site.name for site in sites(unet)]
    theirs = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    assert ours == [f"unet.{name.removesuffix('.processor')}" for name in theirs]


def test_watching_is_bit_equal_to_not_watching(unet, inputs):
    plain, before, seen = run(unet, inputs), state(unet), {}
    with tapped(unet, observers=[lambda call, terms: seen.setdefault(call.site, (call, terms))]):
        watched = run(unet, inputs)
    assert torch.equal(plain, watched)
    assert state(unet) == before
    assert set(seen) == {site.name for site in sites(unet)}
    for call, [term] in seen.values():
        assert call.height == 2 * call.width
        assert len(call.q) == len(call.k) == ROWS
        assert call.q.shape[2] == call.height * call.width
        assert call.k.shape[2] == call.v.shape[2] == TOKENS
        assert call.q.shape[1] == call.k.shape[1]
        assert term.q is call.q and term.k is call.k and term.v is call.v and term.bias is None
        assert (call.kind, call.rows, call.step) == ("cross", None, None)


def test_an_observer_can_rebuild_the_output_from_what_it_sees(unet, inputs):
    """softmax(q·kᵀ/√d) of the observed q and k, applied to v, is what the module computed."""
    pairs = {}

    def note(call, terms):
        [term] = terms
        pairs[call.site] = (term.q, term.k, term.v)

    plain = run(unet, inputs)
    with tapped(unet, observers=[note]):
        assert torch.equal(run(unet, inputs), plain)
    q, k, v = next(iter(pairs.values()))
    p = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
    assert torch.allclose(p.sum(-1), torch.ones(()))
    assert torch.allclose(p @ v, torch.nn.functional.scaled_dot_product_attention(q, k, v), atol=1e-6)


def test_an_edit_that_changes_nothing_is_bit_equal_and_one_that_does_is_seen(unet, inputs):
    plain = run(unet, inputs)
    with tapped(unet, lambda call, terms: list(terms)):
        assert torch.equal(run(unet, inputs), plain)
    with tapped(unet, lambda call, terms: [Term(call.q, call.k, 3 * call.v)]):
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
        with tapped(unet, references(unet, 0.7, mask)):
            outs.append(run(unet, inputs))
    assert not torch.allclose(outs[0], plain, atol=1e-3)
    assert torch.allclose(outs[0], outs[1], atol=1e-5)
    assert torch.equal(outs[2], plain)


def test_taps_nest_and_each_sees_the_text_only(unet, inputs):
    before, seen = state(unet), []
    watching = tapped(unet, observers=[lambda call, terms: seen.append([term.k.shape[2] for term in terms])])
    with watching, tapped(unet, references(unet, 0.7)):
        nested = run(unet, inputs)
    with tapped(unet, references(unet, 0.7)):
        alone = run(unet, inputs)
    assert torch.equal(nested, alone)
    assert seen == [[TOKENS]] * len(sites(unet))
    assert state(unet) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_in_the_middle_leaves_nothing(unet, inputs, error):
    plain, before, calls = run(unet, inputs), state(unet), []

    def fail(call, terms):
        calls.append(call.site)
        if len(calls) == 3:
            raise error

    with pytest.raises(error), tapped(unet, observers=[fail]):
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
        with tapped(unet, observers=[ignore]):
            run(unet, inputs)
        assert calls == [1]
        assert module.__dict__["forward"] is theirs
    finally:
        del module.forward


def test_blindness_is_an_error(unet, inputs):
    blind = tapped(unet, observers=[ignore])
    with pytest.raises(RuntimeError, match="were never reached"), blind:
        pass
    one = At(IdentityAttention((0,)), MIDDLE, "self")
    with pytest.raises(RuntimeError, match="1 of 1 attention sites"), tapped(unet, one):
        pass
    for hooks in ({"observers": [ignore]}, {"edits": [lambda call, terms: terms]}):
        with pytest.raises(RuntimeError, match="nothing to tap"):
            tap(sites(torch.nn.Linear(1, 1), kind="all"), Hooks(**hooks)).__enter__()
    from diffusers.models.attention_processor import AttnProcessor

    kept = dict(unet.attn_processors)
    with ExitStack() as stack:
        stack.callback(unet.set_attn_processor, kept)
        unet.set_attn_processor(AttnProcessor())  # computes probabilities by hand
        sentence = "no scaled_dot_product_attention call under AttnProcessor"
        with pytest.raises(RuntimeError, match=sentence), tapped(unet, observers=[ignore]):
            run(unet, inputs)


# --- self-attention: PAG and SEG


@pytest.fixture(scope="module")
def three(inputs):
    """Rows uncond, cond and perturbed, the last a copy of cond."""
    sample, t, text = inputs
    return sample[[0, 1, 1]], t, text[[0, 1, 1]]


SPOILT = [IdentityAttention((2,)), BlurredQueries((2,)), BlurredQueries((2,), sigma=0.8)]
MIDDLE, EVERYWHERE = "mid_block", ("down_blocks", "mid_block", "up_blocks")


def at_self(edit, where=MIDDLE):
    """The edit at self-attention, in the middle if not said otherwise."""
    return At(edit, where, "self", "unet")


def test_self_sites_have_names_of_their_own(unet):
    ours = [site.name for site in sites(unet, kind="self")]
    theirs = [name for name in unet.attn_processors if name.endswith("attn1.processor")]
    assert ours == [f"unet.{name.removesuffix('.processor')}" for name in theirs]
    assert not {*ours} & {site.name for site in sites(unet)}
    assert {site.name.split(".")[0] for site in sites(unet, "controlnet", kind="self")} == {"controlnet"}


def test_an_attn1_that_looks_at_the_text_is_no_self_attention():
    block = torch.nn.Module()
    block.attn1, block.attn2 = torch.nn.Identity(), torch.nn.Identity()
    assert [site.name for site in sites(block, kind="self")] == ["unet.attn1"]
    block.attn1.is_cross_attention = True  # as with only_cross_attention
    assert sites(block, kind="self") == ()
    assert [site.name for site in sites(block)] == ["unet.attn2"]


def test_nothing_asked_for_is_nothing_touched(unet, inputs):
    before = state(unet)
    with tapped(unet):
        assert state(unet) == before
    inside = [site for site in sites(unet, kind="self") if ".mid_block." in site.name]
    edited = {site.module for site in inside} | {site.block for site in inside}  # the block knows height and width
    with tapped(unet, at_self(IdentityAttention((1,)))):
        touched = {module for module in unet.modules() if "forward" in module.__dict__}
        assert touched == edited
        run(unet, inputs)


@pytest.mark.parametrize("edit", SPOILT)
def test_a_perturbation_changes_its_rows_and_no_other_bit(unet, three, edit):
    plain, before = run(unet, three), state(unet)
    for blocks in (("mid_block",), ("up_blocks.0", "up_blocks.2"), EVERYWHERE):
        with tapped(unet, at_self(edit, blocks)):
            spoilt = run(unet, three)
        assert torch.equal(spoilt[:2], plain[:2])
        assert not torch.allclose(spoilt[2], plain[2], atol=1e-4)
    assert state(unet) == before


def test_identity_attention_is_what_diffusers_runs_for_pag(unet, three):
    from diffusers.models.attention_processor import PAGCFGIdentitySelfAttnProcessor2_0

    kept = dict(unet.attn_processors)
    theirs = {
        name: PAGCFGIdentitySelfAttnProcessor2_0() if name.startswith("mid_block") and "attn1" in name else one
        for name, one in kept.items()
    }
    with ExitStack() as stack:
        stack.callback(unet.set_attn_processor, kept)
        unet.set_attn_processor(dict(theirs))
        expected = run(unet, three)
    with tapped(unet, at_self(IdentityAttention((2,)))):
        assert torch.allclose(run(unet, three), expected, atol=1e-6)  # their projections run on fewer rows


def test_blocks_are_whole_words(unet, three):
    before = state(unet)
    with pytest.raises(ValueError, match=r"'mid' has no self-attention in unet; there is down_blocks.0, down_bl"):
        tapped(unet, at_self(IdentityAttention((2,)), ("mid",))).__enter__()
    assert state(unet) == before


def test_two_perturbations_of_two_rows_do_not_meet(unet, three):
    sample, t, text = (part[[0, 1, 2, 2]] if part.ndim else part for part in three)
    first, second = (at_self(one, EVERYWHERE) for one in (IdentityAttention((2,)), BlurredQueries((3,), sigma=1.3)))
    outs = []
    for edits in ([first], [second], [first, second], [second, first]):
        with tapped(unet, *edits):
            outs.append(run(unet, (sample, t, text)))
    assert torch.equal(outs[2], outs[3])
    assert torch.equal(outs[2][2], outs[0][2])
    assert torch.equal(outs[2][3], outs[1][3])


def test_two_perturbations_of_a_kind_add_up(unet, three):
    for kind in (IdentityAttention, BlurredQueries):
        with tapped(unet, at_self(kind((1, 2)))):
            both = run(unet, three)
        with tapped(unet, at_self(kind((1,))), at_self(kind((2,)))):
            assert torch.equal(run(unet, three), both)


@pytest.mark.parametrize("edit", SPOILT)
def test_a_perturbation_writes_to_nothing_it_was_given(edit):
    """Nor to what SDPA keeps for its gradient."""
    draw = torch.Generator().manual_seed(9)
    given = [torch.randn(3, 2, 12, 4, generator=draw, requires_grad=True) for _ in "qkv"]
    before = [part.detach().clone() for part in given]
    [term] = edit(Call("site", *given, 3, 4), [Term(*given)])
    _summand(term, F.scaled_dot_product_attention, {}).sum().backward()
    assert all(torch.equal(part, one) for part, one in zip(given, before, strict=True))
    assert given[2].grad.abs().sum() > 0


def blurred(q, sigma, height, width):
    call = Call("site", q, q, q, height, width)
    [term] = BlurredQueries(tuple(range(len(q))), sigma=sigma)(call, [Term(q, q, q)])
    return term.q


def test_a_blur_is_the_sum_over_neighbours_that_its_name_says():
    """Against loops in numpy, on a picture that is not square, with taps that do not fit into it."""
    height, width = 5, 8
    q = torch.randn(2, 3, height * width, 4, generator=torch.Generator().manual_seed(3))
    for sigma, taps in ((0.5, (3, 3)), (0.7, (5, 5)), (1.0, (5, 7)), (30.0, (5, 9))):
        kernels = []
        for tap_count in taps:
            at = np.arange(tap_count) - tap_count // 2
            kernels.append(np.exp(-(at**2) / (2 * sigma**2)) / np.exp(-(at**2) / (2 * sigma**2)).sum())
        image = q.double().numpy().reshape(2, 3, height, width, 4)
        down, right = (tap_count // 2 for tap_count in taps)
        padded = np.pad(image, ((0, 0), (0, 0), (down, down), (right, right), (0, 0)), mode="reflect")
        expected = sum(
            a * b * padded[:, :, i : i + height, j : j + width]
            for i, a in enumerate(kernels[0])
            for j, b in enumerate(kernels[1])
        )
        ours = blurred(q, sigma, height, width).reshape(expected.shape)
        assert np.allclose(ours.numpy(), expected, atol=1e-6), sigma


def test_the_blur_is_the_one_diffusers_means():
    """Its branches are the wrong way round in 0.42.1, so its threshold is set to reach the Gaussian."""
    from diffusers.hooks.smoothed_energy_guidance_utils import _gaussian_blur_2d

    q = torch.randn(2, 3, 36, 4, generator=torch.Generator().manual_seed(3))
    for sigma, taps in ((0.6, 5), (1.5, 9)):
        flat = q.transpose(1, 2).reshape(2, 36, 12).clone()
        expected = _gaussian_blur_2d(flat, taps, sigma, 0.0).reshape(2, 36, 3, 4).transpose(1, 2)
        assert torch.allclose(blurred(q, sigma, 6, 6), expected, atol=1e-6)


def test_an_endless_blur_is_the_mean_and_a_blur_of_nothing_is_refused():
    q = torch.randn(1, 2, 15, 4, generator=torch.Generator().manual_seed(3))
    for sigma in (float("inf"), 1e7):
        assert torch.allclose(blurred(q, sigma, 3, 5), q.mean(2, keepdim=True).expand_as(q), atol=1e-6)
    assert torch.allclose(blurred(q, 1e-3, 3, 5), q, atol=1e-6)
    line = q[:, :, :5]
    assert torch.equal(blurred(line, 2.0, 1, 5), blurred(line, 2.0, 5, 1))  # a picture one place high or wide
    for sigma in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="sigma must be a number above 0"):
            BlurredQueries((0,), sigma=sigma)


def test_an_edit_of_self_attention_sees_height_and_width_and_no_text(unet, inputs):
    plain, calls, sources = run(unet, inputs), [], set()

    def record(call, terms):
        calls.append(call)
        sources.update(term.source for term in terms)
        return terms

    with tapped(unet, at_self(record, EVERYWHERE)):
        assert torch.equal(run(unet, inputs), plain)
    assert {call.site for call in calls} == {site.name for site in sites(unet, kind="self")}
    assert len(calls) == len(sites(unet, kind="self"))
    assert all(call.height == 2 * call.width and call.k.shape == call.q.shape for call in calls)
    assert all(call.q.shape[2] == call.height * call.width for call in calls)
    assert {call.kind for call in calls} == {"self"}
    assert sources == {SELF}


# --- the text: weights, regions, what is kept


def test_weights_of_one_are_absent_and_others_scale_what_a_word_says(unet, inputs):
    plain = run(unet, inputs)
    ones = WordWeights(torch.ones(1, TOKENS))
    with tapped(unet, ones):
        assert torch.equal(run(unet, inputs), plain)
    weights = torch.ones(ROWS, TOKENS)
    weights[1, 3:5] = torch.tensor([1.7, 0.0])
    with tapped(unet, WordWeights(weights)):
        weighted = run(unet, inputs)
    assert torch.equal(weighted[0], plain[0])
    assert not torch.allclose(weighted[1], plain[1], atol=1e-4)

    draw = torch.Generator().manual_seed(4)
    q, k, v = (torch.randn(ROWS, 4, n, 2, generator=draw) for n in (6, TOKENS, TOKENS))
    [term] = WordWeights(weights)(Call("site", q, k, v, 2, 3), [Term(q, k, v)])
    p = torch.softmax(q @ k.transpose(-1, -2) / 2**0.5, dim=-1)  # P2P scales the map and leaves its sum alone
    assert torch.allclose(F.scaled_dot_product_attention(q, term.k, term.v), p * weights[:, None, None] @ v, atol=1e-6)


def prompts(rows, seed=5):
    return torch.randn(rows, TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))


def left(height=64, width=32):
    mask = torch.zeros(1, 1, height, width)
    mask[..., : width // 2] = 1
    return mask


def test_a_region_of_no_area_is_absent(unet, inputs):
    plain = run(unet, inputs)
    for states in (prompts(1), prompts(ROWS)):
        with tapped(unet, Regions((0, 1), (RegionTerm(states, torch.zeros(1, 1, 64, 32)),))):
            assert torch.equal(run(unet, inputs), plain)
    with tapped(unet, Regions((0, 1), (RegionTerm(prompts(1), torch.ones(1, 1, 8, 8)),), base=1.0)):
        assert torch.equal(run(unet, inputs), plain)


def test_a_region_of_the_whole_picture_is_its_prompt(unet, inputs):
    """Up to the sign of zeros: SDPA · 0 + SDPA' · 1. The other row keeps its bits."""
    sample, t, text = inputs
    plain, states = run(unet, inputs), prompts(1)
    expected = run(unet, (sample, t, torch.cat([text[:1], states])))
    with tapped(unet, Regions((1,), (RegionTerm(states, torch.ones(1, 1, 64, 32)),))):
        regional = run(unet, inputs)
    assert torch.equal(regional[0], plain[0])
    assert torch.allclose(regional[1], expected[1], atol=1e-6)
    assert not torch.allclose(regional[1], plain[1], atol=1e-3)


def regional_terms(regions, rows=(1,), base=0.0, height=4, width=2):
    draw = torch.Generator().manual_seed(6)
    q, k, v = (torch.randn(ROWS, 2, n, 3, generator=draw) for n in (height * width, TOKENS, TOKENS))

    class Layers:
        norm_cross, norm_k = None, None
        to_k, to_v = (torch.nn.Linear(WIDTH, 6, bias=False) for _ in "kv")

    call = Call("site", q, k, v, height, width, module=Layers)
    with torch.no_grad():
        return call, Regions(rows, tuple(regions), base)(call, [Term(q, k, v)])


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_what_the_regions_leave_is_the_base_prompt_s(one, other, base):
    """The parts sum to 1 everywhere, and where masks overlap they are divided by their sum."""
    masks = [torch.full((1, 1, 9, 5), one), torch.full((ROWS, 1, 4, 2), other)]
    _, terms = regional_terms([RegionTerm(prompts(1), mask) for mask in masks], base=base)
    rest, *parts = (term.mask for term in terms)
    assert all(part.shape == (ROWS, 1, 8, 1) for part in (rest, *parts))
    assert torch.equal(rest[0], torch.ones(1, 8, 1))
    assert all(torch.equal(part[0], torch.zeros(1, 8, 1)) for part in parts)
    over = max(1.0, one + other)
    for part, mask in zip(parts, (one, other), strict=True):
        assert torch.allclose(part[1], torch.full((1, 8, 1), (1 - base) * mask / over), atol=1e-6)
    assert torch.allclose(rest[1] + sum(part[1] for part in parts), torch.ones(1, 8, 1), atol=1e-6)


def test_a_mask_lies_where_it_was_painted():
    _, [base, region] = regional_terms([RegionTerm(prompts(1), left(64, 32))])
    assert torch.equal(region.mask[1].reshape(4, 2), torch.tensor([[1.0, 0.0]] * 4))
    assert torch.equal(base.mask[1].reshape(4, 2), torch.tensor([[0.0, 1.0]] * 4))
    stripes = (torch.arange(32) % 4 == 0).float().expand(1, 1, 64, 32)
    _, [base, region] = regional_terms([RegionTerm(prompts(1), stripes)])
    assert torch.equal(region.mask[1], torch.full((8, 1), 0.25)[None])  # thin lines count by their area


def test_regions_of_one_prompt_are_one_region_in_any_order(unet, inputs):
    right = 1 - left()
    two = RegionTerm(prompts(1), left()), RegionTerm(prompts(1, seed=7), right)
    outs = []
    for regions in (
        two,
        two[::-1],
        (RegionTerm(prompts(1), torch.ones(1, 1, 4, 4)),),
        (two[0], replace(two[0], mask=right)),
    ):
        with tapped(unet, Regions((0, 1), regions)):
            outs.append(run(unet, inputs))
    assert torch.equal(outs[0], outs[1])
    assert torch.allclose(outs[2], outs[3], atol=1e-6)
    assert not torch.allclose(outs[0], outs[2], atol=1e-4)


def test_prompt_and_negative_may_have_regions_of_their_own(unet, inputs):
    plain = run(unet, inputs)
    edits = [Regions((row,), (RegionTerm(prompts(1, seed=row), left()),)) for row in range(2)]
    outs = []
    for chosen in (edits[:1], edits[1:], edits, edits[::-1]):
        with tapped(unet, *chosen):
            outs.append(run(unet, inputs))
    assert torch.equal(outs[0][1], plain[1])
    assert torch.equal(outs[1][0], plain[0])
    assert torch.allclose(outs[2], torch.stack([outs[0][0], outs[1][1]]), atol=1e-6)
    assert torch.allclose(outs[2], outs[3], atol=1e-6)


def test_a_region_s_words_have_weights_too(unet, inputs):
    weights = torch.ones(1, TOKENS)
    weights[0, 2] = 0.0
    region = RegionTerm(prompts(1), left())
    outs = []
    for one in (region, replace(region, weights=torch.ones(1, TOKENS)), replace(region, weights=weights)):
        with tapped(unet, Regions((1,), (one,))):
            outs.append(run(unet, inputs))
    assert torch.equal(outs[0], outs[1])
    assert not torch.allclose(outs[0][1], outs[2][1], atol=1e-6)


def test_a_region_of_the_wrong_number_of_rows_is_refused(unet, inputs):
    wrong = tapped(unet, Regions((1,), (RegionTerm(prompts(3), left()),)))
    with pytest.raises(ValueError, match=r"states must have 1 or 2 rows, as unet\.down_blocks"), wrong:
        run(unet, inputs)


class Projected:
    """Counts what the text is projected by: calls of F.linear with a text's width and length."""

    def __init__(self, unet):
        self.weights = {id(getattr(s.module, name).weight) for s in sites(unet) for name in ("to_k", "to_v")}
        self.count = 0

    def __enter__(self):
        outer = self

        class Mode(torch.overrides.TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                outer.count += func is F.linear and id(args[1]) in outer.weights
                return func(*args, **(kwargs or {}))

        self.mode = Mode()
        self.mode.__enter__()
        return self

    def __exit__(self, *error):
        self.mode.__exit__(*error)


def keeping(memory, *texts):
    """The memory of keys and values for some texts, each by its number."""
    return TextKV(memory, [(text, number) for number, text in enumerate(texts)])


@torch.no_grad()
def walk(unet, layouts, edits=(), kv=None):
    """A run of as many steps as there are texts, each from where the one before came to."""
    draw = torch.Generator().manual_seed(8)
    latents, outs = torch.randn(1, 8, 16, 8, generator=draw), []
    for step, text in enumerate(layouts):
        with tapped(unet, *edits, kv=kv) if edits or kv else nullcontext():
            prediction = run(unet, (torch.cat([latents] * len(text)), torch.tensor(900 - 100 * step), text))
        latents = latents - 0.1 * prediction[-1:]
        outs.append(prediction)
    return outs


def test_the_text_is_projected_once_a_run_and_no_bit_changes(unet):
    """Also when rows come and go: guidance crosses 1, a perturbed branch joins."""
    before = state(unet)
    both, alone, spoilt = prompts(2), prompts(1), prompts(3)
    layouts = [both, both, alone, alone, both, spoilt, spoilt, alone]
    with Projected(unet) as every:
        plain = walk(unet, layouts)
    memory = Memory()
    with Projected(unet) as once:
        kept = walk(unet, layouts, kv=keeping(memory, both, alone, spoilt))
    assert all(torch.equal(a, b) for a, b in zip(plain, kept, strict=True))
    assert every.count == 2 * len(sites(unet)) * len(layouts)
    assert once.count == 2 * len(sites(unet)) * 3 == len(memory)  # texts
    assert state(unet) == before


def test_regions_are_projected_once_a_run(unet):
    text, regions = prompts(2), (RegionTerm(prompts(1), left()), RegionTerm(prompts(2, seed=9), left()))
    edits, kv = [Regions((1,), regions)], keeping(Memory(), text, *(region.states for region in regions))
    plain = walk(unet, [text] * 3, edits)
    with Projected(unet) as once:
        kept = walk(unet, [text] * 3, edits, kv)
    assert all(torch.equal(a, b) for a, b in zip(plain, kept, strict=True))
    assert once.count == 2 * len(sites(unet)) * 3  # texts


def test_a_text_is_answered_by_its_key_and_is_the_very_tensor(unet):
    text, memory = prompts(1), Memory()
    first = walk(unet, [text], kv=TextKV(memory, [(text, "before")]))
    kept = len(memory)
    with Projected(unet) as again:
        assert torch.equal(walk(unet, [text], kv=TextKV(memory, [(text, "before")]))[0], first[0])
    assert again.count == 0
    with Projected(unet) as copied:  # the same numbers in another tensor may be anything a module made of the text
        assert torch.equal(walk(unet, [text.clone()], kv=TextKV(memory, [(text, "before")]))[0], first[0])
    assert copied.count == 2 * len(sites(unet))
    assert len(memory) == kept
    text.mul_(2)
    written = walk(unet, [text])[0]
    assert torch.equal(walk(unet, [text], kv=TextKV(memory, [(text, "after")]))[0], written)
    assert not torch.equal(first[0], written)


def test_a_memory_that_is_full_costs_time_and_never_truth(unet):
    memory = Memory(limit=0)
    for seed in range(4):
        text = prompts(1, seed)
        memory.begin_run()
        assert len(memory) == 0
        assert torch.equal(walk(unet, [text] * 2, kv=TextKV(memory, [(text, seed)]))[1], walk(unet, [text] * 2)[1])
        assert len(memory) == 2 * len(sites(unet))  # what the present run uses is kept whatever the limit
        assert memory.hits == memory.misses


def test_one_memory_serves_every_component_and_view(unet):
    """A view shares the tensors of the U-Net but some, as a LoRA's does; its sites have the same names."""
    shared = {id(tensor): tensor for tensor in [*unet.parameters(), *unet.buffers()]}
    view = copy.deepcopy(unet, memo=shared)
    for site in sites(view):
        site.module.to_k.weight = torch.nn.Parameter(1.5 * site.module.to_k.weight.detach())
    memory, text = Memory(), prompts(2)
    for _ in range(2):
        for name, one in (("unet", unet), ("view", view)):  # a key tells the weights
            assert torch.equal(walk(one, [text], kv=TextKV(memory, [(text, name)]))[0], walk(one, [text])[0])
    assert memory.hits == memory.misses == 2 * 2 * len(sites(unet))
    assert not torch.equal(walk(view, [text])[0], walk(unet, [text])[0])


def test_a_controlnet_can_be_tapped_and_remembers_too(model):
    net, text, memory = model.controlnet("pose"), prompts(1), Memory()
    draw = torch.Generator().manual_seed(1)
    given = torch.randn(1, 8, 16, 16, generator=draw), torch.tensor(500), text, torch.rand(1, 3, 64, 64, generator=draw)
    seen, outs = set(), []
    for kept in (None, memory, memory):
        watching = [lambda call, terms: seen.add(call.site)] if kept is not None else []
        kv = None if kept is None else keeping(kept, text)
        with torch.no_grad(), tap(net.sites, Hooks(observers=watching, kv=kv)):
            outs.append(net.module(*given, return_dict=False)[0])
    assert all(torch.equal(a, b) for out in outs[1:] for a, b in zip(out, outs[0], strict=True))
    assert {name.split(".")[0] for name in seen} == {"pose"}
    assert len(seen) == len(sites(net.module))
    with Projected(net.module) as again, torch.no_grad(), tap(net.sites, Hooks(kv=keeping(memory, text))):
        net.module(*given, return_dict=False)
    assert again.count == 0


def test_gradients_are_not_taken_from_memory(unet, inputs):
    sample, t, text = inputs
    memory, weighed = Memory(), text.clone().requires_grad_()
    kv = keeping(memory, text, weighed)
    with tapped(unet, kv=kv):
        unet(sample, t, weighed, return_dict=False)[0].sum().backward()
        unet(sample, t, text, return_dict=False)
    assert len(memory) == 0  # nor put into it
    assert weighed.grad.abs().sum() > 0
    with torch.no_grad(), tapped(unet, kv=kv):
        plain = run(unet, inputs)
        kept, weighed.grad = len(memory), None
        with torch.enable_grad():
            out = unet(sample, t, weighed, return_dict=False)[0]
            out.sum().backward()
            unet(sample, t, text, return_dict=False)
    assert weighed.grad.abs().sum() > 0
    assert torch.equal(out.detach(), plain)
    assert len(memory) == kept == 2 * 2 * len(sites(unet))  # both texts, before the call
    assert memory.hits == 0


def test_memory_works_in_inference_mode(unet, inputs):
    sample, t, text = inputs
    plain, memory = run(unet, inputs), Memory()
    with torch.inference_mode():
        text = text.clone()
        for _ in range(2):
            with tapped(unet, kv=keeping(memory, text)):
                assert torch.equal(unet(sample, t, text, return_dict=False)[0], plain)
    with torch.no_grad(), tapped(unet, kv=keeping(memory, text)):  # what was kept there serves out of it
        assert torch.equal(run(unet, (sample, t, text)), plain)
    assert memory.hits == 2 * memory.misses == 4 * len(sites(unet))


# --- all of it together


def everything(unet, rows=3):
    weights = torch.ones(1, TOKENS)
    weights[0, 4] = 1.4
    draw = torch.Generator().manual_seed(2)
    reference = references(unet, 0.7, left())
    reference = replace(reference, tokens=torch.randn(rows, 4, WIDTH, generator=draw))
    return [
        reference,
        WordWeights(weights),
        Regions((1, 2), (RegionTerm(prompts(1), left()), RegionTerm(prompts(1, seed=11), 1 - left())), base=0.3),
        at_self(IdentityAttention((2,))),
        at_self(BlurredQueries((2,), sigma=1.0), "up_blocks.0"),
    ]


def test_everything_composes_in_one_call(unet, three):
    before, seen, edits = state(unet), [], everything(unet)
    watching = [lambda call, terms: seen.append((call.k.shape[2], [str(term.source) for term in terms]))]
    with tapped(unet, *edits, observers=watching, kv=keeping(Memory(), three[2])):
        out = run(unet, three)
    assert seen == [(TOKENS, ["prompt", "style 0", "region 0", "region 1"])] * len(sites(unet))
    with tapped(unet, *edits[::-1]):
        assert torch.allclose(run(unet, three), out, atol=1e-5)  # sums in another order
    with ExitStack() as stack:
        for edit in edits:
            stack.enter_context(tapped(unet, edit))
        assert torch.allclose(run(unet, three), out, atol=1e-5)
    for edit in edits:  # each does its part
        with tapped(unet, *(one for one in edits if one is not edit)):
            assert not torch.allclose(run(unet, three), out, atol=1e-5)
    assert state(unet) == before


def test_the_row_nobody_names_is_left_alone(unet, three):
    with tapped(unet, *everything(unet)[:2]):
        expected = run(unet, three)
    with tapped(unet, *everything(unet)):
        assert torch.equal(run(unet, three)[0], expected[0])


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_every_kernel_of_attention_will_do(unet, three, backend):
    with tapped(unet, *everything(unet)):
        expected = run(unet, three)
    with sdpa_kernel(backend):
        plain = run(unet, three)
        with tapped(unet, *everything(unet), kv=keeping(Memory(), three[2])):
            out = run(unet, three)
        with tapped(unet, at_self(IdentityAttention((2,)))):
            assert torch.equal(run(unet, three)[:2], plain[:2])
    assert torch.allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_works(unet, three, dtype):
    half = copy.deepcopy(unet).to(dtype)
    rough = tuple(part if part.ndim == 0 else part.to(dtype) for part in three)
    edits = everything(unet)
    exact, reference = run(unet, three), edits[0]
    with tapped(unet, *edits):
        exact = run(unet, three)
    halved = {name: Projections(p.to_k.to(dtype), p.to_v.to(dtype)) for name, p in reference.projections.items()}
    reference = replace(reference, tokens=reference.tokens.to(dtype), projections=halved, mask=reference.mask.to(dtype))
    regions = tuple(replace(one, states=one.states.to(dtype)) for one in edits[2].regions)
    halved = [reference, edits[1], replace(edits[2], regions=regions), *edits[3:]]
    with tapped(half, *halved, kv=keeping(Memory(), rough[2])):
        out = run(half, rough)
    assert out.dtype == dtype
    assert (out.float() - exact).abs().max() < 0.2 * exact.abs().max()


def test_runs_in_threads_do_not_meet(unet, three):
    units = [copy.deepcopy(unet) for _ in range(2)]
    jobs = [everything(unet), [at_self(IdentityAttention((2,)), EVERYWHERE)]]
    alone = []
    for one, edits in zip(units, jobs, strict=True):
        with tapped(one, *edits):
            alone.append(run(one, three))
    outs = [[], []]
    start = threading.Barrier(2)

    memory = Memory()  # of both

    def work(number):
        start.wait()
        for _ in range(3):
            with tapped(units[number], *jobs[number], kv=keeping(memory, three[2])):
                outs[number].append(run(units[number], three))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(out, alone[number]) for number in range(2) for out in outs[number])
    assert [len(found) for found in outs] == [3, 3]


@settings(max_examples=share(8), deadline=None)
@given(st.integers(1, 14), st.sampled_from([ValueError, KeyboardInterrupt]))
def test_an_exception_at_any_call_leaves_the_model_as_it_was(unet, three, nth, error):
    before, calls = state(unet), []

    def fail(call, terms):
        calls.append(call.site)
        if len(calls) == nth:
            raise error
        return terms

    edits = [*everything(unet), fail, at_self(fail, EVERYWHERE)]
    kv = keeping(Memory(), three[2])
    with pytest.raises(error), tapped(unet, *edits, kv=kv), tapped(unet, *edits[:3]):
        run(unet, three)
    assert len(calls) == nth
    assert state(unet) == before
    assert torch.overrides._len_torch_function_stack() == 0
