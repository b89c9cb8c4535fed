"""The same derivatives by nested automatic differentiation: slow, and for every model that torch can differentiate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .symbol import Monomial, Symbol


def apply(
    model: Callable[[Tensor], Tensor],
    x: Float[Tensor, "... d"],
    symbols: Sequence[Symbol],
    directions: Tensor | None = None,
) -> tuple[Float[Tensor, "... outputs"], list[Float[Tensor, "... outputs"]]]:
    """See `operators.apply`. Each output and each derivative is a backward pass through those of the order below."""
    with torch.enable_grad():
        # A view, so that x may be a leaf, a result, or need no gradient itself.
        x = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
        d = x.shape[-1]
        v = torch.eye(d, dtype=x.dtype, device=x.device) if directions is None else directions
        # torch's fused attention has no second derivative.
        with sdpa_kernel(SDPBackend.MATH):
            value = model(x)
        outputs = value.reshape(-1, value.shape[-1]).unbind(-1) if value.dim() == x.dim() else [value.reshape(-1)]
        columns = [_of_output(u, x, symbols, v) for u in outputs]
        found = [torch.stack(list(terms), -1).reshape(value.shape) for terms in zip(*columns, strict=True)]
    return value, found


def _of_output(u: Tensor, x: Tensor, symbols: Sequence[Symbol], v: Tensor) -> list[Tensor]:
    known: dict[Monomial, Tensor] = {(0,) * len(v): u}

    def derivative(place: Monomial) -> Tensor:
        if place not in known:
            axis = next(i for i, n in enumerate(place) if n)
            below = derivative((*place[:axis], place[axis] - 1, *place[axis + 1 :]))
            slope = _slope(below, x)
            known[place] = (slope * v[axis]).sum(-1).reshape(-1)
        return known[place]

    return [torch.stack([float(c) * derivative(m) for m, c in s.items()]).sum(0) for s in symbols]


def _slope(u: Tensor, x: Tensor) -> Tensor:
    if not u.requires_grad:
        return torch.zeros_like(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True, allow_unused=True)
    return torch.zeros_like(x) if slope is None else slope
