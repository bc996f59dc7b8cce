import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from variety import share

from ctrl.rows import PromptRows, Rows, summed

FEW = settings(max_examples=share(40), deadline=None)
KINDS_OF_ROWS = st.builds(Rows, pictures=st.integers(1, 3), guided=st.booleans(), perturbed=st.integers(0, 3))


@FEW
@given(KINDS_OF_ROWS)
def test_every_row_has_one_name(rows):
    branches = [rows.branch(number) for number in range(rows.perturbed)]
    named = [*rows.uncond, *rows.cond, *(row for branch in branches for row in branch)]
    assert named == list(range(len(rows)))
    assert rows.prompted == tuple(named[len(rows.uncond) :])
    assert len(rows) == rows.pictures * ((2 if rows.guided else 1) + rows.perturbed)
    assert len(rows.cond) == rows.pictures and len(rows.uncond) == rows.pictures * rows.guided
    assert all(len(branch) == rows.pictures for branch in branches)


@FEW
@given(KINDS_OF_ROWS)
def test_the_branches_are_the_blocks_of_rows_in_diffusers_order(rows):
    each_row = [branch for branch in rows.branches for _ in range(rows.pictures)]
    assert [row for row, branch in enumerate(each_row) if branch == "uncond"] == list(rows.uncond)
    assert [row for row, branch in enumerate(each_row) if branch == "cond"] == list(rows.cond)
    assert [row for row, branch in enumerate(each_row) if branch != "uncond"] == list(rows.prompted)
    assert rows.branches.count("perturbed") == rows.perturbed


@FEW
@given(KINDS_OF_ROWS, KINDS_OF_ROWS)
def test_rows_are_values(one, other):
    assert one == Rows(pictures=one.pictures, guided=one.guided, perturbed=one.perturbed)
    assert hash(one) == hash(Rows(pictures=one.pictures, guided=one.guided, perturbed=one.perturbed))
    fields = [(rows.pictures, rows.guided, rows.perturbed) for rows in (one, other)]
    assert (one == other) == (fields[0] == fields[1])


@FEW
@given(KINDS_OF_ROWS)
def test_what_is_stacked_comes_apart_again(rows):
    cond, uncond = torch.randn(2, rows.pictures, 3, 4).unbind()
    stacked = rows.stack(cond, uncond)
    assert len(stacked) == len(rows)
    assert torch.equal(stacked[list(rows.prompted)], torch.cat([cond] * (1 + rows.perturbed)))
    branches = rows.split(stacked)
    assert torch.equal(branches.cond, cond)
    assert (branches.uncond is None) == (not rows.guided)
    assert branches.uncond is None or torch.equal(branches.uncond, uncond)
    assert len(branches.perturbed) == rows.perturbed
    assert all(torch.equal(one, cond) for one in branches.perturbed)


def drawn(pictures, *, pooled, weights, seed):
    """Prompts of N pictures, five tokens each."""
    draw = torch.Generator().manual_seed(seed)
    return PromptRows(
        torch.randn(pictures, 5, 4, generator=draw),
        torch.randn(pictures, 3, generator=draw) if pooled else None,
        torch.rand(pictures, 5, generator=draw) if weights else None,
    )


@FEW
@given(KINDS_OF_ROWS, st.booleans(), st.booleans(), st.booleans())
def test_prompts_are_stacked_row_by_row_with_weights_of_1_where_a_branch_has_none(rows, pooled, weighted, against):
    cond = drawn(rows.pictures, pooled=pooled, weights=weighted, seed=0)
    uncond = drawn(rows.pictures, pooled=pooled, weights=against, seed=1)
    stacked = PromptRows.stack(rows, cond, uncond)
    assert len(stacked.embeds) == len(rows)
    assert (stacked.pooled is None) == (not pooled)
    assert (stacked.weights is None) == (not (weighted or against))
    blocks = [rows.uncond] * rows.guided + [rows.cond] + [rows.branch(number) for number in range(rows.perturbed)]
    for block, branch in zip(blocks, rows.branches, strict=True):
        own, at = uncond if branch == "uncond" else cond, list(block)
        assert torch.equal(stacked.embeds[at], own.embeds)
        assert stacked.pooled is None or torch.equal(stacked.pooled[at], own.pooled)
        ones = torch.ones(rows.pictures, 5)
        assert stacked.weights is None or torch.equal(stacked.weights[at], ones if own.weights is None else own.weights)


def test_the_negative_prompt_is_in_no_row_where_guidance_is_off():
    cond, uncond = (drawn(2, pooled=True, weights=True, seed=seed) for seed in range(2))
    for perturbed in (0, 2):
        stacked = PromptRows.stack(Rows(pictures=2, guided=False, perturbed=perturbed), cond, uncond)
        for part in ("embeds", "pooled", "weights"):
            assert torch.equal(getattr(stacked, part), torch.cat([getattr(cond, part)] * (1 + perturbed)))


def test_residuals_add_up_in_their_order_and_those_of_nothing_are_none():
    draw = torch.Generator().manual_seed(0)
    one, two, three = (tuple(torch.randn(2, 3, side, side, generator=draw) for side in (8, 4)) for _ in range(3))
    assert summed([]) is None
    assert all(part is own for part, own in zip(summed([one]), one, strict=True))
    before = [part.clone() for part in one]
    expected = [(a + b) + c for a, b, c in zip(one, two, three, strict=True)]  # floats add up by their order
    assert all(torch.equal(*pair) for pair in zip(summed([one, two, three]), expected, strict=True))
    assert all(torch.equal(*pair) for pair in zip(one, before, strict=True))
    with pytest.raises(ValueError, match="argument 2 is"):  # ControlNets for U-Nets of other depths
        summed([one, two[:1]])
