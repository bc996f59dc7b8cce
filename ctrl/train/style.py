"""Stage 5, style: an IP-Adapter (arXiv 2308.06721) on the frozen U-Net, saved in the published key format.

`python -m ctrl.train.style --minutes 20`. The reference is always another picture in the same style, as
unlike otherwise as a few draws offer, and the caption never names the style: what the two share is the
style alone, so that it is what the adapter learns to carry. It trains inside diffusers' own processors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ctrl.atelier.captions import describe
from ctrl.atelier.scene import STYLES, Scene
from ctrl.train import muon
from ctrl.train.base import Base, Source
from ctrl.train.clip import embed_pictures, load_vision
from ctrl.train.denoiser import Noised, Predict, draw, loss, noised
from ctrl.train.feed import Batch
from ctrl.train.loop import Average, train
from ctrl.train.options import Options, parse
from ctrl.train.pool import Pool, scene_of
from ctrl.train.rows import Rows
from ctrl.train.sheet import save_sheet

TOKENS = 4
BANK = 4096  # the pool's first pictures serve as references
HELD = 64  # the first of them are never drawn towards in training
KEEP = 0.9
NO_PICTURE, NO_TEXT = 0.08, 0.10  # how often the reference, the caption is dropped


class Adapter(nn.Module):
    """The trained parts, named so that `state_dict()` is the published file. They live in a U-Net too."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        part = unet.get_submodule
        layer = "encoder_hid_proj.image_projection_layers.0"
        self.image_proj = nn.ModuleDict({"proj": part(f"{layer}.image_embeds"), "norm": part(f"{layer}.norm")})
        self.ip_adapter = nn.ModuleDict()
        for number, name in _layers(unet):
            processor = f"{name}.processor"
            pair = {"to_k_ip": part(f"{processor}.to_k_ip.0"), "to_v_ip": part(f"{processor}.to_v_ip.0")}
            self.ip_adapter[str(number)] = nn.ModuleDict(pair)


def _layers(unet: UNet2DConditionModel) -> list[tuple[int, str]]:
    """The cross-attention layers, numbered as published, 1, 3, 5, ... in the order of the processors."""
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    return [(2 * i + 1, name) for i, name in enumerate(name for name in names if name.endswith("attn2"))]


def build(unet: UNet2DConditionModel, width: int) -> Adapter:
    """Freeze the U-Net and fit an adapter for image_embeds (B, width) in; K and V begin as the text's."""
    unet.requires_grad_(requires_grad=False)
    across = unet.config.cross_attention_dim
    first = nn.Linear(width, TOKENS * across)
    state = {"proj.weight": first.weight, "proj.bias": first.bias}
    state |= {"norm.weight": torch.ones(across), "norm.bias": torch.zeros(across)}
    pairs = {}
    for number, name in _layers(unet):
        pairs[f"{number}.to_k_ip.weight"] = unet.get_parameter(f"{name}.to_k.weight").clone()
        pairs[f"{number}.to_v_ip.weight"] = unet.get_parameter(f"{name}.to_v.weight").clone()
    unet._load_ip_adapter_weights([{"image_proj": state, "ip_adapter": pairs}], low_cpu_mem_usage=False)
    return Adapter(unet).requires_grad_(requires_grad=True)


def save(adapter: nn.Module, weights: Path) -> None:
    """Write ip_adapter/ip_adapter.safetensors, as `pipe.load_ip_adapter` reads it."""
    folder = weights / "ip_adapter"
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in adapter.state_dict().items()}
    save_file(state, folder / "ip_adapter.safetensors", {"format": "pt"})


def styled(unet: UNet2DConditionModel, embeds: Tensor) -> Predict:
    """The U-Net's prediction under image_embeds (B, 192); if guidance doubles the rows, zeros come first."""

    def predict(latents: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        every = embeds if len(latents) == len(embeds) else torch.cat([torch.zeros_like(embeds), embeds])
        return unet(latents, timesteps, text, added_cond_kwargs={"image_embeds": [every[:, None]]}).sample

    return predict


def unstyled(scene: Scene, seed: int) -> str:
    """A caption of the scene without the clause that names its style; half name every colour and the time."""
    return describe(scene, seed, KEEP, everything=seed % 2 == 0, styled=False).text


def captions(rows: Rows, generator: torch.Generator, empty: float = NO_TEXT) -> list[str]:
    """Fresh wording for each row, never naming the style; some are empty."""
    seed = int(torch.randint(2**31, (), generator=generator))
    blank = (torch.rand(len(rows.index), generator=generator) < empty).tolist()
    pairs = enumerate(zip(rows.scenes(), blank, strict=True))
    return ["" if gone else unstyled(scene, seed + row) for row, (scene, gone) in pairs]


class References:
    """The pool's first pictures, found by the style they must share."""

    def __init__(self, count: int) -> None:
        self._rows = [[row for row in range(count) if scene_of(row).style == style] for style in STYLES]

    def alike(self, rows: Sequence[int], generator: torch.Generator) -> Tensor:
        """For each picture another one in its style, (B,)."""
        return torch.tensor([self._pick(row, generator) for row in rows])

    def other(self, rows: Sequence[int], generator: torch.Generator) -> Tensor:
        """For each picture one in some other style: the floor. (B,)"""
        turns = torch.randint(1, len(STYLES), (len(rows),), generator=generator).tolist()
        pairs = zip(rows, turns, strict=True)
        choices = [self._rows[(STYLES.index(scene_of(row).style) + turn) % len(STYLES)] for row, turn in pairs]
        return torch.tensor([choice[row % len(choice)] for choice, row in zip(choices, rows, strict=True)])

    def _pick(self, row: int, generator: torch.Generator) -> int:
        scene, choice = scene_of(row), self._rows[STYLES.index(scene_of(row).style)]
        drawn = [choice[i] for i in torch.randint(len(choice), (8,), generator=generator).tolist()]
        return max(drawn, key=lambda other: _unlike(scene, scene_of(other)))


def _unlike(one: Scene, other: Scene) -> int:
    """How many things differ; a picture is never its own reference unless it alone was drawn."""
    return sum(getattr(one, name) != getattr(other, name) for name in ("seed", "ground", "time", "pose", "shirt"))


@dataclass(frozen=True)
class Lesson(Batch):
    """Noised latents, what they show in words but for the style, and a picture that shows the style."""

    given: Noised
    ids: Tensor  # (B, L)
    like: Tensor  # (B,) rows of the bank
    absent: Tensor  # (B, 1) where no picture is to be shown


@dataclass(frozen=True)
class Lessons:
    """Draws lessons of `batch` pictures."""

    source: Source
    references: References
    batch: int

    def __call__(self, generator: torch.Generator) -> Lesson:
        """Draw one."""
        index = torch.randint(HELD, len(self.source.latents), (self.batch,), generator=generator).tolist()
        rows = Rows(index, (torch.rand(self.batch, generator=generator) < 0.5).tolist())
        like = self.references.alike(index, generator)
        absent = torch.rand(self.batch, 1, generator=generator) < NO_PICTURE
        ids = self.source.ids(captions(rows, generator))
        return Lesson(noised(self.source.clean(rows), generator), ids, like, absent)


def bank(weights: Path, pool: Pool, device: str, count: int = BANK) -> Tensor:
    """image_embeds (n, 192) of the pool's first pictures, through the frozen picture tower."""
    vision = load_vision(weights)[1]
    vision.to(device)  # type: ignore[arg-type]  # a decorator hides its type
    rows = min(count, pool.ready)
    pieces = [torch.from_numpy(pool.picture[i : min(rows, i + 64)]) for i in range(0, rows, 64)]
    return torch.cat([embed_pictures(vision, piece) for piece in pieces])


def main(options: Options | None = None) -> None:
    """Train the adapter and save it."""
    options = options or parse(__doc__, minutes=20, batch=32)
    base = Base.of(options)
    unet, embeds = base.unet(), bank(base.weights, base.source.pool, options.device)
    references = References(len(embeds))
    torch.manual_seed(options.seed)
    adapter = build(unet, embeds.shape[1]).to(base.device)
    if options.start is not None:
        adapter.load_state_dict(load_file(options.start / "ip_adapter" / "ip_adapter.safetensors"))
    average = Average(adapter, decay=0.995)
    optimizer = muon.optimizer(adapter, lr=2e-3 * options.rate)

    def learn(lesson: Lesson) -> Tensor:
        reference = embeds[lesson.like].masked_fill(lesson.absent, 0.0)
        return loss(styled(unet, reference), lesson.given, base.read(lesson.ids))

    def error(like: Tensor) -> float:
        rows, generator = Rows(list(range(HELD)), [False] * HELD), torch.Generator().manual_seed(7)
        ids = base.source.ids(captions(rows, generator, empty=0.0))
        shown = torch.zeros(HELD, 1, dtype=torch.bool)
        return float(learn(Lesson(noised(base.source.clean(rows), generator), ids, like, shown).to(base.device)))

    @torch.no_grad()
    def show(folder: Path, number: int) -> None:
        held, seeds = list(range(HELD)), [torch.Generator().manual_seed(7) for _ in range(2)]
        right, wrong = error(references.alike(held, seeds[0])), error(references.other(held, seeds[1]))
        print(f"style step {number}: loss {right:.4f}, under another style's reference {wrong:.4f}", flush=True)
        index = [next(row for row in range(HELD, BANK) if scene_of(row).style == style) for style in STYLES]
        text = base.prompt_embeds(["a figure waving, a tree on the left, on grass"] * 8)
        made = draw(styled(unet, embeds[index]), text, base.prompt_embeds([""]), base.codec)
        save_sheet(
            [torch.from_numpy(base.source.pool.picture[index]).float() / 127.5 - 1, made], folder / "samples.png"
        )
        save(average.module, base.weights)

    train(
        options.runs / "style",
        adapter,
        optimizer,
        Lessons(base.source, references, options.batch),
        learn,
        options.budget,
        seed=options.seed,
        workers=options.workers,
        average=average,
        show=show,
    )


if __name__ == "__main__":
    main()
