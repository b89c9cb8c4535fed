"""Derivatives of a whole model by its input, in one pass.

Each function runs the model's own code once, on the channels that it needs and no others (`algebra`), and gives the
model's value along with the derivatives. Results can be differentiated by parameters and by inputs, as often as wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from . import nested
from . import symbol as _symbol
from .algebra import Algebra
from .channels import Channels
from .quantity import Quantity
from .symbol import Symbol

Model: TypeAlias = Callable[[Tensor], Tensor]
Fallback: TypeAlias = Literal["autograd"] | None


def gradient(
    model: Model, x: Float[Tensor, "... d"], *, fallback: Fallback = None
) -> tuple[Float[Tensor, "... outputs"], Float[Tensor, "... outputs d"]]:
    """The model's value and its first derivatives by every input.

    Args:
        model: takes (..., d) and gives (..., outputs), each sample by itself: any module or function of torch.
        x: where, floating-point.
        fallback: "autograd" computes by nested automatic differentiation where the model uses an operation that has no
            rule; without it such a model is refused.

    Returns:
        The value, and [..., o, i] = ∂u_o/∂x_i.

    Raises:
        MissingRule: for an operation without a rule, with its name.
        TypeError, ValueError: for an unusable x.
    """
    d = dimensions(x)
    symbols = [_symbol.monomial([i], d) for i in range(d)]
    value, found = apply(model, x, symbols, fallback=fallback)
    return value, torch.stack(found, -1)


def hessian(
    model: Model, x: Float[Tensor, "... d"], *, fallback: Fallback = None
) -> tuple[Float[Tensor, "... outputs"], Float[Tensor, "... outputs d d"]]:
    """The model's value and its second derivatives, [..., o, i, j] = ∂²u_o/∂x_i ∂x_j; see `gradient`."""
    d = dimensions(x)
    pairs = [(i, j) for i in range(d) for j in range(i, d)]
    value, found = apply(model, x, [_symbol.monomial(p, d) for p in pairs], fallback=fallback)
    places = [pairs.index((min(i, j), max(i, j))) for i in range(d) for j in range(d)]
    return value, torch.stack([found[p] for p in places], -1).unflatten(-1, (d, d))


def laplacian(
    model: Model, x: Float[Tensor, "... d"], *, fallback: Fallback = None
) -> tuple[Float[Tensor, "... outputs"], Float[Tensor, "... outputs"]]:
    """The model's value and its Laplacian Σ_i ∂²u/∂x_i², from d + 2 channels (Li et al., arXiv 2307.08214).

    See `gradient`.
    """
    value, (found,) = apply(model, x, [_symbol.laplacian(dimensions(x))], fallback=fallback)
    return value, found


def bilaplacian(
    model: Model, x: Float[Tensor, "... d"], *, fallback: Fallback = None
) -> tuple[Float[Tensor, "... outputs"], Float[Tensor, "... outputs"]]:
    """The model's value and ΔΔu, from u, ∇u, the Hessian, ∇Δu and ΔΔu: nine channels for d = 2. See `gradient`."""
    value, (found,) = apply(model, x, [_symbol.laplacian(dimensions(x), 2)], fallback=fallback)
    return value, found


def jet(
    model: Model,
    x: Float[Tensor, "... d"],
    directions: Tensor | Sequence[float],
    order: int,
    *,
    fallback: Fallback = None,
) -> Float[Tensor, "directions order+1 ... outputs"]:
    """The model and its derivatives along directions: d^k/dt^k u(x + t v) at t = 0, k = 0 to `order`.

    Args:
        model, x, fallback: see `gradient`.
        directions: v, (d,); several, (m, d); or several for each sample, (m, *x.shape).
        order: the highest derivative, from 1 to 6.

    Returns:
        (m, order + 1, ..., outputs); without the first axis for a single direction (d,).
    """
    d = dimensions(x)
    if isinstance(order, bool) or not isinstance(order, int) or not 1 <= order <= 6:
        raise ValueError(f"order must be a whole number from 1 to 6, got {order!r}")
    v = torch.as_tensor(directions, dtype=x.dtype, device=x.device)
    single = v.dim() == 1
    v = v[None] if single else v
    if v.shape[1:] not in ((d,), x.shape):
        raise ValueError(
            f"directions have shape {tuple(v.shape)}; for x of shape {tuple(x.shape)} give ({d},), (m, {d}) or "
            f"(m, {', '.join(map(str, x.shape))})"
        )
    m = len(v)
    # Each direction is a variable of its own; no mixed derivative is asked for.
    symbols = [_symbol.monomial([i] * k, m) for i in range(m) for k in range(1, order + 1)]
    value, found = apply(model, x, symbols, directions=v, fallback=fallback)
    rows = [torch.stack([value, *found[i * order : (i + 1) * order]]) for i in range(m)]
    return rows[0] if single else torch.stack(rows)


def apply(
    model: Model,
    x: Float[Tensor, "... d"],
    symbols: Sequence[Symbol],
    *,
    directions: Tensor | None = None,
    fallback: Fallback = None,
) -> tuple[Float[Tensor, "... outputs"], list[Float[Tensor, "... outputs"]]]:
    """The model's value, and linear operators with constant coefficients applied to it.

    Args:
        model, x, fallback: see `gradient`.
        symbols: the operators, as polynomials in the directions.
        directions: (variables, d) or (variables, *x.shape); the axes of x if not given.
    """
    d = dimensions(x)
    if fallback not in (None, "autograd"):
        raise ValueError(f'fallback is "autograd" or None, got {fallback!r}')
    algebra = Algebra.of(symbols, d if directions is None else len(directions))
    try:
        result = model(Channels.of(Quantity.seed(algebra, x, directions)))
    except NotImplementedError:
        if fallback is None:
            raise
        return nested.apply(model, x, symbols, directions)
    if not isinstance(result, Tensor):
        raise TypeError(f"the model must give a tensor, got {type(result).__name__}")
    if not isinstance(result, Channels):  # it does not depend on x
        return result, [torch.zeros_like(result) for _ in symbols]
    return result.value, [_combined(result, algebra.coordinates(s)) for s in symbols]


def _combined(result: Channels, weights: dict[int, Fraction]) -> Tensor:
    terms = [result.quantity.part(c) if w == 1 else float(w) * result.quantity.part(c) for c, w in weights.items()]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def dimensions(x: Any) -> int:
    """How many inputs the model has.

    Raises:
        TypeError, ValueError: where derivatives cannot be taken at x.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor (..., d), got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"derivatives are taken at floating-point x, got {x.dtype}; convert with x.double()")
    if x.dim() == 0 or x.shape[-1] == 0:
        raise ValueError(f"x must have shape (..., d) with d >= 1, got {tuple(x.shape)}")
    return x.shape[-1]
