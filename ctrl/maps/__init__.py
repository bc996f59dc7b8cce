"""The room of maps: what each word, picture and control did, in shares of attention, with a receipt.

What is averaged by default, and why (mean IoU at half of the range on the 16 × 16 grid of the atelier, on scenes that
nothing was trained on or tuned to; the atelier was trained with true masks, so its own figures flatter):

- the up blocks of 8 cells or more, all heads: .005 better than all sites of 8 cells or more, .04 than all sites;
- each token's share as it is: no start token taken out, no range, softmax or threshold of its own, which all lose;
- for where a thing is, the last three steps: one call at time 0.1 has .779, three from 0.35 to 0.65 have .739;
- for a mask, half of the range, self-attention squared once, and the picture's colours as a guide (`refine`).
"""

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
