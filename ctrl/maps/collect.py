"""The collector: an observer that adds up maps while a run goes.

N are the pictures made at once, p the places of a call (height · width), t the tokens kept of a source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ctrl.attention import At, Call, Observer, Site, Term
from ctrl.maps.between import Between
from ctrl.maps.check import EVERY, Check
from ctrl.maps.history import History
from ctrl.maps.influence import Influence
from ctrl.maps.receipt import Receipt
from ctrl.maps.seen import Seen
from ctrl.maps.shares import mean_shares
from ctrl.maps.sums import Key, Layers, Sums
from ctrl.maps.texts import Text
from ctrl.maps.watch import Watch
from ctrl.rows import Rows

Texts = Mapping[str, Text]  # by source: "prompt", "negative", "region 0"
Compare = Callable[[Tensor], None]


class Collector:
    """Adds up what a `Watch` asks for over one run of `count` evaluations.

    `places` are the sites of every component that runs, `texts` those of each picture, which have the same sources.
    A ValueError says that nothing would be seen.
    """

    def __init__(
        self,
        watch: Watch,
        places: Sequence[Site],
        texts: Sequence[Texts],
        count: int,
    ) -> None:
        self.watch, self.texts, self.count = watch, tuple(texts), count
        cross = [site for site in places if site.kind == "cross"]
        watch.check(cross)
        self.missed = {site.name: why for site in cross if (why := watch.why_not(site)) is not None}
        for word in watch.words or ():
            if not any(text.positions([word]) for one in texts for text in one.values()):
                read = "; ".join(dict.fromkeys(repr(text.text) for one in texts for text in one.values() if text.text))
                raise ValueError(f"words: {word!r} is in none of the texts that are read: {read:.300}.")
        self._kept = {source: self._positions(source) for source in dict.fromkeys(s for one in texts for s in one)}
        self.sums, self.between, self.history, self.check = Sums(), Between(), History(), Check()
        self.influence = Influence(self._kept, {} if watch.history else None) if watch.influence else None
        self.calls: dict[str, int] = {}
        self.steps: dict[int, None] = {}
        self.rows: tuple[str, ...] = ()
        self.pictures: dict[str, int] = {}
        self._checked: set[tuple[str, str]] = set()
        self._indices: dict[tuple[str, torch.device], Tensor | slice] = {}

    @property
    def observers(self) -> list[Observer | At[Observer]]:
        """What to hook into the run."""
        wanted: list[Observer | At[Observer]] = [
            At(self.cross, where=lambda site: site.name not in self.missed, when=self._acts)
        ]
        if self.watch.self_attention:
            wanted.append(At(self.self_attention, self._counts, "self", "unet", when=self._reads_self_attention))
        return wanted

    def cross(self, call: Call, terms: Sequence[Term]) -> Compare | None:
        """An observer of cross-attention; answers with the check of the call, where one is due."""
        step = call.step or 0
        if (why := self._why_not(call)) is not None:
            self.missed[call.site] = why
            return None
        rows = call.rows or Rows(pictures=len(call.q), guided=False)
        layers = Layers.of(call.site, call.height, call.width)
        found: dict[str, Tensor] = {}
        for term in terms:
            for source, own in self._sources(term, rows):
                maps = self._maps(term, source, own)
                found[source] = found[source] + maps if source in found else maps
        for source, maps in found.items():
            self._add(Key(layers, source), step, maps)
        if terms[0].source.kind != "style":  # a processor's further calls, for an IP-Adapter, are of the same site
            self._note(call, rows, step)
        wanted = [self.check.of(call, terms)] if self._due(call, terms[0], step) else []
        if self.influence is not None and call.site.startswith("unet."):
            wanted.append(self.influence.hear(call, terms, rows.cond))
        return partial(_each, wanted) if wanted else None

    def self_attention(self, call: Call, terms: Sequence[Term]) -> None:
        """An observer of self-attention, at the places that the prompt's rows attend to."""
        rows = call.rows or Rows(pictures=len(call.q), guided=False)
        if rows.cond:
            self.between.add(call, terms[0], rows.cond)

    @property
    def bytes(self) -> int:
        """What is held now."""
        influence = 0 if self.influence is None else self.influence.bytes
        return self.sums.bytes + self.between.bytes + self.history.bytes + influence

    def receipt(self, picture: int) -> Receipt:
        """What was seen, for one of the pictures."""
        return Receipt(
            dict(self.calls),
            dict(self.missed),
            tuple(self.steps),
            self.count,
            self.rows,
            dict(self.texts[picture]),
            self.check.worst,
            tuple(self.check.sites),
            self.check.tolerance,
            self.bytes,
        )

    def seen(self) -> Seen:
        """What was recorded by now, at the end of a step."""
        self.history.close()
        if self.influence is not None:
            self.influence.close()
        parts = self.sums, self.between, self.history, self.check, self.influence
        return Seen(*parts, self.calls, self.steps, self.rows, self.pictures, self.missed, self._checked).copy()

    def resume(self, seen: Seen) -> None:
        """Go on from what a collector of the same watch, texts and sites had recorded."""
        own = seen.copy()
        self.sums, self.between, self.history, self.check, self.influence = (
            own.sums, own.between, own.history, own.check, own.influence
        )  # fmt: skip
        self.calls, self.steps, self.rows, self.pictures = own.calls, own.steps, own.rows, own.pictures
        self.missed, self._checked = own.missed, own.checked

    def kept(self, source: str) -> tuple[int, ...]:
        """The positions of the tokens kept of a text, in the order of its maps."""
        return self._kept[source]

    def _counts(self, site: Site) -> bool:
        return self.between.counts(site)

    def _acts(self, step: int) -> bool:
        return self.watch.acts(step, self.count)

    def _reads_self_attention(self, step: int) -> bool:
        return self.watch.reads_self_attention(step, self.count)

    def _positions(self, source: str) -> tuple[int, ...]:
        """Those of any picture: the maps of a batch are one tensor."""
        texts = [one[source] for one in self.texts if source in one]
        return tuple(sorted({at for text in texts for at in text.positions(self.watch.words)}))

    def _sources(self, term: Term, rows: Rows) -> Iterator[tuple[str, Sequence[int]]]:
        """What a term is of in which rows, where anything of it is kept. Perturbed rows are left out."""
        kind = term.source.kind
        if kind == "style":
            self.pictures[str(term.source)] = term.source.pictures
            if rows.cond:
                yield str(term.source), rows.cond
        elif kind == "region":
            if rows.cond and self._kept.get(str(term.source)):
                yield str(term.source), rows.cond
        elif kind == "negative":  # NAG's; where guidance is on as well, its own rows have the maps
            if rows.cond and not rows.uncond and self._kept.get("negative"):
                yield "negative", rows.cond
        elif kind == "prompt":
            for source, own in (("prompt", rows.cond), ("negative", rows.uncond)):
                if own and self._kept.get(source):
                    yield source, own

    def _maps(self, term: Term, source: str, rows: Sequence[int]) -> Tensor:
        """Mean shares (N, p, t) of the heads that count, where the term acts."""
        tokens = self._index(source, term.q.device) if source in self._kept else None
        return mean_shares(term, rows, self._heads(term.q.shape[1]), tokens)

    def _why_not(self, call: Call) -> str | None:
        """Why a call that could be watched is not; None if it is."""
        if not self.watch.fits(call.height, call.width):
            return f"{call.height}×{call.width} cells"
        return None if self._heads(call.q.shape[1]) != [] else f"it has {call.q.shape[1]} heads"

    def _heads(self, count: int) -> list[int] | None:
        """The heads that count of so many; None for all."""
        return None if self.watch.heads is None else [head for head in self.watch.heads if head < count]

    def _index(self, source: str, device: torch.device) -> Tensor | slice:
        """The positions kept of a text: a slice where they follow one another, which takes no copy."""
        key = source, device
        if key not in self._indices:
            kept = self._kept[source]
            several = kept != tuple(range(kept[0], kept[0] + len(kept)))
            index = torch.tensor(kept, device=device) if several else slice(kept[0], kept[0] + len(kept))
            self._indices[key] = index
        return self._indices[key]

    def _add(self, key: Key, step: int, maps: Tensor) -> None:
        self.sums.add(key, maps, self.watch.weights(self.count)[step])
        if self.watch.history:
            self.history.add(step, key, maps)

    def _note(self, call: Call, rows: Rows, step: int) -> None:
        self.calls[call.site] = self.calls.get(call.site, 0) + 1
        self.steps[step] = None
        if call.site.startswith("unet."):
            self.rows = rows.branches

    def _due(self, call: Call, term: Term, step: int) -> bool:
        """The first call of each component and kind of source, then one call every eighth step, at site after site."""
        first = call.site.split(".", 1)[0], term.source.kind
        if first not in self._checked:
            self._checked.add(first)
            return True
        if step % EVERY or step == 0:
            return False
        return call.site == list(self.calls)[step // EVERY % len(self.calls)]


def _each(wanted: Sequence[Compare], out: Tensor) -> None:
    for one in wanted:
        one(out)
