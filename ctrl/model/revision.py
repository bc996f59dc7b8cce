"""Which weights a value was computed with, for the keys of a memory: a number, never an address."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from torch import Tensor

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
