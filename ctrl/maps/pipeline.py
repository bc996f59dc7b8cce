"""`watching`: the attention of a diffusers pipeline that nobody prepared, with its IP-Adapters and ControlNets.

Nothing of the pipeline is replaced for longer than the block, and its pictures stay the same to the bit.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ctrl.attention import Hooks, Site, has_graph, is_compiled, sites, tap
from ctrl.attention.override import override
from ctrl.maps.attention import Attention
from ctrl.maps.collect import Collector
from ctrl.maps.pipeline_parts import (
    estimate,
    images,
    insist_on_pictures,
    networks,
    own,
    pixels_of,
    residuals,
    tower,
)
from ctrl.maps.reading import LabelledRows, Reader
from ctrl.maps.texts import Text
from ctrl.maps.watch import Watch
from ctrl.rows import Residuals

if TYPE_CHECKING:
    from PIL.Image import Image

OnStep = Callable[["PipelineStep"], object]


class _Cancelled(Exception):
    """`on_step` answered False."""


@dataclass(frozen=True, eq=False)
class PipelineStep:
    """One step of a watched pipeline: the latents after it, and its estimate of x0, both (N, C, h, w)."""

    index: int
    count: int
    latents: Tensor
    denoised: Tensor
    watch: Watching = field(repr=False)

    @property
    def progress(self) -> float:
        """The part of the run that is done, in (0, 1]."""
        return (self.index + 1) / self.count

    def preview(self) -> Image:
        """The picture of the estimate of x0: one decoding."""
        return self.watch.pictures_of(self.denoised[:1])[0]


class Watching:
    """What is seen of a pipeline's runs inside the block; `attention` is the last run's."""

    def __init__(self, pipe: Any, watch: Watch, on_step: OnStep | None) -> None:
        self.pipe, self.watch, self.on_step = pipe, watch, on_step
        self.cancelled = False
        self._encoder, tokenizer = tower(pipe)
        self.reader = Reader(tokenizer)
        self.networks: dict[str, tuple[Any, tuple[Site, ...]]] = {
            name: (module, sites(own(module), name, kind="all")) for name, module in networks(pipe).items()
        }
        self.collector: Collector | None = None
        self._decoded: list[Image] = []
        self._calls, self._steps, self._labels, self._now, self._seed = 0, 0, set[str](), -1, ""
        self._cells = (0, 0)

    @property
    def attention(self) -> Attention:
        """The attention of the last run's first picture."""
        return self.attentions[0]

    @property
    def attentions(self) -> list[Attention]:
        """The attention of each of the last run's pictures, over the picture where it was decoded.

        A RuntimeError if the pipeline did not run.
        """
        collector = self.collector
        if collector is None:
            raise RuntimeError("the pipeline did not run inside the block, so nothing was seen.")
        return [
            Attention.of(collector, at, self._picture(at), self._cells, seed=self._seed)
            for at in range(len(collector.texts))
        ]

    def pictures_of(self, latents: Tensor) -> list[Image]:
        """The pictures of latents (N, C, h, w), by the pipeline's own VAE."""
        return images(pixels_of(self.pipe, latents))

    def _picture(self, at: int) -> Image:
        if at < len(self._decoded):
            return self._decoded[at]
        from PIL import Image

        height, width = self._cells
        scale = 2 ** (len(self.pipe.vae.config.block_out_channels) - 1)
        return Image.new("RGB", (width * scale, height * scale), (128, 128, 128))

    @contextmanager
    def attached(self) -> Iterator[Watching]:
        """Watch the pipeline inside the block."""
        pipe = self.pipe
        with ExitStack() as stack:
            for name, (module, places) in self.networks.items():
                method = "forward" if getattr(module, "_compiled_call_impl", None) is None else "_compiled_call_impl"
                watched = self._network(name, module, places, getattr(module, method))
                stack.enter_context(override(method, [(module, watched)]))
            if self._encoder is not None:
                stack.callback(self._encoder.register_forward_hook(self._hear, with_kwargs=True).remove)
            if hasattr(pipe, "encode_prompt"):
                stack.enter_context(override("encode_prompt", [(pipe, self._encode_prompt(pipe.encode_prompt))]))
            if getattr(pipe, "vae", None) is not None:
                stack.enter_context(override("decode", [(pipe.vae, self._decode(pipe.vae.decode))]))
            if self.on_step is not None:
                stack.enter_context(override("step", [(pipe.scheduler, self._step(pipe.scheduler.step))]))
            try:
                yield self
            except _Cancelled:
                self.cancelled = True

    def _hear(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        self._perhaps_anew()
        self.reader.hear(module, args, kwargs, out)

    def _encode_prompt(self, encode: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(encode)
        def encode_prompt(*args: Any, **kwargs: Any) -> Any:
            self._perhaps_anew()
            return self.reader.encoding(encode)(*args, **kwargs)

        return encode_prompt

    def _perhaps_anew(self) -> None:
        """Texts are read after a network ran: another run begins."""
        if self._calls:
            self.reader = Reader(self.reader.tokenizer)
            self.collector, self._calls, self._steps, self._now = None, 0, 0, -1
            self._labels, self._decoded = set(), []

    def _network(
        self, name: str, module: Any, places: tuple[Site, ...], original: Callable[..., Any]
    ) -> Callable[..., Any]:
        network, compiled = own(module), is_compiled(module)

        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            sample: Any = kwargs.get("sample", args[0] if args else None)
            states: Any = kwargs.get("encoder_hidden_states", args[2] if len(args) > 2 else None)
            insist_on_pictures(network, sample, states)
            rows, collector, step = self._labelled(name, sample, states)
            added = residuals(kwargs) if name == "unet" else {}
            hooks = Hooks(observers=collector.observers, rows=rows, step=step)
            with self._influence(network, rows, added, step):
                as_graph = compiled and has_graph(network)
                call = original if as_graph or not compiled else network._call_impl
                with tap(places, hooks, compiled=as_graph):
                    return call(*args, **kwargs)

        return forward

    def _influence(
        self, unet: Any, rows: LabelledRows, added: dict[str, Residuals], step: int
    ) -> AbstractContextManager[None]:
        """Splits the skips of a call of the U-Net, if that is watched."""
        collector = self.collector
        if not added or not rows.cond or collector is None or collector.influence is None:
            return nullcontext()
        watched = collector.watch.acts(step, collector.count)
        return collector.influence.controls(unet, rows, added, step) if watched else nullcontext()

    def _labelled(self, name: str, sample: Tensor, states: Tensor) -> tuple[LabelledRows, Collector, int]:
        """The rows of a call, the collector, made at the first call of a run, and the step."""
        guider = getattr(self.pipe, "guider", None)
        step = getattr(guider, "_step", None) if guider is not None else None
        step = self._steps if step is None else int(step)
        if step != self._now:
            self._now, self._labels = step, set()
        rows, prompts, negatives = self.reader.rows(states)
        label = f"{name} {'cond' if rows.cond else 'uncond'}"
        if guider is not None and label in self._labels:  # a guider that asks for the prompt again has perturbed
            rows, prompts, negatives = self.reader.rows(states, perturbed=True)
        self._labels.add(label)
        if self.collector is None:
            self._seed = "noise " + hashlib.sha256(sample[:1].float().cpu().numpy().tobytes()).hexdigest()[:16]
            self._cells = (sample.shape[-2], sample.shape[-1])
            self.collector = self._collector(rows, prompts, negatives)
        self._calls += 1
        self._steps += name == "unet"
        return rows, self.collector, step

    def _collector(self, rows: LabelledRows, prompts: list[Text], negatives: list[Text]) -> Collector:
        made = {branch: [text for one in self.reader.made if one.branch == branch for text in one.texts]
                for branch in ("cond", "uncond")}  # fmt: skip
        prompts = prompts or made["cond"][: rows.pictures]
        negatives = negatives or made["uncond"][: rows.pictures]
        texts = [{"prompt": prompt} for prompt in prompts]
        for at, one in enumerate(texts):
            if negatives:
                one["negative"] = negatives[min(at, len(negatives) - 1)]
        places = [site for _, own in self.networks.values() for site in own]
        return Collector(self.watch, places, texts, self._count())

    def _count(self) -> int:
        """How many steps the run takes."""
        guider = getattr(self.pipe, "guider", None)
        for known in (getattr(guider, "_num_inference_steps", None), getattr(self.pipe, "_num_timesteps", None)):
            if known:
                return int(known)
        return len(self.pipe.scheduler.timesteps)

    def _decode(self, decode: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(decode)
        def decoded(*args: Any, **kwargs: Any) -> Any:
            out = decode(*args, **kwargs)
            pixels = out[0] if isinstance(out, tuple) else out.sample
            self._decoded += images(pixels)
            return out

        return decoded

    def _step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)
        def stepped(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
            out = step(model_output, timestep, sample, *args, **kwargs)
            latents = out[0] if isinstance(out, tuple) else out.prev_sample
            denoised = out[1] if isinstance(out, tuple) and len(out) > 1 else None
            denoised = getattr(out, "pred_original_sample", denoised)
            if denoised is None:
                denoised = estimate(self.pipe.scheduler, model_output, timestep, sample)
            assert self.on_step is not None
            if self.on_step(PipelineStep(self._now, self._count(), latents, denoised, self)) is False:
                raise _Cancelled
            return out

        return stepped


@contextmanager
def watching(pipe: Any, watch: Watch | None = None, *, on_step: OnStep | None = None) -> Iterator[Watching]:
    """Watch every run of a diffusers pipeline, or ModularPipeline, with a U-Net inside the block.

    >>> with ctrl.watching(pipe) as watch:    # doctest: +SKIP
    ...     pipe("a red ball on grass")
    >>> watch.attention["ball"].overlay()    # doctest: +SKIP

    The pipeline keeps its processors, IP-Adapters, ControlNets and LoRAs; rows are labelled by content, so guiders and
    any order of branches will do. Words are those its text encoder read inside the block; embeddings that are given,
    and are nothing it read, have the numbers of their tokens for words. Styles are numbered one for each IP-Adapter, or
    for each of its pictures where they have masks; ControlNets are "controlnet", or "controlnet0", … of several, and
    one that is used twice has one name and the mean of both. A compiled network runs as a graph, eagerly with
    IP-Adapters and where influence splits what ControlNets add. With `Watch(influence=True)` the ControlNets are one
    party, "controlnets": diffusers adds their residuals up. `on_step` is called with a `PipelineStep` after each step;
    if it answers False, the run is cancelled and the block left. A TypeError refuses what has no U-Net that draws
    pictures from a text; errors of the run pass through, and leave the pipeline as it was.
    """
    if getattr(pipe, "unet", None) is None or getattr(pipe, "scheduler", None) is None:
        raise TypeError(f"pipe must be a diffusers pipeline with a U-Net and a scheduler, got {type(pipe).__name__}.")
    wanted = Watch.of(watch) or Watch()
    if on_step is not None and not callable(on_step):
        raise TypeError(f"on_step must be a function of a PipelineStep, got {on_step!r:.60}.")
    with Watching(pipe, wanted, on_step).attached() as seen:
        yield seen
