"""Where hooks act, and what they are told: sites by name, list, predicate and component; the sources of terms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import ctrl
from ctrl.attention import SELF, At, Hooks, Site, Source, check_blocks, sites, tap
from ctrl.memory import Memory
from ctrl.rows import Rows
from ctrl.sampling.run import Run

rng = np.random.default_rng(0)
MAP, OTHER, REFERENCE = (rng.integers(0, 255, (32, 32, 3), np.uint8) for _ in range(3))
LEFT = np.zeros((32, 32), np.uint8)
LEFT[:, :16] = 255


def edit(call, terms):
    """Changes nothing."""
    return list(terms)


def other(call, terms):
    """Another that changes nothing."""
    return list(terms)


def observe(call, terms):
    """Looks at nothing."""


def where(hook, *places):
    """The names of the sites at which a hook acts: as an edit, and the same as an observer."""
    both = Hooks([hook]), Hooks((), [hook])
    edited, observed = ([name for some in places for name in hooks.at(some)] for hooks in both)
    assert edited == observed
    return edited


@pytest.fixture(scope="module")
def unet(model):
    return model.denoiser.sites


@pytest.fixture(scope="module")
def pose(model):
    return model.controlnet("pose").sites


def names(places, kind="cross", within=""):
    return [site.name for site in places if site.kind == kind and f"{site.path}.".startswith(within)]


# --- where


def test_a_plain_hook_is_at_every_cross_attention_of_every_component(unet, pose):
    assert where(edit, unet, pose) == names(unet) + names(pose)
    assert where(At(edit), unet, pose) == names(unet) + names(pose)
    assert where(At(edit, kind="self"), unet, pose) == names(unet, "self") + names(pose, "self")
    assert {site.component for site in unet} == {"unet"} and {site.component for site in pose} == {"pose"}
    assert all(site.name == f"{site.component}.{site.path}" for site in (*unet, *pose))


def test_a_name_is_a_block_by_whole_words(unet, pose):
    assert where(At(edit, "mid_block"), unet, pose) == names(unet, within="mid_block.") + names(
        pose, within="mid_block."
    )
    assert where(At(edit, "up_blocks.0"), unet) == names(unet, within="up_blocks.0.")
    assert where(At(edit, "up_blocks"), unet) == names(unet, within="up_blocks.")
    for site in unet:
        assert where(At(edit, site.path, site.kind), unet) == [site.name]
    for part in ("mid", "up_blocks.", "up", "blocks", "unet.mid_block", "attn2", ""):
        assert where(At(edit, part), unet) == []
    many = [Site(f"unet.up_blocks.{number}.attn2", "cross", None, None) for number in (1, 10, 11)]
    assert where(At(edit, "up_blocks.1"), many) == ["unet.up_blocks.1.attn2"]


@pytest.mark.parametrize("several", [list, tuple])
def test_a_list_of_names_is_all_of_them_each_site_once(unet, several):
    assert where(At(edit, several(["up_blocks.0", "mid_block"])), unet) == [
        name for name in names(unet) if name in names(unet, within="mid_block.") + names(unet, within="up_blocks.0.")
    ]
    assert where(At(edit, several(["up_blocks.0", "up_blocks", "up_blocks"])), unet) == names(unet, within="up_blocks.")
    edits, _ = Hooks([At(edit, several(["up_blocks.0", "up_blocks"]))]).at(unet)[names(unet, within="up_blocks.0.")[0]]
    assert edits == [edit]
    assert where(At(edit, several([])), unet) == []


def test_a_predicate_is_asked_of_every_site_of_its_kind_and_component(unet, pose):
    for kind in ("cross", "self"):
        asked = []

        def ask(site, asked=asked):
            asked.append(site)
            return ".attentions.0." in site.name

        expected = [name for name in names(unet, kind) + names(pose, kind) if ".attentions.0." in name]
        found = [name for some in (unet, pose) for name in Hooks([At(edit, ask, kind)]).at(some)]
        assert found == expected
        assert [site.name for site in asked] == names(unet, kind) + names(pose, kind)
        assert all(isinstance(site, Site) and site.kind == kind for site in asked)
    assert where(At(edit, lambda site: True, component="pose"), unet, pose) == names(pose)


def test_a_component_is_the_unet_or_a_controlnets_kind(unet, pose):
    assert where(At(edit, component="unet"), unet, pose) == names(unet)
    assert where(At(edit, component="pose"), unet, pose) == names(pose)
    assert where(At(edit, "mid_block", "self", "pose"), unet, pose) == names(pose, "self", "mid_block.")
    assert where(At(edit, "down_blocks", component="depth"), unet, pose) == []


def test_a_name_must_be_in_the_component_it_was_said_for_and_need_not_be_in_every_one(unet, pose):
    assert where(At(edit, "up_blocks.0"), pose) == []
    with pytest.raises(
        ValueError, match=r"^blocks: 'up_blocks\.0' has no cross-attention in pose; there is down_blocks"
    ):
        where(At(edit, "up_blocks.0", component="pose"), pose)
    with pytest.raises(ValueError, match=r"'mid' has no self-attention in unet; there is down_blocks\.0, .*mid_block"):
        where(At(edit, ["mid_block", "mid"], "self", "unet"), unet)
    assert where(At(edit, ["up_blocks.0"], component="unet"), unet, pose) == names(unet, within="up_blocks.0.")
    check_blocks(unet, ["mid_block", "up_blocks"], "self")
    with pytest.raises(ValueError, match="'nowhere' has no self-attention in unet; there is none"):
        check_blocks(names(unet, "neither"), ["nowhere"], "self")


def test_hooks_keep_their_order_wherever_they_act(unet):
    hooks = [At(edit, "mid_block"), other, At(edit, "up_blocks"), At(other, "mid_block")]
    found = Hooks(hooks, [observe, At(observe, "mid_block")]).at(unet)
    middle, up, down = (names(unet, within=part)[0] for part in ("mid_block.", "up_blocks.", "down_blocks."))
    assert found[middle] == ([edit, other, other], [observe, observe])
    assert found[up] == ([other, edit], [observe])
    assert found[down] == ([other], [observe])


def test_where_no_hook_is_nothing_is_touched(model, unet):
    held = {site.name: site.module for site in unet}
    for hooks in (
        Hooks([At(edit, "mid_block")], [At(observe, ["up_blocks.1"], "self")]),
        Hooks([At(edit, lambda site: False)]),
        Hooks(),
    ):
        with tap(unet, hooks), torch.no_grad():
            touched = {name for name, module in held.items() if "forward" in module.__dict__}
            model.unet(torch.randn(1, 8, 8, 8), torch.tensor(500), torch.randn(1, 24, 32))
        assert touched == set(hooks.at(unet))


# --- what they are told

TOLD = ctrl.Recipe(
    "a red ball",
    negative="blue",
    steps=4,
    width=32,
    height=32,
    guidance=ctrl.Guidance(5.0, perturb=[ctrl.PAG(2.0)]),
    regions=[ctrl.Region("a hat", LEFT), ctrl.Region("a green box", 255 - LEFT, 0.5)],
    controls=[ctrl.Pose(MAP, 0.7), ctrl.Depth(OTHER, 0.5, mode="control first")],
    styles=[ctrl.Style([REFERENCE, MAP, OTHER], 0.6), ctrl.Style(OTHER, 0.4, blocks={"mid_block": 0.5})],
)


def told(model, recipes, index=0, observers=None):
    """Every call of a step, with its terms, as observers at all attention are told of it; and the step."""
    seen = []
    watch = lambda call, terms: seen.append((call, terms))  # noqa: E731
    wheres = [At(None), At(None, kind="self")] if observers is None else observers
    watching = [replace(one, hook=watch) for one in wheres]
    moment = Run.of(model, recipes, Memory(), watching).moments[index]
    latents = torch.randn(len(recipes), 8, 8, 8, generator=torch.Generator().manual_seed(1))
    predicted = moment.predict(moment.rows.stack(latents, latents))
    plain = Run.of(model, recipes, Memory()).moments[index]
    assert torch.equal(plain.predict(plain.rows.stack(latents, latents)), predicted)
    return seen, moment


def styles_of(moment):
    """The sources of a step's styles, by their place in the recipe."""
    places = [[one.picture for one in TOLD.styles].index(style.picture) for style in moment.now.styles]
    return [Source("style", place, len(style.pictures)) for place, style in zip(places, moment.now.styles, strict=True)]


def regions_of(moment):
    """The sources of a step's regions, by their place in the recipe."""
    return [Source("region", TOLD.regions.index(region)) for region in moment.now.regions]


@pytest.mark.parametrize("index", [0, 3])
def test_terms_say_whose_keys_and_values_they_are(model, index):
    seen, moment = told(model, [TOLD], index)
    everywhere = [style for style in moment.now.styles if style.blocks == "all"]
    cross = [(call, terms) for call, terms in seen if call.kind == "cross" and call.site.startswith("unet.")]
    assert {call.site for call, _ in cross} == set(names(model.denoiser.sites))
    for call, terms in cross:
        acting = [
            source
            for source, style in zip(styles_of(moment), moment.now.styles, strict=True)
            if style in everywhere or ".mid_block." in call.site
        ]
        assert [term.source for term in terms] == [Source("prompt"), *regions_of(moment), *acting]
    assert sorted(source.pictures for source in styles_of(moment)) == [1, 3]


def test_a_style_s_term_has_its_weight_its_pictures_and_the_weight_of_the_block(model):
    seen, _ = told(model, [TOLD])
    tokens = 4  # of one picture
    for call, terms in seen:
        for term in terms:
            if term.source.kind != "style":
                continue
            style = TOLD.styles[term.source.index]
            assert term.source.pictures == len(style.pictures)
            assert term.k.shape == term.v.shape == (*call.q.shape[:2], tokens * len(style.pictures), call.q.shape[3])
            assert term.gate == style.weight * (1.0 if style.blocks == "all" else 0.5)


def test_a_region_s_term_is_that_of_the_recipe_s_region_with_this_number(model):
    seen, _ = told(model, [TOLD])
    encoders = model.text
    for call, terms in seen:
        if call.kind == "self":
            continue
        site = next(one for one in (*model.denoiser.sites, *model.controlnet("pose").sites) if one.path in call.site)
        for term in terms:
            if term.source.kind == "region" and call.site.startswith("unet."):
                states = encoders.encode(TOLD.regions[term.source.index].prompt).states
                with torch.no_grad():
                    k, _ = replace(call, module=site.module).project(states)
                assert torch.allclose(term.k, k, atol=1e-6)


def test_controlnets_read_the_prompt_and_the_regions_and_no_style(model):
    seen, moment = told(model, [TOLD])
    for kind in ("pose", "depth"):
        own = [(call, terms) for call, terms in seen if call.site.startswith(f"{kind}.")]
        assert {call.site for call, _ in own} == {site.name for site in model.controlnet(kind).sites}
        for call, terms in own:
            expected = [SELF] if call.kind == "self" else [Source("prompt"), *regions_of(moment)]
            assert [term.source for term in terms] == expected
            assert len(call.q) == len(call.rows)
    asked = {call.site.partition(".")[0]: call.rows for call, _ in seen}
    assert asked["unet"] == moment.rows == Rows(pictures=1, guided=True, perturbed=1)
    assert asked["pose"] == Rows(pictures=1, guided=True)
    assert asked["depth"] == Rows(pictures=1, guided=False)  # it does not act on the unconditional branch


def test_self_attention_has_the_picture_for_its_source_and_perturbed_rows_are_told(model):
    seen, moment = told(model, [TOLD])
    own = [(call, terms) for call, terms in seen if call.kind == "self"]
    assert own and all([term.source for term in terms] == [SELF] for _, terms in own)
    for call, [term] in own:
        spoilt = moment.rows.branch(0) if call.site.startswith("unet.mid_block.") else ()
        assert term.identity == spoilt
        assert call.k.shape == call.q.shape


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("pictures", [1, 3])
def test_hooks_are_told_the_step_and_which_row_is_which(model, index, pictures):
    weight = ctrl.hold(5.0, until=0.5)
    recipe = TOLD.replace(guidance=ctrl.Guidance(weight, perturb=[ctrl.PAG(2.0), ctrl.SEG(ctrl.hold(1.0, start=0.5))]))
    words = ("a red ball", "a blue ball", "a grey ball")
    batch = [recipe.replace(seed=seed, prompt=prompt) for seed, prompt in enumerate(words)]
    seen, moment = told(model, batch[:pictures], index)
    expected = Rows(pictures=pictures, guided=index < 2, perturbed=1 if index < 2 else 2)
    assert moment.rows == expected
    assert {call.step for call, _ in seen} == {index}
    assert {call.rows for call, _ in seen if call.site.startswith("unet.")} == {expected}
    assert all(len(call.q) == len(call.rows) == len(term.q) for call, terms in seen for term in terms)


def test_terms_are_what_is_computed(model):
    """Σ gate · mask · SDPA(q, k, v, bias) of the observed terms is what a module hands to its last layer."""
    handed, handles = {}, []
    for component in (model.denoiser, model.controlnet("pose")):
        for site in component.sites:
            keep = lambda module, args, name=site.name: handed.setdefault(name, args[0])  # noqa: E731
            handles.append(site.module.to_out[0].register_forward_pre_hook(keep))
    try:
        seen, _ = told(model, [TOLD])
    finally:
        for handle in handles:
            handle.remove()
    known = [(call, terms) for call, terms in seen if call.site in handed]
    assert {call.site for call, _ in known} == set(handed)
    for call, terms in known:
        total = 0
        for term in terms:
            out = F.scaled_dot_product_attention(term.q, term.k, term.v, attn_mask=term.bias)
            for row in term.identity:
                out[row] = term.v[row]
            total = total + term.gate * out * (1 if term.mask is None else term.mask)
        assert torch.allclose(total.transpose(1, 2).flatten(2), handed[call.site], atol=1e-5)


def test_observers_may_be_anywhere_in_a_run(model):
    for observers, expected in (
        ([At(None, component="depth")], names(model.controlnet("depth").sites)),
        ([At(None, "mid_block", "self", "pose")], names(model.controlnet("pose").sites, "self", "mid_block.")),
        ([At(None, "up_blocks.0")], names(model.denoiser.sites, within="up_blocks.0.")),
        (
            [At(None, lambda site: "mid_block" in site.name)],
            [
                name
                for places in (model.controlnet("depth").sites, model.controlnet("pose").sites, model.denoiser.sites)
                for name in names(places, within="mid_block.")
            ],
        ),
    ):
        seen, _ = told(model, [TOLD], observers=observers)
        assert [call.site for call, _ in seen] == expected


def test_observers_of_one_block_see_the_terms_after_all_edits(model):
    net, seen = model.denoiser, []

    def add(call, terms):
        return [*terms, replace(terms[0], gate=0.5, source=Source("region", 7))]

    given = torch.randn(1, 8, 8, 8), torch.tensor(500), torch.randn(1, 24, 32)
    hooks = Hooks([add, At(add, "mid_block")], [lambda call, terms: seen.append((call.site, terms))])
    with torch.no_grad(), tap(sites(model.unet, kind="all"), hooks):
        model.unet(*given)
    assert len(seen) == len(names(net.sites))
    for site, terms in seen:
        assert isinstance(terms, tuple)
        assert [str(term.source) for term in terms] == ["prompt", *["region 7"] * (2 if ".mid_block." in site else 1)]


def test_a_source_says_itself_in_words():
    assert [str(source) for source in (Source("prompt"), SELF, Source("region", 2), Source("style", 0, 3))] == [
        "prompt", "self", "region 2", "style 0",
    ]  # fmt: skip
    assert Source("style", 1, 2) == Source("style", 1, 2) != Source("style", 1, 1)
    assert len({Source("style", 1, 2), Source("style", 1, 2), Source("region", 1)}) == 2
