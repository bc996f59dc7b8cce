"""What was seen of a run's attention: a map for every word, style picture and place, and a receipt.

t are the tokens kept of a source; h and w the cells of the latent grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrl.maps import draw
from ctrl.maps.heat import Ground, HeatMap
from ctrl.maps.means import History, Means, mean_of, steps_of
from ctrl.maps.names import SAME, Names
from ctrl.maps.place import Place, attends, mask_of
from ctrl.maps.receipt import Receipt
from ctrl.maps.refine import resized
from ctrl.maps.split import Split
from ctrl.maps.stack import Stack
from ctrl.maps.sums import Key
from ctrl.maps.texts import Text, Word

if TYPE_CHECKING:
    from PIL.Image import Image

    from ctrl.maps.collect import Collector

Asked = str | tuple[str, int]


@dataclass(frozen=True, eq=False)
class Attention:
    """The attention of one picture's run, see `ctrl.Watch`.

    `attention["shirt"]` is the map of a word or phrase of the prompt, `attention["ball", 1]` of its second occurrence.
    `map` asks for other texts, networks, layers and steps; `style` for a reference picture; `at` for a place.
    `cells` are the rows and columns of the latent grid, on which maps are given. `receipt` says what they are made of.
    """

    ground: Ground
    cells: tuple[int, int]
    receipt: Receipt
    means: Means = field(repr=False)
    kept: Mapping[str, tuple[int, ...]] = field(repr=False)
    styles: Mapping[str, int] = field(default_factory=dict, repr=False)
    history: History = field(default_factory=dict, repr=False)
    split: Split | None = field(default=None, repr=False)

    @staticmethod
    def of(
        collector: Collector,
        picture: int,
        image: Image,
        cells: tuple[int, int],
        *,
        seed: int | str,
        names: Names = SAME,
    ) -> Attention:
        """What a collector has seen by now, for one picture of its batch; `names` are those of its sources."""
        collector.history.close()
        if collector.influence is not None:
            collector.influence.close()
        between = collector.between
        seen = None if between.total is None else (between.total[picture] / between.count).cpu().numpy()
        history = {
            step: {(layers, names(source)): kept.shares(picture) for (layers, source), kept in maps.items()}
            for step, maps in collector.history.steps.items()
        }
        ground = Ground(image, seed, seen, between.grid)
        influence, text = collector.influence, collector.texts[picture]["prompt"]
        split = None if influence is None else Split.of(influence, picture, ground, cells, text, names)
        receipt = collector.receipt(picture)
        return Attention(
            ground,
            cells,
            replace(receipt, texts={names(source): text for source, text in receipt.texts.items()}),
            names.keys(collector.sums.means(picture)),
            {names(source): collector.kept(source) for source in collector.texts[picture]},
            {names(source): pictures for source, pictures in collector.pictures.items()},
            history,
            split,
        )

    def __getitem__(self, word: Asked) -> HeatMap:
        text, occurrence = word if isinstance(word, tuple) else (word, 0)
        return self.map(text, occurrence=occurrence)

    def __contains__(self, word: object) -> bool:
        try:
            return isinstance(word, str) and bool(self.text("prompt").find(word))
        except KeyError:
            return False

    def __repr__(self) -> str:
        words = ", ".join(word.text for word in self.words())
        return f"Attention({words}; {self.receipt})"

    @property
    def influence(self) -> Split:
        """Who decided each place. It needs Watch(influence=True)."""
        if self.split is None:
            raise ValueError("influence was not watched: watch with ctrl.Watch(influence=True).")
        return self.split

    @property
    def sources(self) -> tuple[str, ...]:
        """What has maps: "prompt", "negative", "region 0", "style 0", …"""
        return tuple(dict.fromkeys(key.source for key in self.means))

    def layers(self, component: str | None = None) -> tuple[str, ...]:
        """The groups of layers that were seen, such as "up 16×16", for `map(layers=…)`."""
        component = component or self.component
        return tuple(dict.fromkeys(str(key.layers) for key in self.means if key.layers.component == component))

    @property
    def components(self) -> tuple[str, ...]:
        """The networks that were seen: "unet" and kinds of ControlNets."""
        return tuple(dict.fromkeys(key.layers.component for key in self.means))

    @property
    def component(self) -> str:
        """The network whose maps these are where none is named: "unet", or the first watched if that was not."""
        return "unet" if "unet" in self.components or not self.components else self.components[0]

    def text(self, source: str = "prompt") -> Text:
        """A text with its tokens."""
        texts = self.receipt.texts
        if source not in texts:
            raise KeyError(f"source must be one of {', '.join(texts)}, got {source!r}; styles have `style`.")
        return texts[source]

    def words(self, source: str = "prompt") -> tuple[Word, ...]:
        """The words of a text that have a map."""
        return self.text(source).words_of(self.kept.get(source, ()))

    def map(
        self,
        word: str,
        *,
        occurrence: int = 0,
        source: str = "prompt",
        component: str | None = None,
        layers: str | Sequence[str] | None = None,
    ) -> HeatMap:
        """The map of a word or phrase: the sum of the shares of its tokens.

        - `source`: "prompt", "negative", "region 0", …; `component`: "unet", or the ControlNet "pose", … that reads it,
          None for `Attention.component`.
        - `layers`: of `Attention.layers`; None for all that were watched.

        A KeyError says which words, sources or layers there are; a RuntimeError that the maps fail their check.
        """
        found, at = self.text(source).among(self.kept[source], word, occurrence)
        component = component or self.component
        asked: dict[str, Any] = {"method": "map", "first": word}
        given = {"occurrence": occurrence, "source": source, "component": component, "layers": layers}
        usual = (0, "prompt", self.component, None)
        asked |= {name: value for (name, value), own in zip(given.items(), usual, strict=True) if value != own}
        return self._heat(found.text, source, at, component, layers, asked)

    def style(
        self,
        index: int = 0,
        picture: int = 0,
        *,
        token: int | None = None,
        layers: str | Sequence[str] | None = None,
    ) -> HeatMap:
        """The map of one reference picture of a style, or of one of its tokens.

        The share among all tokens of the style, where its mask lets it act: with a single picture the shares of its
        tokens sum to 1.
        """
        source = f"style {index}"
        if source not in self.styles:
            acted = ", ".join(self.styles) or f"no styles: none acted in {self.receipt.read_steps}"
            raise KeyError(f"index must be one of {acted}; got {index}.")
        count = next(len(mean) for key, (mean, _) in self.means.items() if key.source == source)
        each = count // self.styles[source]
        if not 0 <= picture < self.styles[source]:
            raise KeyError(f"picture must be from 0 to {self.styles[source] - 1}, got {picture}.")
        if token is not None and not 0 <= token < each:
            raise KeyError(f"token must be from 0 to {each - 1}, got {token}.")
        tokens = range(each) if token is None else [token]
        name = f"{source}, picture {picture}" + ("" if token is None else f", token {token}")
        asked: dict[str, Any] = {"method": "style", "index": index, "picture": picture, "token": token}
        asked = {key: value for key, value in (asked | {"layers": layers}).items() if value is not None}
        return self._heat(name, source, [picture * each + one for one in tokens], "unet", layers, asked)

    def at(self, place: Any, *, source: str = "prompt") -> Place:
        """Ask a place: its words, ranked by share, and where it attends itself.

        `place` is a point (x, y) or a box (left, top, right, bottom) in pixels of the picture, or a mask as an image or
        array, white where it counts.
        """
        self.receipt.insist()
        mask = mask_of(place, self.ground.picture.size)  # (H, W)
        on_cells = resized(mask[None], *self.cells)[0]
        weights = on_cells / on_cells.sum()
        maps = [(word, self.map(word.text, occurrence=word.occurrence, source=source)) for word in self.words(source)]
        ranked = sorted(((word, float((heat.heat * weights).sum())) for word, heat in maps), key=lambda pair: -pair[1])
        return Place(mask, tuple(ranked), attends(place, mask, self.ground))

    def stack(self) -> Stack:
        """All maps in one array, by layers and steps, for a viewer."""
        self.receipt.insist()
        return Stack.of(self)

    def grid(
        self,
        *words: Asked,
        colours: str = "inferno",
        most: float | None = None,
        columns: int | None = None,
    ) -> Image:
        """Maps of words side by side, of all words where none is named, each with its mean share.

        Each is drawn on its own scale; `most` is one share for all, drawn brightest.
        """
        maps = [self[one] for one in self._asked(words)]
        captions = [f"{one.name}  {one.share:.1%}" for one in maps]
        return draw.sheet([one.overlay(colours=colours, most=most) for one in maps], captions, columns=columns)

    def save(self, folder: str | Path, *words: Asked, colours: str = "inferno") -> list[Path]:
        """Write a PNG for every word named, or for all, into a folder; each carries its settings."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for number, one in enumerate(self._asked(words)):
            heat = self[one]
            safe = "".join(letter if letter.isalnum() else "-" for letter in heat.name)[:60]
            written.append(folder / f"{number:02} {safe}.png")
            heat.save(written[-1], colours=colours)
        return written

    def _asked(self, words: Sequence[Asked]) -> Sequence[Asked]:
        """The words named, or all; a ValueError if there are none."""
        if not (every := words or [(word.text, word.occurrence) for word in self.words()]):
            raise ValueError(f"the prompt {self.text().text!r:.60} has no word with a map: there is nothing to draw.")
        return every

    def _heat(
        self,
        name: str,
        source: str,
        at: Sequence[int],
        component: str,
        layers: str | Sequence[str] | None,
        asked: Mapping[str, Any],
    ) -> HeatMap:
        self.receipt.insist()
        chosen = self._chosen(source, component, layers)
        heat, steps = mean_of(self.means, chosen, at, self.cells), steps_of(self.history, chosen, at, self.cells)
        return HeatMap(name, heat, self.ground, steps, asked, receipt=self.receipt)

    def _chosen(self, source: str, component: str, layers: str | Sequence[str] | None) -> list[Key]:
        """The sums of the layers that count."""
        if component not in self.components:
            raise KeyError(f"component must be one of {', '.join(self.components)}, got {component!r}.")
        wanted = self.layers(component) if layers is None else (layers,) if isinstance(layers, str) else tuple(layers)
        strange = [one for one in wanted if one not in self.layers(component)]
        if strange:
            raise KeyError(f"layers must be of {', '.join(self.layers(component))}, got {strange[0]!r}.")
        keys = [
            key
            for key in self.means
            if key.source == source and key.layers.component == component and str(key.layers) in wanted
        ]
        if not keys:
            why = "guidance was off" if source == "negative" else f"it never acted in {self.receipt.read_steps}"
            raise KeyError(f"{source} has no maps in {component}: {why}.")
        return keys
