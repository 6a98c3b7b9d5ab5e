"""Muon: momentum whose update is made orthogonal, for the weight matrices of a network.

Matrices of one shape are stacked, so a step costs a few batched products per shape however many
layers there are.
"""

import collections

import torch

# Quintic Newton-Schulz iteration: drives every singular value towards 1 in five rounds.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """`lr` means what it means to AdamW: an update has root mean square 0.2 * lr."""

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            by_shape = collections.defaultdict(list)
            for p in group["params"]:
                by_shape[p.shape].append(p)
            for shape, params in by_shape.items():
                self._step_shape(group, shape, params)

    def _step_shape(self, group: dict, shape: torch.Size, params: list) -> None:
        gradient = torch.stack([p.grad for p in params])
        state = self.state[params[0]]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        gradient.lerp_(state["momentum"], group["momentum"])  # Nesterov
        update = _orthogonal(gradient) * (-0.2 * group["lr"] * max(shape) ** 0.5)
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(params, list(update.to(params[0].dtype).unbind()))


def _orthogonal(stack: torch.Tensor) -> torch.Tensor:
    """The nearest semi-orthogonal matrices to those of `stack` [n, rows, columns], roughly."""
    a, b, c = _COEFFICIENTS
    x = stack.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
