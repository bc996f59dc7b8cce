"""The room of maps: what each word, picture and control did, in shares of attention, with a receipt."""

from ctrl.maps.attention import Attention
from ctrl.maps.collect import Collector
from ctrl.maps.heat import Difference, HeatMap
from ctrl.maps.pipeline import PipelineStep, Watching, watching
from ctrl.maps.place import Place
from ctrl.maps.receipt import Receipt
from ctrl.maps.split import Split
from ctrl.maps.stack import Entry, Stack
from ctrl.maps.texts import Text, Token, Word
from ctrl.maps.watch import Watch

__all__ = [
    "Attention",
    "Collector",
    "Difference",
    "Entry",
    "HeatMap",
    "PipelineStep",
    "Place",
    "Receipt",
    "Split",
    "Stack",
    "Text",
    "Token",
    "Watch",
    "Watching",
    "Word",
    "watching",
]
