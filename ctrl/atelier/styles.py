"""Eight ways to draw what the rays found: functions from `Buffers` to a picture (B, 3, h, w) in [0, 1].

Each is a plain function of depth, parts, normals and light, with no learning and no randomness beyond a hash of
where a pixel or a spot on the ground is, so the same scene is the same picture on every device. Widths are
fractions of the picture, so a style looks alike at 128 and 256 pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrl.atelier.render import SKY_DEPTH, Buffers
from ctrl.atelier.scene import STYLES

_GROUND_PAINT = (
    (0.36, 0.60, 0.24),
    (0.88, 0.76, 0.52),
    (0.91, 0.94, 0.98),
    (0.64, 0.42, 0.25),
    (0.70, 0.72, 0.76),
)
_SKY_TOP = ((0.36, 0.62, 0.93), (0.42, 0.27, 0.55), (0.02, 0.03, 0.12))
_SKY_LOW = ((0.84, 0.93, 1.00), (1.00, 0.66, 0.32), (0.11, 0.14, 0.34))
_AMBIENT = ((0.46, 0.48, 0.54), (0.48, 0.39, 0.42), (0.27, 0.30, 0.42))
_SUNLIGHT = ((0.66, 0.63, 0.56), (0.72, 0.48, 0.30), (0.32, 0.35, 0.44))
_GRASS, _SAND, _SNOW, _WOOD, _TILES = range(5)


def paint(buffers: Buffers, style: str) -> Tensor:
    """Draw a batch in one of `scene.STYLES`; (B, 3, h, w), before supersampling is averaged away."""
    draw = (render3d, ink, watercolor, pixels, neon, blueprint, clay, comic)[STYLES.index(style)]
    return draw(buffers).clamp(0, 1)


def render3d(b: Buffers) -> Tensor:
    """The scene as lit: surface colour, sun and sky light, cast shadows, a haze at the horizon."""
    lit = _albedo(b) * (_of_time(b, _AMBIENT) + _of_time(b, _SUNLIGHT) * b.light[:, None])
    return _over_sky(b, lit)


def ink(b: Buffers) -> Tensor:
    """Black lines on paper; shade and shadow hatched."""
    size = b.depth.shape[-1]
    x, y = _grid(b)
    hatch = ((x + y) % (size // 18)) < size // 52
    shaded = (b.light < 0.32) & (b.part > 0)
    tone = 1.0 - 0.72 * (hatch & shaded).float()
    mark = torch.maximum(_lines(b, size // 85), 0.75 * _ground_marks(b))
    paper = torch.tensor((0.97, 0.95, 0.90), device=mark.device).view(1, 3, 1, 1)
    pen = torch.tensor((0.08, 0.07, 0.10), device=mark.device).view(1, 3, 1, 1)
    mark = torch.maximum(mark, 1.0 - tone)[:, None]
    return paper * (1 - mark) + pen * mark


def watercolor(b: Buffers) -> Tensor:
    """Soft washes that pool at their edges, on uneven paper."""
    size = b.depth.shape[-1]
    soft = 0.35 + 0.5 * b.light[:, None]
    wash = _over_sky(b, _albedo(b) * (_of_time(b, _AMBIENT) + 0.9 * _of_time(b, _SUNLIGHT) * soft))
    wash = _blur(wash, size // 96)
    x, y = _grid(b)
    cloud = _noise(x * (7.0 / size) + 0.3, y * (7.0 / size) + 0.6, 3)[:, None]
    paper = 0.97
    strength = 0.82 + 0.26 * (cloud - 0.5)
    wash = paper - (paper - wash) * strength
    rim = _blur(_lines(b, size // 128)[:, None], size // 128)
    return wash * (1 - 0.42 * rim)


def pixels(b: Buffers) -> Tensor:
    """Blocks on a 32 x 32 grid, each channel in eight levels."""
    size = b.depth.shape[-1]
    lit = torch.where(b.light[:, None] > 0.25, 0.9, 0.35)
    flat = _over_sky(b, _albedo(b) * (_of_time(b, _AMBIENT) + _of_time(b, _SUNLIGHT) * lit))
    small = F.avg_pool2d(flat, size // 32)
    small = (small * 7).round() / 7
    return F.interpolate(small, size=(size, size), mode="nearest")


def neon(b: Buffers) -> Tensor:
    """Glowing contours in the colours of things, on the dark."""
    size = b.depth.shape[-1]
    color = torch.where(b.part[:, None] > 1, b.color, 0.0)
    color = color / color.amax(1, keepdim=True).clamp(min=0.25)
    reach = size // 64
    spread = _dilate(color, 2 * reach + 1)
    rim = _lines(b, reach)[:, None]
    ground = torch.tensor((0.10, 0.62, 0.70), device=color.device).view(1, 3, 1, 1)
    tube = torch.maximum(
        rim * torch.where(spread.amax(1, keepdim=True) > 0, spread, ground),
        0.55 * ground * _ground_marks(b)[:, None],
    )
    glow = F.interpolate(_blur(F.avg_pool2d(tube, 4), size // 64), scale_factor=4, mode="bilinear")
    dark = torch.tensor((0.03, 0.02, 0.07), device=color.device).view(1, 3, 1, 1)
    return dark + 0.20 * color + torch.maximum(tube, 0.9 * glow)


def blueprint(b: Buffers) -> Tensor:
    """White lines on blue, with the draughtsman's grid."""
    size = b.depth.shape[-1]
    x, y = _grid(b)
    ruled = ((x % (size // 8)) < size // 128) | ((y % (size // 8)) < size // 128)
    line = torch.maximum(_lines(b, size // 85), 0.6 * _ground_marks(b))[:, None]
    body = (b.part > 1)[:, None].float()
    paper = torch.tensor((0.09, 0.24, 0.55), device=line.device).view(1, 3, 1, 1)
    paper = paper + 0.05 * ruled[:, None].float() * (1 - body) + 0.07 * body
    chalk = torch.tensor((0.92, 0.96, 1.0), device=line.device).view(1, 3, 1, 1)
    return paper * (1 - line) + chalk * line


def clay(b: Buffers) -> Tensor:
    """Everything modelled in one grey-brown clay under a studio lamp."""
    earth = torch.tensor((0.80, 0.66, 0.56), device=b.light.device).view(1, 3, 1, 1)
    sky_light = 0.5 + 0.5 * b.normal[:, 1:2]
    shade = 0.30 + 0.24 * sky_light + 0.56 * b.light[:, None]
    relief = 1 - 0.22 * _ground_marks(b)[:, None]
    wall = torch.tensor((0.66, 0.60, 0.57), device=b.light.device).view(1, 3, 1, 1)
    return _hazed(b, earth * shade * relief, wall.expand(len(b.light), 3, *b.light.shape[1:]))


def comic(b: Buffers) -> Tensor:
    """Flat colour, heavy outlines, shadows in dots."""
    size = b.depth.shape[-1]
    x, y = _grid(b)
    pitch = size / 24
    dot = ((x + y) % pitch / pitch - 0.5) ** 2 + ((x - y) % pitch / pitch - 0.5) ** 2 < 0.13
    lit = torch.where(b.light > 0.22, 0.95, torch.where(dot, 0.15, 0.55))[:, None]
    flat = _over_sky(b, _albedo(b) * (_of_time(b, _AMBIENT) + _of_time(b, _SUNLIGHT) * lit), bands=4)
    mean = flat.mean(1, keepdim=True)
    vivid = mean + 1.25 * (flat - mean)
    return vivid * (1 - _lines(b, size // 64))[:, None]


def _of_time(b: Buffers, table: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.tensor(table, device=b.light.device)[b.time][:, :, None, None]


def _grid(b: Buffers) -> tuple[Tensor, Tensor]:
    """Pixel columns and rows as (1, h, w) integers."""
    rows = torch.arange(b.depth.shape[-1], device=b.depth.device)
    y, x = torch.meshgrid(rows, rows, indexing="ij")
    return x[None], y[None]


def _hash(x: Tensor, y: Tensor, seed: int) -> Tensor:
    """A number in [0, 1) for each pair of integers, the same on every device (integer arithmetic only)."""
    mixed = (x.long() * 374761393 + y.long() * 668265263 + seed * 974634347) & 0x7FFFFFFF
    mixed = ((mixed ^ (mixed >> 13)) * 1274126177) & 0x7FFFFFFF
    return ((mixed ^ (mixed >> 16)) & 0xFFFF).float() / 65536


def _noise(x: Tensor, y: Tensor, seed: int) -> Tensor:
    """Smooth value noise in [0, 1] with lattice spacing 1."""
    fx, fy = x.floor(), y.floor()
    u, v = x - fx, y - fy
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    top = _hash(fx, fy, seed) * (1 - u) + _hash(fx + 1, fy, seed) * u
    low = _hash(fx, fy + 1, seed) * (1 - u) + _hash(fx + 1, fy + 1, seed) * u
    return top * (1 - v) + low * v


def _ground_marks(b: Buffers) -> Tensor:
    """What is drawn on the ground: tufts, grains, nothing, planks or joints; (B, h, w) in [0, 1]."""
    x, z = b.spot[:, 0], b.spot[:, 1]
    near = ((8.0 - b.depth) / 2.5).clamp(0, 1) * (b.part == 1)
    marks = torch.zeros_like(b.depth)
    for kind, draw in ((_GRASS, _tufts), (_SAND, _grains), (_WOOD, _planks), (_TILES, _joints)):
        rows = b.ground == kind
        if rows.any():
            marks[rows] = draw(x[rows], z[rows])
    return marks * near


def _tufts(x: Tensor, z: Tensor) -> Tensor:
    cx, cz = (x / 0.42).floor(), (z / 0.62).floor()
    u = x / 0.42 - cx - 0.25 - 0.5 * _hash(cx, cz, 1)
    v = z / 0.62 - cz - 0.5
    blade = (u - 0.22 * v).abs() < 0.10
    return (blade & (v.abs() < 0.32)).float()


def _grains(x: Tensor, z: Tensor) -> Tensor:
    cx, cz = (x / 0.38).floor(), (z / 0.44).floor()
    u = x / 0.38 - cx - 0.3 - 0.4 * _hash(cx, cz, 2)
    v = z / 0.44 - cz - 0.3 - 0.4 * _hash(cx, cz, 3)
    return (u * u + 0.40 * v * v < 0.018).float()


def _planks(x: Tensor, z: Tensor) -> Tensor:
    row = (z / 0.42).floor()
    seam = (z / 0.42 - row) < 0.14
    shift = _hash(row, row, 4) * 1.9
    butt = ((x + shift) / 1.9).frac().abs() < 0.025
    return (seam | butt).float()


def _joints(x: Tensor, z: Tensor) -> Tensor:
    u, v = x / 0.55, z / 0.55
    return ((u - u.floor() < 0.075) | (v - v.floor() < 0.12)).float()


def _albedo(b: Buffers) -> Tensor:
    """Unlit colours with the ground's own pattern, (B, 3, h, w)."""
    x, z = b.spot[:, 0], b.spot[:, 1]
    base = torch.tensor(_GROUND_PAINT, device=x.device)[b.ground][:, :, None, None]
    tone = 1 - 0.34 * _ground_marks(b)
    near = ((10.0 - b.depth) / 5.0).clamp(0, 1)
    checker = ((x / 0.55).floor() + (z / 0.55).floor()) % 2
    plank = _hash((z / 0.42).floor(), (z / 0.42).floor(), 5)
    drift = _noise(x * 1.1, z * 1.1, 6)
    kind = b.ground[:, None, None]
    tone = torch.where(kind == _TILES, tone * (1 - 0.42 * checker * near), tone)
    tone = torch.where(kind == _WOOD, tone * (0.86 + 0.26 * plank), tone)
    tone = torch.where((kind == _SNOW) | (kind == _SAND) | (kind == _GRASS), tone * (0.92 + 0.14 * drift), tone)
    return torch.where(b.part[:, None] == 1, base * tone[:, None], b.color)


def _over_sky(b: Buffers, lit: Tensor, bands: int = 0) -> Tensor:
    rise = ((b.height + 0.08) / 0.34).clamp(0, 1)[:, None]
    if bands:
        rise = (rise * bands).floor() / bands
    sky = _of_time(b, _SKY_LOW) * (1 - rise) + _of_time(b, _SKY_TOP) * rise
    return _hazed(b, lit, sky)


def _hazed(b: Buffers, near: Tensor, far: Tensor) -> Tensor:
    haze = ((b.depth - 7.0) / (SKY_DEPTH - 7.0)).clamp(0, 1).sqrt() * (b.part == 1)
    haze = torch.where(b.part == 0, 1.0, haze)[:, None]
    return near * (1 - haze) + far * haze


def _lines(b: Buffers, width: int) -> Tensor:
    """Contours (B, h, w) in {0, 1}: where the part changes, depth jumps on the figure, or a face turns sharply."""
    thing = b.part > 1

    def seam(one: tuple[slice, ...], other: tuple[slice, ...]) -> Tensor:
        part = b.part[one] != b.part[other]
        both = thing[one] & thing[other]
        jump = (b.depth[one] - b.depth[other]).abs() > 0.10
        crease = (b.normal[(one[0], slice(None), *one[1:])] * b.normal[(other[0], slice(None), *other[1:])]).sum(
            1
        ) < 0.35
        flat = b.solid[one] == b.solid[other]
        return part | (both & (jump | (crease & flat)))

    every, start, end = slice(None), slice(None, -1), slice(1, None)
    line = torch.zeros_like(b.depth)
    line[:, :, 1:] = seam((every, every, start), (every, every, end)).float()
    line[:, 1:] = torch.maximum(line[:, 1:], seam((every, start, every), (every, end, every)).float())
    return _dilate(line[:, None], max(width, 1) | 1)[:, 0]


def _dilate(image: Tensor, width: int) -> Tensor:
    across = F.max_pool2d(image, (1, width), stride=1, padding=(0, width // 2))
    return F.max_pool2d(across, (width, 1), stride=1, padding=(width // 2, 0))


def _blur(image: Tensor, radius: int) -> Tensor:
    """Two box blurs, close to a Gaussian of that radius."""
    width = 2 * max(radius, 1) + 1
    for kernel in ((1, width), (width, 1)) * 2:
        padding = (kernel[0] // 2, kernel[1] // 2)
        image = F.avg_pool2d(image, kernel, stride=1, padding=padding, count_include_pad=False)
    return image
