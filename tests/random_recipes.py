"""Random recipes of everything that a recipe may hold, by hypothesis, without a model."""

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from variety import share

import ctrl
from ctrl.recipe import SAMPLERS, SPACINGS, Recipe, Schedule, highest

PICTURE = np.zeros((8, 8), np.uint8)
part = st.floats(0, 1)
number = st.floats(0, 10)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
prompts = text | st.builds(ctrl.Blend, st.dictionaries(text, st.floats(0.1, 10), min_size=1, max_size=3))
seeds = st.integers(0, 2**63 - 1)
windows = st.tuples(part, part).map(sorted).filter(lambda pair: pair[0] < pair[1])
points = st.lists(st.tuples(part, number), min_size=1, max_size=4, unique_by=lambda p: p[0]).map(sorted)
schedules = st.builds(lambda p, w, by: Schedule(p, *w, by), points, windows, st.sampled_from(["steps", "noise"]))
weights = st.one_of(number, schedules)
some = weights.filter(lambda weight: highest(weight) > 0)
scheduled_prompts = prompts | st.builds(ctrl.Blend, st.dictionaries(text, some, min_size=1, max_size=3))
directions = st.builds(ctrl.Direction, text, text, weights | st.floats(-10, 0), st.booleans())
pictures = st.builds(
    ctrl.Picture.of,
    st.one_of(
        arrays.arrays(np.uint8, (8, 9), fill=st.just(7)),
        arrays.arrays(np.uint8, (9, 8, 3), fill=st.just(7)),
    ),
)
words = st.builds(
    ctrl.Words, text.filter(str.strip), part, part, st.integers(0, 3), st.sampled_from(["everywhere", "nowhere"])
)
masks = st.none() | pictures | words
picture_masks = st.none() | pictures
skeletons = st.one_of(
    st.sampled_from(["waving", "sitting"]).map(ctrl.Skeleton.named),
    st.builds(ctrl.Skeleton, arrays.arrays(np.float64, (18, 2), elements=part), arrays.arrays(np.bool_, 18)),
)
how = {
    "weight": weights,
    "mask": masks,
    "mode": st.sampled_from(["balanced", "prompt first", "control first"]),
    "uncond": st.none() | part,
    "blocks": st.none() | st.lists(number, min_size=1, max_size=3),
    "resize": st.sampled_from(["stretch", "crop", "pad"]),
}
controls = st.one_of(
    st.builds(ctrl.Pose, skeletons | pictures, **how),
    st.builds(ctrl.Depth, pictures, **how),
    st.builds(ctrl.Edges, pictures, **how),
    st.builds(ctrl.Control, text.filter(bool), pictures, **how),
)
styles = st.builds(
    ctrl.Style,
    pictures | st.lists(pictures, min_size=1, max_size=2),
    weights,
    masks,
    st.just("all") | st.dictionaries(text, number, min_size=1, max_size=2),
    picture_masks,
    st.sampled_from(["concat", "average"]),
    st.none() | text.filter(bool),
)
perturb = st.builds(ctrl.PAG, weights) | st.builds(ctrl.SEG, weights, st.none() | st.floats(0.1, 9))
guidance = st.one_of(
    weights,
    st.builds(
        ctrl.Guidance,
        weights,
        part,
        st.sampled_from(["prediction", "v", "x0"]),
        masks,
        st.none() | st.builds(ctrl.APG, part),
        st.none() | st.builds(ctrl.CFGZero, st.integers(0, 5)),
        st.lists(perturb, max_size=2),
        st.none() | st.builds(ctrl.NAG, weights, st.floats(1, 9), part),
    ),
)
shares = st.one_of(
    part, st.builds(lambda value, w, by: Schedule(((0.0, value),), *w, by), part, windows, st.just("noise"))
)
phrases = text.filter(str.strip)
edits = st.builds(
    ctrl.Edit,
    text,
    shares,
    shares,
    st.sampled_from(["replace", "refine"]),
    st.dictionaries(phrases, shares, max_size=2),
    st.none() | phrases | st.builds(ctrl.LocalBlend, phrases, part, part),
    picture_masks,
    st.booleans(),
)
aligned = st.builds(
    lambda prompt, styles, weight, on: ctrl.StyleAligned(Recipe(prompt, styles=styles), weight, on),
    text,
    st.lists(styles, max_size=1),
    weights,
    st.booleans(),
)
images = st.one_of(st.tuples(st.none(), st.none()), st.tuples(pictures, picture_masks))
sizes = st.sampled_from([(None, None), (64, 128)])


def recipe_of(size, image, edit, prompt, **rest):
    """A recipe; a blend of prompts is no edit."""
    edit = None if isinstance(prompt, ctrl.Blend) else edit
    return Recipe(prompt, width=size[0], height=size[1], image=image[0], mask=image[1], edit=edit, **rest)


recipes = st.builds(
    recipe_of,
    sizes,
    images,
    prompt=scheduled_prompts,
    negative=scheduled_prompts,
    directions=st.lists(directions, max_size=2),
    regions=st.lists(
        st.builds(ctrl.Region, prompts, pictures | words, part)
        | st.builds(ctrl.Region, phrases, pictures, part, by=st.just("bias")),
        max_size=1,
    ),
    controls=st.lists(controls, max_size=2),
    styles=st.lists(styles, max_size=2),
    guidance=guidance,
    edit=st.none() | edits,
    aligned=st.none() | aligned,
    steps=st.integers(1, 1000),
    sampler=st.sampled_from(SAMPLERS),
    spacing=st.sampled_from(SPACINGS),
    seed=seeds | st.builds(ctrl.SeedBlend, seeds, seeds, part),
    strength=part,
    loras=st.lists(st.builds(ctrl.Lora, text.filter(bool), st.floats(-2, 2)), max_size=2),
)
quick = settings(max_examples=share(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
