"""Another VAE, more words, fewer layers of the text encoder, and CLIP's vocabulary out of a package."""

import copy
import gzip

import numpy as np
import pytest
import tiny_formats as tiny
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline
from transformers import CLIPTokenizer

import ctrl
from ctrl.model import text
from ctrl.model.loading import tokenizers

KINDS = {"sd1": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
RECIPE = ctrl.Recipe("ab, c", negative="d", steps=2, seed=3, width=32, height=32, guidance=5.0, sampler="ddim")
offline = pytest.fixture(autouse=True)(tiny.offline)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder with the models in both layouts."""
    return tiny.save_all({family: tiny.ALL[family]() for family in KINDS}, tmp_path_factory.mktemp("words"))


def pipeline(shelf, family):
    pipe = KINDS[family].from_pretrained(shelf / family, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def theirs(pipe, prompt="ab, c", **more):
    given = {"negative_prompt": "d", "num_inference_steps": 2, "guidance_scale": 5.0, "width": 32, "height": 32}
    return np.asarray(pipe(prompt, generator=torch.Generator().manual_seed(3), **(given | more)).images[0])


def ours(model, prompt="ab, c"):
    return np.asarray(ctrl.sample(model, RECIPE.replace(prompt=prompt)).image)


@pytest.mark.slow
@pytest.mark.parametrize("family", KINDS)
def test_clip_skip_reads_the_layers_that_diffusers_reads(shelf, family):
    pipe = pipeline(shelf, family)
    # The installed diffusers looks for a layer where the installed transformers no longer has it.
    pipe.text_encoder.__dict__["text_model"] = pipe.text_encoder
    model = ctrl.load(shelf / family, device="cpu", clip_skip=1)
    assert np.array_equal(ours(model), theirs(pipe, clip_skip=1))
    assert not np.array_equal(ours(model), theirs(pipe))
    del pipe.text_encoder.__dict__["text_model"]
    assert np.array_equal(ours(ctrl.load(pipe, clip_skip=1)), ours(model))
    for wrong in (-1, 2, True, 1.0, "1"):
        with pytest.raises(ValueError, match="clip_skip must be a number of layers from 0 to 1"):
            ctrl.load(shelf / family, device="cpu", clip_skip=wrong)


def vectors(family, count):
    torch.manual_seed(count)
    drawn = torch.randn(count, 64) / 3
    return {"clip_l": drawn, "clip_g": drawn.flip(0) / 2} if family == "sdxl" else {"emb_params": drawn}


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("family", KINDS)
def test_a_textual_inversion_of_several_vectors_draws_what_diffusers_draws(shelf, tmp_path, family, count):
    held = vectors(family, count)
    file = tiny.save(held, tmp_path / "<cat>.safetensors")
    pipe = pipeline(shelf, family)
    if family == "sdxl":
        more = {"text_encoder": pipe.text_encoder, "tokenizer": pipe.tokenizer}
        pipe.load_textual_inversion(held["clip_l"], token="<cat>", **more)
        more = {"text_encoder": pipe.text_encoder_2, "tokenizer": pipe.tokenizer_2}
        pipe.load_textual_inversion(held["clip_g"], token="<cat>", **more)
    else:
        pipe.load_textual_inversion(str(file), token="<cat>")
    expected = theirs(pipe, "a <cat>, b")
    model = ctrl.load(shelf / family, device="cpu", embeddings=file)
    assert np.array_equal(ours(model, "a <cat>, b"), expected)
    assert not np.array_equal(ours(ctrl.load(shelf / family, device="cpu"), "a <cat>, b"), expected)
    assert np.array_equal(ours(ctrl.load(pipe), "a <cat>, b"), expected)  # it comes with a pipeline as well
    named = ctrl.load(shelf / family, device="cpu", embeddings={"<cat>": file})
    assert np.array_equal(ours(named, "a <cat>, b"), expected)


@pytest.mark.slow
def test_the_vectors_of_a_word_share_its_place_and_its_weight(shelf, tmp_path):
    file = tiny.save({"<cat>": torch.randn(3, 64)}, tmp_path / "learned_embeds.safetensors")
    model = ctrl.load(shelf / "sd1", device="cpu", embeddings=file)  # the file names its word
    spans = text.spans(model.text.encoders, "a (<cat>:1.3) b")
    assert [(one.start, one.end) for one in spans] == [(0, 1), (2, 7), (2, 7), (2, 7), (8, 9)]
    prefixed = ctrl.load(shelf / "sd1", device="cpu", embeddings={"cat": file})
    for prompt in ("a embedding:cat b", "a embedding:cat.safetensors b", "a Embedding:cat b"):
        assert torch.equal(prefixed.text.encode(prompt).states, prefixed.text.encode("a cat b").states)
        assert torch.equal(prefixed.text.encode(prompt).states, model.text.encode("a <cat> b").states)
        assert not [note for note in ctrl.sample(prefixed, RECIPE.replace(prompt=prompt)).notes if "embedding" in note]
    for prompt in ("a embedding:cat b", "a embedding:cat.pt b", "a embedding:<cat> b"):  # ComfyUI names the file
        assert torch.equal(model.text.encode(prompt).states, model.text.encode("a <cat> b").states)
        assert not [note for note in ctrl.sample(model, RECIPE.replace(prompt=prompt)).notes if "embedding" in note]
    spans = text.spans(model.text.encoders, "a embedding:cat.pt, b")
    assert [(one.start, one.end) for one in spans] == [(0, 1), *[(12, 15)] * 3, (18, 19), (20, 21)]
    strange = model.text.encode("a embedding:dog b").states
    assert not torch.equal(strange, model.text.encode("a <cat> b").states)
    read = model.text.encode("a (<cat>:1.3) b")
    assert read.weights.tolist()[:6] == pytest.approx([1, 1, 1.3, 1.3, 1.3, 1])


@pytest.mark.parametrize(
    ("tensors", "word", "sentence"),
    [
        ({"emb_params": torch.ones(2, 7)}, "x1", "has vectors of 7 numbers, and this text encoder's have 64"),
        ({"emb_params": torch.ones(300, 64)}, "x1", "at most 256 vectors of finite numbers"),
        ({"emb_params": torch.full((1, 64), torch.nan)}, "x1", "at most 256 vectors of finite numbers"),
        ({"clip_l": torch.ones(1, 64), "clip_h": torch.ones(1, 64)}, "a</w>", "the token 'a</w>', which is known"),
        ({"lora_unet_x.lora_down.weight": torch.ones(1, 2), "b": torch.ones(1)}, "x1", "it looks like a LoRA"),
    ],
)
def test_what_is_no_textual_inversion_for_this_model_is_refused(shelf, tmp_path, tensors, word, sentence):
    file = tiny.save(tensors, tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match=sentence):
        ctrl.load(shelf / "sd1", device="cpu", embeddings={word: file})


@pytest.mark.slow
@pytest.mark.parametrize("form", ["folder", "original names", "in a model's file", "model folder"])
def test_another_vae_is_taken_in_place_of_the_models(shelf, tmp_path, form):
    torch.manual_seed(11)
    config = pipeline(shelf, "sd1").vae.config
    vae = AutoencoderKL.from_config(config)
    place = tmp_path / "vae.safetensors"
    if form in ("folder", "model folder"):
        place = tmp_path / "other"
        vae.save_pretrained(place / "vae" if form == "model folder" else place)
    else:
        tiny.save(tiny.prefixed("first_stage_model." if "file" in form else "", tiny.vae(vae)), place)
    pipe = pipeline(shelf, "sd1")
    pipe.vae = vae.eval()
    expected = theirs(pipe)
    assert np.array_equal(ours(ctrl.load(shelf / "sd1", device="cpu", vae=place)), expected)
    single = shelf / "sd1.safetensors"
    assert np.array_equal(ours(ctrl.load(single, device="cpu", tokenizer=shelf / "clip", vae=place)), expected)


def test_a_file_without_a_vae_needs_one(shelf, tmp_path):
    held = {key: one for key, one in tiny.single(tiny.sd1()).items() if not key.startswith("first_stage_model.")}
    file = tiny.save(held, tmp_path / "pruned.safetensors", {"modelspec.prediction_type": "epsilon"})
    with pytest.raises(ValueError, match="it has no VAE"):
        ctrl.load(file, device="cpu", tokenizer=shelf / "clip")
    model = ctrl.load(file, device="cpu", tokenizer=shelf / "clip", vae=shelf / "sd1")
    assert np.array_equal(ours(model), ours(ctrl.load(shelf / "sd1", device="cpu")))
    lora = tiny.save({"lora_unet_x.lora_down.weight": torch.ones(1, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match="is no VAE by the original names: it looks like a LoRA"):
        ctrl.load(shelf / "sd1", device="cpu", vae=lora)


def package(place, merges):
    """A package that ships CLIP's merges as open_clip does."""
    (place / "open_clip").mkdir(parents=True)
    (place / "open_clip" / "__init__.py").write_text("raise SystemExit('it was imported')")
    with gzip.open(place / "open_clip" / "bpe_simple_vocab_16e6.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(['"bpe_simple_vocab_16e6.txt#version: 0.2', *merges, ""]))
    return place


def test_a_single_file_needs_no_tokenizer_where_a_package_ships_the_vocabulary(shelf, tmp_path, monkeypatch):
    merges = ["a b", "ab c</w>", "i n", "t h"]
    monkeypatch.syspath_prepend(package(tmp_path / "site", merges))
    file = tokenizers.packaged_vocabulary()
    vocabulary, pairs = tokenizers._read_merges(file)
    assert len(vocabulary) == 512 + 4 + 2 and vocabulary["!"] == 0 and vocabulary["ab"] == 512
    assert vocabulary["<|startoftext|>"] == len(vocabulary) - 2 and pairs[1] == ("ab", "c</w>")
    big = copy.deepcopy(tiny.sd1())
    big.texts[0].resize_token_embeddings(len(vocabulary))
    single = tiny.save_single(big, tmp_path / "big.safetensors", {"modelspec.prediction_type": "epsilon"})
    model = ctrl.load(single, device="cpu")
    expected = CLIPTokenizer(vocab=vocabulary, merges=pairs)
    for prompt in ("abc in the", "ab, c é ☃", "A  CAT"):
        assert model.text.encoders[0].tokenizer(prompt).input_ids == expected(prompt).input_ids
    assert model.text.encoders[0].tokenizer.model_max_length == tiny.TOKENS


def test_the_vocabulary_of_open_clip_is_clips():
    pytest.importorskip("open_clip")
    vocabulary, merges = tokenizers._read_merges(tokenizers.packaged_vocabulary())
    assert len(vocabulary) == 49_408 and len(merges) == 48_894
    ids = CLIPTokenizer(vocab=vocabulary, merges=merges)("a photo of a cat").input_ids
    assert ids == [49406, 320, 1125, 539, 320, 2368, 49407]
