"""The border: the only inference room that names diffusers and transformers."""

from ctrl.model.loading import load
from ctrl.model.model import Model, Residuals, Text
from ctrl.model.solver import Solver

__all__ = ["Model", "Residuals", "Solver", "Text", "load"]
