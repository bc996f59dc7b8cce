import json
from itertools import pairwise

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers.models.clip.tokenization_clip import CLIPTokenizer
from variety import share

from ctrl.model.chunks import CHUNKS
from ctrl.model.parts import TextEncoder
from ctrl.model.text import empty, encode, pad_to_longest, spans
from ctrl.prompts import plain

LENGTH = 24  # of a chunk, BOS and EOS included
ROOM = LENGTH - 2
CPU = torch.device("cpu")
some = settings(max_examples=share(25), deadline=None)


def tokenizer(folder, pad):
    """A token a letter, except that "cat" and "!!" are one each."""
    letters = "!abcdefghijklmnopqrstuvwxyz,"  # "!" is 0, as in CLIP's vocabulary
    merges = [("c", "a"), ("ca", "t</w>"), ("!", "!</w>")]
    pieces = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    end = "<|endoftext|>"
    config = {"bos_token": "<|startoftext|>", "eos_token": end, "unk_token": end, "pad_token": pad}
    config |= {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(folder)


def tower(kind, tokens, width, **config):
    known = {"bos_token_id": tokens.bos_token_id, "eos_token_id": tokens.eos_token_id} | config
    return TextEncoder(
        tokens,
        kind(
            CLIPTextConfig(
                vocab_size=len(tokens),
                hidden_size=width,
                intermediate_size=64,
                num_hidden_layers=3,
                num_attention_heads=4,
                max_position_embeddings=LENGTH,
                projection_dim=16,
                **known,
            )
        ).eval(),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizers")


@pytest.fixture(scope="module")
def sd(folder):
    """The one tower of a Stable Diffusion model."""
    torch.manual_seed(0)
    return (tower(CLIPTextModel, tokenizer(folder / "sd", "<|endoftext|>"), 32),)


@pytest.fixture(scope="module")
def xl(sd, folder):
    """The two towers of an SDXL model, whose second pads with "!"."""
    return (*sd, tower(CLIPTextModelWithProjection, tokenizer(folder / "xl", "!"), 48))


def pipeline(towers):
    scheduler = EulerDiscreteScheduler()
    tokenizers, encoders = [tower.tokenizer for tower in towers], [tower.encoder for tower in towers]
    if len(towers) == 1:
        return StableDiffusionPipeline(None, *encoders, *tokenizers, None, scheduler, None, None, None, False)
    return StableDiffusionXLPipeline(None, *encoders, *tokenizers, None, scheduler)


def read(towers, prompt, dtype=torch.float32):
    return encode(towers, prompt, CPU, dtype)


def chunked(towers, prompt):
    """The stretches of the plain prompt that the chunks hold, from first token to last."""
    places = spans(towers, prompt)
    found = []
    for number in range(read(towers, prompt).chunks):
        own = [place for place in places if place.position // LENGTH == number]
        found.append(plain(prompt)[own[0].start : own[-1].end])
    return found


SHORT = [
    "",
    " ",
    "a cat",
    "A Red\n ball,  on grass",
    "abcdefghij " * 2,
    "wow!! a cat",
    "a (cat) :3",
    "((((",
    "\0 👩‍🚀",
    "\u202eمرحب",
    "e\u0301a \u1112\u1161\u11ab",
    "a<|endoftext|>b",
    "<|startoftext|>",
    "(cat:1.2), \\(ball\\)",
]


@pytest.mark.parametrize("prompt", SHORT)
@pytest.mark.parametrize("masked", [False, True])
def test_a_prompt_is_encoded_as_stable_diffusion_does_to_the_bit(folder, sd, prompt, masked):
    own = tower(CLIPTextModel, sd[0].tokenizer, 32)
    own.encoder.config.use_attention_mask = masked
    with torch.no_grad():
        want, negative = pipeline((own,)).encode_prompt(plain(prompt), CPU, 1, True)
    got = read((own,), prompt)
    assert torch.equal(got.states, want)
    assert torch.equal(read((own,), "").states, negative)
    assert (got.pooled, got.cut, got.chunks) == (None, "", 1)


def test_a_mask_is_told_from_none(sd):
    own = tower(CLIPTextModel, sd[0].tokenizer, 32)
    before = read((own,), "a cat").states
    own.encoder.config.use_attention_mask = True
    assert not torch.equal(read((own,), "a cat").states, before)


@pytest.mark.parametrize("prompt", SHORT)
@pytest.mark.parametrize("legacy", [False, True])
def test_a_prompt_is_encoded_as_sdxl_does_to_the_bit(sd, xl, prompt, legacy):
    second = tower(CLIPTextModelWithProjection, xl[1].tokenizer, 48, eos_token_id=2) if legacy else xl[1]
    towers = (*sd, second)
    with torch.no_grad():
        want, negative, pooled, _ = pipeline(towers).encode_prompt(plain(prompt), negative_prompt="a cat", device=CPU)
    got = read(towers, prompt)
    assert torch.equal(got.states, want)
    assert torch.equal(got.pooled, pooled)
    assert torch.equal(read(towers, "a cat").states, negative)
    assert got.states.shape == (1, LENGTH, 80)
    assert got.pooled.shape == (1, 16)


def test_no_negative_prompt_is_zeros_as_sdxl_has_them(xl):
    with torch.no_grad():
        _, negative, _, pooled = pipeline(xl).encode_prompt("a cat", device=CPU)
    got = empty(read(xl, "a (cat:2)"))
    assert torch.equal(got.states, negative)
    assert torch.equal(got.pooled, pooled)
    assert (got.weights, got.cut, got.chunks) == (None, "", 1)


def test_only_the_tower_that_projects_may_be_there(xl):
    got = read(xl[1:], "a cat")
    both = read(xl, "a cat")
    assert torch.equal(got.states, both.states[..., 32:])
    assert torch.equal(got.pooled, both.pooled)


def test_the_states_are_of_the_type_that_was_asked(xl):
    got = read(xl, "a (cat:1.5)", torch.bfloat16)
    assert got.states.dtype == got.pooled.dtype == got.weights.dtype == torch.bfloat16
    assert not got.states.requires_grad


def test_a_prompt_that_just_fits_is_one_chunk_and_a_letter_more_makes_two(sd):
    assert read(sd, "ab " * (ROOM // 2)).chunks == 1
    assert read(sd, "ab " * (ROOM // 2) + "a").chunks == 2
    assert chunked(sd, "ab " * 11 + "a") == ["ab " * 10 + "ab", "a"]


def test_each_chunk_is_encoded_as_a_text_of_its_own(xl):
    first, second = "abcde fghij " * 2, "klmno pqrst"
    long = read(xl, first + second)
    alone = [read(xl, first), read(xl, second)]
    assert torch.equal(long.states, torch.cat([text.states for text in alone], dim=1))
    assert torch.equal(long.pooled, alone[0].pooled)
    assert long.chunks == 2


@pytest.mark.parametrize("towers", ["sd", "xl"])
def test_break_ends_a_chunk(towers, request):
    towers = request.getfixturevalue(towers)
    broken = read(towers, "(abcde:1.2) BREAK , fgh BREAK BREAK BREAK")
    alone = [read(towers, "(abcde:1.2)"), read(towers, ", fgh")]
    assert torch.equal(broken.states, torch.cat([text.states for text in alone], dim=1))
    assert torch.equal(broken.weights[:LENGTH], alone[0].weights)
    assert (broken.chunks, broken.cut) == (2, "")
    assert chunked(towers, "ab " * ROOM + "BREAK cd") == [*["ab " * 10 + "ab"] * 2, "cd"]
    assert torch.equal(read(towers, "BREAK ab").states, read(towers, "ab").states)
    assert read(towers, "BREAK").chunks == read(towers, "A BREAK, B").chunks == read(towers, "BREAKER").chunks == 1


def test_a_chunk_ends_after_a_comma_that_is_near(sd):
    assert chunked(sd, "aaaa bbbb cccc, dddd eeee ffff") == ["aaaa bbbb cccc,", "dddd eeee ffff"]
    assert chunked(sd, "aaaa, bbbb cccc dddd eeee ffff") == ["aaaa, bbbb cccc dddd eeee", "ffff"]


def test_a_chunk_splits_no_word_that_fits_one(sd):
    assert chunked(sd, "aaaaaaaaaa bbbbbbbbbb cccccccccc") == ["aaaaaaaaaa bbbbbbbbbb", "cccccccccc"]
    assert chunked(sd, "aaaaaaaaaa " + "b" * ROOM) == ["a" * 10, "b" * ROOM]
    assert chunked(sd, "aaaaaaaaaa-bbbbbbbbbb-cccccccccc") == ["aaaaaaaaaa-bbbbbbbbbb-", "cccccccccc"]
    assert chunked(sd, "aaaaaaaa-bbbbbbbb-cccccccccc") == ["aaaaaaaa-bbbbbbbb-", "cccccccccc"]
    assert chunked(sd, "aaaaaaaaaa bbbbb-bbbbbbbbbbb") == ["aaaaaaaaaa", "bbbbb-bbbbbbbbbbb"]


def test_a_longer_word_is_split_but_no_character(sd):
    assert chunked(sd, "a" * (2 * ROOM + 1)) == ["a" * ROOM, "a" * ROOM, "a"]
    assert chunked(sd, "  " + "a" * (ROOM + 1)) == ["a" * ROOM, "a"]
    assert chunked(sd, "👩" * 6) == ["👩" * 5, "👩"]  # four bytes each


@pytest.mark.parametrize("count", [8, 9, 30])
def test_what_eight_chunks_do_not_hold_is_cut_in_the_prompts_own_words(sd, count):
    prompt = " ".join(f"({'É' * 10}{letter}:0.5)" for letter in "abcdefghijklmnopqrstuvwxyzabcd"[:count])
    text = read(sd, f"  {prompt}\n")
    assert text.chunks == CHUNKS
    assert text.states.shape == (1, CHUNKS * LENGTH, 32)
    assert text.cut == plain(prompt)[12 * CHUNKS :]


def test_towers_that_read_differently_break_at_the_same_place(xl):
    prompt = "!! " * 20 + "a cat"  # the first tower has one token for two of the second
    assert read(xl[:1], prompt).chunks == 1
    text = read(xl, prompt)
    assert text.chunks == 2
    assert chunked(xl, prompt) == ["!! " * 10 + "!!", "!! " * 9 + "a cat"]
    second = torch.cat([read(xl, "!! " * 11).states, read(xl, "!! " * 9 + "a cat").states], dim=1)
    assert torch.equal(text.states, second)
    assert chunked(xl[::-1], "a" * (ROOM - 1) + "!!") == ["a" * (ROOM - 1), "!!"]


@pytest.mark.parametrize("prompt", ["a cat", "(a:1) (cat:1.0)", "((cat:0.5):2)", "a( :2)", "(a) cat", ""])
def test_weights_of_one_are_none(sd, prompt):
    assert read(sd, prompt).weights is None


def test_a_weight_is_on_its_own_tokens_alone(xl):
    weights = read(xl, "a (cat ab:1.2) \\(b\\) (c:0)").weights
    #                                 a   cat  a    b    (  b  )  c
    assert torch.equal(weights[:9], torch.tensor([1, 1, 1.2, 1.2, 1.2, 1, 1, 1, 0]))
    assert torch.equal(weights[9:], torch.ones(LENGTH - 9))


def test_a_word_of_two_weights_has_its_letters_mean(sd):
    assert read(sd, "c(at:2.5)").weights[:3].tolist() == [1, 2, 1]
    assert read(sd, "(ca:2)(t:0.5)").weights[:3].tolist() == [1, 1.5, 1]


def test_weights_go_on_in_the_next_chunk(sd):
    weights = read(sd, "(" + "ab " * 11 + "cat:3) a").weights
    assert weights.tolist() == [1, *[3] * ROOM, 1, 1, 3, 1, *[1] * (LENGTH - 3)]


def test_weights_change_no_state(sd):
    assert torch.equal(read(sd, "a (cat:3)").states, read(sd, "a cat").states)


def test_the_bytes_of_an_emoji_all_have_its_weight(sd):
    assert read(sd, "a (👩:2) b").weights[:7].tolist() == [1, 1, 2, 2, 2, 2, 1]


def test_spans_say_where_a_words_tokens_are(sd):
    assert spans(sd, "a  (cat:2), ab") == [(1, 0, 1), (2, 3, 6), (3, 6, 7), (4, 8, 9), (5, 9, 10)]
    assert spans(sd, "ab " * 11 + "cat")[-1] == (LENGTH + 1, 33, 36)
    assert spans(sd, "") == []
    assert len(spans(sd, "a " * 1000)) == CHUNKS * ROOM


def test_texts_are_levelled_with_empty_chunks(xl):
    texts = [read(xl, "a (cat:2)"), read(xl, "abcd " * 12), empty(read(xl, "a")), read(xl, "abcd " * 6)]
    level = pad_to_longest(xl, texts)
    blank, size = read(xl, "").states, 3 * LENGTH
    assert {text.chunks for text in level} == {3}
    assert {text.states.shape for text in level} == {(1, size, 80)}
    assert torch.equal(level[0].states, torch.cat([texts[0].states, blank, blank], dim=1))
    assert torch.equal(level[0].weights, torch.cat([texts[0].weights, torch.ones(2 * LENGTH)]))
    assert level[1] is texts[1]
    assert not level[2].states.any()
    assert torch.equal(level[3].states, torch.cat([texts[3].states, blank], dim=1))
    assert all(new.pooled is old.pooled and new.cut == old.cut for new, old in zip(level, texts, strict=True))
    assert level[3].weights is None


def test_level_texts_are_left_alone(sd):
    texts = (read(sd, "a"), read(sd, "cat"))
    assert all(new is old for new, old in zip(pad_to_longest(sd, texts), texts, strict=True))
    assert pad_to_longest(sd, []) == ()


def test_a_tokenizer_saved_without_its_length_has_the_encoders(sd, folder):
    (own,) = sd
    tokens = CLIPTokenizer.from_pretrained(folder / "sd")
    tokens.model_max_length = int(1e30)
    assert torch.equal(read((TextEncoder(tokens, own.encoder),), "a cat").states, read(sd, "a cat").states)


def test_a_tokenizer_without_places_is_refused(sd):
    class Slow:
        is_fast = False

    with pytest.raises(TypeError, match=r"tokenizer, Slow, .*load a fast one"):
        read((TextEncoder(Slow(), sd[0].encoder),), "a")


def test_a_bad_weight_is_refused(sd):
    with pytest.raises(ValueError, match="from 0 to 5"):
        read(sd, "a (cat:9)")


def covers(prompt, places, cut):
    """Tokens in order and in range, the cut an end of the prompt that begins where no token reaches."""
    letters = plain(prompt)
    assert all(0 <= place.start < place.end <= len(letters) for place in places)
    assert all(one.position < other.position and one.end <= max(other.end, one.end) for one, other in pairwise(places))
    assert letters.rstrip().endswith(cut)
    assert not places or not cut or places[-1].end <= len(letters.rstrip()) - len(cut)


PIECES = st.sampled_from(["a", "cat", " ", ", ", "!!", "e\u0301", "👩‍🚀", "\0", "\n", "مر", "(", ")", "(b:2)", "𝅘𝅥𝅮"])
PROMPTS = st.one_of(st.text(max_size=100), st.lists(PIECES, max_size=150).map("".join))


@given(prompt=PROMPTS)
@some
@example("a" * 10_000)
@example("word, " * 1_700)
@example("👩‍🚀" * 3_000)
@example("!" * 10_000)
@example("\0\u202e\n" * 100)
def test_no_prompt_breaks_it(xl, prompt):
    text, places = read(xl, prompt), spans(xl, prompt)
    assert 1 <= text.chunks <= CHUNKS
    assert text.states.shape == (1, text.chunks * LENGTH, 80)
    assert torch.isfinite(text.states).all()
    assert text.weights is None or text.weights.shape == (text.chunks * LENGTH,)
    assert all(1 <= place.position % LENGTH <= ROOM for place in places)
    covers(prompt, places, text.cut)


@given(prompt=PROMPTS)
@some
def test_every_token_is_read_or_cut(sd, prompt):
    tokens = sd[0].tokenizer(plain(prompt), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    text, places = read(sd, prompt), spans(sd, prompt)
    read_of_it = tokens.offset_mapping[: len(places)]
    assert [(place.start, place.end) for place in places] == read_of_it
    rest = tokens.offset_mapping[len(places) :]
    assert bool(rest) == bool(text.cut)
    if rest:
        assert text.cut == plain(prompt)[rest[0][0] :].rstrip()
