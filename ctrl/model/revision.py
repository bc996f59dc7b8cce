"""Which weights a value was computed with: a number for the keys of a memory, never an address; a hash for files."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from typing import Any

from torch import Tensor

SAMPLE = 8  # values of each tensor
_numbers = itertools.count()


def new_number() -> int:
    """A number that no other part of any model in this process has."""
    return next(_numbers)


def weights_of(*modules: Any) -> tuple[Tensor, ...]:
    """The parameters and buffers of modules. Walking a large network takes milliseconds: keep the result."""
    return tuple(tensor for module in modules for many in (module.parameters(), module.buffers()) for tensor in many)


def changes(weights: Iterable[Tensor]) -> int:
    """How often weights were written to in place, as torch counts it; it never falls.

    Writing through `.data` is not counted by torch, nor a parameter that was replaced by another.
    """
    return sum(tensor._version for tensor in weights if not tensor.is_inference())


def fingerprint(weights: Iterable[Tensor]) -> str:
    """16 hexadecimal digits of a few values of every tensor, the same in every process.

    A change of other values is not seen; training and merging change all.
    """
    digest = hashlib.sha256()
    for tensor in weights:
        flat = tensor.flatten()
        few = flat[:: max(1, len(flat) // SAMPLE)][:SAMPLE].double().tolist()
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype} {few}".encode())
    return digest.hexdigest()[:16]
