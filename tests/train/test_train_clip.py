"""The clip stage: words are tokens, facts stand at their words, lies are lies, and the loss falls."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from ctrl.atelier.captions import describe
from ctrl.atelier.scene import sample
from ctrl.train import clip, clip_data
from ctrl.train.facts import ATTRIBUTES, VALUES, facts, twisted
from ctrl.train.loop import Budget
from ctrl.train.options import Options
from ctrl.train.pool import Pool, fill
from ctrl.train.tokenizer import train_tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def tokenizer(runs: Path) -> CLIPTokenizer:
    folder = runs / "weights" / "tokenizer"
    train_tokenizer(folder, captions=2000)
    return CLIPTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def pool(runs: Path) -> Pool:
    return fill(runs / "pool32", 128, 32)


def test_every_word_of_a_caption_is_one_token(tokenizer: CLIPTokenizer) -> None:
    text = describe(sample(3)).text
    words = re.findall(r"[a-z]+|[^\sa-z]", text)
    assert tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)[1:-1] == [f"{word}</w>" for word in words]


@pytest.mark.parametrize("text", ["a dancer on a stage", "3 zebras, ünïcode!", "日本 🎉"])
def test_other_words_fall_into_pieces_and_come_back(tokenizer: CLIPTokenizer, text: str) -> None:
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids[1:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_captions_fit_and_are_padded_as_diffusers_pads(tokenizer: CLIPTokenizer) -> None:
    longest = max(len(ids) for ids in tokenizer([describe(sample(seed), seed).text for seed in range(500)]).input_ids)
    assert longest <= tokenizer.model_max_length <= 48
    ids = clip_data.tokens(tokenizer, ["a figure"])
    assert ids.shape == (1, tokenizer.model_max_length)
    assert (ids[0, 3:] == tokenizer.eos_token_id).all()


@pytest.mark.parametrize("seed", range(40))
def test_facts_stand_on_their_own_tokens(tokenizer: CLIPTokenizer, seed: int) -> None:
    scene = sample(seed)
    caption = describe(scene, seed)
    coded = tokenizer([caption.text])
    found = facts(scene, caption)
    places = [(coded.char_to_token(0, fact.letter), fact.attribute) for fact in found]
    assert None not in [place for place, _ in places]
    assert len(set(places)) == len(places)
    for fact in found:
        value = VALUES[fact.attribute][fact.value]
        if ATTRIBUTES[fact.attribute] in ("kind", "color", "side"):
            assert value in caption.text[: fact.letter + 1]


def test_a_twisted_scene_is_another_scene_in_the_same_words() -> None:
    rng = np.random.Generator(np.random.Philox(0))
    texts = [(describe(scene).text, describe(twisted(scene, rng)).text) for scene in map(sample, range(50))]
    assert sum(one != other for one, other in texts) > 25


def test_twenty_steps_and_the_loss_falls(tokenizer: CLIPTokenizer, pool: Pool) -> None:
    torch.manual_seed(0)
    towers, silent = clip.Towers(tokenizer), clip.silent_tokens(tokenizer)
    optimizer = torch.optim.AdamW(towers.parameters(), lr=1e-3)
    values = []
    for step in range(20):
        generator = torch.Generator().manual_seed(step)
        value = clip.loss(towers, clip.draw(pool, tokenizer, list(range(64, 80)), generator, 8), silent)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert np.mean(values[-4:]) < np.mean(values[:4]) - 0.2


def test_the_stage_saves_what_diffusers_loads(runs: Path, tokenizer: CLIPTokenizer, pool: Pool) -> None:
    clip.main(Options(runs=runs, size=32, count=128, batch=8, budget=Budget(steps=2)))
    loaded, text = clip.load_text(runs / "weights")
    assert text.config.eos_token_id == loaded.eos_token_id != 2
    state = text(clip_data.tokens(loaded, ["a figure", "a figure, on grass"])).last_hidden_state
    assert state.shape == (2, loaded.model_max_length, 192)
    processor, vision = clip.load_vision(runs / "weights")
    picture = torch.from_numpy(pool.picture[:2])
    ours = clip.embed_pictures(vision, picture)
    theirs = vision(processor(list(picture), return_tensors="pt").pixel_values).image_embeds
    assert ours.shape == (2, 192)
    assert torch.allclose(ours, theirs, atol=0.05)
