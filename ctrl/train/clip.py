"""Stage 2, clip: the tokenizer, the text tower the U-Net reads and the picture tower the style adapter reads.

`python -m ctrl.train.clip --minutes 12`. Contrastive between pictures and captions (CLIP, arXiv
2103.00020), with captions made false on purpose among the candidates and on half of each picture's patches
(FLIP, arXiv 2212.00794). Linear heads, thrown away afterwards, read style, pose and the like from the
picture's embedding: a few minutes of contrast alone leave the styles mixed. Two losses train the text
tower's last hidden state, which is what cross-attention sees: word heads read every fact at the word that
states it; and tokens that state nothing (padding, articles, commas) are asked to be the same in every
caption, so that the meaning stays where the words stand.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from ctrl.train import muon
from ctrl.train.clip_data import MEAN, PATCH, SIDE, STD, Lesson, Lessons, draw, pixels
from ctrl.train.facts import ATTRIBUTES, LOOKS, VALUES
from ctrl.train.loop import Average, bf16, train
from ctrl.train.options import Options, parse
from ctrl.train.pool import Pool, open_pool
from ctrl.train.tokenizer import train_tokenizer

WIDTH = 192
SILENT = ("a", "an", "the", "on", "to", "in", "and", "with", ",", "at", "by")  # they state nothing alone
HELD = 64  # the pool's first pictures, never trained on here


def load_text(weights: Path) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """The trained tokenizer and text tower of a weights folder, frozen."""
    model = CLIPTextModel.from_pretrained(weights / "text_encoder", dtype=torch.float32).eval()
    return CLIPTokenizer.from_pretrained(weights / "tokenizer"), model.requires_grad_(requires_grad=False)


def load_vision(weights: Path) -> tuple[CLIPImageProcessor, CLIPVisionModelWithProjection]:
    """The picture processor and tower of a weights folder, frozen."""
    model = CLIPVisionModelWithProjection.from_pretrained(weights / "image_encoder", dtype=torch.float32).eval()
    processor = CLIPImageProcessor.from_pretrained(weights / "feature_extractor")
    return processor, model.requires_grad_(requires_grad=False)


@torch.no_grad()
def embed_pictures(vision: CLIPVisionModelWithProjection, picture: Tensor) -> Tensor:
    """image_embeds (B, 192) of uint8 pictures (B, 3, h, w), prepared as the processor does."""
    return vision(pixels(picture.to(vision.device))).image_embeds


def _text_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=6,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,  # not 2, which would make the tower pool at the highest id
        pad_token_id=tokenizer.pad_token_id,
    )


def _vision_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        image_size=SIDE,
        patch_size=PATCH,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=6,
    )


class Towers(nn.Module):
    """Both towers and what training alone needs: the text projection, the temperature and the heads."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text = CLIPTextModel(_text_config(tokenizer))
        self.vision = CLIPVisionModelWithProjection(_vision_config())
        for tower in (self.text, self.vision):
            tower.set_attn_implementation("eager")  # twice as fast backward as flash on sequences so short
        self.text_projection = nn.Linear(WIDTH, WIDTH, bias=False)
        self.temperature = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.word_heads = nn.ModuleList(nn.Linear(WIDTH, len(values)) for values in VALUES)
        self.look_heads = nn.ModuleList(nn.Linear(WIDTH, len(values)) for values in LOOKS)

    def glance(self, picture: Tensor, kept: Tensor) -> Tensor:
        """image_embeds (B, 192) of pixels (B, 3, 128, 128) from the patches `kept` (B, p) alone."""
        tower = self.vision.vision_model
        seen = tower.embeddings(picture)  # (B, 1 + 64, 192)
        places = torch.cat([torch.zeros_like(kept[:, :1]), kept + 1], 1)
        seen = seen.gather(1, places[:, :, None].expand(-1, -1, WIDTH))
        state = tower.encoder(inputs_embeds=tower.pre_layrnorm(seen)).last_hidden_state[:, 0]
        return self.vision.visual_projection(tower.post_layernorm(state))


def loss(towers: Towers, lesson: Lesson, silent: Tensor) -> Tensor:
    """Contrast, word heads and silence. `silent` (V,) numbers the tokens that state nothing."""
    with bf16(lesson.ids.device):
        said = towers.text(lesson.ids)
        text = F.normalize(towers.text_projection(said.pooler_output).float(), dim=-1)  # (B + H, 192)
        shown = towers.glance(pixels(lesson.picture), lesson.kept).float()  # (B, 192)
    seen = F.normalize(shown, dim=-1)
    alike = towers.temperature.exp().clamp(max=100) * seen @ text.T  # (B, B + H)
    match = torch.arange(len(seen), device=seen.device)
    contrast = F.cross_entropy(alike, match) + F.cross_entropy(alike[:, : len(seen)].T, match)
    hidden = said.last_hidden_state.float()
    end = towers.text.config.eos_token_id
    assert isinstance(end, int)
    quiet = silence(hidden, lesson.ids, silent, end)
    heads = zip(towers.look_heads, lesson.looks.T, strict=True)
    look = sum(F.cross_entropy(head(shown), values, reduction="sum") for head, values in heads)
    return contrast + grounding(towers, hidden, lesson) + look / lesson.looks.numel() + 0.2 * quiet


def grounding(towers: Towers, hidden: Tensor, lesson: Lesson) -> Tensor:
    """Cross-entropy of the facts, read linearly at their words from the hidden state (R, L, 192)."""
    states = hidden[lesson.at[:, 0], lesson.at[:, 1]]  # (F, 192)
    total = hidden.new_zeros(())
    for index, head in enumerate(towers.word_heads):
        mine = lesson.attribute == index  # never picked out: a GPU would have to be waited for
        nats = F.cross_entropy(head(states), lesson.value.where(mine, -100), reduction="sum")
        total = total + nats / mine.sum().clamp(min=1)
    return total / len(ATTRIBUTES)


def silence(hidden: Tensor, ids: Tensor, silent: Tensor, end: int) -> Tensor:
    """How far silent tokens stray from their own mean over the batch, as a share of all variance."""
    ended = ids == end
    kinds = silent[ids].where(~ended, (ended.cumsum(1) > 1).long())  # the first end of text is the caption's summary
    one_hot = F.one_hot(kinds, len(SILENT) + 2)[..., 1:].flatten(0, 1).to(hidden.dtype)  # (R * L, kinds)
    states = hidden.flatten(0, 1)
    mean = (one_hot.T @ states) / one_hot.sum(0).clamp(min=1)[:, None]
    stray = ((states - one_hot @ mean).square().mean(1) * one_hot.sum(1)).sum() / one_hot.sum().clamp(min=1)
    return stray / hidden.detach().var((0, 1)).mean()


def silent_tokens(tokenizer: CLIPTokenizer) -> Tensor:
    """The kind (V,) of every token: 0 for those that state something, 1 for ends of text, 2 and on for SILENT."""
    kinds = torch.zeros(len(tokenizer), dtype=torch.long)
    kinds[tokenizer.convert_tokens_to_ids([word + "</w>" for word in SILENT])] = 2 + torch.arange(len(SILENT))
    return kinds


@torch.no_grad()
def measure(towers: Towers, pool: Pool, tokenizer: CLIPTokenizer, silent: Tensor) -> str:
    """Figures on held-out pictures: retrieval among 64, truth against lie, each word head, silence."""
    device = towers.temperature.device
    batch = draw(pool, tokenizer, list(range(HELD)), torch.Generator().manual_seed(1), HELD)
    picture = pixels(torch.from_numpy(pool.picture[:HELD])).to(device)
    said = towers.text(batch.ids.to(device))
    text = F.normalize(towers.text_projection(said.pooler_output), dim=-1)
    shown = towers.vision(picture).image_embeds
    alike = (F.normalize(shown, dim=-1) @ text.T).cpu()  # (64, 64 + H)
    true, false = alike[:, :HELD], alike[batch.liar, HELD + torch.arange(len(batch.liar))]
    match = torch.arange(HELD)
    found = [float((true.argmax(dim) == match).float().mean()) for dim in (1, 0)]
    honest = float((true.diagonal()[batch.liar] > false).float().mean())
    hidden = said.last_hidden_state
    quiet = float(silence(hidden, batch.ids.to(device), silent.to(device), tokenizer.eos_token_id))
    words = _word_accuracy(towers, hidden, batch)
    style = float((towers.look_heads[3](shown).argmax(-1).cpu() == batch.looks[:, 3]).float().mean())
    retrieval = f"retrieval {found[0]:.2f} {found[1]:.2f}"
    return f"{retrieval}, truth over lie {honest:.2f}, style {style:.2f}, words {words}, noise {quiet:.3f}"


def _word_accuracy(towers: Towers, hidden: Tensor, batch: Lesson) -> str:
    states, shares = hidden[batch.at[:, 0], batch.at[:, 1]], []
    for index, (name, head) in enumerate(zip(ATTRIBUTES, towers.word_heads, strict=True)):
        mine = batch.attribute == index
        guess = head(states[mine]).argmax(-1).cpu()
        shares.append(f"{name} {float((guess == batch.value[mine]).float().mean()):.2f}")
    return " ".join(shares)


def main(options: Options | None = None) -> None:
    """Train tokenizer and towers, and save them as transformers folders."""
    options = options or parse(__doc__, minutes=12, batch=128)
    pool = open_pool(options.pool, options.count, options.size)
    weights = options.runs / "weights"
    words = weights / "tokenizer"
    known = (words / "merges.txt").exists()
    tokenizer = CLIPTokenizer.from_pretrained(words) if known else train_tokenizer(words)
    torch.manual_seed(options.seed)
    towers = Towers(tokenizer).to(options.device)
    average = Average(towers, decay=0.99)
    optimizer = muon.optimizer(towers, lr=1.5e-3)
    silent = silent_tokens(tokenizer).to(options.device)

    def learn(lesson: Lesson) -> Tensor:
        return loss(towers, lesson, silent)

    def show(_: Path, number: int) -> None:
        print(
            f"clip step {number}: {measure(average.module, pool, tokenizer, silent)}",
            flush=True,
        )

    lessons = Lessons(pool, tokenizer, options.batch, HELD)
    train(
        options.runs / "clip",
        towers,
        optimizer,
        lessons,
        learn,
        options.budget,
        seed=options.seed,
        workers=options.workers,
        average=average,
        show=show,
    )
    save(average.module, weights)


def save(towers: Towers, weights: Path) -> None:
    """Write the towers and the processor where diffusers looks for them."""
    towers.text.save_pretrained(weights / "text_encoder")
    towers.vision.save_pretrained(weights / "image_encoder")
    size = {"height": SIDE, "width": SIDE}
    processor = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size, image_mean=MEAN, image_std=STD)
    processor.save_pretrained(weights / "feature_extractor")


if __name__ == "__main__":
    main()
