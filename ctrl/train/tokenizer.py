"""The atelier's BPE tokenizer, in CLIPTokenizer's format: a world word is one token, another word is pieces.

The vocabulary is ordered as CLIP's: 256 bytes, the same as word ends, merges, start of text, end of text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from ctrl.atelier.captions import describe
from ctrl.atelier.scene import sample

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"

# Words people also type; seen once each, they teach the merges how English is spelt.
COMMON_WORDS = """
about above across after again against all along also always among animal another any apple arm around
artist asleep autumn away baby back bag bald bank bar beach bear beautiful because bed before behind below
bench beside between big bird black blonde boat body both bottle bottom boy branch bread bridge bright
bronze brother brown building bus business but call calm camera can candle car cat chair cheerful child
children church circle city clear close cloud coat cold color colour colorful corner country couple crowd
cup curly cute dance dancer dancing dark dawn deep desert design detailed dirt dog door dramatic draw dress
drink early earth easy edge eight elegant empty end energetic evening every eye eyes face fall family famous
far farm fashion fast feet female field figures film fine fire first five flat flower flying fog food foot
for forest four free friend from front full fun garden gentle ghost giant girl give glass gloves go gold
golden good gray great grey ground group hair half hall hand happy hat have head heart heavy her here hero
high hill him his hold holding home horse hot hour house how human ice image inside into iron is island it
its jacket jeans joy jump jumping just key king kitchen knight lady lake lamp land large laugh lay leaf lean
legs less life light like line little living long look looking love low machine magic main make male man
many map mask men metal middle mirror modern money month moon more morning mother mountain mouth move music
my name near neck new nice no noon north nose not number object ocean of off office old one only open or
other our out outside over paint pale pants paper park part party past path people photo photograph picture
piece pink place plain plant play playing portrait pose posing power pretty prince princess queen quiet rain
rainbow reach realistic rest ride river road robot rock roof room rose round running sad sail same scene
school sea season seat second see serious seven shadow shape sharp she shell ship shoe shoes shop short
shoulder show side silver simple sing sister six sky sleep sleeping slow small smile smiling smoke soft some
song south space sport spring square stage stairs stand star stars statue steel stone storm story street
strong studio style summer sun sunlight sunny sunrise surprised sweater swim table tall teacher tent that
their them there these they thin thing think this three through time tiny tired to together top tower town
toy train travel trees two umbrella under up valley very view village walk wall warm was watch water wave
way wear wearing weather west wet what wheel when where which wide wild wind window wings winter woman women
wooden work world worn year you young your zebra
"""


def train_tokenizer(folder: Path, captions: int = 20000, size: int = 1152) -> CLIPTokenizer:
    """Learn the merges from captions, save the tokenizer's files to a folder and load it from there."""
    texts = [describe(sample(seed), seed=seed).text for seed in range(captions)]
    vocabulary, merges = _learn(texts, size)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    longest = max(len(ids) for ids in tokenizer(texts).input_ids)
    tokenizer.model_max_length = -(-longest // 4) * 4
    tokenizer.save_pretrained(folder)
    return tokenizer


def _learn(texts: Sequence[str], size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's vocabulary layout with merges learnt from `texts` and the common words, `size` tokens in all."""
    shape = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(BPE(end_of_word_suffix=WORD_END))
    learner.normalizer, learner.pre_tokenizer = shape.normalizer, shape.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=size,
        initial_alphabet=alphabet,
        end_of_word_suffix=WORD_END,
        special_tokens=[],
        show_progress=False,
    )
    learner.train_from_iterator([*texts, *COMMON_WORDS.split()], trainer)
    learnt = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    merges = learnt[: size - 2 * len(alphabet) - 2]
    tokens = [
        *alphabet,
        *(letter + WORD_END for letter in alphabet),
        *(left + right for left, right in merges),
    ]
    tokens = [*dict.fromkeys(tokens), START, END]
    return {token: index for index, token in enumerate(tokens)}, merges
