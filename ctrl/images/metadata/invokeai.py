"""InvokeAI: JSON since its third version, older JSON with an "image" in it, and the command line of the first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ctrl.images.metadata.fields import as_object, from_mapping
from ctrl.images.metadata.generation import Generation, integer, left_out, number, plain_sampler, size_of

PROGRAM = "InvokeAI"
OPTION = re.compile(r"\s-([sSWHCA])\s*([\w.+-]+)")
OTHERS = re.compile(r"\s(-{1,2}[A-Za-z]+)")


def read(texts: Mapping[str, str]) -> Generation | None:
    """The settings in the newest of InvokeAI's texts; None if there is none."""
    if "invokeai_metadata" in texts:
        read = from_mapping(as_object(texts["invokeai_metadata"], PROGRAM), PROGRAM)
        return replace(read, clip_skip=read.clip_skip + 1 if read.clip_skip else None)  # it counts skipped layers
    if "sd-metadata" in texts:
        return _second(as_object(texts["sd-metadata"], PROGRAM))
    return _first(texts["Dream"]) if "Dream" in texts else None


def _second(written: dict[str, Any]) -> Generation:
    image = written.get("image")
    image = dict(image) if isinstance(image, dict) else {}
    prompts = image.get("prompt")
    if isinstance(prompts, list):  # pieces with weights, which their text repeats
        prompts = " ".join(str(piece.get("prompt", "")) for piece in prompts if isinstance(piece, dict))
    prompt, negative = _split(prompts if isinstance(prompts, str) else "")
    model = written.get("model_weights") or written.get("model")
    blends = [entry for entry in image.pop("variations", None) or () if isinstance(entry, dict)]
    if len(blends) == 1:
        image |= {"variation_seed": blends[0].get("seed"), "variation_seed_strength": blends[0].get("weight")}
    generation = from_mapping({**image, "prompt": prompt, "model": model}, PROGRAM)
    notes = (*generation.notes, *([left_out(f"the blend of {len(blends)} variations")] if len(blends) > 1 else ()))
    return replace(generation, negative=negative, notes=notes)


def _first(line: str) -> Generation:
    """`"a ball [blurry]" -s 50 -S 123 -W 512 -H 512 -C 7.5 -A k_lms`."""
    quoted = re.match(r'\s*"((?:[^"\\]|\\.)*)"', line)
    text, rest = (quoted[1].replace('\\"', '"'), line[quoted.end() :]) if quoted else (OPTION.split(line)[0], line)
    options = dict(OPTION.findall(rest))
    prompt, negative = _split(text)
    sampler, schedule = plain_sampler(options["A"]) if "A" in options else (None, None)
    return Generation(
        PROGRAM,
        prompt,
        negative,
        steps=integer(options.get("s")),
        sampler=sampler,
        schedule=schedule,
        guidance=number(options.get("C")),
        seed=integer(options.get("S")),
        size=size_of(options.get("W"), options.get("H")),
        notes=tuple(left_out(f"the option {option}") for option in OTHERS.findall(OPTION.sub(" ", rest))),
    )


def _split(text: str) -> tuple[str, str]:
    """Prompt and negative prompt, which stands in brackets."""
    negative = ", ".join(part.strip() for part in re.findall(r"\[([^\[\]]*)\]", text))
    return re.sub(r"\s*\[[^\[\]]*\]", "", text).strip(), negative
