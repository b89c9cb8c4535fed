"""Minimising an energy by its natural gradient: Newton's method in the space of functions, seen through the net.

An energy Σ w e(q) depends on the net by q, the field and its derivatives at the points. A step δ makes the energy's
second-order model in q least, with q moved by Jδ: (Jᵀ W e″ J + μ) δ = -Jᵀ W e′ (Müller & Zeinhofer, ICML 2023, arXiv
2302.13163, whose matrix this is for quadratic energies).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from varphi.jets import jacobian

from .least_squares import Method, Residuals
from .problem import Problem

_FIRST_DAMPING = 1e-3
_FALL, _RISE = 1 / 3, 4.0
_ATTEMPTS = 30


class Natural(Method):
    """Damped natural gradient steps; soft conditions and data are squares beside the energy.

    Args:
        residuals: the first block is the energy.
        problem: what they come from.
    """

    def __init__(self, residuals: Residuals, problem: Problem) -> None:
        self.residuals, self.problem = residuals, problem
        self._jets = problem.energy_jets()
        self.damping: float | None = None

    def advance(self) -> None:
        """One step that makes the energy smaller; `stuck` where none is found."""
        unknowns = self.residuals.unknowns
        theta = unknowns.get()
        gradient, matrix = self._model()
        self.loss = self._energy(theta)
        size = float(matrix.diagonal().max())
        if not size > 0 or not math.isfinite(size):
            self.stuck = "the energy does not depend on any parameter"
            return
        damping = _FIRST_DAMPING * size if self.damping is None else self.damping
        least = torch.finfo(theta.dtype).eps * size
        identity = torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
        for _ in range(_ATTEMPTS):
            factor, info = torch.linalg.cholesky_ex(matrix + damping * identity)
            if not info:
                new = theta - torch.cholesky_solve(gradient[:, None], factor)[:, 0]
                energy = self._energy(new)
                if energy < self.loss:
                    self.loss, self.damping = energy, max(_FALL * damping, least)
                    unknowns.set(new)
                    return
            damping *= _RISE
        unknowns.set(theta)
        self.damping = damping
        self.stuck = "no step makes the energy smaller: it is at the limit of rounding, or at a minimum"

    @torch.no_grad()
    def _energy(self, theta: Tensor) -> float:
        self.residuals.unknowns.set(theta)
        weights = self.residuals.blocks[0].weights
        density = self.residuals.raw(0)
        rest = self.residuals.parts(1)
        squares = torch.cat(rest).square().sum() if rest else 0.0
        return float((weights.to(density) * density).sum() + squares)

    def _model(self) -> tuple[Float[Tensor, " unknowns"], Float[Tensor, "unknowns unknowns"]]:
        """The energy's gradient, and its second-order model."""
        unknowns, block = self.residuals.unknowns, self.residuals.blocks[0]
        x = block.points.to(unknowns.trained[0])
        q, j = jacobian(self._jets.residual, unknowns.field, x, dict(unknowns.coefficients))
        m = len(q) // len(x)
        first, second = self._derivatives(q.view(m, len(x)).T, x)
        weights = block.weights.to(x)
        rows = j.view(m, len(x), -1)
        gradient = torch.einsum("nk,knp->p", weights * first, rows)
        bent = torch.einsum("nkl,lnp->knp", weights[..., None] * second, rows)
        matrix = rows.reshape(-1, rows.shape[-1]).T @ bent.reshape(-1, rows.shape[-1])
        if len(self.residuals.blocks) > 1:
            others = Residuals(unknowns, self.residuals.blocks[1:])
            r, jr = others.linearised()
            gradient, matrix = gradient + 2 * jr.T @ r, matrix + 2 * jr.T @ jr
        return gradient, matrix

    def _derivatives(self, q: Tensor, x: Tensor) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m m"]]:
        """e′, and e″ without its negative part."""
        with torch.enable_grad():
            q = q.detach().requires_grad_()
            (first,) = torch.autograd.grad(
                self._jets.density(q, x).sum(), q, create_graph=True, materialize_grads=True, allow_unused=True
            )
            columns = [
                torch.autograd.grad(c.sum(), q, retain_graph=True, materialize_grads=True, allow_unused=True)[0]
                if c.requires_grad
                else torch.zeros_like(q)
                for c in first.unbind(1)
            ]
        values, vectors = torch.linalg.eigh(torch.stack(columns, -1))
        second = (vectors * values.clamp_min(0)[:, None, :]) @ vectors.mT
        return first.detach(), second.detach()

    def state(self) -> dict[str, Any]:
        """See `Method.state`."""
        return {"damping": self.damping}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Method.restore`."""
        self.damping = state["damping"]

    def told(self) -> dict[str, float]:
        """See `Method.told`."""
        return {"damping": math.nan if self.damping is None else self.damping}
