"""Grounding: what is drawn where, and that it can be learnt."""

from __future__ import annotations

import numpy as np
import torch
from transformers import CLIPTokenizer

from ctrl.atelier.captions import describe
from ctrl.atelier.scene import sample
from ctrl.atelier.solids import PARTS
from ctrl.attention import tap
from ctrl.model.loading import ATELIER
from ctrl.train import denoiser, grounding

LENGTH = 44


def _tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(ATELIER / "tokenizer")


def test_a_mirrored_mask_calls_left_what_was_right() -> None:
    part = np.zeros((1, 4, 4), np.uint8)
    part[0, 0, 0] = grounding.LEFT
    plain, mirrored = grounding.parts(part, [0, 0], [False, True])
    assert plain[0, 0] == grounding.LEFT and mirrored[0, 3] == grounding.RIGHT
    assert (mirrored > 0).sum() == 1


def test_every_mention_is_found_at_its_tokens_and_its_mask() -> None:
    scene = next(scene for scene in map(sample, range(50)) if len(scene.props) == 2 and scene.shows_color)
    caption = describe(scene)
    part = torch.zeros(1, 16, 16, dtype=torch.uint8)
    part[0, :4, :4], part[0, 8:] = PARTS.index("left prop"), PARTS.index("ground")
    tokenizer = _tokenizer()
    found = grounding.named(tokenizer, [caption], part, LENGTH, torch.device("cpu"))
    assert len(found.row) == 2  # the others are not in the picture
    words = [tokenizer.decode(tokenizer(caption.text).input_ids[int(one.argmax())]) for one in found.token]
    left = next(prop for prop in scene.props if prop.side == "left")
    assert words[0].strip() in left.kind or left.kind.startswith(words[0].strip())
    assert torch.equal(found.token.sum(1), torch.ones(2))
    assert found.mask[0].sum() == 16 and found.mask[1].sum() == 128


def test_nothing_named_is_no_loss() -> None:
    found = grounding.named(_tokenizer(), [describe(sample(0))], torch.zeros(1, 16, 16), LENGTH, torch.device("cpu"))
    assert len(found.row) == 0
    assert float(grounding.Drawn(found, torch.ones(1)).loss()) == 0


def test_a_map_on_its_thing_costs_nothing_and_elsewhere_something() -> None:
    mask = torch.zeros(1, 16, 16)
    mask[0, :8] = 1
    named = grounding.Named(torch.tensor([0]), torch.eye(LENGTH)[1:2], mask)
    here = torch.full((1, 1, 256, LENGTH), -20.0)
    here[0, 0, :128, 1] = 20  # cells of the thing look at token 1, the others at token 2
    here[0, 0, 128:, 2] = 20
    k = torch.eye(LENGTH)[None, None]
    losses = []
    for q in (here, here.flip(2)):
        drawn = grounding.Drawn(named, torch.ones(1))
        drawn.see("", q * LENGTH**0.5, k, (16, 16))
        losses.append(float(drawn.loss()))
    assert losses[0] < 1e-4 and losses[1] > 5


def test_words_learn_to_look_at_their_things() -> None:
    torch.manual_seed(0)
    unet, text = denoiser.build(8, 32), torch.randn(2, LENGTH, 32)
    mask = torch.zeros(2, 16, 16)
    mask[0, :8], mask[1, :, :8] = 1, 1
    named = grounding.Named(torch.tensor([0, 1]), torch.eye(LENGTH)[2:4], mask)
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
    named = grounding.Named(torch.zeros(0), torch.zeros(0, LENGTH), torch.zeros(0, 16, 16))
    with grounding.drawn(unet, named, torch.ones(1)):
        unet(torch.zeros(1, 8, 16, 16), torch.tensor([1]), torch.zeros(1, LENGTH, 32))
    assert not any("forward" in module.__dict__ for module in unet.modules())
    with tap(unet, observers=[lambda *_: None]):
        unet(torch.zeros(1, 8, 16, 16), torch.tensor([1]), torch.zeros(1, LENGTH, 32))
