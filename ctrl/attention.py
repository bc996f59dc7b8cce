"""One tap on attention: it reads every call of cross-attention, and writes by changing the terms of a call.

A call is a list of terms, Σ gate · mask · SDPA(q, k, v, bias), at first one. An edit turns the list into
another; an observer reads q and k and changes nothing. Processors are neither replaced nor wrapped: for the
length of a `with` block each attention module runs its own forward under a TorchFunctionMode that catches
`scaled_dot_product_attention`, so whatever else is attached to the model keeps working, and leaving the block
by any road leaves the model as it was. A module on which nothing acts is not touched.
"""

from __future__ import annotations

import functools
import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ENDLESS = 9999.9  # a blur beyond this is the mean, as in the code of SEG's authors


@dataclass(frozen=True, eq=False)
class Site:
    """An attention module, by the name of its component and its own: "unet.mid_block…attn2"."""

    name: str
    module: nn.Module
    block: nn.Module  # the transformer around it, whose input still has a height and a width


@dataclass(frozen=True, eq=False)
class Call:
    """One call of scaled_dot_product_attention at a site.

    `q` is (R, heads, height·width, d), `k` and `v` are (R, heads, T, d), with R rows in the order of the
    batch; in self-attention T is height·width. `module` is the attention module that made the call.
    """

    site: str
    q: Tensor
    k: Tensor
    v: Tensor
    height: int
    width: int
    module: Any = None  # diffusers' Attention; its parts are typed by nobody

    def project(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (R, heads, T, d) of other text states (R or 1, T, D), by the site's own layers."""
        module, (rows, heads, _, depth) = self.module, self.q.shape
        if len(states) not in (1, rows):  # SDPA would broadcast some of them, and the picture be silently wrong
            raise ValueError(f"states must have 1 or {rows} rows, as {self.site} has, got {len(states)}.")
        states = module.norm_encoder_hidden_states(states) if module.norm_cross else states
        k, v = (
            layer(states).view(len(states), -1, heads, depth).transpose(1, 2) for layer in (module.to_k, module.to_v)
        )
        k = k if module.norm_k is None else module.norm_k(k)
        return k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)


@dataclass(frozen=True, eq=False)
class Term:
    """One summand, gate · mask · SDPA(q, k, v, bias); `mask` broadcasts to (R, heads, height·width, d).

    In the rows `identity` each place attends to itself alone, so that SDPA is v.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor | None = None
    gate: float = 1.0
    mask: Tensor | None = None
    identity: tuple[int, ...] = ()


Edit = Callable[[Call, list[Term]], list[Term]]
Observer = Callable[[str, Tensor, Tensor, tuple[int, int]], None]


@dataclass(frozen=True, eq=False)
class Projections:
    """What turns a reference's tokens into keys and values at one site: weights (heads·d, D)."""

    to_k: Tensor
    to_v: Tensor


@dataclass(frozen=True, eq=False)
class Reference:
    """An edit that adds a reference picture's term: decoupled cross-attention (IP-Adapter, arXiv 2308.06721).

    `tokens` is (R, T, D), `mask` (R or 1, 1, H, W) in [0, 1] at any size, or None for everywhere.
    """

    tokens: Tensor
    projections: Mapping[str, Projections]
    gate: float
    mask: Tensor | None = None

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with this reference's added."""
        weights = self.projections[call.site]
        rows, heads, _, depth = call.q.shape
        k = F.linear(self.tokens, weights.to_k).view(rows, -1, heads, depth).transpose(1, 2)
        v = F.linear(self.tokens, weights.to_v).view(rows, -1, heads, depth).transpose(1, 2)
        mask = self.mask
        if mask is not None:  # bicubic, as diffusers shrinks its IP-Adapter masks
            mask = F.interpolate(mask, size=(call.height, call.width), mode="bicubic")
            mask = mask.reshape(mask.shape[0], 1, -1, 1)
        return [*terms, Term(call.q, k, v, gate=self.gate, mask=mask)]


@dataclass(frozen=True, eq=False)
class Weighted:
    """An edit that gives the words of the prompt weights (R or 1, T): rows of v are scaled, nothing renormalised.

    It is the reweighting of Prompt-to-Prompt (arXiv 2208.01626). It acts on the text's own terms, which are those that
    still have the call's keys. Weights of 1 are bit-equal to none.
    """

    weights: Tensor

    @property
    def acts(self) -> bool:
        """Whether some weight is not 1; if none is, there is nothing to attach."""
        return bool((self.weights != 1).any())

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with the text's values scaled."""
        return [replace(term, v=_scaled(term.v, self.weights)) if term.k is call.k else term for term in terms]


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the picture with a prompt of its own.

    `states` is (R or 1, T, D), `mask` (R or 1, 1, H, W) in [0, 1] at any size, `weights` (R or 1, T) of its
    words or None.
    """

    states: Tensor
    mask: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Regions:
    """An edit that gives parts of the picture prompts of their own, in some rows; the others stay bit-equal.

    The text's output becomes (1 − Σ m) · base prompt + Σ m · region's prompt. Masks are shrunk by area, divided by
    their sum where that is over 1, and multiplied by 1 − `base`: so `base` is the share that the prompt of
    the whole picture keeps where a region covers it fully, and what no region covers is all its own. A region's
    keys and values come from the site's own layers. Make one for a run; its masks are fitted once.
    """

    rows: tuple[int, ...]
    regions: tuple[Region, ...]
    base: float = 0.0
    _fitted: dict[tuple[int, int], list[Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with the text's gated and the regions' added."""
        size = (call.height, call.width)
        if size not in self._fitted:
            self._fitted[size] = self._masks(call)
        rest, *masks = self._fitted[size]
        out = [replace(term, mask=_both(term.mask, rest)) if term.k is call.k else term for term in terms]
        for region, mask in zip(self.regions, masks, strict=True):
            k, v = call.project(region.states)
            v = v if region.weights is None else _scaled(v, region.weights)
            out.append(Term(call.q, k, v, mask=mask))
        return out

    def _masks(self, call: Call) -> list[Tensor]:
        """What is left to the base prompt, then each region's part, (R, 1, height·width, 1) in q's type."""
        size, device = (call.height, call.width), call.q.device
        here = torch.zeros(len(call.q), 1, 1, 1, device=device)
        here[list(self.rows)] = 1 - self.base
        masks = [F.interpolate(one.mask.to(device, torch.float32), size=size, mode="area") for one in self.regions]
        masks = [mask.clamp(0, 1).flatten(2)[..., None] for mask in masks]
        cover = torch.stack([mask.expand(len(here), -1, -1, -1) for mask in masks]).sum(0).clamp(min=1)
        masks = [here * (mask / cover) for mask in masks]
        rest = (1 - torch.stack(masks).sum(0)).clamp(min=0)
        return [mask.to(call.q.dtype) for mask in (rest, *masks)]


@dataclass(frozen=True, eq=False)
class SelfEdit(ABC):
    """An edit of self-attention in place of cross-attention, in some rows of the batch and some blocks.

    `blocks` are the beginnings of the modules' names, whole words between dots: "mid_block", "up_blocks.0".
    Rows it does not name must stay bit-equal.
    """

    rows: tuple[int, ...]
    blocks: tuple[str, ...] = ("mid_block",)

    @abstractmethod
    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with this edit done."""


@dataclass(frozen=True, eq=False)
class IdentityAttention(SelfEdit):
    """The perturbation of PAG (arXiv 2403.17377): each place attends to itself alone."""

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with the attention map of the rows made the identity."""
        return [replace(term, identity=(*term.identity, *self.rows)) for term in terms]


@dataclass(frozen=True, eq=False)
class BlurredQueries(SelfEdit):
    """The perturbation of SEG (arXiv 2408.00760): queries blurred by a Gaussian over the picture.

    `sigma` is in places of the layer; beyond 9999.9, as at infinity, every query is the mean of all.
    """

    sigma: float = math.inf

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"sigma must be a number above 0, or infinity for the mean, got {self.sigma!r}.")

    def __call__(self, call: Call, terms: list[Term]) -> list[Term]:
        """The terms with the queries of the rows blurred."""
        return [replace(term, q=self._blurred(term.q, call)) for term in terms]

    def _blurred(self, q: Tensor, call: Call) -> Tensor:
        some = torch.stack([q[row] for row in self.rows]).float()  # (n, heads, height·width, d)
        if self.sigma > ENDLESS:
            some = some.mean(2, keepdim=True).expand_as(some)
        else:
            image = some.transpose(2, 3).reshape(-1, 1, call.height, call.width)
            image = _smooth(_smooth(image, self.sigma).transpose(2, 3), self.sigma).transpose(2, 3)
            some = image.reshape(some.transpose(2, 3).shape).transpose(2, 3)
        q = q.clone()
        for row, blurred in zip(self.rows, some, strict=True):
            q[row] = blurred
        return q


class Texts:
    """The keys and values of a run's texts: each is projected once, bit-equal to projecting it at every step.

    What was projected is known by the tensor object and its version, so every step must be handed the same
    tensor, not an equal one; a text that is gone, or was written to, is projected anew. One object serves all
    components of a run, since a projection belongs to the layer that made it; no layer's weights may change
    during the run. While gradients are on nothing is kept.
    """

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}
        self._sites: dict[tuple[nn.Module, str], tuple[Site, ...]] = {}

    def sites(self, component: nn.Module, name: str) -> tuple[Site, ...]:
        """The component's cross-attention, looked for once: going through an SDXL takes milliseconds."""
        if (component, name) not in self._sites:
            self._sites[component, name] = sites(component, name)
        return self._sites[component, name]

    @contextmanager
    def attached(self, places: Sequence[Site]) -> Iterator[None]:
        """Let the `to_k` and `to_v` of these sites answer from memory inside the block."""
        layers = [site.module.get_submodule(name) for site in places for name in ("to_k", "to_v")]
        # As `_forward` does it, but for all at once: a context for each of SDXL's 140 would take as long as a layer.
        before = [layer.__dict__.get("forward") for layer in layers]
        try:
            for layer in layers:
                layer.__dict__["forward"] = functools.partial(self._project, layer, layer.forward)
            yield
        finally:
            for layer, forward in zip(layers, before, strict=True):
                layer.__dict__.pop("forward", None)
                if forward is not None:
                    layer.__dict__["forward"] = forward

    def _project(self, layer: nn.Module, original: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return original(states)
        version = 0 if states.is_inference() else states._version
        kept = self._kept.get(id(states))
        if kept is None or kept.states() is not states or kept.version != version:
            self._kept = {key: one for key, one in self._kept.items() if one.states() is not None}
            kept = self._kept[id(states)] = _Kept(weakref.ref(states), version)
        if layer not in kept.projected:
            kept.projected[layer] = original(states)
        return kept.projected[layer]


@dataclass
class _Kept:
    states: weakref.ref[Tensor]  # weak, so that a text's keys and values go when it does
    version: int
    projected: dict[nn.Module, Tensor] = field(default_factory=dict)


def sites(component: nn.Module, name: str = "unet", *, kind: Literal["cross", "self"] = "cross") -> tuple[Site, ...]:
    """The attention modules of a U-Net or ControlNet of one kind, in the order diffusers numbers them."""
    leaf = "attn2" if kind == "cross" else "attn1"
    return tuple(
        Site(f"{name}.{path}", module, component.get_submodule(path.split(".transformer_blocks.")[0]))
        for path, module in _attentions(component)
        if path.rpartition(".")[2] == leaf and (kind == "cross" or not getattr(module, "is_cross_attention", False))
    )


@contextmanager
def tap(
    component: nn.Module,
    *,
    name: str = "unet",
    edits: Sequence[Edit] = (),
    observers: Sequence[Observer] = (),
    texts: Texts | None = None,
) -> Iterator[None]:
    """Edit and observe the attention calls of `component` inside the block.

    Edits act on every call of cross-attention, in their order, and a `SelfEdit` on those of self-attention in
    its blocks. An observer is called as `observer(site, q, k, (height, width))` with q (R, heads,
    height·width, d) and k (R, heads, T, d) of the text's call; it must not change them. `texts` keeps what
    the text was projected to. Blocks may be nested. A ValueError names a block that has no self-attention; a
    RuntimeError says so when a site was never seen, since a map with holes would look like a whole one.
    """
    selves = [edit for edit in edits if isinstance(edit, SelfEdit)]
    others = tuple(edit for edit in edits if not isinstance(edit, SelfEdit))
    cross: tuple[Site, ...] = ()
    if texts is not None:
        cross = texts.sites(component, name)
    elif others or observers:
        cross = sites(component, name)
    if (others or observers) and not cross:
        raise RuntimeError(f"{name} has no cross-attention (no module named attn2): there is nothing to tap.")
    taps = [_Tap(site, others, tuple(observers)) for site in cross if others or observers]
    taps += _self_taps(component, name, selves) if selves else []
    with ExitStack() as stack:
        if texts is not None:
            stack.enter_context(texts.attached(cross))
        for one in taps:
            stack.enter_context(one.attached())
        yield
    blind = [one.site.name for one in taps if not one.calls]
    if blind:
        raise RuntimeError(f"{len(blind)} of {len(taps)} attention sites were never reached, such as {blind[0]}.")


@dataclass
class _Tap:
    site: Site
    edits: tuple[Edit, ...]
    observers: tuple[Observer, ...]
    shape: tuple[int, int] = (0, 0)
    calls: int = field(default=0)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Put this tap's forward in front of the module's own, and take it away again."""
        module, original = self.site.module, self.site.module.forward

        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            mode = _Catch(self)
            with mode:
                out = original(*args, **kwargs)
            if not mode.caught:
                processor = type(getattr(module, "processor", module)).__name__
                raise RuntimeError(
                    f"{self.site.name} made no scaled_dot_product_attention call under {processor}: "
                    "give the model its default attention processors."
                )
            return out

        handle = self.site.block.register_forward_pre_hook(self._see_shape, with_kwargs=True)
        try:
            with _forward(module, forward):
                yield
        finally:
            handle.remove()

    def _see_shape(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states: Tensor = args[0] if args else kwargs["hidden_states"]  # (R, C, h, w)
        self.shape = (states.shape[-2], states.shape[-1])

    def run(self, sdpa: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The call as edited, after the observers have seen it."""
        self.calls += 1
        q, k, v, bias, rest = _arguments(*args, **kwargs)
        call = Call(self.site.name, q, k, v, *self.shape, module=self.site.module)
        for observer in self.observers:
            observer(call.site, q, k, self.shape)
        if not self.edits:
            return sdpa(*args, **kwargs)
        terms = [Term(q, k, v, bias)]
        for edit in self.edits:
            terms = edit(call, terms)
        return functools.reduce(torch.add, (_summand(term, sdpa, rest) for term in terms))


class _Catch(TorchFunctionMode):
    """Hands the first attention call of a module's forward, the text's, to its tap."""

    def __init__(self, tapped: _Tap) -> None:
        self.tapped, self.caught = tapped, False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention and not self.caught:
            self.caught = True
            return self.tapped.run(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


@contextmanager
def _forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Another forward for one module, whoever had put one there before."""
    held, before = module.__dict__, module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del held["forward"]
        else:
            module.forward = before


def _attentions(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules attn1 and attn2: `named_modules` would take tens of milliseconds, at every step, for SDXL."""
    for name, child in module.named_children():
        if name in ("attn1", "attn2"):
            yield path + name, child
        else:
            yield from _attentions(child, f"{path}{name}.")


def check_blocks(component: nn.Module, blocks: Sequence[str], name: str = "unet") -> None:
    """Refuse, by a ValueError, blocks without self-attention, which a `SelfEdit` could not act in."""
    if blocks:
        _within(sites(component, name, kind="self"), name, blocks)


def _within(places: Sequence[Site], name: str, blocks: Sequence[str]) -> dict[str, list[Site]]:
    """The sites in each of these blocks."""
    within = {
        block: [site for site in places if f"{site.name}.".startswith(f"{name}.{block}.")]
        for block in dict.fromkeys(blocks)
    }
    for block, found in within.items():
        if not found:
            have = ", ".join(dict.fromkeys(site.name.split(".attentions.")[0][len(name) + 1 :] for site in places))
            raise ValueError(f"blocks: {block!r} has no self-attention in {name}; there is {have or 'none'}.")
    return within


def _self_taps(component: nn.Module, name: str, edits: Sequence[SelfEdit]) -> list[_Tap]:
    places = sites(component, name, kind="self")
    within = _within(places, name, [block for edit in edits for block in edit.blocks])
    acting = ((site, tuple(e for e in edits if any(site in within[b] for b in e.blocks))) for site in places)
    return [_Tap(site, here, ()) for site, here in acting if here]


def _summand(term: Term, sdpa: Callable[..., Tensor], rest: dict[str, Any]) -> Tensor:
    out = sdpa(term.q, term.k, term.v, attn_mask=term.bias, **rest)
    if term.identity:
        out = out.clone()
        for row in term.identity:
            out[row] = term.v[row]
    out = out if term.mask is None else out * term.mask
    return out if term.gate == 1.0 else term.gate * out


def _both(mask: Tensor | None, other: Tensor) -> Tensor:
    return other if mask is None else mask * other


def _scaled(v: Tensor, weights: Tensor) -> Tensor:
    return v * weights.to(v.device, v.dtype)[:, None, :, None]


def _smooth(image: Tensor, sigma: float) -> Tensor:
    """(n, 1, H, W) blurred along W, reflected at the edges: ⌈6σ⌉ taps made odd, but none past the far edge."""
    side = image.shape[-1]
    taps = min(math.ceil(6 * sigma) // 2 * 2 + 1, side + 1 - side % 2)
    half = taps // 2
    kernel = torch.exp(-0.5 * (torch.arange(-half, half + 1, device=image.device) / sigma) ** 2)
    padded = F.pad(image, (half, half, 0, 0), mode="reflect")
    return F.conv2d(padded, (kernel / kernel.sum()).view(1, 1, 1, -1))


def _arguments(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *rest: Any, **named: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, dict[str, Any]]:
    """SDPA's arguments, which some processors pass by position and some by name."""
    return query, key, value, attn_mask, dict(zip(("dropout_p", "is_causal"), rest, strict=False)) | named
