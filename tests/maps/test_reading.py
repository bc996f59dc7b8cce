"""Rows of a pipeline's batch are told by their content, in every order in which diffusers puts them."""

import pytest
import torch

from ctrl.maps import Text
from ctrl.maps.reading import Known, Reader

COND, UNCOND = (torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
DOG, BALL, DARK = (Text.of(word, [(1, 0, len(word))]) for word in ("dog", "ball", "dark"))
ORDERS = {  # of blocks of rows, each of as many pictures as are made
    "guidance": ("uncond", "cond"),
    "guidance off, or guess mode": ("cond",),
    "a guider's call for the negative prompt": ("uncond",),
    "InstructPix2Pix": ("cond", "uncond", "uncond"),
    "PAG": ("uncond", "cond", "perturbed"),
    "PAG, guidance off": ("cond", "perturbed"),
}


def reader(pictures):
    known = [("cond", COND, (DOG, BALL)), ("uncond", UNCOND, (DARK, DARK))]
    return Reader(None, known=[Known(branch, embeds[:pictures], texts[:pictures]) for branch, embeds, texts in known])


def stacked(order, pictures):
    return torch.cat([(UNCOND if branch == "uncond" else COND)[:pictures] for branch in order])


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_each_row_has_its_branch_and_its_text(order, pictures):
    rows, prompts, negatives = reader(pictures).rows(stacked(order, pictures))
    assert rows.labels == tuple(branch for branch in order for _ in range(pictures))
    assert rows.pictures == pictures and len(rows) == len(order) * pictures
    assert [text.text for text in prompts] == (["dog", "ball"][:pictures] if "cond" in order else [])
    assert [text.text for text in negatives] == (["dark"] * pictures if "uncond" in order else [])


def test_a_tensor_given_again_is_not_compared_again_unless_it_was_written_to(monkeypatch):
    compared, equal = [], torch.equal
    monkeypatch.setattr(torch, "equal", lambda *pair: compared.append(1) or equal(*pair))
    read, embeds = reader(1), stacked(("uncond", "cond"), 1)
    assert read.rows(embeds)[0] == read.rows(embeds)[0] and compared
    count = len(compared)
    assert read.rows(embeds, perturbed=True)[0].labels == ("perturbed", "perturbed") and len(compared) == count
    embeds.copy_(stacked(("cond", "uncond"), 1))
    assert read.rows(embeds)[0].labels == ("cond", "uncond") and len(compared) > count
