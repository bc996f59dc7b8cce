"""Sampling: run recipes, step by step or to their pictures."""

from ctrl.sampling.loop import sample, sample_many, steps
from ctrl.sampling.shot import Shot, Step

__all__ = ["Shot", "Step", "sample", "sample_many", "steps"]
