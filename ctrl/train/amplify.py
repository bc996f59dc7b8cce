"""A ControlNet's residuals, each times a factor, written into its weights.

`python -m ctrl.train.amplify --part controlnet_edges --factors 2 2 2 1 1 1 1 --into runs/weights`. From then on a
control acts as one with these factors as its `blocks` did before, since its residuals are linear in the last
convolutions, the zero convolutions of arXiv 2302.05543.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from ctrl.model.loading.files import read_tensors
from ctrl.train.mean import only_file


def amplify(weights: Mapping[str, Tensor], factors: Sequence[float]) -> dict[str, Tensor]:
    """A ControlNet's weights with each residual times its factor, from the shallowest to the middle.

    Types stay; factors that are powers of two are exact. Raises a ValueError where there are not as many factors as
    residuals.
    """
    count = sum(name.startswith("controlnet_down_blocks.") and name.endswith(".weight") for name in weights)
    stems = [*(f"controlnet_down_blocks.{i}." for i in range(count)), "controlnet_mid_block."]
    if not any(name.startswith(stems[-1]) for name in weights):
        raise ValueError("weights must be a ControlNet's, these have no controlnet_mid_block.")
    if len(factors) != len(stems):
        raise ValueError(f"factors must be {len(stems)} numbers, one for each residual, got {list(factors)}.")
    factor_of = dict(zip(stems, factors, strict=True))

    def amplified(name: str, tensor: Tensor) -> Tensor:
        return tensor * factor_of.get(name[: name.rfind(".") + 1], 1)

    return {name: amplified(name, tensor) for name, tensor in weights.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Multiply the residuals of a weights folder's ControlNet; its other files stay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", required=True, help="the subfolder, such as controlnet_edges")
    parser.add_argument("--factors", type=float, nargs="+", required=True, help="of each residual, the middle's last")
    parser.add_argument("--into", type=Path, required=True, help="the weights folder that is changed")
    options = parser.parse_args(argv)
    file = only_file(parser, options.into, options.part)
    tensors, notes = read_tensors(file)
    try:
        save_file(amplify(tensors, options.factors), file, metadata=notes or None)
    except ValueError as error:
        parser.error(f"{options.part}: {error}")


if __name__ == "__main__":
    main()
