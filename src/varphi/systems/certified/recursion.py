"""A bound of a network's Lipschitz constant that is below the product of its layers': layer by layer, with multipliers.

Write the difference of two outputs of layer i, wherever the inputs are, as u_i = D·W·u_{i-1} with D diagonal and each
slope in [a, b] = [c - r, c + r]. Let u_{i-1} lie in the ellipsoid {‖u‖² in Y⁻¹ <= t}. For every diagonal Γ > A =
W·Y·Wᵀ,

    Y' = C·(A + A(Γ - A)⁻¹A)·C + R²Γ

is such an ellipsoid for u_i: with z = W·u and w = (D - C)/R·z, Σ Γ⁻¹(z² - w²) >= 0 is added to the inequality to prove
(the S-procedure), and the Schur complement is the line above. This is the layered form of LipSDP (Fazlyab et al.,
NeurIPS 2019, arXiv 1906.04893; layer by layer as in ECLipsE, Xu & Sivaranjani, NeurIPS 2024, arXiv 2404.04375), written
for covariances, where a neuron of known slope (r = 0) costs nothing as Γ → ∞. Γ = ‖A‖·(1 + |c|/r) gives exactly the
product of the norms; descent lowers it. Γ is written as a pattern times the least multiple of it that is above A times
1 + a share, so that every pattern and share is feasible and descent needs no barrier.

What later layers need besides an activation's output (a skip connection, parts of a concatenation) is carried past it
in the same ellipsoid, so that how it moves together with the output is kept. W then maps the whole state to (k, z),
what is kept and what the activation reads; P = W·Y·Wᵀ, and with P_z its columns and A its block of z

    Y' = C·(P + P_z(Γ - A)⁻¹P_zᵀ)·C + R²Γ

with c = 1, r = 0 and no multiplier where numbers are kept. For a maximum over windows |Δmax|² <= Σ Δz² over the window:
c = 0, r = 1, and Γ⁻¹ of an input is the sum of those of its windows.

Every Γ is a certificate: one Cholesky factorisation of

    [Y' - R²Γ - CPC   CP_z ]
    [P_zᵀC            Γ - A]

with the rounding of all that went into it shows that the float matrix Y' bounds the exact one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .spectral import UNIT, gamma, largest_eigenvalue, positive

# Γ of a neuron whose slope is known, over that of others; slopes that differ by less are known.
_MOST, _LEAST_RADIUS = 1e6, 1e-12
# What Γ is above A by, at least; and where descent begins, further away where something is kept beside an activation.
_ABOVE, _LEAST_SHARE, _BESIDE = 1e-7, 1e-3, 1.0
# Of the descent: what it moves by at first, a share by twice as much, and how that shrinks.
_RATE, _DECAY = 0.25, 0.96


class Choice(NamedTuple):
    """Multipliers of a layer, as logarithms.

    Attributes:
        share: (batch, 1), what all are above the least multiple of the pattern by.
        pattern: (batch, m).
    """

    share: Float[Tensor, "batch 1"]
    pattern: Float[Tensor, "batch m"]


class Bend(Protocol):
    """What is not linear, of n numbers z to m, with a multiplier for each of the m."""

    @property
    def size(self) -> int:
        """m."""
        ...

    @property
    def steepest(self) -> Float[Tensor, " batch"]:
        """Above its Lipschitz constant."""
        ...

    def carried(self, rows: Float[Tensor, "batch n any"]) -> Float[Tensor, "batch m any"]:
        """C·rows."""
        ...

    def limits(self, multiplier: Float[Tensor, "batch m"]) -> tuple[Float[Tensor, "batch n"], Float[Tensor, "batch m"]]:
        """(Γ, R²Γ), each as a diagonal."""
        ...

    def start(self) -> Choice:
        """Multipliers that are those of the product of norms, or nearly."""
        ...


@dataclass(frozen=True, eq=False)
class Slopes:
    """An activation of single neurons: their slopes lie in [least, greatest], (batch, neurons)."""

    least: Float[Tensor, "batch n"]
    greatest: Float[Tensor, "batch n"]

    @property
    def size(self) -> int:
        return self.least.shape[-1]

    @cached_property
    def centre(self) -> Tensor:
        return (self.least + self.greatest) / 2

    @cached_property
    def radius(self) -> Tensor:
        """Half the width, outward."""
        half = torch.maximum(self.greatest - self.centre, self.centre - self.least)
        return half * (1 + 4 * UNIT) + 2 * UNIT * self.centre.abs()

    @property
    def steepest(self) -> Tensor:
        return torch.maximum(self.least.abs(), self.greatest.abs()).amax(-1)

    def carried(self, rows: Tensor) -> Tensor:
        return self.centre.unsqueeze(-1) * rows

    def limits(self, multiplier: Tensor) -> tuple[Tensor, Tensor]:
        return multiplier, self.radius.square() * multiplier

    def start(self) -> Choice:
        ratio = (self.centre.abs() / self.radius.clamp_min(_LEAST_RADIUS)).clamp_max(_MOST)
        ratio = torch.where(self.radius < _LEAST_RADIUS, _MOST, ratio)
        share = ratio.amin(-1, keepdim=True).clamp_min(_LEAST_SHARE)
        return Choice(share.log(), (1 + ratio).log())


@dataclass(frozen=True, eq=False)
class Windows:
    """Maxima over windows of z.

    Attributes:
        places: (m, k) indices into z, -1 where a window reaches into the padding.
        inputs: n; each stands in a window.
    """

    places: Int[Tensor, "m k"]
    inputs: int

    @property
    def size(self) -> int:
        return len(self.places)

    @cached_property
    def _overlap(self) -> int:
        """In how many windows an input stands at most."""
        return int(torch.bincount(self.places[self.places >= 0], minlength=1).max())

    @property
    def steepest(self) -> Tensor:
        return torch.tensor([self._overlap], dtype=torch.float64).sqrt() * (1 + 4 * UNIT)

    def carried(self, rows: Tensor) -> Tensor:
        return rows.new_zeros(len(rows), self.size, rows.shape[-1])

    def limits(self, multiplier: Tensor) -> tuple[Tensor, Tensor]:
        used = self.places >= 0
        shares = (1 / multiplier).unsqueeze(-1).expand(-1, *self.places.shape)[:, used]
        found = torch.zeros(len(multiplier), self.inputs, dtype=multiplier.dtype)
        total = found.index_add(1, self.places[used], shares)
        # Downward: a smaller Γ asks for more.
        return (1 - (self._overlap + 4) * 2 * UNIT) / total, multiplier

    def start(self) -> Choice:
        return Choice(
            torch.full((1, 1), _LEAST_SHARE, dtype=torch.float64).log(), torch.zeros(1, self.size, dtype=torch.float64)
        )


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear map from the state before to (what is kept, z), and what is not linear in z.

    Attributes:
        weight: (kept + n, state), float64.
        error: a bound of the Frobenius norm of what `weight` is off by.
        bend: of the n numbers z; None after the last layer.
        kept: how many numbers pass it by, unchanged.
    """

    weight: Float[Tensor, "out state"]
    error: float
    bend: Bend
    kept: int = 0

    def carried(self, rows: Float[Tensor, "batch out any"]) -> Float[Tensor, "batch next any"]:
        """C·rows, with c = 1 for what is kept."""
        bent = self.bend.carried(rows[:, self.kept :])
        return torch.cat([rows[:, : self.kept].expand(len(bent), -1, -1), bent], 1) if self.kept else bent

    def spread(self, multiplier: Tensor) -> tuple[Tensor, Tensor]:
        """(Γ of z, R²Γ of the whole state after), as matrices."""
        limit, spread = self.bend.limits(multiplier)
        return torch.diag_embed(limit), torch.diag_embed(F.pad(spread, (self.kept, 0)))


def through(weight: Tensor, y: Tensor) -> Tensor:
    """W·Y·Wᵀ."""
    product = weight @ y @ weight.mT
    return (product + product.mT) / 2


def slack_of(weight: Tensor, error: float, y: Tensor) -> Tensor:
    """How far, in the spectral norm, the computed W·Y·Wᵀ may be from the exact one: (batch,)."""
    size = torch.linalg.matrix_norm(y) * (1 + 1e-9)
    w = torch.linalg.matrix_norm(weight) * (1 + 1e-9)
    rounded = gamma(2 * weight.shape[-1]) * w.square()
    return (rounded + error * (2 * w + error)) * size * 1.01


def placed(layer: Layer, p: Tensor, choice: Choice) -> Float[Tensor, "batch m"]:
    """The multipliers on P: Γ > A whatever the choice."""
    pattern = choice.pattern.exp()
    scale = layer.bend.limits(pattern)[0].rsqrt()
    inner = p[:, layer.kept :, layer.kept :]
    top = torch.linalg.eigvalsh(scale.unsqueeze(-1) * inner * scale.unsqueeze(-2))[..., -1:].clamp_min(1e-300)
    return pattern * top * (1 + _ABOVE + choice.share.exp())


def passed(layer: Layer, p: Tensor, multiplier: Tensor) -> Tensor:
    """Y' without a proof; can be differentiated."""
    limit, spread = layer.spread(multiplier)
    across = p[:, :, layer.kept :]
    factor, _ = torch.linalg.cholesky_ex(limit - across[:, layer.kept :])
    inner = p + across @ torch.cholesky_solve(across.mT, factor)
    both = layer.carried(layer.carried(inner).mT)
    return (both + both.mT) / 2 + spread


def proved(layer: Layer, y: Float[Tensor, "batch state state"], multiplier: Float[Tensor, "batch m"]) -> Tensor:
    """A float matrix Y' that bounds the exact one: (batch, next, next); NaN where none was found."""
    p = through(layer.weight, y)
    slack = slack_of(layer.weight, layer.error, y)
    above = p + _multiple(slack * (1 + 4 * UNIT) + 2 * UNIT * p.abs().amax((-2, -1)), p.shape[-1])
    limit, spread = layer.spread(multiplier)
    guess = passed(layer, above, multiplier)
    carried = layer.carried(above)
    whole, corner = layer.carried(carried.mT), carried[:, :, layer.kept :]
    inner = above[:, layer.kept :, layer.kept :]
    size = _blocks(guess.abs() + spread + whole.abs(), corner.abs(), limit + inner.abs())
    scale = guess.diagonal(dim1=-2, dim2=-1).amax(-1)
    best = torch.full_like(guess, torch.nan)
    missing = torch.ones(len(guess), dtype=torch.bool, device=guess.device)
    for share in (1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-6, 1e-4, 1e-2):
        raised = guess + _multiple(share * scale, guess.shape[-1])
        fine = positive(_blocks(raised - spread - whole, corner, limit - inner), size) & missing
        best = torch.where(fine[:, None, None], raised, best)
        missing = missing & ~fine
        if not bool(missing.any()):
            break
    return best


def _multiple(factor: Tensor, n: int) -> Tensor:
    """factor·I: (batch, n, n)."""
    return factor[:, None, None] * torch.eye(n, dtype=factor.dtype, device=factor.device)


def _blocks(first: Tensor, corner: Tensor, last: Tensor) -> Tensor:
    return torch.cat([torch.cat([first, corner], -1), torch.cat([corner.mT, last], -1)], -2)


Objective: TypeAlias = Callable[[Tensor], Tensor]


def ellipsoid(layers: Sequence[Layer], inputs: int, choices: Sequence[Choice]) -> Float[Tensor, "batch last last"]:
    """A proved Y after the last layer, by any multipliers; by the norms in a layer where these prove nothing.

    Args:
        inputs: the size of the model's input, where Y = I.
    """
    y = _identity(inputs, choices)
    for layer, choice in zip(layers, choices, strict=True):
        y = _proved_or_product(layer, y, choice)
    return y


def _identity(size: int, choices: Sequence[Choice]) -> Tensor:
    return torch.eye(size, dtype=torch.float64).expand(max((len(c.share) for c in choices), default=1), -1, -1)


def _proved_or_product(layer: Layer, y: Tensor, choice: Choice) -> Tensor:
    found = proved(layer, y, placed(layer, through(layer.weight, y), choice))
    missing = ~torch.isfinite(found).flatten(1).all(1)
    if bool(missing.any()):
        steepest = layer.bend.steepest.square().clamp_min(1.0 if layer.kept else 0.0)
        top = largest_eigenvalue(through(layer.weight, y), slack_of(layer.weight, layer.error, y))
        plain = _multiple(top * steepest * (1 + 8 * UNIT), found.shape[-1])
        found = torch.where(missing[:, None, None], plain, found)
    return found


def started(layers: Sequence[Layer], batch: int = 1) -> list[Choice]:
    """Where descent begins: in a chain at the product of norms, or near it."""
    return [_beside(layer, layer.bend.start(), batch) for layer in layers]


def _beside(layer: Layer, choice: Choice, batch: int) -> Choice:
    """With more above A where something is kept: the least Γ would stretch that without end."""
    more = _BESIDE if layer.kept else 0.0
    share = ((1 + choice.share.exp()) * (1 + more) - 1).log()
    return Choice(share.expand(max(batch, len(share)), -1), choice.pattern)


def descended(
    layers: Sequence[Layer], inputs: int, start: Sequence[Choice], objective: Objective, steps: int
) -> list[Choice]:
    """Better multipliers, by Adam.

    Args:
        start: of one size of batch, or of 1.
        objective: Y -> (batch,), of the last Y; smaller is better, and its logarithm is what goes down.
    """
    if not layers:
        return []
    y = _identity(inputs, start)
    leaves = [t.expand(len(y), -1) for t in (*(c.share for c in start), *(c.pattern for c in start))]
    rates = [2.0] * len(layers) + [1.0] * len(layers)
    best, best_value = leaves, torch.full((len(y),), torch.inf, dtype=torch.float64)
    moments = [(torch.zeros_like(g), torch.zeros_like(g)) for g in leaves]
    for step in range(1, steps + 2):
        tried = [g.clone().requires_grad_() for g in leaves]
        with torch.enable_grad():
            value = objective(_run(layers, y, _choices(tried))).log()
            gradients = torch.autograd.grad(torch.nan_to_num(value, 0.0, 0.0, 0.0).sum(), tried)
        value = value.detach()
        improved = (value < best_value).unsqueeze(-1)
        best_value = torch.fmin(best_value, value)
        best = [torch.where(improved, g, b) for g, b in zip(leaves, best, strict=True)]
        leaves = [
            _adam(g, *m, torch.nan_to_num(d, 0.0, 0.0, 0.0), r * _RATE * _DECAY**step, step)
            for g, m, d, r in zip(leaves, moments, gradients, rates, strict=True)
        ]
    return _choices(best)


def _choices(leaves: Sequence[Tensor]) -> list[Choice]:
    half = len(leaves) // 2
    return [Choice(*pair) for pair in zip(leaves[:half], leaves[half:], strict=True)]


def _run(layers: Sequence[Layer], y: Tensor, choices: Sequence[Choice]) -> Tensor:
    for layer, choice in zip(layers, choices, strict=True):
        p = through(layer.weight, y)
        y = passed(layer, p, placed(layer, p, choice))
    return y


def _adam(x: Tensor, first: Tensor, second: Tensor, gradient: Tensor, rate: float, step: int) -> Tensor:
    first.mul_(0.9).add_(gradient, alpha=0.1)
    second.mul_(0.99).addcmul_(gradient, gradient, value=0.01)
    return x - rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.99**step)).sqrt() + 1e-12)
