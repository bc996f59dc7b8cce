"""Prediction types (ε, v, x₀, flow), and conversion between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Kind = Literal["epsilon", "v_prediction", "sample", "flow"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Level:
    """A noise level: the model's input is `alpha` · x₀ + `sigma` · noise.

    The prediction is the noise ("epsilon"), alpha · noise − sigma · x₀ ("v_prediction", arXiv 2202.00512),
    x₀ itself ("sample") or noise − x₀ ("flow", arXiv 2209.03003). `time` is the timestep over the last one trained
    on, 0 clean and 1 noise.
    """

    alpha: float
    sigma: float
    time: float

    def convert(self, prediction: Tensor, sample: Tensor, *, have: Kind, want: Kind) -> Tensor:
        """A prediction (N, C, h, w) of one kind as another, of the model's input `sample`.

        The same tensor if the kinds are equal, else in float32 at least: at high noise x₀ is many times larger than the
        ε it is computed from, and half precision is too coarse. Converting from ε needs alpha > 0,
        from x₀ sigma > 0.
        """
        if have == want:
            return prediction
        wide = torch.promote_types(prediction.dtype, torch.float32)
        converted, sample = prediction.to(wide), sample.to(wide)
        if have != "sample":
            a, b = self._weights(have)
            converted = (b * sample - self.sigma * converted) / a
        if want != "sample":
            a, b = self._weights(want)
            converted = (b * sample - a * converted) / self.sigma
        return converted

    def _weights(self, kind: Literal["epsilon", "v_prediction", "flow"]) -> tuple[float, float]:
        """The a and b of a · x₀ + sigma · prediction = b · sample."""
        match kind:
            case "epsilon":
                return self.alpha, 1.0
            case "v_prediction":
                return self.alpha**2 + self.sigma**2, self.alpha
            case "flow":
                return self.alpha + self.sigma, 1.0
