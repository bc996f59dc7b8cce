"""Textual inversions (arXiv 2208.01618): words with vectors of their own, of one or several a word.

diffusers' files name their word, A1111's do not, and SDXL's hold vectors for both text encoders. As in diffusers, a
word of n vectors is n tokens, `word`, `word_1`, …, and stands in a prompt by its first.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ctrl.model.loading.files import guess_file_kind, read_tensors
from ctrl.model.loading.views import view
from ctrl.model.parts import TextEncoder

FOR_ENCODERS = (("clip_l", "emb_params"), ("clip_g",))  # the names of their vectors in A1111's and SDXL's files
VECTORS = 256  # of a word


def with_embeddings(encoders: Sequence[TextEncoder], words: Mapping[str, Path]) -> tuple[TextEncoder, ...]:
    """The text encoders with these words; what they are made from is not changed.

    A file that is no textual inversion, or for another encoder, and a word that is known raise a ValueError.
    """
    held = {word: read_embedding(word, file, len(encoders)) for word, file in words.items()}
    return tuple(
        _extended(encoder, {word: vectors[at] for word, vectors in held.items()}) for at, encoder in enumerate(encoders)
    )


def word_of(file: Path) -> str:
    """The word that a file names, else the file's own name."""
    tensors, _ = read_tensors(file)
    known = {name for names in FOR_ENCODERS for name in names}
    words = [name for name in tensors if name not in known]
    return words[0] if len(tensors) == len(words) == 1 else file.stem


def read_embedding(word: str, file: Path, encoders: int) -> tuple[Tensor, ...]:
    """The vectors (n, D) of a word for each of the text encoders."""
    tensors, _ = read_tensors(file)
    if encoders == 1 and len(tensors) == 1:
        tables = [next(iter(tensors.values()))]
    else:
        names = [next((name for name in names if name in tensors), None) for names in FOR_ENCODERS[:encoders]]
        tables = [tensors[name] for name in names if name is not None]
    if len(tables) != encoders:
        looks = guess_file_kind(tensors, not_a="textual inversion")
        raise ValueError(f"{file.name} is no textual inversion for {encoders} text encoders: {looks}.")
    vectors = tuple(rows[None] if rows.ndim == 1 else rows for rows in tables)
    for rows in vectors:
        if rows.ndim != 2 or not 0 < len(rows) <= VECTORS or not rows.is_floating_point() or not rows.isfinite().all():
            raise ValueError(
                f"{file.name} has {tuple(rows.shape)} numbers of {rows.dtype} for {word!r}; "
                f"at most {VECTORS} vectors of finite numbers are read."
            )
    return vectors


def _extended(text_encoder: TextEncoder, words: Mapping[str, Tensor]) -> TextEncoder:
    """A text encoder with more tokens, each with its vector."""
    tokenizer, encoder = copy.deepcopy(text_encoder.tokenizer), view(text_encoder.encoder)
    layer = encoder.get_input_embeddings()
    rows = [layer.weight[: len(tokenizer)]]
    for word, vectors in words.items():
        if vectors.shape[1] != layer.weight.shape[1]:
            raise ValueError(
                f"the embedding of {word!r} has vectors of {vectors.shape[1]} numbers, and this text encoder's have "
                f"{layer.weight.shape[1]}: it was made for another model."
            )
        tokens = [word, *(f"{word}_{at}" for at in range(1, len(vectors)))]
        if known := [token for token in tokens if token in tokenizer.get_vocab()]:
            raise ValueError(f"the embedding of {word!r} needs the token {known[0]!r}, which is known already.")
        tokenizer.add_tokens(tokens)
        rows.append(vectors.to(layer.weight.device, layer.weight.dtype))
    layer.weight = nn.Parameter(torch.cat(rows), requires_grad=False)
    layer.num_embeddings = encoder.config.vocab_size = len(layer.weight)
    return replace(text_encoder, tokenizer=tokenizer, encoder=encoder)
