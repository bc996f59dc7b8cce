"""Muon (Keller Jordan, https://kellerjordan.github.io/posts/muon) for convolutions and matrices, AdamW for the rest.

Where compute is short it learns in clearly fewer steps than AdamW (LOG.md has the trial). torch's own takes plain
matrices only; here a convolution counts as the matrix (out, in * k * k). Updates are scaled to the size AdamW's have
(Moonlight, arXiv 2502.16982), so one learning rate serves both.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

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
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            move = self._matrix if group["matrix"] else self._adam
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    move(p, p.grad, group["lr"])

    def _matrix(self, p: Tensor, grad: Tensor, lr: float) -> None:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(grad, 0.05)
        ahead = grad.lerp(momentum, 0.95).flatten(1)
        size = 0.2 * max(ahead.shape) ** 0.5
        p.add_(orthogonal(ahead).view_as(p), alpha=-lr * size)

    def _adam(self, p: Tensor, grad: Tensor, lr: float) -> None:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
        state["step"] += 1
        count = float(state["step"])
        mean: Tensor = state["mean"].lerp_(grad, 0.1)
        square: Tensor = state["square"].lerp_(grad.square(), 0.01)
        scale = (square / (1 - 0.99**count)).sqrt_().add_(1e-8)
        p.addcdiv_(mean, scale, value=-lr / (1 - 0.9**count))


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest orthogonal matrix, nearly: five Newton-Schulz steps, (m, n) to (m, n).

    A step multiplies from the left by a polynomial of the Gram matrix, so all five are done on the small Gram matrix
    and the large one is touched twice.
    """
    x = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    gram, eye = x @ x.mT, torch.eye(len(x), device=x.device)
    whole = eye
    for _ in range(5):
        part = 3.4445 * eye - 4.7750 * gram + 2.0315 * (gram @ gram)
        whole, gram = part @ whole, part @ gram @ part
    x = whole @ x
    return x.mT if matrix.shape[0] > matrix.shape[1] else x
