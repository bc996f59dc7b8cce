"""Sampling: run recipes, step by step or to their pictures."""

from ctrl.sampling.causes import Layer, cause
from ctrl.sampling.faithful import Faithfulness, faithfulness
from ctrl.sampling.loop import sample, sample_many, steps
from ctrl.sampling.shot import Shot, Step

__all__ = ["Faithfulness", "Layer", "Shot", "Step", "cause", "faithfulness", "sample", "sample_many", "steps"]
