"""The room of maps: what each word, picture and control did, in shares of attention, with a receipt.

What is averaged by default, and why (mean IoU at half of the range on the 16 × 16 grid of the atelier, on scenes that
nothing was trained on or tuned to; the atelier was trained with true masks, so its own figures flatter):

- the up blocks of 8 cells or more, all heads: .005 better than all sites of 8 cells or more, .04 than all sites;
- each token's share as it is: no start token taken out, no range, softmax or threshold of its own, which all lose;
- all steps alike: the last three alone have the same on the atelier, and less on weights of other training, see below;
- for a mask, half of the range, self-attention squared once, and the picture's colours as a guide (`refine`).

Tried and left out (change of the mean IoU at half of the range with 95 % intervals, 40 noised renders of scenes on the
training side, by the up blocks; the atelier's weights, then weights of the first commit, trained without true masks):

- heads weighted by the size of what they add at a place: −.034 [−.049, −.022], −.004 [−.014, .006];
  one weight for the whole picture: −.021 [−.032, −.011], .002 [−.004, .008];
- heads weighted by their share of it, as influence splits it: −.061 [−.076, −.047], −.004 [−.017, .010];
- the mirrored picture asked too, left and right swapped in the text: .000 [−.011, .011], .022 [.011, .033]; a second
  noise instead, at the same price: .003 [−.007, .013], .013 [.001, .025]. On 24 evaluation scenes of the first commit's
  weights .024 [.010, .037] and .008 [−.004, .021]: it costs a run of its own, and helps where maps are poor.

Steps (32 pictures generated in 20 steps, each of the weights of that day, 2026-11-26, and of the first commit's): the
mean of all has .006 [−.017, .030] and .056 [.035, .078] more than the mean of the last three; `where` at the picture's
size .002 [−.008, .013] and .052 [.037, .068], on the grid −.006 [−.019, .007] and .043 [.028, .061]. To read every step
in place of the first and every fourth changes the mean by −.003 [−.005, −.000] and −.001 [−.002, .000], and `where` at
the picture's size by −.000 [−.001, .000] and .002 [−.000, .004].

The trials were made by scripts that were not kept; what is averaged now is measured by `ctrl.atelier.measure`.
"""

from ctrl.maps.attention import Attention
from ctrl.maps.collect import Collector
from ctrl.maps.difference import Difference
from ctrl.maps.heat import Ground, HeatMap
from ctrl.maps.left_out import WithoutHead, WithoutTokens
from ctrl.maps.names import Names
from ctrl.maps.pipeline import PipelineStep, Watching, watching
from ctrl.maps.place import Place
from ctrl.maps.probe import BlockCall, Probe, probing
from ctrl.maps.receipt import Receipt
from ctrl.maps.seen import Seen
from ctrl.maps.split import Split
from ctrl.maps.stack import Entry, Stack
from ctrl.maps.stream import Asked, Recorder, WordMaps, WordReader
from ctrl.maps.texts import Text, Token, Word
from ctrl.maps.watch import Watch

__all__ = [
    "Asked",
    "Attention",
    "BlockCall",
    "Collector",
    "Difference",
    "Entry",
    "Ground",
    "HeatMap",
    "Names",
    "PipelineStep",
    "Place",
    "Probe",
    "Receipt",
    "Recorder",
    "Seen",
    "Split",
    "Stack",
    "Text",
    "Token",
    "Watch",
    "Watching",
    "WithoutHead",
    "WithoutTokens",
    "Word",
    "WordMaps",
    "WordReader",
    "probing",
    "watching",
]
