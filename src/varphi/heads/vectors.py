"""Heads whose output is constrained as a whole: weights that sum to one, increasing values, directions, covariance."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from varphi.activation.lookup import get

from .heads import Head, Range, _floating
from .links import softplus_inverse

_INFINITE = Range(-math.inf, math.inf)


class VectorHead(Head):
    """A head that mixes the pre-activations of one sample (the last dimension)."""

    def __init__(self) -> None:
        super().__init__()

    def slopes(self, z: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch inputs"]:
        flat = z.reshape(-1, z.shape[-1])
        jacobian = torch.func.vmap(torch.func.jacrev(self.forward))(flat)
        return jacobian.flatten(1, -2).norm(dim=1).reshape(z.shape)

    def _shaped(self, y: Any, least: int = 1) -> Tensor:
        y = _floating(self.kind, y)
        if y.dim() < 1 or y.shape[-1] < least:
            raise ValueError(
                f"{self.kind} head: targets have their components along the last dimension, at least {least}; "
                f"got shape {tuple(y.shape)}"
            )
        return y

    def extra_repr(self) -> str:
        return repr(self.kind)


class _Simplex(VectorHead):
    kind = "simplex"
    constraint = constraints.simplex
    bounds = Range(0.0, 1.0)

    def _checked(self, y: Any) -> Tensor:
        y = self._shaped(y, least=2)
        self._reject(y, y > 0, "(0, 1)", "weights are positive: smooth exact zeros first, (y + a)/(1 + n a)")
        total = y.sum(-1)
        tolerance = 16 * torch.finfo(y.dtype).eps * y.shape[-1]
        wrong = (total - 1).abs() > tolerance
        if bool(wrong.any()):
            raise ValueError(
                f"simplex head: weights must sum to 1, got a sum of {float(total[wrong].reshape(-1)[0]):g}; "
                "divide by the sum"
            )
        return y


class Softmax(_Simplex):
    """n pre-activations → n weights by softmax. Adding a number to all of them changes nothing, so not one-to-one."""

    bijective = False

    def forward(self, z: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        return torch.softmax(z, dim=-1)

    def inverse(self, y: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        logits = torch.log(self._checked(y))
        return logits - logits.mean(-1, keepdim=True)

    def log_abs_det_jacobian(self, z: Tensor, y: Tensor) -> Tensor:
        raise TypeError("softmax is not one-to-one; use head('simplex', via='stick_breaking')")


class StickBreaking(_Simplex):
    """n - 1 pre-activations → n weights, one-to-one: each takes a share of what the earlier ones left.

    Source: Stan reference manual, "Unit simplex"; `torch.distributions.StickBreakingTransform`.
    """

    bijective = True

    def inputs(self, outputs: int) -> int:
        return outputs - 1

    def forward(self, z: Float[Tensor, "*batch n-1"]) -> Float[Tensor, "*batch n"]:
        shifted = z - self._offsets(z.shape[-1], z)
        left = F.pad(F.logsigmoid(-shifted).cumsum(-1), (1, 0))
        return torch.exp(left + F.pad(F.logsigmoid(shifted), (0, 1)))

    def inverse(self, y: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n-1"]:
        y = self._checked(y)
        # What is left after each piece, summed from the small end so that no digit cancels.
        left = y.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        return torch.log(y[..., :-1]) - torch.log(left) + self._offsets(y.shape[-1] - 1, y)

    def log_abs_det_jacobian(self, z: Tensor, y: Tensor) -> Tensor:
        # Each piece is share · (what is left), so the triangular Jacobian has share' · left on its diagonal.
        shifted = z - self._offsets(z.shape[-1], z)
        left = F.pad(F.logsigmoid(-shifted).cumsum(-1), (1, 0))[..., :-1]
        return (F.logsigmoid(shifted) + F.logsigmoid(-shifted) + left).sum(-1)

    @staticmethod
    def _offsets(n: int, like: Tensor) -> Tensor:
        # So that z = 0 gives equal weights.
        return torch.log(torch.arange(n, 0, -1, dtype=like.dtype, device=like.device))


def simplex(via: str = "softmax") -> Head:
    """Weights > 0 that sum to 1.

    Args:
        via: "softmax" (n inputs, the default) or "stick_breaking" (n - 1 inputs, one-to-one).
    """
    ways = {"softmax": Softmax, "stick_breaking": StickBreaking}
    if via not in ways:
        raise ValueError(f"simplex head: via must be one of {', '.join(map(repr, ways))}, got {via!r}")
    return ways[via]()


class Ordered(VectorHead):
    """Increasing components: the first is z₁, each next one adds softplus(z_k).

    In floating point two neighbours are equal where the step is below the spacing of the numbers.
    """

    kind = "ordered"
    constraint = constraints.independent(constraints.real, 1)
    bijective = True
    bounds = _INFINITE

    def __init__(self) -> None:
        super().__init__()
        self.activation = get("softplus")

    def forward(self, z: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        return torch.cat([z[..., :1], self.activation(z[..., 1:])], dim=-1).cumsum(-1)

    def inverse(self, y: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        y = self._shaped(y)
        steps = y.diff(dim=-1)
        self._reject(y[..., 1:], steps > 0, "of strictly increasing values", "sort the targets and separate equal ones")
        self._reject(y, y.isfinite(), "(-inf, inf)", "targets must be finite")
        return torch.cat([y[..., :1], softplus_inverse(steps)], dim=-1)

    def log_abs_det_jacobian(self, z: Tensor, y: Tensor) -> Tensor:
        return F.logsigmoid(z[..., 1:]).sum(-1)


class UnitNorm(VectorHead):
    """A direction: z/‖z‖, of length 1 for every finite z, however large or small; z = 0 gives the first axis."""

    kind = "unit_norm"
    constraint = constraints.independent(constraints.interval(-1.0, 1.0), 1)
    bijective = False
    bounds = Range(-1.0, 1.0)

    def forward(self, z: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        if z.shape[-1] < 2:
            raise ValueError(f"a unit_norm head needs at least 2 components, got shape {tuple(z.shape)}")
        # Scaled first: the squares of 1e30 or 1e-30 are not float32 numbers.
        largest = z.abs().amax(dim=-1, keepdim=True)
        axis = torch.zeros_like(z)
        axis[..., 0] = 1
        scaled = torch.where(largest == 0, axis, z / torch.where(largest == 0, 1, largest))
        return scaled / scaled.norm(dim=-1, keepdim=True)

    def inverse(self, y: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        y = self._shaped(y, least=2)
        norm = y.norm(dim=-1)
        self._reject(norm, (norm - 1).abs() <= 1e-3, "of unit vectors", "divide the targets by their norm")
        return y

    def healthy(self, z: Tensor) -> Tensor:
        return torch.ones(z.shape[-1], dtype=z.dtype, device=z.device)

    def log_abs_det_jacobian(self, z: Tensor, y: Tensor) -> Tensor:
        raise TypeError("all multiples of z give one direction: a unit_norm head is not one-to-one")


class PositiveDefinite(VectorHead):
    """n(n+1)/2 pre-activations → L Lᵀ, with L lower triangular and its diagonal a softplus.

    The first n pre-activations give the diagonal of L, the others the rows below it. `cholesky(z)` is L itself, which a
    `MultivariateNormal(scale_tril=...)` takes without factoring L Lᵀ again. In floating point L Lᵀ is positive definite
    as far as its condition number (the squared ratio of the diagonal of L) is below 1/eps.
    """

    kind = "positive_definite"
    constraint = constraints.positive_definite
    bijective = True
    bounds = _INFINITE

    def __init__(self) -> None:
        super().__init__()
        self.activation = get("softplus")

    def inputs(self, outputs: int) -> int:
        return outputs * (outputs + 1) // 2

    def order(self, inputs: int) -> int:
        """n, from n(n+1)/2 inputs."""
        n = (math.isqrt(8 * inputs + 1) - 1) // 2
        if n < 1 or n * (n + 1) // 2 != inputs:
            raise ValueError(
                f"a positive_definite head needs n(n+1)/2 pre-activations for n×n (1, 3, 6, 10, 15, ...), got {inputs}"
            )
        return n

    def cholesky(self, z: Float[Tensor, "*batch n*(n+1)/2"]) -> Float[Tensor, "*batch n n"]:
        n = self.order(z.shape[-1])
        lower = z.new_zeros(*z.shape[:-1], n, n)
        rows, columns = torch.tril_indices(n, n, offset=-1, device=z.device)
        lower[..., rows, columns] = z[..., n:]
        return lower + torch.diag_embed(self.activation(z[..., :n]))

    def forward(self, z: Float[Tensor, "*batch n*(n+1)/2"]) -> Float[Tensor, "*batch n n"]:
        lower = self.cholesky(z)
        return lower @ lower.mT

    def inverse(self, y: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n*(n+1)/2"]:
        y = _floating(self.kind, y)
        if y.dim() < 2 or y.shape[-1] != y.shape[-2]:
            raise ValueError(f"positive_definite head: targets are square matrices, got shape {tuple(y.shape)}")
        lower, failed = torch.linalg.cholesky_ex(y)
        asymmetric = (y - y.mT).abs().amax() > 1e-4 * y.abs().amax()
        if bool(failed.any()) or bool(asymmetric):
            smallest = float(torch.linalg.eigvalsh(0.5 * (y + y.mT)).min())
            reason = "not symmetric" if bool(asymmetric) else f"its smallest eigenvalue is {smallest:g}"
            raise ValueError(
                f"positive_definite head: the target is outside its range ({reason}); "
                "symmetrise it and add a small multiple of the identity"
            )
        n = y.shape[-1]
        rows, columns = torch.tril_indices(n, n, offset=-1, device=y.device)
        diagonal = softplus_inverse(torch.diagonal(lower, dim1=-2, dim2=-1))
        return torch.cat([diagonal, lower[..., rows, columns]], dim=-1)

    def log_abs_det_jacobian(self, z: Tensor, y: Tensor) -> Tensor:
        # |∂(L Lᵀ)/∂L| = 2ⁿ ∏ L_ii^(n-i+1) (Muirhead 1982, theorem 2.1.9), times softplus' on the diagonal.
        n = self.order(z.shape[-1])
        powers = torch.arange(n, 0, -1, dtype=z.dtype, device=z.device)
        diagonal = z[..., :n]
        return n * math.log(2) + (powers * torch.log(self.activation(diagonal)) + F.logsigmoid(diagonal)).sum(-1)
