"""The memory: bounded, by content, least recently used first; and revisions: a changed weight makes another key."""

import itertools
import random
import threading
from collections import Counter, namedtuple
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from variety import share

import ctrl
from ctrl.memory import LIMIT, Memory, size_of
from ctrl.model.revision import changes, new_number, weights_of

KIB = 256  # float32 numbers


def made(value=None, kib=1):
    """A maker of a tensor of so many KiB, and how often it was called."""
    calls = []

    def make():
        calls.append(value)
        return torch.full((kib * KIB,), float(value or 0))

    make.calls = calls
    return make


def test_the_same_key_is_made_once_and_gives_the_very_value():
    memory, make = Memory(), made(3)
    first = memory(("a", 1), make)
    assert memory(("a", 1), make) is first
    assert make.calls == [3]
    assert (memory.hits, memory.misses, len(memory), memory.bytes) == (1, 1, 1, 1024)
    assert ("a", 1) in memory and ("a", 2) not in memory
    memory(("a", 2), make)
    assert (memory.hits, memory.misses, len(memory), memory.bytes) == (1, 2, 2, 2048)
    assert repr(memory) == "Memory(2 values, 0.0 MiB, limit 64.0 MiB, 1 hits, 2 misses)"
    assert repr(Memory(None)) == "Memory(0 values, 0.0 MiB, no limit, 0 hits, 0 misses)"
    assert Memory().limit == LIMIT == 64 * 2**20


def test_a_value_is_got_where_there_is_one_and_dropped_with_its_bytes():
    memory = Memory()
    assert memory.get("a") is None and (len(memory), memory.misses) == (0, 0)
    made_now = memory("a", lambda: (torch.zeros(KIB), np.zeros(KIB, np.float32)))
    assert memory.get("a") is made_now and memory.bytes == 2048
    for _ in range(2):
        memory.drop("a")
        assert (len(memory), memory.bytes, memory.get("a")) == (0, 0, None)


def test_none_is_a_value_too():
    memory, calls = Memory(), []
    for _ in range(2):
        assert memory("a", lambda: calls.append(1)) is None
    assert (calls, memory.hits, memory.bytes) == ([1], 1, 0)


def test_what_fails_to_be_made_is_not_kept():
    memory = Memory()

    def fail():
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            memory("a", fail)
    assert (len(memory), memory.bytes, memory.misses) == (0, 0, 2)
    memory("a", made())
    assert len(memory) == 1


def test_values_may_be_made_from_other_values_of_the_memory():
    memory = Memory(limit=1024)
    total = memory("sum", lambda: memory("a", made(1)) + memory("b", made(2)))
    assert torch.equal(total, torch.full((KIB,), 3.0))
    assert (len(memory), memory.bytes) == (3, 3 * 1024)  # of the present run
    memory.begin_run()
    assert (len(memory), "sum" in memory) == (1, True)


@dataclass
class Holds:
    """A value of tensors in all the ways that values have."""

    one: torch.Tensor
    many: tuple
    named: dict = field(default_factory=dict)
    plain: str = "text"
    none: None = None


Pair = namedtuple("Pair", "k v")


def test_bytes_are_those_of_all_tensors_and_shared_storage_counts_once():
    one, two = torch.zeros(KIB), torch.zeros(KIB, dtype=torch.float16)
    assert size_of(one) == 1024 and size_of(two) == 512
    assert size_of([one, (two, {"a": one})]) == 1536
    assert size_of(Holds(one, (two, [Pair(torch.zeros(KIB), None)]), {"a": Holds(torch.zeros(KIB), ())})) == 3584
    assert size_of(one[:2]) == 1024  # a view holds the whole of it
    assert size_of((one[:2], one[2:].view(2, -1))) == 1024
    assert size_of((torch.zeros(0), torch.zeros(0), "text", 3, None)) == 0
    array = np.zeros((KIB, 2), np.float32)
    assert size_of([array, array[:2], array.T, one]) == 3072  # an array as a tensor
    assert size_of(torch.zeros(1).expand(KIB)) == 4
    with torch.inference_mode():
        assert size_of(torch.zeros(KIB)) == 1024


def test_a_value_does_not_count_the_weights_of_the_network_it_is_for(model):
    memory = Memory()
    picture = np.zeros((32, 32, 3), np.uint8)
    list(ctrl.steps(model, ctrl.Recipe("a", steps=1, width=32, height=32), memory=memory))
    before = memory.bytes
    style = ctrl.Recipe("a", steps=1, width=32, height=32, guidance=1.0, styles=[ctrl.Style(picture)])
    plain = style.replace(styles=[])
    list(ctrl.steps(model, plain, memory=memory))
    without = memory.bytes - before
    list(ctrl.steps(model, style, memory=memory))
    projections = model.ip_adapter().adapter.projections.values()
    width = sum(len(pair.to_k) + len(pair.to_v) for pair in projections)
    tokens, channels = 4, 32
    embeds = 2 * channels  # of the picture and of the blank one
    own = 4 * (2 * embeds + tokens * channels + tokens * width)  # embeds also stacked, for a batch of one
    assert memory.bytes - without - before <= own


def test_the_least_recently_used_go_first():
    memory = Memory(limit=3 * 1024)
    for key in "abc":
        memory.begin_run()
        memory(key, made())
    memory.begin_run()
    memory("a", made())  # used again
    memory.begin_run()
    memory("d", made())
    assert [key for key in "abcd" if key in memory] == ["a", "c", "d"]
    memory("e", made(kib=2))
    assert [key for key in "acde" if key in memory] == ["d", "e"]
    assert memory.bytes == 3 * 1024


def test_what_the_present_run_uses_stays_whatever_the_limit():
    memory = Memory(limit=2 * 1024)
    for key in "ab":
        memory(key, made())
    memory.begin_run()
    kept = made(7)
    for _ in range(2):
        for key in range(5):  # more than there is room for, again and again
            memory(key, kept)
    assert len(kept.calls) == 5
    assert (len(memory), memory.bytes) == (5, 5 * 1024)
    memory("a", made())
    assert "b" not in memory
    memory.begin_run()
    assert [key for key in (*range(5), "a") if key in memory] == [4, "a"]
    assert memory.bytes == 2 * 1024


def test_what_a_run_takes_from_an_earlier_one_is_its_own_too():
    memory = Memory(limit=2 * 1024)
    for key in "ab":
        memory(key, made())
    memory.begin_run()
    memory("a", made())
    for key in range(3):
        memory(key, made())
    assert "a" in memory and "b" not in memory


@pytest.mark.parametrize(("limit", "left"), [(0, 0), (1023, 0), (1024, 1), (4 * 1024, 4), (10**9, 5), (None, 5)])
def test_the_limit_bounds_what_outlives_a_run(limit, left):
    memory = Memory(limit)
    for key in range(5):
        memory(key, made())
    assert len(memory) == 5
    memory.begin_run()
    assert (len(memory), memory.bytes) == (left, left * 1024)


def test_a_value_that_is_too_large_for_the_limit_is_gone_after_its_run():
    memory = Memory(limit=1024)
    memory("large", made(kib=5))
    assert memory.bytes == 5 * 1024
    memory.begin_run()
    assert (len(memory), memory.bytes) == (0, 0)
    with pytest.raises(ValueError, match="limit must be a number of bytes, 0 or more, or None for no limit; got -1"):
        Memory(limit=-1)


def test_a_part_has_keys_of_its_own_and_counts_in_the_whole():
    memory = Memory()
    one, other = memory.part(("style", 1)), memory.part(("style", 2))
    values = [keep("tokens", made(number)) for number, keep in enumerate((one, other, memory))]
    assert [float(value[0]) for value in values] == [0.0, 1.0, 2.0]
    assert one("tokens", made()) is values[0] and memory.part(("style", 1))("tokens", made()) is values[0]
    assert (len(memory), memory.bytes, memory.hits, memory.misses) == (3, 3 * 1024, 2, 3)


def test_clearing_drops_everything_and_numbers_go_on():
    memory = Memory()
    numbers = [memory.new_number() for _ in range(3)]
    memory("a", made())
    memory.clear()
    assert (len(memory), memory.bytes, "a" in memory) == (0, 0, False)
    numbers += [memory.new_number() for _ in range(3)]
    assert len(set(numbers)) == 6  # a number of before must not name a value of now


OPERATIONS = st.lists(st.one_of(st.just("run"), st.tuples(st.integers(0, 9), st.integers(0, 4))), max_size=60)


@settings(max_examples=share(100), deadline=None)
@given(OPERATIONS, st.sampled_from([0, 2, 5, 9]))
def test_it_is_a_plain_dictionary_that_forgets(operations, limit):
    """Against a list of (key, KiB, run), the least recently used first."""
    memory, plain, run = Memory(limit * 1024), [], 0

    def shrink():
        while sum(kib for _, kib, _ in plain) > limit and plain[0][2] != run:
            plain.pop(0)

    for operation in operations:
        if operation == "run":
            run += 1
            memory.begin_run()
        else:
            key, kib = operation
            there = next((one for one in plain if one[0] == key), None)
            make = made(key, kib)
            memory(key, make)
            assert len(make.calls) == (there is None)
            if there is not None:
                plain.remove(there)
            plain.append((key, kib if there is None else there[1], run))
        shrink()
        assert sorted(key for key in range(10) if key in memory) == sorted(key for key, *_ in plain)
        assert memory.bytes == 1024 * sum(kib for _, kib, _ in plain)


def test_threads_share_it():
    memory, errors, calls = Memory(limit=20 * 1024), [], Counter()
    barrier = threading.Barrier(4)

    def work(seed):
        draw = random.Random(seed)
        barrier.wait(60)
        try:
            for _ in range(1500):
                key = draw.randrange(60)
                if draw.random() < 0.1:
                    memory.begin_run()
                value = memory(key, made(key))
                calls[seed] += 1
                assert value.shape == (KIB,) and float(value[0]) == key
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors and not any(thread.is_alive() for thread in threads)
    assert memory.hits + memory.misses == sum(calls.values()) == 6000
    memory.begin_run()
    assert memory.bytes == 1024 * len(memory) <= 20 * 1024


def test_what_two_threads_make_at_once_is_kept_once():
    memory, both = Memory(), threading.Barrier(2)
    found = []

    def make():
        both.wait(60)
        return torch.full((KIB,), 5.0)

    threads = [threading.Thread(target=lambda: found.append(memory("a", make)), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == 2 and torch.equal(*found)
    assert (len(memory), memory.bytes, memory.misses) == (1, 1024, 2)
    assert any(memory("a", make) is one for one in found)


# Revisions


def test_changes_counts_what_is_written_in_place_and_never_falls():
    module = torch.nn.BatchNorm1d(3)
    weights, seen = weights_of(module), []
    assert {id(one) for one in weights} == {id(one) for one in (*module.parameters(), *module.buffers())}
    for write in (
        lambda: None,
        lambda: module.weight.add_(1),
        lambda: module.bias.zero_(),
        lambda: module.running_mean.copy_(torch.ones(3)),
        lambda: module.weight[0].fill_(3),
        lambda: module.load_state_dict(module.state_dict()),
        lambda: torch.optim.SGD(module.parameters(), 0.1).step(),
        lambda: module(torch.randn(4, 3)),  # its running mean
    ):
        with torch.no_grad():
            module.weight.grad = torch.ones(3)
            write()
        seen.append(changes(weights))
    assert seen[0] < seen[1] < seen[2] < seen[3] < seen[4] < seen[5] < seen[6] < seen[7]
    module.eval()(torch.randn(4, 3))
    weights[0].clone().mul_(2)
    assert changes(weights) == seen[-1]
    with torch.inference_mode():
        assert changes(weights_of(torch.nn.Linear(2, 2))) == 0  # torch counts none of theirs
    numbers = [new_number() for _ in range(5)]
    assert len(set(numbers)) == 5


@pytest.fixture(scope="module")
def own(folder):
    """A model that tests may change."""
    return ctrl.load(folder, device="cpu")


rng = np.random.default_rng(0)
MAP, REFERENCE, OTHER = (rng.integers(0, 255, (32, 32, 3), np.uint8) for _ in range(3))
LEFT = np.zeros((32, 32), np.uint8)
LEFT[:, :16] = 255
RECIPE = ctrl.Recipe(
    "a (red:1.3) ball",
    negative="blue",
    steps=2,
    width=32,
    height=32,
    guidance=ctrl.Guidance(4.0, map=LEFT, perturb=[ctrl.PAG(2.0)]),
    regions=[ctrl.Region("a hat", LEFT, 0.7)],
    controls=[ctrl.Pose(MAP, 0.8, mask=LEFT), ctrl.Depth(OTHER)],
    styles=[ctrl.Style([REFERENCE, OTHER], 0.6, mask=LEFT, negative=MAP)],
)


def run(model, recipe, memory=None):
    return torch.cat(
        [part for step in ctrl.steps(model, recipe, memory=memory) for part in (step.latents, step.denoised)]
    )


def cross(module):
    """The first cross-attention of a network."""
    return next(one for name, one in module.named_modules() if name.endswith("attn2"))


NETWORKS = {
    "U-Net": lambda model: model.denoiser,
    "text encoders": lambda model: model.text,
    "ControlNet": lambda model: model.controlnet("pose"),
    "IP-Adapter": lambda model: model.ip_adapter(),
}
WEIGHTS = {  # whose weight it is, and the weight
    "keys of the U-Net": ("U-Net", lambda model: cross(model.unet).to_k.weight),
    "a convolution of the U-Net": ("U-Net", lambda model: model.unet.conv_in.weight),
    "a word's embedding": (
        "text encoders",
        lambda model: model.parts.text_encoders[0].encoder.get_input_embeddings().weight,
    ),
    "keys of a ControlNet": ("ControlNet", lambda model: cross(model.controlnet("pose").module).to_k.weight),
    "the hint's convolution": (
        "ControlNet",
        lambda model: model.controlnet("pose").module.controlnet_cond_embedding.conv_in.weight,
    ),
    "the image encoder": ("IP-Adapter", lambda model: model.ip_adapter().encoder.visual_projection.weight),
    "a style's tokens": ("IP-Adapter", lambda model: next(model.ip_adapter().adapter.projection.parameters())),
    "a style's keys": ("IP-Adapter", lambda model: next(iter(model.ip_adapter().adapter.projections.values())).to_k),
}


@pytest.fixture
def changed(own):
    """Multiplies a weight in place, and puts it back afterwards."""
    before = []

    def change(weight, factor=1.5):
        before.append((weight, weight.detach().clone()))
        with torch.no_grad():
            weight.mul_(factor)

    yield change
    with torch.no_grad():
        for weight, kept in before:
            weight.copy_(kept)


@pytest.mark.parametrize("which", WEIGHTS)
def test_a_weight_that_was_written_in_place_makes_new_keys_and_a_memory_never_lies(own, changed, which):
    owner, weight = WEIGHTS[which]
    memory = Memory()
    first = run(own, RECIPE, memory)
    assert torch.equal(first, run(own, RECIPE))
    revisions = {name: network(own).revision for name, network in NETWORKS.items()}
    assert revisions == {name: network(own).revision for name, network in NETWORKS.items()}
    changed(weight(own))
    now = {name: network(own).revision for name, network in NETWORKS.items()}
    expected = run(own, RECIPE)
    assert not torch.equal(expected, first)
    assert torch.equal(run(own, RECIPE, memory), expected)
    assert {name for name in NETWORKS if now[name] != revisions[name]} == {owner}


def test_a_weight_written_back_is_no_lie_either(own, changed):
    memory, weight = Memory(), cross(own.unet).to_k.weight
    first = run(own, RECIPE, memory)
    changed(weight, 2.0)
    run(own, RECIPE, memory)
    changed(weight, 0.5)
    assert torch.equal(run(own, RECIPE, memory), first)


def test_no_two_networks_have_a_revision_in_common(own, folder):
    again = ctrl.load(folder, device="cpu")
    adapted = own.with_loras([("lcm", 0.5)])
    revisions = [network(model).revision for model in (own, again) for network in NETWORKS.values()]
    stronger = own.with_loras([("lcm", 0.9)])
    revisions += [own.controlnet("depth").revision, adapted.denoiser.revision, stronger.denoiser.revision]
    assert len(set(revisions)) == len(revisions)
    assert adapted.controlnet("pose").revision == own.controlnet("pose").revision  # the very same
    assert adapted.text is own.text, "this LoRA changes no text encoder"
    assert own.with_loras([("lcm", 0.5)]).denoiser.revision == adapted.denoiser.revision, "merged again, of one content"


@pytest.mark.slow
def test_one_memory_serves_many_models_and_loras(own, folder):
    other = ctrl.load(folder, device="cpu")
    for module in (other.unet, other.parts.text_encoders[0].encoder, other.controlnet("pose").module):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(1.1)
    memory, found = Memory(), {}
    recipes = {"plain": RECIPE, "half": RECIPE.replace(loras=[ctrl.Lora("lcm", 0.5)])}
    for _, model, (name, recipe) in itertools.product(range(2), (own, other), recipes.items()):
        latents = run(model, recipe, memory)
        assert torch.equal(latents, run(model, recipe))
        found[model is own, name] = latents
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(found.values(), 2))


CHANGES = {
    "the prompt": {"prompt": "a (red:1.2) ball"},
    "the negative prompt": {"negative": "grey"},
    "the size": {"width": 48, "height": 32},
    "no guidance": {"guidance": 1.0},
    "guidance's map": {"guidance": replace(RECIPE.guidance, map=255 - LEFT)},
    "a region's mask": {"regions": [ctrl.Region("a hat", 255 - LEFT, 0.7)]},
    "a region's weight": {"regions": [ctrl.Region("a hat", LEFT, 0.3)]},
    "a control's picture": {"controls": [replace(RECIPE.controls[0], picture=REFERENCE), RECIPE.controls[1]]},
    "a control's mask": {"controls": [replace(RECIPE.controls[0], mask=255 - LEFT), RECIPE.controls[1]]},
    "a control's kind": {"controls": [ctrl.Edges(MAP, 0.8, mask=LEFT), RECIPE.controls[1]]},
    "a control's branches": {"controls": [replace(RECIPE.controls[0], uncond=0.0), RECIPE.controls[1]]},
    "pictures exchanged": {
        "controls": [replace(RECIPE.controls[0], picture=OTHER), replace(RECIPE.controls[1], picture=MAP)]
    },
    "a style's pictures": {"styles": [replace(RECIPE.styles[0], picture=[OTHER, REFERENCE])]},
    "a style's mask": {"styles": [replace(RECIPE.styles[0], mask=None)]},
    "a style's negative": {"styles": [replace(RECIPE.styles[0], negative=None)]},
    "a style's blocks": {"styles": [replace(RECIPE.styles[0], blocks={"mid_block": 1.0})]},
    "how a style is combined": {"styles": [replace(RECIPE.styles[0], combine="average")]},
    "one more perturbation": {"guidance": replace(RECIPE.guidance, perturb=[ctrl.PAG(2.0), ctrl.SEG(1.0)])},
    "an image": {"image": OTHER, "mask": LEFT, "strength": 1.0},
}


@pytest.fixture(scope="module")
def shared(own):
    """A small memory that has seen a run, and sees more with every test; and what the run gave."""
    memory = Memory(limit=200_000)
    return memory, run(own, RECIPE, memory)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_memory_of_other_runs_changes_no_bit(own, shared, change):
    recipe, (memory, first) = RECIPE.replace(**CHANGES[change]), shared
    expected = run(own, recipe)
    assert expected.shape != first.shape or not torch.equal(expected, first)  # or the test would prove nothing
    for _ in range(2):
        assert torch.equal(run(own, recipe, memory), expected)
    assert torch.equal(run(own, RECIPE, memory), first)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0, 50_000, None])
def test_runs_in_turns_and_in_threads_share_a_memory_and_lose_no_bit(own, limit):
    recipes = [RECIPE, RECIPE.replace(prompt="a box", controls=[], seed=2), RECIPE.replace(styles=[], guidance=1.0)]
    expected, memory = [run(own, recipe) for recipe in recipes], Memory(limit)
    turns = [[] for _ in recipes]
    for parts in zip(*(ctrl.steps(own, recipe, memory=memory) for recipe in recipes), strict=True):
        for found, step in zip(turns, parts, strict=True):
            found += [step.latents, step.denoised]
    assert all(torch.equal(torch.cat(found), want) for found, want in zip(turns, expected, strict=True))
    found, threads = {}, []
    for at, recipe in enumerate(recipes):
        work = lambda at=at, recipe=recipe: found.update({at: [run(own, recipe, memory) for _ in range(2)]})  # noqa: E731
        threads.append(threading.Thread(target=work, daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert sorted(found) == [0, 1, 2]
    assert all(torch.equal(one, expected[at]) for at, both in found.items() for one in both)
