"""The text encoders of a model: prompts to the embeddings that its U-Net reads."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ctrl.model import text
from ctrl.model.chunks import Span, embeddings
from ctrl.model.parts import TextEncoder
from ctrl.model.revision import changes, weights_of
from ctrl.model.text import PromptEmbeds
from ctrl.prompts import parse
from ctrl.rows import PromptRows


@dataclass(frozen=True, eq=False)
class TextEncoders:
    """One CLIP text encoder, or SDXL's two, with their tokenizers, used under the model's `lock`."""

    encoders: tuple[TextEncoder, ...]
    identity: Hashable
    device: torch.device
    dtype: torch.dtype
    zero_negative: bool
    lock: threading.RLock

    @property
    def revision(self) -> Hashable:
        """Which weights they have, for the keys of a memory."""
        return ("text", self.identity, changes(self.weights))

    @cached_property
    def weights(self) -> tuple[Tensor, ...]:
        """Its parameters and buffers."""
        return weights_of(*(encoder.encoder for encoder in self.encoders))

    @torch.no_grad()
    def encode(self, prompt: str) -> PromptEmbeds:
        """The prompt's embeddings, in as many chunks as it needs."""
        with self.lock:
            return text.encode(self.encoders, prompt, self.device, self.dtype)

    def as_negative(self, prompt: str, encoded: PromptEmbeds) -> PromptEmbeds:
        """An encoded prompt as a negative one: SDXL encodes an empty one as zeros, and `clip_skip` is not for it."""
        if self.zero_negative and not prompt:
            return text.empty(encoded)
        with self.lock:
            return text.unskipped(self.encoders, prompt, encoded)

    def chunks(self, prompt: str) -> int:
        """How many chunks the prompt needs, without encoding it."""
        with self.lock:
            return text.chunks(self.encoders, prompt)

    def pad_to_longest(self, texts: Sequence[PromptEmbeds]) -> tuple[PromptEmbeds, ...]:
        """Texts with empty chunks appended, as long as the longest: rows of one batch must be."""
        with self.lock:
            return text.pad_to_longest(self.encoders, texts)

    def spans(self, prompt: str) -> list[Span]:
        """The place of each token among the embeddings, and of its characters in the plain prompt."""
        with self.lock:
            return text.spans(self.encoders, prompt)

    @property
    def embeddings(self) -> tuple[str, ...]:
        """The words that textual inversions added."""
        return embeddings(self.encoders)

    def plain(self, prompt: str) -> str:
        """The prompt without the marks of its weights, in whose characters `spans` count."""
        return "".join(piece.text for piece in parse(prompt))

    def rows(self, texts: Sequence[PromptEmbeds]) -> PromptRows:
        """Texts of one length as rows."""
        pooled = [row.pooled for row in texts if row.pooled is not None]
        weighted = any(row.weights is not None for row in texts)
        weights = [torch.ones_like(row.states[0, :, 0]) if row.weights is None else row.weights for row in texts]
        return PromptRows(
            torch.cat([row.states for row in texts]),
            torch.cat(pooled) if pooled else None,
            torch.stack(weights) if weighted else None,
        )
