"""Muon (Keller Jordan, https://kellerjordan.github.io/posts/muon) for convolutions and matrices, AdamW for the rest.

Where compute is short it learns in clearly fewer steps than AdamW (LOG.md has the trial). torch's own takes plain
matrices only; here a convolution counts as the matrix (out, in * k * k). Updates are scaled to the size AdamW's have
(Moonlight, arXiv 2502.16982), so one learning rate serves both. A step is few launches however many matrices there
are, since on a GPU these nets' steps are bound by what they launch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

OUTER = ("conv_in", "conv_out", "embedding", "head")  # first and last layers, which Muon does not suit


def optimizer(module: nn.Module, lr: float, weight_decay: float = 0.01) -> Muon:
    """Muon on the module's inner matrices, AdamW on first and last layers, embeddings, norms and biases."""
    outer = {name for name, _ in module.named_parameters() if any(part in name for part in OUTER)}
    trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    inner = [p for name, p in trained if p.ndim >= 2 and name not in outer]
    chosen = {id(p) for p in inner}
    return Muon(inner, [p for _, p in trained if id(p) not in chosen], lr, weight_decay)


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, beside AdamW for what is not a matrix."""

    def __init__(self, matrices: Iterable[Tensor], others: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        groups = [{"params": list(matrices), "matrix": True}, {"params": list(others), "matrix": False}]
        super().__init__([g for g in groups if g["params"]], {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # it takes no closure
        """Take one step."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if moved:
                move = self._matrices if group["matrix"] else self._others
                move(moved, [p.grad for p in moved], group["lr"], group["weight_decay"])

    def _matrices(self, moved: list[Tensor], grads: list[Tensor], lr: float, weight_decay: float) -> None:
        for p in moved:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in moved]
        torch._foreach_lerp_(momenta, grads, 0.05)
        ahead = [one.flatten(1) for one in torch._foreach_lerp(grads, momenta, 0.95)]
        moves = orthogonal(ahead)
        torch._foreach_mul_(moves, [0.2 * max(one.shape) ** 0.5 for one in ahead])
        torch._foreach_mul_(moved, 1 - lr * weight_decay)
        torch._foreach_add_(moved, [one.view_as(p) for one, p in zip(moves, moved, strict=True)], alpha=-lr)

    def _others(self, moved: list[Tensor], grads: list[Tensor], lr: float, weight_decay: float) -> None:
        for p in moved:
            if not self.state[p]:
                zeros = {"mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
                self.state[p].update(step=torch.zeros((), device=p.device), **zeros)
        means, squares, steps = ([self.state[p][name] for p in moved] for name in ("mean", "square", "step"))
        adamw(
            moved, grads, means, squares, [], steps, fused=True, amsgrad=False, maximize=False,
            beta1=0.9, beta2=0.99, lr=lr, weight_decay=weight_decay, eps=1e-8,
        )  # fmt: skip


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """The nearest orthogonal matrices, nearly: five Newton-Schulz steps, each (m, n) to (m, n).

    A step multiplies from the smaller side by a polynomial of the Gram matrix, so all five are done on the small Gram
    matrix and the large one is touched twice. Matrices of one shape are multiplied together, and so are Gram matrices
    of one size, whatever they are of.
    """
    alike = [(places, torch.stack([matrices[i] for i in places])) for places in _grouped([m.shape for m in matrices])]
    grams = [stack.mT @ stack if _tall(stack) else stack @ stack.mT for _, stack in alike]
    moves = list(matrices)
    for group in _grouped([gram.shape[1] for gram in grams]):
        wholes = _newton_schulz(torch.cat([grams[i] for i in group])).split([len(grams[i]) for i in group])
        for i, whole in zip(group, wholes, strict=True):
            places, stack = alike[i]
            moved = stack @ whole if _tall(stack) else whole @ stack
            for place, move in zip(places, moved.unbind(), strict=True):
                moves[place] = move
    return moves


def _tall(stack: Tensor) -> bool:
    return stack.shape[1] > stack.shape[2]


def _newton_schulz(grams: Tensor) -> Tensor:
    """What to multiply matrices by, (k, m, m), given their Gram matrices (k, m, m)."""
    norm = grams.diagonal(dim1=1, dim2=2).sum(1).sqrt()[:, None, None] + 1e-7
    return _steps(grams / norm**2, 5) / norm


def _steps(gram: Tensor, count: int) -> Tensor:
    part = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
    part.diagonal(dim1=1, dim2=2).add_(3.4445)
    return part if count == 1 else _steps(part @ gram @ part, count - 1) @ part


def _grouped(keys: Sequence[object]) -> Iterator[list[int]]:
    """The places of equal keys, in the order in which they come first."""
    for key in dict.fromkeys(keys):
        yield [i for i, other in enumerate(keys) if other == key]
