"""Levenberg-Marquardt and Gauss-Newton in residual space, with geodesic acceleration.

A step δ makes |Jδ + r|² + μ|δ|² least; J is factorised itself, never multiplied by its transpose, which would square
its condition number. To δ comes half of the second-order term that bends the step along the model's curvature
(Transtrum & Sethna, arXiv 1201.5885). Where that term is large against the step, μ was too small: this measure steers
μ, upwards and downwards. A gain ratio alone would keep μ far too large here, since the Jacobian of a net has singular
values down to rounding.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.jets import jacobian

from .problem import Block

# 2|a|/|δ| that is aimed at, and beyond which a step is not tried.
_BENDING, _TOO_BENT = 1.0, 2.0
# How fast μ falls and rises at most. It falls more slowly after a step that had to be tried twice, and faster again
# after one that had not: the factor is raised to these powers.
_FALL, _RISE = 0.25, 3.0
_SLOWER, _FASTER = 0.5, 1.5
# The part of the step at which the curvature is taken.
_PART = 0.1
_FIRST_DAMPING = 1e-2
_ATTEMPTS = 40
# A Jacobian of more numbers than this (800 MB) is not formed.
_DENSE_LIMIT = 10**8
# Nor is one factorised whose smaller side is longer.
_SIDE_LIMIT = 4000


class Unknowns(nn.Module):
    """A field's trained parameters and a problem's unknown coefficients, as one vector."""

    def __init__(self, field: nn.Module, coefficients: Mapping[str, float]) -> None:
        super().__init__()
        self.field = field
        like = next((p for p in field.parameters() if p.requires_grad), None)
        if like is None:
            raise ValueError("the net has no parameters that can be trained")
        self.coefficients = nn.ParameterDict(
            {n: nn.Parameter(torch.tensor(v, dtype=like.dtype, device=like.device)) for n, v in coefficients.items()}
        )

    @property
    def trained(self) -> list[Tensor]:
        """The field's parameters that require a gradient, then the coefficients."""
        return [*(p for p in self.field.parameters() if p.requires_grad), *self.coefficients.values()]

    def get(self) -> Float[Tensor, " unknowns"]:
        """Their values."""
        return torch.cat([p.detach().reshape(-1) for p in self.trained])

    @torch.no_grad()
    def set(self, values: Float[Tensor, " unknowns"]) -> None:
        """Change them."""
        start = 0
        for p in self.trained:
            p.copy_(values[start : start + p.numel()].view_as(p))
            start += p.numel()

    def columns(self, n: int) -> dict[str, Tensor]:
        """The coefficients for n points."""
        return {name: c.reshape(1, 1).expand(n, 1) for name, c in self.coefficients.items()}


class Residuals:
    """All residuals of a problem as one vector, whose sum of squares is the loss.

    Args:
        unknowns: what they depend on.
        blocks: what they are made of.
    """

    def __init__(self, unknowns: Unknowns, blocks: Sequence[Block]) -> None:
        like = unknowns.trained[0]
        self.unknowns, self.blocks = unknowns, list(blocks)
        self._points = [b.points.to(like) for b in blocks]
        self._roots = [b.weights.sqrt().to(like) for b in blocks]

    def raw(self, i: int) -> Float[Tensor, "n k"]:
        """The residuals of one block, not weighted."""
        x = self._points[i]
        return self.blocks[i].residual(self.unknowns.field, x, self.unknowns.columns(len(x)))

    def parts(self, first: int = 0) -> list[Tensor]:
        """The weighted residuals of each block from this one on."""
        return [(self.raw(i) * self._roots[i]).T.reshape(-1) for i in range(first, len(self.blocks))]

    def vector(self) -> Float[Tensor, " rows"]:
        """All weighted residuals."""
        return torch.cat(self.parts())

    @torch.no_grad()
    def at(self, theta: Tensor) -> Float[Tensor, " rows"]:
        """All weighted residuals for these unknowns, which stay set."""
        self.unknowns.set(theta)
        return self.vector()

    def linearised(self) -> tuple[Float[Tensor, " rows"], Float[Tensor, "rows unknowns"]]:
        """The residuals and their Jacobian."""
        rows, values = [], []
        for block, x, root in zip(self.blocks, self._points, self._roots, strict=True):
            r, j = jacobian(block.residual, self.unknowns.field, x, dict(self.unknowns.coefficients))
            weights = root[:, 0].repeat(len(r) // len(x))
            values.append(r * weights)
            rows.append(j * weights[:, None])
        return torch.cat(values), torch.cat(rows)

    def rows(self) -> int:
        """How many residuals there are."""
        with torch.no_grad():
            return len(self.vector())


# Linear problems -----------------------------------------------------------------------------------------------------


class Linear(ABC):
    """Residuals to first order."""

    r: Tensor

    @abstractmethod
    def solve(self, b: Float[Tensor, " rows"], damping: float) -> Float[Tensor, " unknowns"]:
        """δ with |Jδ + b|² + damping |δ|² least."""

    @abstractmethod
    def apply(self, delta: Float[Tensor, " unknowns"]) -> Float[Tensor, " rows"]:
        """Jδ."""

    scale: float
    condition: float


class Dense(Linear):
    """By QR of the longer side and singular values of what is left; further solutions are products only."""

    def __init__(self, r: Tensor, j: Tensor) -> None:
        self.r, self._j = r, j
        self._wide = j.shape[0] < j.shape[1]
        q, upper = torch.linalg.qr(j.T if self._wide else j)
        u, s, v = torch.linalg.svd(upper.T if self._wide else upper, full_matrices=False)
        self._s = s
        # J = left · s · right, the longer side left as a product.
        self._left: Sequence[Tensor] = (u,) if self._wide else (q, u)
        self._right: Sequence[Tensor] = (v, q.T) if self._wide else (v,)
        self.scale = float(s[0]) ** 2
        self.condition = float(s[0] / s[-1]) if s[-1] > 0 else math.inf

    def solve(self, b: Tensor, damping: float) -> Tensor:
        """See `Linear.solve`."""
        c = b
        for factor in self._left:
            c = factor.T @ c
        # Singular values at rounding carry no information.
        floor = (torch.finfo(b.dtype).eps * self._s[0]) ** 2
        y = -c * self._s / (self._s**2 + max(damping, float(floor)))
        for factor in self._right:
            y = factor.T @ y
        return y

    def apply(self, delta: Tensor) -> Tensor:
        """See `Linear.apply`."""
        return self._j @ delta


class MatrixFree(Linear):
    """By conjugate gradients on products with J and its transpose, which is never formed (CGLS).

    Args:
        residuals: at the unknowns as they are set now.
        iterations: of conjugate gradients, at most.
    """

    def __init__(self, residuals: Residuals, iterations: int = 200) -> None:
        # Of a copy: the unknowns change while products are still asked for.
        residuals = Residuals(copy.deepcopy(residuals.unknowns), residuals.blocks)
        trained = residuals.unknowns.trained
        with torch.enable_grad():
            vector = residuals.vector()
            # Linear in w: its derivative by w is J.
            w = torch.zeros_like(vector, requires_grad=True)
            pulled = torch.autograd.grad(
                vector, trained, w, create_graph=True, allow_unused=True, materialize_grads=True
            )
            self._pulled = torch.cat([g.reshape(-1) for g in pulled])
        self._vector, self._w, self._trained, self._iterations = vector, w, trained, iterations
        self.r = vector.detach()
        g = self._transposed(self.r)
        # A Rayleigh quotient: below the largest squared singular value, and of its size.
        self.scale = float((self.apply(g) / g.norm().clamp_min(1e-300)).square().sum())
        self.condition = math.nan

    def _transposed(self, b: Tensor) -> Tensor:
        found = torch.autograd.grad(
            self._vector, self._trained, b, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([g.reshape(-1) for g in found])

    def apply(self, delta: Tensor) -> Tensor:
        """See `Linear.apply`."""
        (found,) = torch.autograd.grad(
            self._pulled, self._w, delta, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return found

    def solve(self, b: Tensor, damping: float) -> Tensor:
        """See `Linear.solve`."""
        rest = -b
        delta = torch.zeros(sum(p.numel() for p in self._trained), dtype=b.dtype, device=b.device)
        s = self._transposed(rest)
        p, size = s, s @ s
        enough = 1e-20 * size
        for _ in range(self._iterations):
            if not size > enough:
                break
            q = self.apply(p)
            step = size / (q @ q + damping * (p @ p))
            delta = delta + step * p
            rest = rest - step * q
            s = self._transposed(rest) - damping * delta
            before, size = size, s @ s
            p = s + (size / before) * p
        return delta


# Methods -------------------------------------------------------------------------------------------------------------


class Method(ABC):
    """A way of making the loss smaller, an iteration at a time.

    Attributes:
        residuals: what the loss is made of.
        loss: the sum of squares (or the energy) that was reached.
        stuck: why it cannot go on, or "".
    """

    residuals: Residuals
    loss: float = math.inf
    stuck: str = ""

    @abstractmethod
    def advance(self) -> None:
        """One iteration."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What it knows besides the unknowns, of tensors and numbers."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state`."""

    def told(self) -> dict[str, float]:
        """Numbers for the report."""
        return {}


class Damped(Method):
    """Levenberg-Marquardt; with `damped` False, Gauss-Newton: full steps, shortened until they help.

    Args:
        residuals: what is made small.
        dense: whether the Jacobian is formed and factorised; None: where its size allows.
    """

    def __init__(self, residuals: Residuals, *, damped: bool = True, dense: bool | None = None) -> None:
        self.residuals, self.damped = residuals, damped
        self.damping: float | None = None
        self.fall = _FALL
        self.condition = math.nan
        self.evaluations = 0
        if dense is None:
            rows, columns = residuals.rows(), len(residuals.unknowns.get())
            dense = rows * columns <= _DENSE_LIMIT and min(rows, columns) <= _SIDE_LIMIT
        self.dense = dense

    def advance(self) -> None:
        """One step that makes the loss smaller; `stuck` where none is found."""
        theta = self.residuals.unknowns.get()
        linear = Dense(*self.residuals.linearised()) if self.dense else MatrixFree(self.residuals)
        self.loss, self.condition = float(linear.r @ linear.r), linear.condition
        if not math.isfinite(linear.scale) or linear.scale == 0:
            self.stuck = "the residual does not depend on any parameter: its gradient is 0"
            return
        found = self._bent_step(theta, linear) if self.damped else self._shortened_step(theta, linear)
        self.residuals.unknowns.set(theta if found is None else found)
        if found is None:
            self.stuck = "no step makes the residual smaller: it is at the limit of rounding, or at a minimum"

    def _bent_step(self, theta: Tensor, linear: Linear) -> Tensor | None:
        least = torch.finfo(theta.dtype).eps ** 2 * linear.scale
        damping = _FIRST_DAMPING * linear.scale if self.damping is None else self.damping
        for attempt in range(_ATTEMPTS):
            step = linear.solve(linear.r, damping)
            near = self._at(theta + _PART * step)
            curvature = 2 / _PART * ((near - linear.r) / _PART - linear.apply(step))
            bend = linear.solve(curvature, damping) / 2
            bending = float(2 * bend.norm() / step.norm())
            factor = min(max(bending / _BENDING, self.fall), _RISE) if math.isfinite(bending) else _RISE
            if bending <= _TOO_BENT:
                new = theta + step + bend
                r = self._at(new)
                loss = float(r @ r)
                if loss < self.loss:
                    self.loss, self.damping = loss, max(factor * damping, least)
                    self.fall = self.fall**_SLOWER if attempt else max(self.fall**_FASTER, _FALL)
                    return new
                factor = _RISE
            damping *= max(factor, 1.5)
        self.damping = damping
        return None

    def _shortened_step(self, theta: Tensor, linear: Linear) -> Tensor | None:
        step = linear.solve(linear.r, 0.0)
        for _ in range(_ATTEMPTS):
            r = self._at(theta + step)
            loss = float(r @ r)
            if loss < self.loss:
                self.loss = loss
                return theta + step
            step = step / 2
        return None

    def _at(self, theta: Tensor) -> Tensor:
        self.evaluations += 1
        return self.residuals.at(theta)

    def state(self) -> dict[str, Any]:
        """See `Method.state`."""
        return {"damping": self.damping, "fall": self.fall, "evaluations": self.evaluations}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Method.restore`."""
        self.damping, self.fall, self.evaluations = state["damping"], state["fall"], state["evaluations"]

    def told(self) -> dict[str, float]:
        """See `Method.told`."""
        return {"condition": self.condition, "damping": math.nan if self.damping is None else self.damping}


class Descent(Method):
    """An optimiser of torch on the loss: of residuals their sum of squares, of the weak form the energy and squares.

    Args:
        residuals: what the loss is made of.
        make: the optimiser from parameters.
        energy: whether the first block is an energy's density.
        schedule: from an iteration to the factor on the learning rate.
    """

    def __init__(
        self,
        residuals: Residuals,
        make: Callable[[list[Tensor]], torch.optim.Optimizer],
        *,
        energy: bool = False,
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        self.residuals, self.energy, self.schedule = residuals, energy, schedule
        self.optimiser = make(residuals.unknowns.trained)
        self._rate = self.optimiser.param_groups[0]["lr"]
        self._iteration, self._is_fresh = 0, False

    def advance(self) -> None:
        """One step of the optimiser."""
        if self.schedule is not None:
            self.optimiser.param_groups[0]["lr"] = self._rate * self.schedule(self._iteration)
        self._iteration += 1
        before = self.residuals.unknowns.get()
        self.optimiser.step(self._closure)  # pyright: ignore[reportCallIssue, reportArgumentType]
        after = self.residuals.unknowns.get()
        if not torch.isfinite(after).all():
            self.residuals.unknowns.set(before)
            self.stuck = "a step led to values that are not finite; the last finite ones are kept"
        elif torch.equal(before, after) and self.optimiser.state and not self._is_fresh:
            # Curvature from before may be of no use here: begin anew, once.
            self.optimiser.state.clear()
            self._is_fresh = True
        elif torch.equal(before, after):
            self.stuck = "the optimiser takes no step: the gradient is 0, or no step makes the loss smaller"
        else:
            self._is_fresh = False
            with torch.no_grad():
                self.loss = float(self._total())

    def _closure(self) -> Tensor:
        self.optimiser.zero_grad()
        loss = self._total()
        loss.backward()
        return loss.detach()

    def _total(self) -> Tensor:
        if not self.energy:
            return self.residuals.vector().square().sum()
        density, weights = self.residuals.raw(0), self.residuals.blocks[0].weights
        total = (weights.to(density) * density).sum()
        rest = self.residuals.parts(1)
        return total + torch.cat(rest).square().sum() if rest else total

    def state(self) -> dict[str, Any]:
        """See `Method.state`."""
        return {"optimiser": self.optimiser.state_dict(), "iteration": self._iteration}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Method.restore`."""
        self.optimiser.load_state_dict(dict(state["optimiser"]))
        self._iteration = state["iteration"]
