"""Hostile safetensors: broken in every way a header can lie, and pickles by another name."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
from functools import cache
from pathlib import Path

import torch
from corpus import MARK, Hostile, data
from safetensors.torch import load_file, save
from torch import Tensor

BROKEN = "cannot be read as safetensors"


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.system, (f"echo {MARK}",)


def pickled(protocol: int) -> bytes:
    """A raw pickle."""
    return pickle.dumps({"weight": Evil()}, protocol)


def archived(inner: str = "archive/data.pkl") -> bytes:
    """A pickle in a zip, as torch.save writes it, under a name of one's choice."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(inner, pickled(2))
        archive.writestr("../../../escaped.txt", MARK)
    return buffer.getvalue()


@cache
def good(kind: str, folder: Path) -> dict[str, Tensor]:
    """The tensors of a part of the good model."""
    names = {
        "controlnet": "controlnet_pose/diffusion_pytorch_model",
        "adapter": "ip_adapter/ip_adapter",
        "lora": "lora/pytorch_lora_weights",
    }
    return load_file(folder / f"{names[kind]}.safetensors")


def written(header: object, body: bytes = b"") -> bytes:
    """A file of this header, whatever it is, and these bytes."""
    inside = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(inside)) + inside + body


def one(**changed: object) -> bytes:
    """A header of one tensor of four float32, changed, before sixteen bytes."""
    return written({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | changed}, bytes(16))


def broken() -> dict[str, bytes]:
    """Bytes that are no safetensors."""
    two = {name: {"dtype": "F32", "shape": [2], "data_offsets": [at, at + 8]} for name, at in (("a", 0), ("b", 8))}
    whole = written(two, bytes(16))
    length = struct.unpack("<Q", whole[:8])[0]
    overlap = two | {"b": two["b"] | {"data_offsets": [4, 12]}}
    twin = json.dumps(two).replace('"b"', '"a"').encode()
    cuts = {f"cut at {at}": whole[:at] for at in (0, 1, 7, 8, 9, 8 + length // 2, 7 + length, 8 + length, 9 + length)}
    return cuts | {
        "cut by one": whole[:-1],
        "a byte too many": whole + b"\0",
        "header of 2^40": struct.pack("<Q", 2**40) + whole[8:],
        "header of 2^64-1": struct.pack("<Q", 2**64 - 1) + whole[8:],
        "header of nothing": written(b""),
        "header no UTF-8": written(b"\xff" * 64),
        "header no JSON": written(b"{" * 64),
        "header a list": written([1, 2]),
        "header deep": written(b'{"a":' + b"[" * 100_000),
        "header NaN": written(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}', bytes(16)),
        "overlapping": written(overlap, bytes(16)),
        "holed": written(two | {"b": two["b"] | {"data_offsets": [12, 20]}}, bytes(20)),
        "the same name twice": written(twin, bytes(16)),
        "backwards": one(data_offsets=[16, 0]),
        "before the start": one(data_offsets=[-16, 0]),
        "past the end": one(data_offsets=[0, 2**50]),
        "shape of another size": one(shape=[5]),
        "shape that overflows": one(shape=[2**33, 2**33]),
        "shape below zero": one(shape=[-4]),
        "shape of words": one(shape=["4"]),
        "unknown type": one(dtype="X9"),
        "type a number": one(dtype=7),
        "notes that are no words": written({"__metadata__": {"a": [1]}} | two, bytes(16)),
        "gzip": gzip.compress(whole),
        "pickle 0": pickled(0),
        "pickle 2": pickled(2),
        "pickle 4": pickled(4),
        "zip": archived(),
        "zip of another file": archived("../../evil.pkl"),
        "script": f"#!/bin/sh\necho {MARK}\n".encode(),
    }


def many() -> bytes:
    """Twenty thousand tensors of nothing."""
    return written({f"t{at}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for at in range(20_000)})


def odd(held: dict[str, Tensor]) -> dict[str, tuple[dict[str, Tensor], str]]:
    """Tensors that are safetensors and no part of a model, and what is said of them."""
    name, first = next((name, tensor) for name, tensor in held.items() if tensor.ndim > 1)
    sized = "shape|times|not what this"
    return {
        "NaN": (held | {name: torch.full_like(first, torch.nan)}, "has NaN or infinite numbers in"),
        "infinite": (held | {name: torch.full_like(first, torch.inf)}, "has NaN or infinite numbers in"),
        "integers": (held | {name: first.to(torch.int8)}, "int8"),
        "turned": (held | {name: first.flatten()[None, None]}, sized),
        "a number": (held | {name: torch.tensor(1.0)}, sized),
        "of nothing": (held | {name: torch.zeros(0, 2**40)}, sized),
        "one lacks": ({key: one for key, one in held.items() if key != name}, "lacks|missing|no part of one|not wh"),
        "nothing": ({}, "holds nothing"),
        "strange names": ({key: first for key in ("__class__", "../../x", "", "a\0b")}, "is no |no whole"),
        "a long name": ({"x" * 10**5: first}, "100000 letters"),
    }


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def corpus(folder: Path) -> list[Hostile]:
    """Every file of tensors; `folder` is that of the good model."""
    found = [Hostile(name, "lora", data(content), BROKEN) for name, content in broken().items()]
    found += [
        Hostile(name, road, data(content), BROKEN)
        for road in ("single", "controlnet", "adapter")
        for name, content in broken().items()
        if name in ("cut at 9", "header of 2^40", "pickle 4", "zip")
    ]
    for road in ("controlnet", "adapter", "lora"):
        for name, (held, says) in odd(good(road, folder)).items():
            content = save({key: tensor.clone() for key, tensor in held.items()})
            found.append(Hostile(name, road, data(content), says))
        found.append(Hostile("many", road, data(many), "is no "))
        for what, make in (("a pipe", os.mkfifo), ("a folder", Path.mkdir), ("a device", _device)):
            found.append(Hostile(what, road, make, "must be a .safetensors file|has no config.json"))
    found.append(Hostile("many", "single", data(many), "is no SD 1.x"))
    found.append(Hostile("a pipe", "single", os.mkfifo, "must be"))
    return found
