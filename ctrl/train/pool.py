"""The rendered pictures every stage learns from: picture i of the pool is the scene of seed i.

Rendered once, in pieces that survive a kill, to plain memory-mapped arrays; opening a pool and filling it are
apart, so that a stage may start while the rest is still being drawn.
`python -m ctrl.train.pool --count 12000`
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from tqdm import tqdm

from ctrl.atelier import render, world
from ctrl.atelier.scene import EVALUATION_SEEDS, Scene, sample
from ctrl.train.elsewhere import elsewhere

PIECE = 64
TOGETHER = 4  # pieces of 128 px a GPU draws at once: what it launches hardly depends on how many pictures there are


@dataclass(frozen=True)
class Pool:
    """N pictures of `size` pixels and their truth, memory-mapped. `done` marks finished pieces of 64."""

    picture: np.ndarray  # (N, 3, size, size) uint8
    near: np.ndarray  # (N, size, size) uint8, render.disparity
    part: np.ndarray  # (N, size, size) uint8
    keypoints: np.ndarray  # (N, 18, 2) float32
    visible: np.ndarray  # (N, 18) bool
    done: np.ndarray  # (N / 64,) bool

    @property
    def size(self) -> int:
        """Picture side in pixels."""
        return int(self.picture.shape[-1])

    @property
    def ready(self) -> int:
        """How many pictures from the first on are drawn."""
        missing = np.flatnonzero(~np.asarray(self.done))
        return int(missing[0] if len(missing) else len(self.done)) * PIECE


@cache
def scene_of(row: int) -> Scene:
    """What picture `row` of a pool shows, kept at hand: every other one is a scene seen from `elsewhere`."""
    return elsewhere(sample(row)) if row % 2 else sample(row)


def open_pool(folder: Path, count: int, size: int, first_seed: int = 0) -> Pool:
    """Open the pool of a folder, making its empty arrays if they are not there."""
    if first_seed + count > EVALUATION_SEEDS and first_seed < EVALUATION_SEEDS:
        raise ValueError("a training pool may not reach into the evaluation seeds")
    folder.mkdir(parents=True, exist_ok=True)
    count = -(-count // PIECE) * PIECE
    shapes = {
        "picture": ((count, 3, size, size), np.uint8),
        "near": ((count, size, size), np.uint8),
        "part": ((count, size, size), np.uint8),
        "keypoints": ((count, 18, 2), np.float32),
        "visible": ((count, 18), np.bool_),
        "done": ((count // PIECE,), np.bool_),
    }
    arrays = {}
    for name, (shape, kind) in shapes.items():
        path = folder / f"{name}.npy"
        array = open_memmap(path, mode="r+" if path.exists() else "w+", dtype=kind, shape=shape)
        if array.shape != shape:
            raise ValueError(f"{path} holds {array.shape}, not {shape}: remove {folder} to draw another pool")
        arrays[name] = array
    return Pool(**arrays)


def fill(folder: Path, count: int, size: int, device: str = "cpu", workers: int = 1, first_seed: int = 0) -> Pool:
    """Draw whatever is missing from a pool. On a GPU one process does it; on the CPU `workers` share it."""
    pool = open_pool(folder, count, size, first_seed)
    pieces = [int(piece) for piece in np.flatnonzero(~pool.done)]
    together = 1 if device == "cpu" else max(1, TOGETHER * 128**2 // size**2)
    shared = (folder, len(pool.picture), size, device, first_seed)
    jobs = [(*shared, pieces[i : i + together]) for i in range(0, len(pieces), together)]
    if workers == 1 or device != "cpu":
        for job in tqdm(jobs, desc="render", unit="job", disable=not jobs):
            _draw(job)
        return pool
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as executor:
        list(tqdm(executor.map(_draw, jobs), total=len(jobs), desc="render", unit="job"))
    return pool


def _draw(job: tuple[Path, int, int, str, int, list[int]]) -> None:
    folder, count, size, device, first_seed, pieces = job
    if device == "cpu":
        torch.set_num_threads(1)
    pool = open_pool(folder, count, size, first_seed)
    every = [piece * PIECE + i for piece in pieces for i in range(PIECE)]
    batch = len(every) if device != "cpu" else 2  # on the CPU small batches stay in cache
    for start in range(0, len(every), batch):
        rows = every[start : start + batch]
        view = world.look([scene_of(first_seed + row) for row in rows], size, device)
        pool.picture[rows] = view.picture.mul(255).round().byte().cpu().numpy()
        pool.near[rows] = render.disparity(view.depth).mul(255).round().byte().cpu().numpy()
        pool.part[rows] = view.part.cpu().numpy()
        pool.keypoints[rows] = view.keypoints.cpu().numpy()
        pool.visible[rows] = view.visible.cpu().numpy()
    pool.done[pieces] = True


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the training pool."""
    parser = argparse.ArgumentParser(prog="python -m ctrl.train.pool", description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/pool256"))
    parser.add_argument("--count", type=int, default=12000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(argv)
    fill(options.folder, options.count, options.size, options.device, options.workers)


if __name__ == "__main__":
    main()
