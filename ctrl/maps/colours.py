"""Colour maps whose lightness rises all the way: they read without colour vision and on any background."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

# Equally spaced colours: inferno (Smith and van der Walt 2015), cividis (Nuñez and others 2018), batlow (Crameri 2018),
# and for differences vik (Crameri 2018), whose middle is nothing.
STOPS = {
    "inferno": "000004 1b0c42 4b0c6b 781c6d a52c60 cf4446 ed6925 fb9a06 f7d03c fcffa4",
    "cividis": "00204d 00336f 39486b 575c6d 707173 8a8779 a69d75 c4b56c e4cf5b ffea46",
    "batlow": "011959 103f60 1c5a62 3c6d56 687b3e 9d892b d29343 f8a17b fdb7bc faccfa",
    "grey": "101010 ffffff",
    "vik": "001261 033e7d 1e6f9d 71a8c4 c9dde7 ece5e0 e2c8b4 cd996c b86330 8b1c06 590008",
}


@cache
def table(name: str) -> Bytes:
    """The 256 colours (256, 3) of a colour map; a ValueError names those there are."""
    if name not in STOPS:
        raise ValueError(f"colours must be one of {', '.join(STOPS)}, got {name!r}.")
    stops = np.array([list(bytes.fromhex(stop)) for stop in STOPS[name].split()], dtype=np.float64)
    at = np.linspace(0, len(stops) - 1, 256)
    found = np.stack([np.interp(at, np.arange(len(stops)), stops[:, channel]) for channel in range(3)], axis=-1)
    return np.round(found).astype(np.uint8)


def coloured(values: np.ndarray[Any, Any], name: str) -> Bytes:
    """(H, W, 3) of values (H, W) in [0, 1]."""
    return np.asarray(table(name)[np.clip(np.round(values * 255), 0, 255).astype(np.uint8)])
