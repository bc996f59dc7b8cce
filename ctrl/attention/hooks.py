"""The hooks on attention in one call of a network: edits, observers, and the memory of keys and values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from ctrl.attention.kv import TextKV
from ctrl.attention.terms import Call, Combine, Edit, Kind, Observer, Site, Term
from ctrl.rows import Rows

H = TypeVar("H", Edit, Observer)
Where: TypeAlias = str | Sequence[str] | Callable[[Site], bool] | None


@dataclass(frozen=True, eq=False)
class At(Generic[H]):
    """An edit or observer at some sites and steps only; without this it is at every cross-attention.

    `where` is the name of a block ("mid_block", "up_blocks.0", whole words between dots), a list of names, a function
    of a `Site`, or None for everywhere. `component` is "unet" or a ControlNet's kind; None is every component, and then
    a name need not be in each of them. `when` is a function of the number of a step, None for every step; where it does
    not act, modules are not touched.
    """

    hook: H
    where: Where = None
    kind: Kind = "cross"
    component: str | None = None
    when: Callable[[int], bool] | None = None

    def acts(self, step: int | None) -> bool:
        """Whether it acts at a step; one whose number is not known counts."""
        return self.when is None or step is None or self.when(step)

    def among(self, places: Sequence[Site]) -> list[Site]:
        """Its sites among these, which are one component's; a ValueError names an unknown block."""
        mine = [site for site in places if site.kind == self.kind and self.component in (None, site.component)]
        if self.where is None:
            return mine
        if callable(self.where):
            return [site for site in mine if self.where(site)]
        names = (self.where,) if isinstance(self.where, str) else tuple(self.where)
        if self.component is not None and places and places[0].component == self.component:
            check_blocks(places, names, self.kind)
        return [site for site in mine if any(_within(site, name) for name in names)]


@dataclass(frozen=True)
class Pause:
    """An observer that reads nothing: `check` is called before each cross-attention, and what it raises ends the call.

    A site where nothing else acts is not tapped for it, since tapping all of them takes a small network a tenth of
    its time.
    """

    check: Callable[[], None]

    def __call__(self, call: Call, terms: Sequence[Term]) -> None:
        """Check, as any observer may be called."""
        self.check()


def check_sites(hooks: Sequence[H | At[H]], places: Sequence[Site]) -> None:
    """Refuse, by a ValueError, a hook that would act at none of these sites, which are all components' of a run."""
    placed = [hook for hook in hooks if isinstance(hook, At)]
    if not placed:
        return
    components = {place.component: [site for site in places if site.component == place.component] for place in places}
    for hook in placed:
        if not any(hook.among(component_sites) for component_sites in components.values()):
            raise ValueError(
                f"a hook at where={hook.where!r:.60}, kind={hook.kind!r}, component={hook.component!r} acts nowhere; "
                f"the run's components are {', '.join(components)}."
            )


@dataclass(frozen=True, eq=False)
class Hooks:
    """Everything that acts on or watches the attention of one call of a network.

    Edits act in their order, each on the terms that the one before it left. Observers see the terms after all edits
    and must not change them. `combine`, at every cross-attention, sets the gates of the terms by what they come to.
    `kv` keeps the keys and values of texts. Each hook gets `rows` and `step`.
    """

    edits: Sequence[Edit | At[Edit]] = ()
    observers: Sequence[Observer | At[Observer]] = ()
    kv: TextKV | None = None
    rows: Rows | None = None
    step: int | None = None
    combine: Combine | None = None

    @property
    def pauses(self) -> list[Pause]:
        """Those of the observers that read nothing."""
        return [hook for hook in self.observers if isinstance(hook, Pause)]

    @property
    def act(self) -> bool:
        """Whether anything but a pause acts at attention calls."""
        return bool(self.edits or self.combine or len(self.observers) > len(self.pauses))

    def at(self, places: Sequence[Site]) -> dict[str, tuple[list[Edit], list[Observer]]]:
        """The edits and observers of each of these sites, by name, where anything but a pause acts."""
        reading = [hook for hook in self.observers if not isinstance(hook, Pause)]
        edits, observers = (_by_site(hooks, places, self.step) for hooks in (self.edits, reading))
        combined = {site.name for site in places if site.kind == "cross" and self.combine is not None}
        names = [site.name for site in places if site.name in (edits.keys() | observers.keys() | combined)]
        return {name: (edits.get(name, []), observers.get(name, [])) for name in names}


def check_blocks(places: Sequence[Site], names: Sequence[str], kind: Kind) -> None:
    """Refuse, by a ValueError, names of blocks in which no site of this kind is."""
    mine = [site for site in places if site.kind == kind]
    for name in names:
        if not any(_within(site, name) for site in mine):
            blocks = ", ".join(dict.fromkeys(site.path.split(".attentions.")[0] for site in mine))
            component = places[0].component if places else "unet"
            raise ValueError(f"blocks: {name!r} has no {kind}-attention in {component}; there is {blocks or 'none'}.")


def _within(site: Site, block: str) -> bool:
    return f"{site.path}.".startswith(f"{block}.")


def _by_site(hooks: Sequence[H | At[H]], places: Sequence[Site], step: int | None) -> dict[str, list[H]]:
    by_site: dict[str, list[H]] = {}
    for hook in hooks:
        placed: At[H] = hook if isinstance(hook, At) else At(hook)
        for place in placed.among(places) if placed.acts(step) else ():
            by_site.setdefault(place.name, []).append(placed.hook)
    return by_site
