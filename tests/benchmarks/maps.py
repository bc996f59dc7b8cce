"""Word maps beside other tools: `python tests/benchmarks/maps.py --others FOLDER [--scenes 6] [--weights FOLDER]`.

`ctrl.watching`, daam, attention-map-diffusers and nnsight watch the same plain diffusers pipeline with the atelier's
weights, in one process. FOLDER is where the others were put, by `pip install --target FOLDER --no-deps daam==0.2.0
attention-map-diffusers==1.0.0 nnsight==0.8.1` and what these import: cloudpickle, zstandard, ftfy, sentencepiece and
wcwidth. One that does not import says so in the table. daam asks for an older diffusers and for spaCy, which only its
parser of sentences uses: here spaCy is an empty module, and two constants are set to the model's: the size of its
latents, 64 or 96 in daam, and 77 tokens. nnsight shows inner values and has no maps of its own: here it reads queries
and keys, and the arithmetic is that of `ctrl.watching`.

mIoU is at half of the range on 16 × 16 cells, of the nouns of captions on pictures generated in 20 steps, against what
the atelier's eyes see there; `--scenes 0` leaves it out. Time is the processor time of a run of 20 steps over that of a
run without a tool, the fastest of runs that take turns, and then what a tool adds over what daam adds. Operations are
aten's, a step; bytes are what a tool holds after 20 steps. `--tools` names those to run. Nothing here asserts.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import ctrl
from ctrl.atelier import eyes as sight
from ctrl.atelier.captions import describe
from ctrl.atelier.metrics import estimate, range_iou
from ctrl.atelier.scene import EVALUATION_SEEDS, sample
from ctrl.atelier.words import mask_of
from ctrl.model.loading.load import ATELIER

sys.path.insert(0, str(Path(__file__).parents[1]))

from beside import Beside, beside, each_step
from map_tools import SIDE, TOOLS, Daam

PROMPT = "a figure waving in a red shirt and blue trousers, a yellow ball on the left, on grass, 3d render"


COLUMNS = ("tool", "cases", "mIoU", "time", "of daam's added", "operations", "bytes", "latents moved")


def call(pipe: Any, **more: Any) -> torch.Tensor:
    """Latents of a run."""
    given = {"prompt": PROMPT, "num_inference_steps": 4, "guidance_scale": 6.0, "output_type": "latent"}
    return pipe(**given | {"generator": torch.Generator().manual_seed(3)} | more).images


class Cases:
    """What a tool is asked to watch; each is made of the same modules."""

    def __init__(self, both: Beside) -> None:
        self.both = both
        hint = ctrl.Skeleton.named("waving").draw(*both.model.size)
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
        width, height = both.model.size
        self.cases: dict[str, tuple[Any, dict[str, Any]]] = {
            "plain": (both.plain, {}),
            "not square": (both.plain, {"width": 2 * width, "height": height}),
            "two images": (both.plain, {"num_images_per_prompt": 2}),
            "two prompts": (both.plain, {"prompt": [PROMPT, "a figure, a red ball on the left, on sand"]}),
            "guidance off": (both.plain, {"guidance_scale": 1.0}),
            "ControlNet": (both.controlled, {"image": Image.fromarray(hint)}),
            "IP-Adapter": (both.styled, {"ip_adapter_image": picture}),
        }

    def run(self, tool: Any) -> dict[str, str]:
        """For each case "yes", or the error."""
        found = {}
        for name, (pipe, more) in self.cases.items():
            watched, processors = copy.copy(pipe), dict(pipe.unet.attn_processors)
            plain = call(pipe, **more)
            try:
                latents, seen = tool.run(watched, lambda one, more=more: call(one, **more))
                heat = tool.maps(watched, seen, PROMPT)("figure")
                rows = "yes" if np.isfinite(heat).all() and heat.max() > 0 else "an empty map"
                found[name] = rows if torch.equal(plain, latents) else f"{rows}, picture changed"
            except Exception as error:  # whatever it is, it belongs into the table
                found[name] = type(error).__name__
            pipe.unet.set_attn_processor(dict(processors))
        return found


def added(both: Beside, tools: list[Any], rounds: int) -> dict[str, tuple[float, float]]:
    """The time of a run with each tool over that of one without, and what is added over what daam adds.

    Of the fastest of `rounds` runs each, as `timeit` advises: what else the machine does only ever adds. The runs of
    all tools take turns, so that it meets them alike.
    """
    names = ["", *(tool.name for tool in tools)]
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name, tool in zip(names, [None, *tools], strict=True):
            begun = time.process_time()
            timed(both.plain) if tool is None else tool.run(both.plain, timed)
            if number:  # the first warms up
                taken[name].append(time.process_time() - begun)
    least = {name: min(values) for name, values in taken.items()}
    more = {name: least[name] - least[""] for name in names}
    daam = more.get(Daam.name, float("nan"))
    return {name: (least[name] / least[""], more[name] / daam) for name in names}


def timed(pipe: Any) -> torch.Tensor:
    """Latents of a run of 20 steps."""
    return call(pipe, num_inference_steps=20)


def costs(both: Beside, tool: Any) -> dict[str, Any]:
    """Operations a step, bytes after 20 steps, and how far the latents moved."""
    pipe = both.plain

    def plain(steps: int) -> torch.Tensor:
        return call(pipe, num_inference_steps=steps)

    def watched(steps: int) -> tuple[torch.Tensor, Any]:
        return tool.run(pipe, lambda one: call(one, num_inference_steps=steps))

    operations = sum(each_step(lambda n: watched(n), 5, 9).values()) - sum(each_step(plain, 5, 9).values())
    latents, seen = watched(20)
    away = float((latents - plain(20)).abs().max())
    return {"operations": operations, "bytes": tool.bytes(seen), "away": away}


def truth(both: Beside, tool: Any, scenes: int) -> Any:
    """mIoU on generated pictures, one value a scene."""
    eyes, values = sight.load(), []
    for number in range(scenes):
        scene = sample(EVALUATION_SEEDS + number)
        caption = describe(scene, seed=scene.seed)
        more = {"num_inference_steps": 20, "generator": torch.Generator().manual_seed(number), "output_type": "pil"}
        (image,), seen = tool.run(both.plain, lambda one, more=more: call(one, prompt=caption.text, **more))  # noqa: B023
        maps = tool.maps(both.plain, seen, caption.text)
        part = eyes.read(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255).part[0].argmax(0)
        own = []
        for mention in caption.mentions:
            mask = mask_of(part, mention.what, SIDE)
            if mask.any() and caption.text.count(mention.word) == 1:
                heat = torch.from_numpy(np.asarray(maps(mention.word), np.float32))[None, None]
                own.append(range_iou(F.interpolate(heat, size=(SIDE, SIDE), mode="area")[0, 0].numpy(), mask, 0.5))
        values.append(np.mean(own))
    return estimate(np.array(values))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--others", type=Path)
    parser.add_argument("--weights", type=Path, default=ATELIER)
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--tools", nargs="+", choices=[kind.__name__ for kind in TOOLS])
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.others is not None:
        sys.path.append(str(options.others))
    if options.threads:
        torch.set_num_threads(options.threads)
    both = beside(options.weights)
    cases = Cases(both)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    details, tools = [], []
    for kind in (kind for kind in TOOLS if options.tools is None or kind.__name__ in options.tools):
        try:
            tools.append(kind())
        except Exception as error:
            print(f"| {kind.name} | does not import: {type(error).__name__}: {error!s:.80} | | | | | | |")
    times = added(both, tools, options.rounds)
    for tool in tools:
        cost, (over, share) = costs(both, tool), times[tool.name]
        seen = str(truth(both, tool, options.scenes)) if options.scenes else ""
        found = cases.run(tool)
        run = sum(one.startswith("yes") for one in found.values())
        print(
            f"| {tool.name} | {run} of {len(found)} | {seen} | "
            f"{over:.2f} | {share:.2f} | {cost['operations']:+.0f} | {cost['bytes']:,} | {cost['away']:.0e} |",
            flush=True,
        )
        details.append(f"{tool.name}: {found}")
    print("\n".join(["", *details]))


if __name__ == "__main__":
    main()
