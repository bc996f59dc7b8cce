"""A part's weights as the mean of several runs' (model soups, arXiv 2203.05482).

`python -m ctrl.train.mean --part unet --of runs/a runs/b --shares 0.3 0.7 --into runs/weights`. The runs must have gone
on from the same weights: the mean of two that began apart is no model.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ctrl.model.loading.files import read_tensors


def mean(weights: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The sum of `shares`, in float32, of weights that have the same names and shapes; whole numbers are the first's.

    Raises a ValueError where names or shapes differ, or the shares do not sum to 1.
    """
    if len(shares) != len(weights) or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares must be {len(weights)} numbers that sum to 1, got {list(shares)}.")
    first = weights[0]
    for other in weights[1:]:
        for name in first.keys() | other.keys():
            shapes = [tuple(one[name].shape) if name in one else None for one in (first, other)]
            if shapes[0] != shapes[1]:
                raise ValueError(f"weights must be of one network, got {name} of shapes {shapes[0]} and {shapes[1]}.")
    return {name: _mean([one[name] for one in weights], shares) for name in first}


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    if not tensors[0].is_floating_point():
        return tensors[0].clone()  # it may be a view of the file that is written
    return torch.stack([share * one.float() for share, one in zip(shares, tensors, strict=True)]).sum(0)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the mean of one part of weights folders into another, whose other files stay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", required=True, help="the subfolder: unet, controlnet_edges, ip_adapter, lora")
    parser.add_argument("--of", type=Path, nargs="+", required=True, help="the weights folders")
    parser.add_argument("--shares", type=float, nargs="+", required=True, help="of each, in all 1")
    parser.add_argument("--into", type=Path, required=True, help="the weights folder that is changed")
    options = parser.parse_args(argv)
    file = only_file(parser, options.into, options.part)
    read = [read_tensors(folder / options.part / file.name) for folder in options.of]
    save_file(mean([tensors for tensors, _ in read], options.shares), file, metadata=read[0][1] or None)


def only_file(parser: argparse.ArgumentParser, folder: Path, part: str) -> Path:
    """The safetensors file of a part of a weights folder; where there is not just one, the command ends."""
    found = [*(folder / part).glob("*.safetensors")]
    if len(found) != 1:
        parser.error(f"--part {part}: {folder} must hold one safetensors file there, it has {len(found)}.")
    return found[0]


if __name__ == "__main__":
    main()
