"""Arrays and tensors of any usual layout and range, as uint8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrl.images.files import why

MAX_PIXELS = 64_000_000  # of a picture that is read
SMALLEST = 8  # pixels along a side
ROUNDING = 0.5 / 255  # how far floats may be beyond black and white: less than a step of 8 bits
Array = np.ndarray[Any, Any]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, eq=False)
class Scaled:
    """Pixels (H, W), or (H, W, C) of 2 to 4 channels; whether they came as floats in [0, 1]; what was done to them."""

    pixels: Bytes
    fractions: bool = False
    remarks: tuple[str, ...] = ()


def describe(thing: object) -> str:
    """The type of `thing`, and its shape if it has one."""
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
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
        dense = tensor.detach().cpu().resolve_conj().resolve_neg()
        array: Array = (dense.float() if dense.is_floating_point() else dense).numpy()
        return array
    except (TypeError, RuntimeError) as error:  # sparse, quantised, or without data
        got = f"{tensor.dtype}, {tensor.layout} on {tensor.device}"
        raise TypeError(f"{name} must be a dense tensor of ordinary numbers, got one of {got}.") from error


def as_array(source: Any, name: str) -> Array:
    """What numpy makes of an array of another library, a table or a list of rows; a TypeError where it is none."""
    try:
        array = np.asanyarray(source)
        if array.dtype == object:  # numbers that may be missing, as pandas has them
            array = np.array(array.tolist())
    except Exception as error:  # of the other library; numpy's for rows of different lengths
        raise TypeError(f"{name}, {describe(source)}, cannot be made a numpy array: {why(error)}.") from error
    if np.ma.is_masked(array):
        raise ValueError(f"{name} has {int(array.mask.sum())} values masked out; fill them: array.filled(0).")
    return np.asarray(array)


def to_hwc(array: Array, name: str) -> Array:
    """(H, W), or (H, W, C) of 2 to 4 channels, of whatever type, from any of the usual layouts of one picture.

    Two channels are grey and alpha in uint8, as Pillow has them; else they could be anything.
    """
    channels = (1, 2, 3, 4) if array.dtype == np.uint8 else (1, 3, 4)
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3:
        last, first = array.shape[-1] in channels, array.shape[0] in (1, 3, 4)
        if last and first:
            raise ValueError(f"{name} has shape {array.shape}: which axis is colour? Pass a PIL image.")
        if first:
            array = np.moveaxis(array, 0, -1)
        if array.shape[-1] == 1:
            array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in channels[1:]):
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
    if array.min() < -ROUNDING or array.max() > 1 + ROUNDING:
        raise ValueError(f"{name} has floats from {array.min():.4g} to {array.max():.4g}; floats must be in [0, 1].")
    return Scaled(np.round(np.clip(array, 0, 1) * 255).astype(np.uint8), fractions=True)
