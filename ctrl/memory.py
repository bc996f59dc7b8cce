"""A bounded memory by content: what was computed from the same things before is not computed again."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Protocol, TypeVar, cast

from torch import Tensor

T = TypeVar("T")
LIMIT = 64 << 20
SHARED = {"shared": True}  # metadata of a dataclass field whose tensors are a model's own, and not counted


class Keep(Protocol):
    """Answers with the value of a key, made if it is not kept: a `Memory`, or a part of one."""

    def __call__(self, key: Hashable, make: Callable[[], T], /) -> T:
        """The value of this key."""


class Memory:
    """Values by the content they were made from; the least recently used go first when there are too many bytes.

    `limit` is in bytes of tensors, None for no limit. What the present run has used is never dropped, whatever the
    limit: it bounds what outlives a run. A key must say everything that its value depends on, revisions of weights
    included, and never an address. `hits` and `misses` count since the memory was made.
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

    def part(self, key: Hashable) -> Keep:
        """The part of this memory whose keys begin with `key`."""

        return _Part(self, key)

    def new_number(self) -> int:
        """A number that names one value of this memory, for the keys of what is made of it."""
        return next(self._numbers)

    def begin_run(self) -> None:
        """A new run begins: what only earlier runs used may be dropped from here on."""
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
    """Bytes of the tensors in a value, through tuples, lists, mappings and dataclasses; shared storage counts once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in _tensors(value)}
    return sum(storages.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif dataclasses.is_dataclass(value):
        for field in (one for one in dataclasses.fields(value) if "shared" not in one.metadata):
            yield from _tensors(getattr(value, field.name))
