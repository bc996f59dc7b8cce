"""The kinds of prediction, from a picture and noise that are known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctrl.predictions import KINDS, Level


def level(angle, flows):
    """Of a process that goes along a straight line, or of one that preserves variance."""
    alpha, sigma = (1 - angle / 2, angle / 2) if flows else (math.cos(angle), math.sin(angle))
    return Level(alpha, sigma, 0.5)


def drawn(seed):
    return torch.randn(2, 2, 4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("want", KINDS)
@pytest.mark.parametrize("have", KINDS)
@given(seed=st.integers(0, 99), angle=st.floats(0.05, 1.5), flows=st.booleans())
def test_every_kind_says_the_same_picture(have, want, seed, angle, flows):
    clean, noise = drawn(seed)
    here = level(angle, flows)
    sample = here.alpha * clean + here.sigma * noise
    stands = {
        "epsilon": noise,
        "v_prediction": here.alpha * noise - here.sigma * clean,
        "sample": clean,
        "flow": noise - clean,
    }
    found = here.convert(stands[have], sample, have=have, want=want)
    torch.testing.assert_close(found, stands[want])
    assert (found is stands[have]) == (have == want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_is_converted_is_not_rounded_to_half_precision(dtype):
    """x₀ from ε at high noise is 15 times ε: in half precision that would lose the prediction."""
    clean, noise = drawn(3)
    here = Level(0.068, math.sqrt(1 - 0.068**2), 0.9)
    sample, noise = (here.alpha * clean + here.sigma * noise).to(dtype), noise.to(dtype)
    there = here.convert(noise, sample, have="epsilon", want="sample")
    assert there.dtype == torch.float32
    torch.testing.assert_close(there, (sample.float() - here.sigma * noise.float()) / here.alpha)
    back = here.convert(there, sample, have="sample", want="epsilon")
    torch.testing.assert_close(back, noise.float(), rtol=1e-5, atol=1e-4)
