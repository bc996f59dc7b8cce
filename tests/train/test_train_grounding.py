"""Grounding: what is drawn where, and that it can be learnt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPTokenizer

from ctrl.atelier.captions import Caption, Mention, describe
from ctrl.atelier.scene import sample
from ctrl.atelier.solids import PARTS
from ctrl.attention import Call, Hooks, sites, tap
from ctrl.model.loading.load import ATELIER
from ctrl.train import denoiser, grounding
from ctrl.train.clip_data import spelt
from ctrl.train.rows import Rows

pytestmark = pytest.mark.slow

LENGTH = 44


def _tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(ATELIER / "tokenizer")


def _call(q: torch.Tensor, k: torch.Tensor) -> Call:
    """A call of cross-attention over 16 x 16 cells."""
    return Call("", q, k, k, 16, 16)


def _named(captions: list[Caption], part: np.ndarray) -> grounding.Named:
    _, spans = spelt(_tokenizer(), [caption.text for caption in captions])
    return grounding.Named.of(captions, spans, grounding.filled(part, Rows([0], [False])))


def test_cells_are_filled_as_pooling_says() -> None:
    part = np.random.default_rng(0).integers(len(PARTS), size=(3, 32, 32)).astype(np.uint8)
    share = grounding.filled(part, Rows([2, 0], [False, False]))
    for index in range(len(PARTS)):
        there = torch.from_numpy(part[[2, 0]] == index).float()
        assert torch.equal(share[:, index], F.adaptive_avg_pool2d(there, grounding.FINEST))


def test_a_mirrored_mask_calls_left_what_was_right() -> None:
    left, right = PARTS.index("left prop"), PARTS.index("right prop")
    part = np.zeros((1, 16, 16), np.uint8)
    part[0, 0, 0] = left
    plain, mirrored = grounding.filled(part, Rows([0, 0], [False, True]))
    assert plain[left, 0, 0] == 1 and mirrored[right, 0, 15] == 1
    assert plain[1:].sum() == 1 and mirrored[1:].sum() == 1


def test_every_mention_is_found_at_its_tokens_and_its_mask() -> None:
    scene = next(scene for scene in map(sample, range(50)) if len(scene.props) == 2 and scene.shows_color)
    caption, tokenizer = describe(scene), _tokenizer()
    part = np.zeros((1, 16, 16), np.uint8)
    part[0, :4, :4], part[0, 8:] = PARTS.index("left prop"), PARTS.index("ground")
    found = _named([caption], part)
    assert torch.equal(found.token.sum(-1), torch.ones(1, len(grounding.THINGS)))  # this caption names all of them
    left = next(prop for prop in scene.props if prop.side == "left")
    at = grounding.THINGS.index("left prop")
    word = tokenizer.decode(tokenizer(caption.text).input_ids[int(found.token[0, at].argmax())]).strip()
    assert word and (word in left.kind or left.kind.startswith(word))
    there = {thing: int(mask.sum()) for thing, mask in zip(grounding.THINGS, found.mask[0], strict=True)}
    assert there == {"figure": 0, "shirt": 0, "trousers": 0, "left prop": 16, "right prop": 0, "ground": 128}


def test_a_word_cut_off_and_a_caption_that_names_nothing_have_no_tokens() -> None:
    named = _named([Caption("", (), frozenset())], np.zeros((1, 16, 16), np.uint8))
    assert not named.token.any()
    cut = Caption("a figure", (Mention("figure", 2000, 2006, "figure"),), frozenset())
    assert not _named([cut], np.zeros((1, 16, 16), np.uint8)).token.any()


def test_nothing_named_is_no_loss() -> None:
    named = _named([describe(sample(0))], np.zeros((1, 16, 16), np.uint8))  # all sky
    assert named.token.any() and not named.mask.any()
    drawn = grounding.Drawn(named, torch.ones(1))
    q, k = (torch.randn(1, 1, cells, 8, requires_grad=True) for cells in (256, LENGTH))
    drawn.see(_call(q, k), ())
    drawn.loss().backward()
    assert float(drawn.loss().detach()) == 0 and not q.grad.any() and not k.grad.any()
    assert float(grounding.Drawn(named, torch.ones(1)).loss()) == 0


def test_a_map_on_its_thing_costs_nothing_and_elsewhere_something() -> None:
    mask = torch.zeros(1, 2, 16, 16)
    mask[0, :, :8] = 1
    token = torch.zeros(1, 2, LENGTH)
    token[0, 0, 1] = 1  # the second thing has no word: it does not count
    here = torch.full((1, 1, 256, LENGTH), -20.0)
    here[0, 0, :128, 1] = 20  # cells of the thing look at token 1, the others at token 2
    here[0, 0, 128:, 2] = 20
    k = torch.eye(LENGTH)[None, None]
    losses = []
    for q in (here, here.flip(2)):
        drawn = grounding.Drawn(grounding.Named(token, mask), torch.ones(1))
        drawn.see(_call(q * LENGTH**0.5, k), ())
        losses.append(float(drawn.loss()))
    assert losses[0] < 1e-4 and losses[1] > 5


def test_words_learn_to_look_at_their_things() -> None:
    torch.manual_seed(0)
    unet, text = denoiser.build(8, 32), torch.randn(2, LENGTH, 32)
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, 0, :8], mask[1, 0, :, :8] = 1, 1
    named = grounding.Named(torch.eye(LENGTH)[2:4, None], mask)
    latents = torch.randn(2, 8, 16, 16)

    def loss() -> torch.Tensor:
        with grounding.drawn(unet, named, torch.ones(2)) as maps:
            unet(latents, torch.tensor([100, 100]), text)
        return maps.loss()

    optimizer = torch.optim.Adam(unet.parameters(), lr=3e-3)
    before = float(loss().detach())
    for _ in range(15):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    assert float(loss().detach()) < 0.7 * before


def test_the_tap_is_gone_afterwards() -> None:
    unet = denoiser.build(8, 32)
    named = grounding.Named(torch.zeros(1, 1, LENGTH), torch.zeros(1, 1, 16, 16))
    with grounding.drawn(unet, named, torch.ones(1)):
        unet(torch.zeros(1, 8, 16, 16), torch.tensor([1]), torch.zeros(1, LENGTH, 32))
    assert not any("forward" in module.__dict__ for module in unet.modules())
    with tap(sites(unet), Hooks(observers=[lambda *_: None])):
        unet(torch.zeros(1, 8, 16, 16), torch.tensor([1]), torch.zeros(1, LENGTH, 32))
