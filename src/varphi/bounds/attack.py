"""Points of a region at which a model's output is least: projected gradient steps from several starts.

What an attack finds is an upper limit to whatever can be certified, and a counterexample where it is negative.
(Madry et al., ICLR 2018, arXiv 1706.06083.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.activation.uses import check_model

from .arithmetic import Arithmetic
from .deadline import check_deadline
from .nodes import flat
from .region import Region, region

# The first step as a share of the region's size; the last is a hundredth of it.
_STRIDE = 0.5


class Found(NamedTuple):
    """The worst points that an attack saw.

    Attributes:
        x: (batch, ...), inside the region, in the model's own format.
        value: (batch,), float64: the least of rows·output at x, of the output as the model computes it there.
    """

    x: Tensor
    value: Tensor


def attack(
    model: nn.Module,
    x: Float[Tensor, "batch ..."] | tuple[Tensor, Tensor],
    radius: float | Tensor | None = None,
    norm: float = math.inf,
    spec: Float[Tensor, "rows out"] | Float[Tensor, "batch rows out"] | None = None,
    *,
    starts: int = 8,
    steps: int = 40,
    seed: int = 0,
) -> Found:
    """Search a set of inputs for the least value of min over rows of rows·output.

    Args:
        model: in eval mode, differentiable by autograd.
        x, radius, norm: the set, as in `bounds`: centres and a radius, or the corners (lower, upper) of boxes.
        spec: the rows, for all samples or for each; None: the elements of the output.
        starts: the first is the centre; others are random, and every second of them follows one row of its own first.
        steps: of each start.
        seed: of the random starts.

    Returns:
        Found(x, value): the best point of all starts and steps; the centre where nothing is lower.

    Raises:
        ValueError, TypeError: as `bounds`; or where a box holds no number of the model's format.
    """
    objective = Objective.of(model, x, spec)
    return search(objective, Inside.of(objective.model, x, radius, norm), starts=starts, steps=steps, seed=seed)


@dataclass(frozen=True, eq=False)
class Objective:
    """max over conjuncts j, or min over rows, of rows·output - limits.

    Attributes:
        model: in eval mode.
        rows: (batch or 1, rows, out), float64.
        limits: (batch or 1, rows), float64: subtracted.
        every: whether all rows must be small together (the largest counts) or one of them (the least counts).
    """

    model: nn.Module
    rows: Tensor | None
    limits: Tensor | None = None
    every: bool = False

    @staticmethod
    def of(model: nn.Module, x: Tensor | tuple[Tensor, Tensor], spec: Tensor | None) -> Objective:
        check_model(model)
        if any(m.training for m in model.modules() if not list(m.children())):
            raise ValueError("an attack is on a fixed function: call model.eval() first")
        if spec is None:
            return Objective(model, None)
        if not isinstance(spec, Tensor) or not spec.is_floating_point() or spec.dim() not in (2, 3):
            raise TypeError("spec must be a floating-point tensor, (rows, out) or (batch, rows, out)")
        rows = spec.detach().double()
        return Objective(model, rows if rows.dim() == 3 else rows.unsqueeze(0))

    def each(self, x: Tensor) -> Tensor:
        """rows·output - limits of a batch: (batch, rows), float64."""
        y = flat(self.model(x.clone()), 1).double()
        if self.rows is None:
            return y
        if self.rows.shape[-1] != y.shape[1]:
            raise ValueError(f"spec has {self.rows.shape[-1]} columns and the model {y.shape[1]} outputs")
        repeats = len(x) // len(self.rows)
        rows = self.rows if len(self.rows) == 1 else self.rows.repeat(repeats, 1, 1)
        values = torch.matmul(rows, y.unsqueeze(-1)).squeeze(-1)
        if self.limits is None:
            return values
        return values - (self.limits if len(self.limits) == 1 else self.limits.repeat(repeats, 1))

    def total(self, each: Tensor) -> Tensor:
        return each.amax(1) if self.every else each.amin(1)


@dataclass(frozen=True, eq=False)
class Inside:
    """The points of a model's format in a set of inputs.

    Attributes:
        centre: (batch, ...) in the model's format.
        lower, upper: (batch, ...), the outermost numbers of the format that lie in the set's hull.
        radius: (batch,), float64, of a ball; None for boxes.
        norm: 1, 2 or inf.
    """

    centre: Tensor
    lower: Tensor
    upper: Tensor
    radius: Tensor | None
    norm: float

    @staticmethod
    def of(model: nn.Module, x: Tensor | tuple[Tensor, Tensor], radius: object, norm: float) -> Inside:
        sample = x[0] if isinstance(x, tuple) else x
        dtype = next((p.dtype for p in model.parameters()), sample.dtype)
        wide = region(x, radius, norm, Arithmetic(torch.float64, sound=True))
        if isinstance(x, tuple):
            lower, upper = (t.detach().double() for t in x)
            return Inside._box(lower, upper, lower + (upper - lower) / 2, dtype)
        return Inside._around(wide, x.detach(), dtype)

    @staticmethod
    def _box(lower: Tensor, upper: Tensor, middle: Tensor, dtype: torch.dtype) -> Inside:
        low, high = _rounded(lower, dtype, up=True), _rounded(upper, dtype, up=False)
        if bool((low > high).any()):
            i = int((low > high).flatten().nonzero()[0])
            ends = [float(t.flatten()[i]) for t in (lower, upper)]
            raise ValueError(
                f"no number of {dtype} lies in [{ends[0]!r}, {ends[1]!r}] (element {i} of the box): widen the box to "
                "its neighbours, or give the model as model.double()"
            )
        return Inside(torch.minimum(torch.maximum(middle.to(dtype), low), high), low, high, None, math.inf)

    @staticmethod
    def _around(wide: Region, x: Tensor, dtype: torch.dtype) -> Inside:
        centre = x.to(dtype)
        if not bool((centre.double() == x.double()).all()):
            raise ValueError(f"x is of {x.dtype} and the model of {dtype}, which cannot hold it: give x.to({dtype})")
        size = wide.radius if wide.radius.dim() > 1 else wide.radius.view(-1, *[1] * (x.dim() - 1))
        exact = centre.double()
        # The difference is rounded: one step inward of it is inside for certain.
        lower = torch.minimum(_stepped(exact - size, 1), exact)
        upper = torch.maximum(_stepped(exact + size, -1), exact)
        low, high = _rounded(lower, dtype, up=True), _rounded(upper, dtype, up=False)
        ball = None if wide.norm == math.inf else wide.radius
        return Inside(centre, low, high, ball, wide.norm)

    def repeated(self, times: int) -> Inside:
        def again(t: Tensor) -> Tensor:
            return t.repeat(times, *[1] * (t.dim() - 1))

        ball = None if self.radius is None else again(self.radius)
        return Inside(again(self.centre), again(self.lower), again(self.upper), ball, self.norm)

    def projected(self, x: Tensor) -> Tensor:
        """Points of the set near x, which may be of float64."""
        if self.radius is None:
            return torch.minimum(torch.maximum(x.to(self.centre.dtype), self.lower), self.upper)
        centre = self.centre.double()
        d = (x.double() - centre).flatten(1)
        d = _onto_ball(d, self.radius, self.norm)
        found, done = self.centre.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for shrunk in (0.0, 1e-7, 1e-6, 1e-4):
            trial = (centre + (d * (1 - shrunk)).view_as(centre)).to(self.centre.dtype)
            fits = self.holds(trial) & ~done
            found = torch.where(fits.view(-1, *[1] * (x.dim() - 1)), trial, found)
            done |= fits
        return found

    def holds(self, x: Tensor) -> Tensor:
        """Whether points of the format are in the ball for certain."""
        assert self.radius is not None
        d = (x.double() - self.centre.double()).flatten(1)
        slack = (d.shape[1] + 16) * torch.finfo(torch.float64).eps
        return torch.linalg.vector_norm(d, ord=self.norm, dim=1) * (1 + slack) <= self.radius

    def sizes(self) -> Tensor:
        """(batch, 1, ...) or (batch, ...): how far the set reaches from its centre."""
        if self.radius is None:
            return (self.upper.double() - self.lower.double()) / 2
        return self.radius.view(-1, *[1] * (self.centre.dim() - 1))

    def random(self, generator: torch.Generator) -> Tensor:
        """Points all over the set, more of them far from the centre."""
        shape = self.centre.shape
        share = torch.rand(shape, generator=generator, dtype=torch.float64).to(self.centre.device)
        if self.radius is None:
            return self.projected(self.lower + (self.upper.double() - self.lower.double()) * share)
        d = torch.randn(shape, generator=generator, dtype=torch.float64).to(self.centre.device)
        length = torch.linalg.vector_norm(d.flatten(1), ord=self.norm, dim=1).clamp_min(1e-300)
        scale = (self.radius / length).view(-1, *[1] * (d.dim() - 1))
        return self.projected(self.centre.double() + d * scale * share.flatten(1)[:, :1].view_as(scale).sqrt())

    def stepped(self, x: Tensor, gradient: Tensor, stride: float) -> Tensor:
        """Points downhill from x by a share of the set's size; the gradient may be infinite or NaN."""
        g = gradient.double().nan_to_num(0.0, 0.0, 0.0)
        if self.norm == 1:  # towards the corner that is steepest downhill (Frank and Wolfe, 1956)
            flat = g.flatten(1)
            most = flat.abs().argmax(1, keepdim=True)
            move = torch.zeros_like(flat).scatter_(1, most, -flat.gather(1, most).sign()).view_as(g) * self.sizes()
            return self.projected(x + min(2 * stride, 1.0) * (self.centre.double() + move - x.double()))
        if self.norm == math.inf:
            return self.projected(x - stride * self.sizes() * g.sign())
        length = torch.linalg.vector_norm(g.flatten(1), dim=1).clamp_min(1e-300).view(-1, *[1] * (g.dim() - 1))
        return self.projected(x - stride * self.sizes() * (g / length))


def search(
    objective: Objective,
    inside: Inside,
    *,
    starts: int,
    steps: int,
    seed: int,
    done: Callable[[Tensor], bool] | None = None,
) -> Found:
    """The least total of an objective over a set.

    Args:
        done: looked at after every step with the least values (batch,): stop early.
    """
    for name, count in (("starts", starts), ("steps", steps)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be a whole number >= 1, got {count!r}")
    batch, all_starts = len(inside.centre), inside.repeated(starts)
    generator = torch.Generator().manual_seed(seed)
    x = all_starts.random(generator)
    x[:batch] = inside.centre
    best, place = torch.full((batch * starts,), math.inf, dtype=torch.float64, device=x.device), x.clone()
    favoured: Tensor | None = None
    for step in range(steps + 1):
        check_deadline()
        each, gradient = _differentiated(objective, x, favoured if step < steps // 2 else None)
        if favoured is None:
            favoured = _favoured(each, batch, starts)
        value = objective.total(each).nan_to_num(math.inf)
        better = value < best
        best = torch.where(better, value, best)
        place = torch.where(better.view(-1, *[1] * (x.dim() - 1)), x, place)
        if step == steps or (done is not None and done(best.view(starts, batch).amin(0))):
            break
        stride = _STRIDE * 0.01 ** (step / max(steps - 1, 1))
        x = all_starts.stepped(x, gradient, stride)
    value, winner = best.view(starts, batch).min(0)
    return Found(place.view(starts, batch, *place.shape[1:])[winner, torch.arange(batch)], value)


def _differentiated(objective: Objective, x: Tensor, favoured: Tensor | None) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        each = objective.each(x)
        goal = objective.total(each)
        if favoured is not None and not objective.every:
            own = each.gather(1, favoured.clamp_min(0).unsqueeze(1)).squeeze(1)
            goal = torch.where(favoured >= 0, own, goal)
        if not goal.requires_grad:
            return each.detach(), torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(goal.sum(), x, allow_unused=True)
    return each.detach(), torch.zeros_like(x) if gradient is None else gradient


def _favoured(each: Tensor, batch: int, starts: int) -> Tensor:
    """The row that a start follows at first, by its rank at the centre; -1 for none."""
    order = each[:batch].argsort(1)
    rows = [torch.full((batch,), -1, dtype=torch.long, device=each.device)]
    for start in range(1, starts):
        rank = (start - 1) // 2 % order.shape[1]
        rows.append(order[:, rank] if start % 2 else rows[0])
    return torch.cat(rows)


def _onto_ball(d: Tensor, radius: Tensor, norm: float) -> Tensor:
    """The nearest point of the ball, in L2: (batch, n) float64."""
    length = torch.linalg.vector_norm(d, ord=norm, dim=1)
    out = length > radius
    if norm == 2:
        return torch.where(out.unsqueeze(1), d * (radius / length.clamp_min(1e-300)).unsqueeze(1), d)
    # L1: soft thresholding at the level that leaves a sum of `radius` (Duchi et al., ICML 2008).
    size = d.abs().sort(1, descending=True).values
    count = torch.arange(1, d.shape[1] + 1, dtype=d.dtype, device=d.device)
    level = (size.cumsum(1) - radius.unsqueeze(1)) / count
    last = (size > level).sum(1, keepdim=True).clamp_min(1)
    threshold = level.gather(1, last - 1).clamp_min(0)
    return torch.where(out.unsqueeze(1), d.sign() * (d.abs() - threshold).clamp_min(0), d)


def _stepped(x: Tensor, side: int) -> Tensor:
    return torch.nextafter(x, torch.full_like(x, side * math.inf))


def _rounded(value: Tensor, dtype: torch.dtype, *, up: bool) -> Tensor:
    """A float64 in a format, rounded up or down."""
    rounded = value.to(dtype)
    wrong = rounded.double() < value if up else rounded.double() > value
    return torch.where(wrong, _stepped(rounded, 1 if up else -1), rounded)
