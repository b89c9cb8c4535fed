"""A bound of a chain's Lipschitz constant that is below the product of its layers': layer by layer, with multipliers.

Write the difference of two outputs of layer i, wherever the inputs are, as u_i = D·W·u_{i-1} with D diagonal and each
slope in [a, b] = [c - r, c + r]. Let u_{i-1} lie in the ellipsoid {‖u‖² in Y⁻¹ <= t}. For every diagonal Γ > A =
W·Y·Wᵀ,

    Y' = C·(A + A(Γ - A)⁻¹A)·C + R²Γ

is such an ellipsoid for u_i: with z = W·u and w = (D - C)/R·z, Σ Γ⁻¹(z² - w²) >= 0 is added to the inequality to prove
(the S-procedure), and the Schur complement is the line above. This is the layered form of LipSDP (Fazlyab et al.,
NeurIPS 2019, arXiv 1906.04893; layer by layer as in ECLipsE, Xu & Sivaranjani, NeurIPS 2024, arXiv 2404.04375), written
for covariances, where a neuron of known slope (r = 0) costs nothing as Γ → ∞. Γ = ‖A‖·(1 + |c|/r) gives exactly the
product of the norms; descent on log Γ lowers it. Every Γ is a certificate: one Cholesky factorisation of

    [Y' - R²Γ - CAC   CA ]
    [AC               Γ - A]

with the rounding of all that went into it shows that the float matrix Y' bounds the exact one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from .spectral import UNIT, gamma, largest_eigenvalue, positive

# Γ of a neuron whose slope is known.
_MOST = 1e6
_RATE, _DECAY = 0.15, 0.97
_LEAST_RADIUS = 1e-12
_AWAY = 0.2
# Weight of the barrier that keeps Γ > A, and by how much each step lowers it.
_WALL, _LOWERED = 0.1, 0.95


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear map and the activation after it.

    Attributes:
        weight: (out, in), float64; None for the identity.
        error: a bound of the Frobenius norm of what `weight` is off by.
        least, greatest: slopes of each neuron, (batch, out).
        gain: instead of slopes, for what is no activation of single neurons: a bound of its Lipschitz constant.
        size: of the output.
    """

    weight: Float[Tensor, "out in"] | None
    error: float
    size: int
    least: Float[Tensor, "batch out"] | None = None
    greatest: Float[Tensor, "batch out"] | None = None
    gain: float = 1.0

    @property
    def centre(self) -> Tensor:
        assert self.least is not None and self.greatest is not None
        return (self.least + self.greatest) / 2

    @property
    def radius(self) -> Tensor:
        """Half the width, outward."""
        assert self.least is not None and self.greatest is not None
        middle = self.centre
        half = torch.maximum(self.greatest - middle, middle - self.least)
        return half * (1 + 4 * UNIT) + 2 * UNIT * middle.abs()


def through(weight: Tensor | None, y: Tensor) -> Tensor:
    """W·Y·Wᵀ."""
    if weight is None:
        return y
    product = weight @ y @ weight.mT
    return (product + product.mT) / 2


def slack_of(layer: Layer, y: Tensor) -> Tensor:
    """How far, in the spectral norm, the computed W·Y·Wᵀ may be from the exact one: (batch,)."""
    size = torch.linalg.matrix_norm(y) * (1 + 1e-9)
    if layer.weight is None:
        return torch.zeros_like(size)
    w = torch.linalg.matrix_norm(layer.weight) * (1 + 1e-9)
    rounded = gamma(2 * layer.weight.shape[-1]) * w.square()
    return (rounded + layer.error * (2 * w + layer.error)) * size * 1.01


def started(layer: Layer, a: Tensor, away: float) -> Tensor:
    """The Γ that gives the product of the norms, (batch, out); at least the share `away` above A."""
    top = torch.linalg.eigvalsh(a)[..., -1:].clamp_min(1e-300)
    ratio = layer.centre.abs() / layer.radius.clamp_min(_LEAST_RADIUS)
    return top * (1 + ratio.clamp(away, _MOST))


def passed(layer: Layer, a: Tensor, multiplier: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(Y', whether Γ > A, -ln det(I - Γ⁻¹A)/n) without a proof; can be differentiated."""
    c, r = layer.centre, layer.radius
    rest = torch.diag_embed(multiplier) - a
    factor, info = torch.linalg.cholesky_ex(rest)
    inner = a + a @ torch.cholesky_solve(a, factor)
    both = c.unsqueeze(-1) * inner * c.unsqueeze(-2) + torch.diag_embed(r.square() * multiplier)
    wall = (multiplier.log() - 2 * factor.diagonal(dim1=-2, dim2=-1).log()).mean(-1)
    return (both + both.mT) / 2, info == 0, wall


def proved(layer: Layer, y: Float[Tensor, "batch in in"], multiplier: Float[Tensor, "batch out"]) -> Tensor:
    """A float matrix Y' that bounds the exact one: (batch, out, out); NaN where none was found."""
    a = through(layer.weight, y)
    slack = slack_of(layer, y)
    n = a.shape[-1]
    identity = torch.eye(n, dtype=a.dtype, device=a.device)
    above = a + (slack * (1 + 4 * UNIT) + 2 * UNIT * a.abs().amax((-2, -1)))[:, None, None] * identity
    c, r = layer.centre, layer.radius
    guess, _, _ = passed(layer, above, multiplier)
    cac = c.unsqueeze(-1) * above * c.unsqueeze(-2)
    ca = c.unsqueeze(-1) * above
    spread = torch.diag_embed(r.square() * multiplier)
    rest = torch.diag_embed(multiplier) - above
    size = _blocks(guess.abs() + spread + cac.abs(), ca.abs(), torch.diag_embed(multiplier) + above.abs())
    scale = guess.diagonal(dim1=-2, dim2=-1).amax(-1)
    best = torch.full_like(guess, torch.nan)
    missing = torch.ones(len(guess), dtype=torch.bool, device=a.device)
    for share in (1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-6, 1e-4, 1e-2):
        raised = guess + (share * scale)[:, None, None] * identity
        fine = positive(_blocks(raised - spread - cac, ca, rest), size) & missing
        best = torch.where(fine[:, None, None], raised, best)
        missing = missing & ~fine
        if not bool(missing.any()):
            break
    return best


def _blocks(first: Tensor, corner: Tensor, last: Tensor) -> Tensor:
    return torch.cat([torch.cat([first, corner], -1), torch.cat([corner.mT, last], -1)], -2)


def collapsed(layer: Layer, y: Tensor) -> Tensor:
    """Y' = (gain²·λ)·I for what is no activation of single neurons; `weight` leads to it."""
    a = through(layer.weight, y)
    top = largest_eigenvalue(a, slack_of(layer, y)) * layer.gain**2 * (1 + 8 * UNIT)
    return top[:, None, None] * torch.eye(layer.size, dtype=a.dtype, device=a.device)


Objective: TypeAlias = Callable[[Tensor], Tensor]


def ellipsoid(
    layers: Sequence[Layer], inputs: int, objective: Objective, steps: int
) -> Float[Tensor, "batch last last"]:
    """A proved Y after the last layer, its multipliers chosen by descent on an objective of Y.

    Args:
        inputs: the size of the model's input, where Y = I.
        objective: Y -> (batch,), smaller is better; its logarithm is what goes down.
        steps: of the descent; 0 keeps the multipliers of the product bound.
    """
    batch = max((len(layer.least) for layer in layers if layer.least is not None), default=1)
    start = torch.eye(inputs, dtype=torch.float64).expand(batch, -1, -1)
    multipliers = _product_multipliers(layers, start)
    if steps and multipliers:
        multipliers = _descended(layers, start, multipliers, objective, steps)
    y = start
    for i, layer in enumerate(layers):
        y = _proved_or_product(layer, y, multipliers[i]) if i in multipliers else collapsed(layer, y)
    return y


def _proved_or_product(layer: Layer, y: Tensor, multiplier: Tensor) -> Tensor:
    found = proved(layer, y, multiplier)
    missing = ~torch.isfinite(found).flatten(1).all(1)
    if bool(missing.any()):
        assert layer.least is not None and layer.greatest is not None
        steepest = torch.maximum(layer.least.abs(), layer.greatest.abs()).amax(-1)
        top = largest_eigenvalue(through(layer.weight, y), slack_of(layer, y)) * steepest.square() * (1 + 8 * UNIT)
        plain = top[:, None, None] * torch.eye(found.shape[-1], dtype=y.dtype, device=y.device)
        found = torch.where(missing[:, None, None], plain, found)
    return found


# Γ of each layer that has one, by its place.
Multipliers: TypeAlias = dict[int, Tensor]


def _product_multipliers(layers: Sequence[Layer], y: Tensor, away: float = 1e-7) -> Multipliers:
    found: Multipliers = {}
    for i, layer in enumerate(layers):
        if layer.least is None:
            y = collapsed(layer, y)
            continue
        a = through(layer.weight, y)
        found[i] = started(layer, a, away)
        y = passed(layer, a, found[i])[0]
    return found


def _descended(
    layers: Sequence[Layer], start: Tensor, multipliers: Multipliers, objective: Objective, steps: int
) -> Multipliers:
    """Adam on log Γ. A step that leaves Γ > A is taken back for the samples where it does, and shortened."""
    best = {i: m.log() for i, m in multipliers.items()}
    y, feasible, _ = _run(layers, start, best)
    best_value = torch.where(feasible, objective(y).log(), torch.inf)
    # Where slopes are symmetric, the product's Γ touches A: descent begins further away.
    logs = {i: m.log() for i, m in _product_multipliers(layers, start, _AWAY).items()}
    kept = logs
    moments = {i: (torch.zeros_like(g), torch.zeros_like(g)) for i, g in logs.items()}
    rate = torch.full((len(start), 1), _RATE, dtype=torch.float64)
    for step in range(1, steps + 1):
        leaves = {i: g.clone().requires_grad_() for i, g in logs.items()}
        with torch.enable_grad():
            y, feasible, wall = _run(layers, start, leaves)
            value = objective(y).log()
            value = torch.where(feasible & torch.isfinite(value), value, torch.inf)
            goal = torch.where(feasible, value + _WALL * _LOWERED**step * wall, 0.0).sum()
            gradients = dict(zip(leaves, torch.autograd.grad(goal, list(leaves.values())), strict=True))
        value = value.detach()
        improved, lost = (value < best_value).unsqueeze(-1), ~torch.isfinite(value).unsqueeze(-1)
        best_value = torch.minimum(best_value, value)
        best = {i: torch.where(improved, g, best[i]) for i, g in logs.items()}
        kept = {i: torch.where(lost, kept[i], g) for i, g in logs.items()}
        rate = torch.where(lost, rate * 0.5, rate * _DECAY)
        moved = {
            i: _adam(g, *moments[i], torch.nan_to_num(gradients[i], 0.0, 0.0, 0.0), rate, step) for i, g in logs.items()
        }
        logs = {i: torch.where(lost, kept[i], g) for i, g in moved.items()}
    return {i: g.exp() for i, g in best.items()}


def _adam(x: Tensor, first: Tensor, second: Tensor, gradient: Tensor, rate: Tensor, step: int) -> Tensor:
    first.mul_(0.9).add_(gradient, alpha=0.1)
    second.mul_(0.99).addcmul_(gradient, gradient, value=0.01)
    return x - rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.99**step)).sqrt() + 1e-12)


def _run(layers: Sequence[Layer], y: Tensor, logs: Multipliers) -> tuple[Tensor, Tensor, Tensor]:
    """(Y after the last layer, whether every Γ > A, the barriers' sum)."""
    feasible = torch.ones(len(y), dtype=torch.bool, device=y.device)
    walls = torch.zeros(len(y), dtype=y.dtype, device=y.device)
    for i, layer in enumerate(layers):
        if i not in logs:
            y = collapsed(layer, y.detach())
            continue
        y, fine, wall = passed(layer, through(layer.weight, y), logs[i].exp())
        feasible, walls = feasible & fine, walls + wall
    return y, feasible, walls
