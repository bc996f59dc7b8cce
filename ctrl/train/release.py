"""The last stage: gather what the others made into one folder that the package carries and plain diffusers loads.

`python -m ctrl.train.release --into ctrl/atelier/weights`. Half precision, a sha256 for every file, and a card that
says how each part was made.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from ctrl.model.loading.files import read_tensors

LIMIT = 58_000_000  # bytes in all
STAGES = (
    "codec",
    "decoder",
    "texture",
    "encoder",
    "hints-pose",
    "hints-edges",
    "clip",
    "denoiser",
    "control-pose",
    "control-depth",
    "control-edges",
    "style",
    "lcm",
    "eyes",
)
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def gather(source: Path, target: Path) -> None:
    """Copy a weights folder, every floating tensor as float16."""
    for path in sorted(source.rglob("*")):
        where = target / path.relative_to(source)
        if path.is_dir():
            continue
        where.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            _halve(path, where)
        elif path.name == "config.json":
            _write_config(path, where)
        else:
            shutil.copyfile(path, where)
    (target / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")


def _write_config(path: Path, where: Path) -> None:
    """Without the folder it was loaded from, which is nobody's business."""
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    where.write_text(json.dumps(config, indent=2) + "\n")


def _halve(path: Path, where: Path) -> None:
    tensors, metadata = read_tensors(path)
    halves = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    broken = [name for name, value in halves.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"{path}: {broken[0]} does not fit float16")
    save_file(halves, where, metadata=metadata or None)


def sums(folder: Path) -> list[dict[str, str | int]]:
    """Path, size in bytes and sha256 of every file but the card itself."""
    return [
        {
            "file": path.relative_to(folder).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "card.json"
    ]


def budgets(runs: Path) -> list[dict[str, str | float]]:
    """Steps and minutes each stage has trained, from its checkpoint."""
    rows: list[dict[str, str | float]] = []
    for stage in STAGES:
        path = runs / stage / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            rows.append({"stage": stage, "steps": state["step"], "minutes": round(state["seconds"] / 60, 1)})
    return rows


def commit() -> str | None:
    """The commit this package is of; None if it is in no repository, or git is not there."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def card(
    runs: Path, folder: Path, size: int, count: int, measured: Path | None = None, before: Path | None = None
) -> None:
    """Write card.json: the commit, the data, the budgets, the files, and the table `measure --json` wrote.

    `before` is the card of the weights these went on from; its budgets come first.
    """
    files = sums(folder)
    total = sum(int(row["bytes"]) for row in files)
    if total > LIMIT:
        raise ValueError(f"the weights are {total} bytes, more than {LIMIT}")
    facts = {
        "commit": commit(),
        "picture_size": size,
        "scene_seeds": [0, count],
        "trained": [*(json.loads(before.read_text())["trained"] if before else []), *budgets(runs)],
        "measured": json.loads(measured.read_text()) if measured else None,
        "total_bytes": total,
        "files": files,
    }
    (folder / "card.json").write_text(json.dumps(facts, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Gather the trained parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--measured", type=Path, help="what ctrl.atelier.measure --json wrote of these weights")
    parser.add_argument("--before", type=Path, help="the card.json of the weights these went on from")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--count", type=int, default=16000)
    options = parser.parse_args(argv)
    gather(options.runs / "weights", options.into)
    card(options.runs, options.into, options.size, options.count, options.measured, options.before)


if __name__ == "__main__":
    main()
