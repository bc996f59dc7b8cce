"""The room of maps: what each word, picture and control did, in shares of attention, with a receipt."""

from ctrl.maps.attention import Attention
from ctrl.maps.collect import Collector
from ctrl.maps.heat import Difference, HeatMap
from ctrl.maps.pipeline import PipelineStep, Watching, watching
from ctrl.maps.place import Place
from ctrl.maps.receipt import Receipt
from ctrl.maps.split import Split
from ctrl.maps.texts import Text, Token, Word
from ctrl.maps.watch import Watch

__all__ = [
    "Attention",
    "Collector",
    "Difference",
    "HeatMap",
    "PipelineStep",
    "Place",
    "Receipt",
    "Split",
    "Text",
    "Token",
    "Watch",
    "Watching",
    "Word",
    "watching",
]
