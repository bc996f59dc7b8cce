"""A bounded cache by content: a value is computed once for the same inputs."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from torch import Tensor

T = TypeVar("T")
LIMIT = 64 << 20
SHARED = {"shared": True}  # metadata of a dataclass field whose tensors are a model's own, and not counted


class Keep(Protocol):
    """A `Memory`, or a part of one: called with a key, it returns the cached value, or makes and keeps it."""

    def __call__(self, key: Hashable, make: Callable[[], T], /) -> T:
        """The value of this key."""


class Memory:
    """Values by the content they were made from; the least recently used are dropped if there are too many bytes.

    `limit` is in bytes of tensors and arrays, None for no limit. Values used by the present run are never dropped:
    the limit is for values that outlive a run. A key must hold everything that its value depends on, with revisions of
    weights and without addresses. `hits` and `misses` count since the memory was made.
    """

    def __init__(self, limit: int | None = LIMIT) -> None:
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be a number of bytes, 0 or more, or None for no limit; got {limit}.")
        self.limit, self.bytes, self.hits, self.misses = limit, 0, 0, 0
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._run, self._lock, self._numbers = 0, threading.RLock(), itertools.count()

    def __call__(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of this key, made now if it is not here."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self.hits += 1
                entry.run = self._run
                self._entries.move_to_end(key)
                return cast(T, entry.value)
            self.misses += 1
        value = make()
        with self._lock:
            if key not in self._entries:
                self._entries[key] = _Entry(value, size_of(value), self._run)
                self.bytes += self._entries[key].bytes
                self._shrink()
        return value

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        limit = "no limit" if self.limit is None else f"limit {self.limit / 2**20:.1f} MiB"
        used = f"{len(self)} values, {self.bytes / 2**20:.1f} MiB"
        return f"Memory({used}, {limit}, {self.hits} hits, {self.misses} misses)"

    def get(self, key: Hashable) -> Any:
        """The value of this key, used by the present run; None where there is none."""
        with self._lock:
            return self(key, lambda: None) if key in self else None

    def drop(self, key: Hashable) -> None:
        """Drop the value of this key, if there is one."""
        with self._lock:
            entry = self._entries.pop(key, None)
            self.bytes -= 0 if entry is None else entry.bytes

    def part(self, key: Hashable) -> Keep:
        """The part of this memory whose keys begin with `key`."""

        return _Part(self, key)

    def new_number(self) -> int:
        """A number that names one value of this memory, for the keys of values made from it."""
        return next(self._numbers)

    def begin_run(self) -> None:
        """Begin a run: values that only earlier runs used may be dropped from now on."""
        with self._lock:
            self._run += 1
            self._shrink()

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._entries.clear()
            self.bytes = 0

    def _shrink(self) -> None:
        if self.limit is None:
            return
        while self.bytes > self.limit and self._entries:
            key, oldest = next(iter(self._entries.items()))
            if oldest.run == self._run:
                return
            del self._entries[key]
            self.bytes -= oldest.bytes


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    memory: Memory
    key: Hashable

    def __call__(self, key: Hashable, make: Callable[[], T], /) -> T:
        return self.memory((self.key, key), make)


@dataclasses.dataclass
class _Entry:
    value: Any
    bytes: int
    run: int


def size_of(value: Any) -> int:
    """Bytes of the tensors and arrays in a value, through tuples, lists, mappings and dataclasses.

    Shared storage counts once.
    """
    return sum(dict(_storages(value)).values())


def _storages(value: Any) -> Iterator[tuple[int, int]]:
    """Where the numbers of a value lie, and how many bytes of them."""
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        yield storage.data_ptr(), storage.nbytes()
    elif isinstance(value, np.ndarray):
        whole = value if value.base is None else value.base
        yield id(whole), getattr(whole, "nbytes", value.nbytes)
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _storages(entry)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _storages(one)
    elif dataclasses.is_dataclass(value):
        for field in (one for one in dataclasses.fields(value) if "shared" not in one.metadata):
            yield from _storages(getattr(value, field.name))
