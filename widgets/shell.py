"""What a Studio's browser side shows: its traits, all of them set by Python, the knobs by a person too."""

from __future__ import annotations

from anywidget import WidgetTrait

from widgets import settings
from widgets.leaf import Leaf, module, styles, traitlets

TABS = ("pose", "map", "style", "curve", "words", "history", "grid", "code")
WORDS = ("prompt", "negative")
HANDS = (*settings.SCALARS, "rows", "width", "height", "fast")
KNOBS = tuple(name for name in HANDS if name not in WORDS)  # go back where they are refused; words stay
LEAVES = ("picture", "pose", "map", "shelf", "curve", "heat", "gallery")


class Shell(Leaf):
    """The knobs and lines of a Studio, and the leaves that it mounts."""

    _esm = module("knobs.js", "studio_parts.js", "studio_knobs.js", "studio_more.js", "studio.js")
    _css = styles("studio.css")

    prompt = traitlets.Unicode().tag(sync=True)
    negative = traitlets.Unicode().tag(sync=True)
    steps = traitlets.Int(20, min=1, max=1000).tag(sync=True)
    sampler = traitlets.Unicode().tag(sync=True)
    spacing = traitlets.Unicode("default").tag(sync=True)
    seed = traitlets.Int(0, min=0).tag(sync=True)
    strength = traitlets.Float(0.8, min=0, max=1).tag(sync=True)
    width = traitlets.Int(0, help="0 for the model's own").tag(sync=True)
    height = traitlets.Int(0).tag(sync=True)
    fast = traitlets.Bool(default_value=False, help="four steps by the LCM-LoRA").tag(sync=True)
    locked = traitlets.Bool(default_value=False, help="the seed stays, whatever settings come").tag(sync=True)
    tab = traitlets.Enum(TABS, "pose").tag(sync=True)
    rows = traitlets.List(traitlets.Dict(), help="guidance, controls, regions and LoRAs").tag(sync=True)
    curve_of = traitlets.Unicode(settings.GUIDANCE, help="the part whose weight the curve shows").tag(sync=True)

    progress = traitlets.Dict(help="phase, step, count, rate, left, message").tag(sync=True)
    reasons = traitlets.Dict(help="why a knob cannot act, by its name").tag(sync=True)
    notes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    cost = traitlets.Dict(help="of the last picture: evaluations, reused, seconds").tag(sync=True)
    obedience = traitlets.List(traitlets.Dict()).tag(sync=True)
    grid = traitlets.Dict(help="of a sweep: done, count").tag(sync=True)
    axes = traitlets.List(traitlets.Any(), help="of a sweep: path, name, values to begin with").tag(sync=True)
    can = traitlets.Dict(help="undo, redo").tag(sync=True)
    notice = traitlets.Unicode(help="what does not work in this front end").tag(sync=True)
    offers = traitlets.Dict(help="what the model has: samplers, spacings, size, kinds").tag(sync=True)

    picture = WidgetTrait().tag(sync=True)
    pose = WidgetTrait().tag(sync=True)
    map = WidgetTrait().tag(sync=True)
    shelf = WidgetTrait().tag(sync=True)
    curve = WidgetTrait().tag(sync=True)
    heat = WidgetTrait().tag(sync=True)
    gallery = WidgetTrait().tag(sync=True)
