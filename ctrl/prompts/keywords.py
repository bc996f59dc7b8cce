"""Words of a prompt that are not read as they stand: BREAK, which ends a chunk of tokens, and names of embeddings."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from ctrl.prompts.weighted import plain

EMBEDDING = re.compile(r"(?<![\w<])embedding:(?P<name><[\w.-]+>|[\w.-]+)", re.IGNORECASE)
BREAK = re.compile(r"(?<![\w<])BREAK(?!\w)")


def chunk_ends(prompt: str) -> list[tuple[int, int]]:
    """Where BREAK is in a plain prompt; in one that is all in capitals it is a word."""
    return [] if prompt.isupper() else [match.span() for match in BREAK.finditer(prompt)]


def words_read(text: str, embeddings: Collection[str] = ()) -> str:
    """The plain prompt without BREAK and the prefixes of these embeddings. ValueError as `parse`."""
    read = plain(text)
    for start, end in sorted([*chunk_ends(read), *embedding_prefixes(read, embeddings)], reverse=True):
        read = read[:start] + read[end:]
    return read


@dataclass(frozen=True)
class Named:
    """An embedding that a prompt names by ComfyUI's prefix: its word, where the prefix begins, the name and its end."""

    word: str
    start: int
    name: int
    name_end: int
    end: int


def named_embeddings(prompt: str, embeddings: Collection[str]) -> list[Named]:
    """Where `embedding:`, ComfyUI's prefix, is in front of one of these words of a plain prompt, in order.

    ComfyUI names the file: `embedding:cat` also stands for the word `<cat>`, and a file's ending may follow it.
    """
    found = []
    for match in EMBEDDING.finditer(prompt):
        name = match["name"].rstrip(".")
        bare = re.sub(r"\.(?:safetensors|pt|bin)\Z", "", name)
        pairs = [(one, word) for one in (name, bare) for word in (one, f"<{one}>", one.strip("<>"))]
        known = next(((one, word) for one, word in pairs if word in embeddings), None)
        if known is not None:
            start = match.start("name")
            found.append(Named(known[1], match.start(), start, start + len(known[0]), start + len(name)))
    return found


def embedding_prefixes(prompt: str, embeddings: Collection[str]) -> list[tuple[int, int]]:
    """Where `embedding:` is in front of one of these words, and where a file's ending follows it."""
    return [
        span
        for one in named_embeddings(prompt, embeddings)
        for span in ((one.start, one.name), (one.name_end, one.end))
    ]
