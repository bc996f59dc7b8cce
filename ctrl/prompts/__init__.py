"""Prompts: weighted words, BREAK and embeddings, and notes on the syntax of other programs."""

from ctrl.prompts.habits import prompt_notes
from ctrl.prompts.keywords import Named, chunk_ends, named_embeddings, words_read
from ctrl.prompts.weighted import HIGHEST, Piece, escape, parse, plain, simplified

__all__ = [
    "HIGHEST",
    "Named",
    "Piece",
    "chunk_ends",
    "escape",
    "named_embeddings",
    "parse",
    "plain",
    "prompt_notes",
    "simplified",
    "words_read",
]
