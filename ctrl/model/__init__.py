"""The border: the only inference room that names diffusers and transformers."""

from ctrl.model.calls import Residuals, Words
from ctrl.model.ip_adapter.reference import StyleReference
from ctrl.model.loading.hub import Hub
from ctrl.model.loading.load import load
from ctrl.model.model import Model
from ctrl.model.solver import Solver
from ctrl.model.text import Text

__all__ = ["Hub", "Model", "Residuals", "Solver", "StyleReference", "Text", "Words", "load"]
