"""The border: the only inference room that names diffusers and transformers."""

from ctrl.model.controlnet import ControlNet
from ctrl.model.ip_adapter.encoder import IPAdapter
from ctrl.model.ip_adapter.reference import StyleReference
from ctrl.model.loading.hub import Hub
from ctrl.model.loading.load import load
from ctrl.model.model import Model
from ctrl.model.solver import Solver
from ctrl.model.t2i_adapter import T2IAdapter
from ctrl.model.text import PromptEmbeds
from ctrl.model.text_encoders import TextEncoders
from ctrl.model.unet import UNet

__all__ = [
    "ControlNet",
    "Hub",
    "IPAdapter",
    "Model",
    "PromptEmbeds",
    "Solver",
    "StyleReference",
    "T2IAdapter",
    "TextEncoders",
    "UNet",
    "load",
]
