"""CLIP's tokenizer: from a model's folder, or from a package that ships its vocabulary."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ctrl.images import why
from ctrl.model.loading.files import MAX_JSON, read_json, tokenizer_files

PACKAGES = ("open_clip", "clip")
MERGES = "bpe_simple_vocab_16e6.txt.gz"
SIZE = 49_408  # tokens
LENGTH = 77  # of a text
START, END = "<|startoftext|>", "<|endoftext|>"


def read_tokenizer(folder: Path, encoder: Any, pad: str | None = None) -> Any:
    """The CLIP tokenizer in a folder, for this text encoder; `pad` is another padding than it says itself.

    Its texts are as long as the encoder reads, if not shorter by its own configuration; ids that the encoder has
    no embedding for raise a ValueError.
    """
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    try:
        files = tokenizer_files([path.name for path in folder.iterdir() if path.is_file()])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"there is no tokenizer in {folder.name!r}: {why(error)}.") from error
    vocabulary = _vocabulary(folder, files)
    if pad is not None and pad not in vocabulary:
        raise ValueError(f"the tokenizer in {folder.name!r} does not know {pad!r}, which this model's texts end with.")
    changed: dict[str, Any] = {} if pad is None else {"pad_token": pad}
    try:
        read = CLIPTokenizer.from_pretrained(folder, local_files_only=True, **changed)
    except Exception as error:  # the tokenizers library raises nothing more particular
        raise ValueError(f"the tokenizer in {folder.name!r} cannot be read: {why(error)}.") from error
    return _fitted(read, encoder, repr(folder.name))


def packaged_tokenizer(file: Path, encoder: Any, pad: str | None = None) -> Any:
    """CLIP's own tokenizer by the merges that a package ships, for this text encoder, with this padding."""
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    vocabulary, merges = _read_merges(file)
    made: Any = CLIPTokenizer  # its annotation of merges is narrower than what it takes
    tokenizer = made(vocab=vocabulary, merges=merges, model_max_length=LENGTH, pad_token=pad or END)
    return _fitted(tokenizer, encoder, file.name)


def packaged_vocabulary() -> Path | None:
    """The file of CLIP's merges in an installed package; the package is looked for and not imported."""
    for package in PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            if (file := Path(folder) / MERGES).is_file():
                return file
    return None


def _read_merges(file: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's vocabulary and merges: bytes, bytes that end a word, what the merges make, and the two marks."""
    with gzip.open(file, "rt", encoding="utf-8") as opened:
        lines = opened.read(MAX_JSON).split("\n")[1 : SIZE - 512 - 2 + 1]
    pairs = [line.split() for line in lines if line]
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in pairs), START, END]
    return {word: at for at, word in enumerate(words)}, [(first, second) for first, second in pairs]


def bytes_to_unicode() -> dict[int, str]:
    """Every byte as a character that can be seen, in GPT-2's order: the visible ones first."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {byte: chr(256 + at) for at, byte in enumerate(hidden)}


def _fitted(read: Any, encoder: Any, where: str) -> Any:
    """The tokenizer, of texts as long as the encoder reads."""
    longest = read.model_max_length
    if not isinstance(longest, int | float) or not longest > 2:
        raise ValueError(f"the tokenizer in {where} says that its texts have {longest!r:.40} tokens.")
    read.model_max_length = min(longest, encoder.config.max_position_embeddings)
    if len(read) > encoder.config.vocab_size:
        raise ValueError(
            f"the tokenizer in {where} has {len(read)} tokens, and the text encoder knows "
            f"{encoder.config.vocab_size}: they are not of one model."
        )
    return read


def _vocabulary(folder: Path, files: Sequence[str]) -> Mapping[str, Any]:
    """The tokens' ids, after every JSON file of the tokenizer was looked at."""
    read = {name: read_json(folder / name) for name in files if name.endswith(".json")}
    if "tokenizer.json" in read:
        model = read["tokenizer.json"].get("model")
        if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
            raise ValueError(f"{folder.name}/tokenizer.json is no CLIP tokenizer, whose model is of the type BPE.")
    return read["vocab.json"] if "vocab.json" in read else read["tokenizer.json"]["model"]["vocab"]
