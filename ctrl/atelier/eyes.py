"""The eyes: one small network that reads a picture of the world back.

Keypoints, disparity, parts and every fact a caption can state, from pixels alone. With them control is
measured and not judged by a person, and they serve as the built-in detectors of pose and depth. Trained on
true renders by ctrl/train/eyes.py. What a part looks like is pooled under the part's own mask, so a shirt's
colour is read off the shirt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ctrl.atelier.reading import NOTHING, OPTIONS, Facts
from ctrl.atelier.solids import PARTS

FOLDER = Path(__file__).parent / "weights" / "eyes"
SIZE, DENSE, GRID, JOINTS = 128, 64, 32, 18
WIDTHS = (16, 40, 80, 128)  # at 64, 32, 16 and 8 cells a side


@dataclass(frozen=True)
class Reading:
    """What the eyes saw in B pictures."""

    keypoints: Tensor  # (B, 18, 2) in [0, 1], x right and y down
    visible: Tensor  # (B, 18) how likely each is in the picture and in sight
    near: Tensor  # (B, 64, 64) render.disparity, near is 1
    part: Tensor  # (B, 11, 64, 64) how likely each of solids.PARTS is
    facts: Facts[Tensor]  # (B, options) log probabilities
    features: Tensor  # (B, F) what the facts were read from

    def words(self) -> list[Facts[str | None]]:
        """The likeliest word for each fact of each picture; no colour where nothing stands."""
        best = [value.argmax(1).tolist() for value in self.facts.values()]
        rows: list[Facts[str | None]] = [
            Facts(*(options[i] for options, i in zip(OPTIONS.values(), row, strict=True)))
            for row in zip(*best, strict=True)
        ]
        return [_without_ghosts(row) for row in rows]


def _without_ghosts(seen: Facts[str | None]) -> Facts[str | None]:
    left = None if seen.left_kind == NOTHING else seen.left_color
    right = None if seen.right_kind == NOTHING else seen.right_color
    return replace(seen, left_color=left, right_color=right)


@dataclass(frozen=True)
class Raw:
    """The network's outputs before they are made sense of; what its training sees."""

    heat: Tensor  # (B, 18, 32, 32) logits of where each joint is
    sight: Tensor  # (B, 18) logits of its visibility
    near: Tensor  # (B, 64, 64)
    part: Tensor  # (B, 11, 64, 64) logits
    facts: Facts[Tensor]  # (B, options) logits
    features: Tensor  # (B, F)


class Eyes(nn.Module):
    """A residual U-shape with heads: pictures (B, 3, S, S) in [0, 1] to a `Reading`."""

    def __init__(self) -> None:
        super().__init__()
        fine, mid, coarse, deep = WIDTHS
        self.stem = _conv(3, fine, kernel=5, stride=2)  # 64
        self.down1 = nn.Sequential(_conv(fine, mid, stride=2), _Residual(mid))  # 32
        self.down2 = nn.Sequential(_conv(mid, coarse, stride=2), _Residual(coarse), _Residual(coarse))  # 16
        self.down3 = nn.Sequential(_conv(coarse, deep, stride=2), _Residual(deep))  # 8
        self.up2 = nn.Sequential(_conv(deep + coarse, coarse, kernel=1), _Residual(coarse))
        self.up1 = nn.Sequential(_conv(coarse + mid, mid, kernel=1), _Residual(mid))
        self.heat = nn.Conv2d(mid, JOINTS, 1)
        self.dense = nn.Sequential(_conv(mid + fine, 24), nn.Conv2d(24, 1 + len(PARTS), 1))
        self.squeeze = _conv(deep, 16, kernel=1)
        parts = len(PARTS) * 24
        self.by_part = nn.ModuleList(nn.Linear(mid, 24) for _ in PARTS)
        self.trunk = nn.Sequential(nn.Linear(16 * 64 + parts + deep, 192), nn.SiLU())
        self.facts = nn.ModuleList(nn.Linear(192 + parts, len(options)) for options in OPTIONS.values())
        self.sight = nn.Linear(192, JOINTS)

    def forward(self, picture: Tensor) -> Raw:
        """Read pictures (B, 3, 128, 128) in [0, 1]."""
        x0 = self.stem(picture * 2 - 1)
        x1 = self.down1(x0)
        x2 = self.down2(x1)
        x3 = self.down3(x2)
        y2 = self.up2(torch.cat([_double(x3), x2], 1))
        y1 = self.up1(torch.cat([_double(y2), x1], 1))
        dense = self.dense(torch.cat([_double(y1), x0], 1)).float()
        near, part = dense[:, 0], dense[:, 1:]
        parts = self._under_masks(y1, part)
        trunk = self.trunk(torch.cat([self.squeeze(x3).flatten(1), x3.mean((2, 3)), parts], 1))
        features = torch.cat([trunk, parts], 1)
        facts = Facts(*(head(features).float() for head in self.facts))
        return Raw(self.heat(y1).float(), self.sight(trunk).float(), near, part, facts, features.float())

    def _under_masks(self, features: Tensor, part: Tensor) -> Tensor:
        """The mean feature of each part, (B, parts * 24), by masks that learn nothing from it."""
        mask = F.avg_pool2d(part.detach().softmax(1), DENSE // GRID).flatten(2)  # (B, parts, 32 * 32)
        share = mask / (mask.sum(-1, keepdim=True) + 1.0)
        pooled = share.to(features.dtype) @ features.flatten(2).transpose(1, 2)  # (B, parts, mid)
        return torch.cat([F.silu(head(pooled[:, i])) for i, head in enumerate(self.by_part)], 1)

    @torch.no_grad()
    def read(self, pictures: Tensor) -> Reading:
        """Read pictures (B, 3, S, S) in [0, 1] of any size."""
        parameter = self.heat.weight
        pictures = pictures.to(parameter.device, parameter.dtype)
        if pictures.shape[-2:] != (SIZE, SIZE):
            pictures = F.interpolate(pictures, size=(SIZE, SIZE), mode="bilinear", antialias=True)
        raw = self(pictures.clamp(0, 1))
        return Reading(
            keypoints=locate(raw.heat),
            visible=raw.sight.sigmoid(),
            near=raw.near.clamp(0, 1),
            part=raw.part.softmax(1),
            facts=Facts(*(value.log_softmax(1) for value in raw.facts.values())),
            features=raw.features,
        )


def locate(heat: Tensor) -> Tensor:
    """Heat logits (B, J, n, n) to positions (B, J, 2) in [0, 1]: the mean of the 5 x 5 cells about the peak.

    Soft-argmax (integral pose regression, arXiv 1711.08229), kept local so that a second peak cannot pull.
    """
    side = heat.shape[-1]
    peak = heat.flatten(2).argmax(-1)
    row, column = peak // side, peak % side
    ticks = torch.arange(side, device=heat.device)
    near_row = (ticks - row[..., None]).abs() <= 2
    near_column = (ticks - column[..., None]).abs() <= 2
    window = near_row[..., :, None] & near_column[..., None, :]
    share = heat.masked_fill(~window, -torch.inf).flatten(2).softmax(-1).unflatten(-1, (side, side))
    centres = (ticks + 0.5) / side
    return torch.stack([(share.sum(-2) * centres).sum(-1), (share.sum(-1) * centres).sum(-1)], -1)


def load(folder: Path | str | None = None, device: torch.device | str = "cpu") -> Eyes:
    """The eyes in a folder, by default those the package carries, in float32."""
    folder = FOLDER if folder is None else Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config["widths"] != list(WIDTHS):
        raise ValueError(f"the eyes in {folder} have {config['widths']} channels, and must have {list(WIDTHS)}.")
    eyes = Eyes()
    state = load_file(folder / "eyes.safetensors", device="cpu")
    eyes.load_state_dict({name: value.float() for name, value in state.items()})
    return eyes.to(device).eval().requires_grad_(requires_grad=False)


def save(eyes: Eyes, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write eyes.safetensors and config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.to(dtype).contiguous().cpu()
        for name, value in eyes.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(state, folder / "eyes.safetensors")
    config = {"size": SIZE, "widths": list(WIDTHS), "parts": list(PARTS)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _conv(inward: int, outward: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inward, outward, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outward, momentum=0.05), nn.SiLU())


class _Residual(nn.Module):
    """Two convolutions added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Sequential(conv, nn.BatchNorm2d(channels, momentum=0.05))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        out: Tensor = F.silu(x + self.second(self.first(x)))
        return out


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
