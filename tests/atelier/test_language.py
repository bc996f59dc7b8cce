"""The atelier's words: what it knows, where that is listed, and the notes on what it does not know."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ctrl
from ctrl.atelier import vocabulary
from ctrl.atelier.captions import describe
from ctrl.atelier.language import EXAMPLE, SMALL, is_atelier
from ctrl.atelier.poses import POSES
from ctrl.atelier.scene import GROUNDS, STYLES, TIMES, sample
from ctrl.options import parser

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def atelier():
    return ctrl.load(device="cpu")


def notes(model, prompt, **changes):
    return ctrl.sample(model, ctrl.Recipe(prompt, steps=1, guidance=2, **changes), progress=False).notes


def test_every_caption_is_in_the_vocabulary_and_every_word_of_it_in_a_caption():
    captions = [describe(sample(seed), seed=seed, everything=True).text for seed in range(2000)]
    assert all(vocabulary().unknown(caption) == () for caption in captions)
    said = {word for caption in captions for word in caption.replace(",", "").split()}
    assert vocabulary().words - SMALL <= said


def test_every_word_is_one_token_of_the_model_s(atelier):
    tokens = atelier.parts.text_encoders[0].tokenizer.get_vocab()
    assert is_atelier(tokens)
    assert {f"{word}</w>" for word in vocabulary().words - SMALL if word.isalpha()} <= tokens.keys()


def test_words_it_does_not_know_are_named_with_what_there_is(atelier):
    (note,) = notes(atelier, "a (cat:1.2) on a sofa, at noon, watercolor")
    assert note.startswith("the prompt: the atelier does not know 'cat', 'sofa', 'noon'; it knows a figure; standing, ")
    assert "(ctrl.atelier.vocabulary())" in note and len(note) < 600
    for name in (*POSES, *GROUNDS, *TIMES, *STYLES, "shirt", "purple", "pillar"):
        assert name in note


def test_negative_and_region_prompts_are_read_too(atelier):
    region = ctrl.Region("a dog", mask=np.eye(8, dtype=np.uint8))
    first, second = notes(atelier, EXAMPLE, negative="blurry", regions=[region])
    assert first.startswith("the negative prompt: the atelier does not know 'blurry'")
    assert second.startswith("the region's prompt: the atelier does not know 'dog'")


@pytest.mark.parametrize(
    "prompt", ["", EXAMPLE, EXAMPLE.upper(), "Someone, sitting down; (neon glow:1.3)!", "a 3D render"]
)
def test_what_it_knows_is_not_noted(atelier, prompt):
    assert notes(atelier, prompt) == ()


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("a T-shirt", ("t-shirt",)),
        ("a cat, a Cat, the cat's", ("cat", "cat's")),
        ("ein Ball, 猫 🚀 8k", ("ein", "猫", "🚀", "8k")),
        ("'red' ball -- on-grass", ("on-grass",)),
        ("balls", ("balls",)),
    ],
)
def test_a_word_is_what_stands_between_spaces_and_punctuation(text, unknown):
    assert vocabulary().unknown(text) == unknown


def test_many_unknown_words_are_counted(atelier):
    (note,) = notes(atelier, " ".join(f"w{number}x" for number in range(30)))
    assert "'w7x' and 22 more; it knows" in note


def test_a_size_that_is_not_its_own_is_noted(atelier):
    width, height = atelier.size
    assert notes(atelier, EXAMPLE, width=width, height=height) == ()
    (note,) = notes(atelier, EXAMPLE, width=width, height=height // 2)
    assert note.startswith(f"the atelier was trained at {width}×{height}; at {width}×{height // 2} it draws worse")


def test_another_model_has_no_such_notes(model):
    assert notes(model, "a cat on a sofa", width=32, height=64) == ()


def test_the_vocabulary_is_printed_shown_in_the_help_and_in_the_readme():
    known = ctrl.atelier.vocabulary()
    rows = [(name, ", ".join(getattr(known, name))) for name in known.__dataclass_fields__]
    help_text = " ".join(parser().format_help().split())
    for name, phrases in rows:
        assert f"{name:8} {phrases}" in str(known)
        assert f'<td style="text-align:left">{phrases}</td>' in known._repr_html_()
        assert f"{name} {phrases}" in help_text
        assert f"| {name} | {phrases} |\n" in README
    assert EXAMPLE in README and EXAMPLE in str(known)


def test_the_vocabulary_needs_no_torch():
    code = "import sys, ctrl; ctrl.atelier.vocabulary(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
