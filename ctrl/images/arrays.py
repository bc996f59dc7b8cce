"""Arrays and tensors of any usual layout and range, as uint8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_PIXELS = 64_000_000  # of a picture that is read
SMALLEST = 8  # pixels along a side
Array = np.ndarray[Any, Any]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, eq=False)
class Scaled:
    """Pixels (H, W), (H, W, 3) or (H, W, 4), whether they came as floats in [0, 1], and what was done to them."""

    pixels: Bytes
    fractions: bool = False
    remarks: tuple[str, ...] = ()


def describe(thing: object) -> str:
    """The type of `thing`, and its shape if it has one."""
    shape = getattr(thing, "shape", None)
    return f"{type(thing).__name__} of shape {tuple(shape)}" if shape is not None else type(thing).__name__


def check_size(width: int, height: int, name: str) -> None:
    """Raise a ValueError for a picture too large or too small to be read."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} is {width}×{height}; at most {MAX_PIXELS // 10**6} megapixels are read.")
    if width < SMALLEST or height < SMALLEST:
        raise ValueError(f"{name} is {width}×{height}; the smallest picture accepted is {SMALLEST}×{SMALLEST}.")


def tensor_to_array(tensor: Any, name: str) -> Array:
    """A torch tensor of any shape, device and type as an array; TypeError where it is no dense tensor of numbers."""
    try:
        dense = tensor.detach().cpu()
        array: Array = (dense.float() if dense.is_floating_point() else dense).numpy()
        return array
    except (TypeError, RuntimeError) as error:  # sparse, quantised, or without data
        got = f"{tensor.dtype}, {tensor.layout} on {tensor.device}"
        raise TypeError(f"{name} must be a dense tensor of ordinary numbers, got one of {got}.") from error


def to_hwc(array: Array, name: str) -> Array:
    """(H, W), (H, W, 3) or (H, W, 4), of whatever type, from any of the usual layouts of one picture."""
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3:
        last, first = array.shape[-1] in (1, 3, 4), array.shape[0] in (1, 3, 4)
        if last and first:
            raise ValueError(f"{name} has shape {array.shape}: which axis is colour? Pass a PIL image.")
        if first:
            array = np.moveaxis(array, 0, -1)
        if array.shape[-1] == 1:
            array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise ValueError(f"{name} has shape {array.shape}; one picture is (H, W), (H, W, C) or (C, H, W).")
    check_size(array.shape[1], array.shape[0], name)
    return np.ascontiguousarray(array)


def check_finite(array: Array, name: str) -> None:
    """Raise a ValueError that counts NaN and infinity."""
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name} has {int(bad.sum())} values NaN or infinite, the first at {where}.")


def scale_picture(array: Array, name: str) -> Scaled:
    """Pixels (H, W, …) to 8 bits: uint8 as they are, uint16 by 65535, bool and floats by 1."""
    if array.dtype == np.uint8:
        return Scaled(array)
    if array.dtype == np.bool_:
        return Scaled(array.astype(np.uint8) * np.uint8(255))
    if array.dtype == np.uint16:
        return Scaled(np.round(array / 65535 * 255).astype(np.uint8))
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"{name} is an array of {array.dtype}; use uint8, uint16, bool or floats in [0, 1].")
    check_finite(array, name)
    if array.min() < 0 or array.max() > 1:
        raise ValueError(f"{name} has floats from {array.min():.4g} to {array.max():.4g}; floats must be in [0, 1].")
    return Scaled(np.round(array * 255).astype(np.uint8), fractions=True)
